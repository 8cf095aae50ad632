//! Attacks on a running bridge through its HTTP port and its messages, and the information that it must not give away.

use std::net::SocketAddr;

use bridge_servers::{Child, Proxy, real_servers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, Scene, shared};

/// So few open files a container or an old unit may allow.
const DESCRIPTORS: u32 = 64;

/// Requests that are never completed.
async fn half_requests(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A connection that the bridge has already closed cannot be written to.
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n").await;
        held.push(stream);
    }
    held
}

/// The status line of an answer.
async fn answer(address: SocketAddr, page: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(BOUND, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_requests_neither_hold_the_http_port_nor_keep_the_bridge_from_its_servers() {
    real_servers!("half requests");
    let mut place = Place::shared().await;
    let proxy = Proxy::start(shared().await.zookeeper.client_addr(0))
        .await
        .unwrap();
    place.connect = proxy.addr().to_string();
    let mut scene = Scene::at("half-requests", place).await;
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start_limited(DESCRIPTORS).await;
    scene.bridge.ready().await;
    let address = scene.bridge.address();

    let held = half_requests(address, 200).await;
    assert_eq!(scene.bridge.get("/readyz").await.0, 200, "others are answered");
    proxy.cut().await.unwrap();
    let path = format!("{}/after", scene.root());
    scene.writer.create(&path, "written while it was cut off").await;
    proxy.restore().await.unwrap();
    let held_again = half_requests(address, 200).await;
    scene.bridge.ready().await;
    drop((held, held_again));
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_makes_its_name_resolve_to_the_bridge_reads_nothing() {
    let mut bridge = Bridge::configured("[[source]]\nconnect = \"127.0.0.1:1\"\n");
    bridge.start().await;
    let address = bridge.address();
    for page in ["/status", "/metrics"] {
        for (host, code) in [
            ("evil.example", "421"),
            ("127.0.0.1:1", "200"),
            ("localhost", "200"),
        ] {
            let line = answer(address, page, host).await;
            assert!(line.contains(code), "{page} as {host}: {line}");
        }
    }
    let line = answer(address, "/healthz", "evil.example").await;
    assert!(line.contains("200"), "probes name hosts as they like: {line}");
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_where_a_path_is_wanted_is_shown_nowhere() {
    const SECRET: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let parts = "[[source]]\nconnect = \"127.0.0.1:1\"\n[source.tls]\nca = \"${SECRET_OF_TEST}\"\n\
        cert = \"${SECRET_OF_TEST}\"\nkey = \"${SECRET_OF_TEST}\"\n\
        [[source]]\nname = \"other\"\nconnect = \"127.0.0.1:2\"\n\
        [[sink]]\ntype = \"nats\"\nservers = \"nats://127.0.0.1:1\"\nstream = \"S\"\n\
        auth = { creds = \"${SECRET_OF_TEST}\" }\n\
        [[sink]]\ntype = \"nats\"\nname = \"tls\"\nservers = \"tls://127.0.0.1:1\"\nstream = \"S\"\n\
        subject = \"other.{{ names | subject }}\"\ntls = { ca = \"${SECRET_OF_TEST}\" }\n\
        [[sink]]\ntype = \"webhook\"\nurl = \"https://127.0.0.1:1/\"\nallow_private_addresses = true\n\
        tls = { cert = \"${SECRET_OF_TEST}\", key = \"${SECRET_OF_TEST}\" }\n";
    let mut bridge = Bridge::configured(parts);
    bridge.set_variable("SECRET_OF_TEST", SECRET);
    bridge.start_with(&["--log-level", "trace"]).await;
    bridge
        .until(
            "the source to have halted, and its NATS sinks to have failed",
            |status| {
                let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
                let fails = |name: &str| {
                    sinks
                        .iter()
                        .any(|sink| sink["sink"] == name && !sink["error"].is_null())
                };
                !status["sources"][0]["halted"].is_null() && fails("nats") && fails("tls")
            },
        )
        .await;
    let (code, ready) = bridge.get("/readyz").await;
    let (_, status) = bridge.get("/status").await;
    assert_eq!(code, 503);
    assert!(ready.contains("source 'main' is not ready"), "{ready}");
    assert!(
        status.contains("${SECRET_OF_TEST}"),
        "the reference is named: {status}"
    );
    let mut said = vec![ready, status];
    for args in [
        &["check", "--connect"][..],
        &["doctor"],
        &["status"],
        &["config", "show"],
    ] {
        let mut child = Child::start(&bridge.command(args)).unwrap();
        child.exit_code(BOUND).await.unwrap();
        said.extend(child.stdout());
        said.extend(child.stderr());
    }
    bridge.terminate().await;
    said.extend(bridge.log());
    let shown: Vec<&String> = said.iter().filter(|text| text.contains(SECRET)).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}
