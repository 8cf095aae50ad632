//! Receivers behind a proxy that the environment names.

use std::net::SocketAddr;
use std::sync::Mutex;

use bridge_core::sink::SinkErrorKind as Kind;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::addresses::guard;
use super::tls::{Authority, server};
use super::*;
use crate::address;
use crate::transport::malformed_proxies;

/// A proxy that lets through to one place whatever it is asked for, and remembers what that was.
struct Tunnel {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    async fn to(place: SocketAddr) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(tunnel(listener, place, Arc::clone(&asked)));
        Tunnel { address, asked, task }
    }
}

/// One connection after another is enough: the sink keeps the one that it has.
async fn tunnel(listener: TcpListener, place: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                break;
            }
        }
        if head.is_empty() {
            continue;
        }
        asked.lock().unwrap().push(head);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut further = TcpStream::connect(place).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut further).await;
    }
}

#[tokio::test]
async fn requests_in_the_clear_go_to_the_proxy_whose_address_may_be_private() {
    let proxy = Receiver::start().await;
    let mut config = local("http://hooks.example.com/hook");
    config.allow_private_addresses = false;
    let proxies = Matcher::builder().all(format!(
        "http://user:word@proxy.internal:{}",
        proxy.address.port()
    ));
    let sink = WebhookSink::new(&config).unwrap();
    let mut sink = sink
        .through(proxies.build())
        .in_network(guard(&[&["127.0.0.1"]], address::refusal));
    sink.open().await.unwrap();

    deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap();

    let requests = proxy.taken();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("host"), "hooks.example.com");
        assert_eq!(request.header("proxy-authorization"), "Basic dXNlcjp3b3Jk");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_requests_go_through_the_proxy_to_a_receiver_that_proves_its_name() {
    let authority = Authority::new();
    let signed = authority.signs("hooks.example.com");
    let receiver = Receiver::start_tls(server(&signed, None, &["h2", "http/1.1"])).await;
    let tunnel = Tunnel::to(receiver.address).await;
    let mut config = local("https://hooks.example.com/hook");
    config.allow_private_addresses = false;
    config.tls.ca = Some(authority.pem().into());
    config.parallel = 1;
    let proxies = Matcher::builder()
        .https(format!("http://{}", tunnel.address))
        .build();
    let mut sink = WebhookSink::new(&config).unwrap().through(proxies);
    sink.open().await.unwrap();

    deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap();

    assert_eq!(receiver.taken().len(), 2);
    let asked = tunnel.asked.lock().unwrap();
    assert!(
        asked[0].starts_with("CONNECT hooks.example.com:443 "),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_host_named_by_no_proxy_is_reached_directly() {
    let receiver = Receiver::start().await;
    let proxies = Matcher::builder()
        .all("http://127.0.0.1:1")
        .no("127.0.0.1")
        .build();
    let mut sink = WebhookSink::new(&config(&receiver)).unwrap().through(proxies);
    sink.open().await.unwrap();
    deliver(&mut sink, &of_paths(&["/a"])).await.unwrap();
    assert_eq!(taken(&receiver), [1]);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_cannot_be_used_is_named_without_its_password() {
    let config = local("https://hooks.example.com/t0ken");
    for (proxy, kind, part) in [
        (
            "http://user:t0ken@127.0.0.1:1",
            Kind::Unavailable,
            "the proxy 127.0.0.1:1",
        ),
        (
            "socks5://user:t0ken@127.0.0.1:1",
            Kind::Configuration,
            "scheme 'socks5'",
        ),
    ] {
        let proxies = Matcher::builder().all(proxy).build();
        let mut sink = WebhookSink::new(&config).unwrap().through(proxies);
        let error = sink.open().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(part), "{error}");
        assert!(!format!("{error:?}").contains("t0ken"), "{error:?}");
    }
}

#[tokio::test]
async fn an_address_in_place_of_the_name_is_checked_behind_a_proxy_too() {
    let mut config = local("http://10.0.0.1/");
    config.allow_private_addresses = false;
    assert!(WebhookSink::new(&config).is_err());
}

#[test]
fn a_variable_that_names_no_proxy_is_refused_and_not_ignored() {
    let check = |value: &str, is_refused: bool| {
        let value_of = |name: &str| (name == "HTTPS_PROXY").then(|| value.to_owned());
        let found = malformed_proxies(value_of);
        assert_eq!(found.len(), usize::from(is_refused), "{value}: {found:?}");
        let said = format!("{found:?}");
        assert!(
            !said.contains("hunter2") && said.contains("HTTPS_PROXY") == is_refused,
            "{said}"
        );
    };
    for good in [
        "",
        " ",
        "http://proxy:3128",
        "proxy:3128",
        "https://u:hunter2@proxy",
        "10.0.0.1:80",
        "socks5://p:1",
    ] {
        check(good, false);
    }
    for bad in [
        "http://",
        "http://pro xy:3128",
        "http://u:hunter2@proxy:port",
        "ftp://proxy",
        "://",
    ] {
        check(bad, true);
    }
}
