//! A real NATS: it starts, keeps its streams over a kill and a pause, forms a cluster, and leaves no process or file.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it like the test itself"
)]

use std::time::{Duration, Instant};

use bridge_servers::{Direction, NATS_LINES, Nats, eventually, real_servers};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(30);

/// The first line of a server to a client: its information.
async fn greeting(addr: std::net::SocketAddr) -> String {
    let mut line = String::new();
    let mut client = BufReader::new(TcpStream::connect(addr).await.unwrap());
    client.read_line(&mut line).await.unwrap();
    line
}

#[tokio::test]
async fn a_server_of_each_version_has_jetstream_and_restarts_after_a_kill() {
    real_servers!("a NATS server of each version has JetStream and restarts after a kill");
    for version in NATS_LINES {
        let begun = Instant::now();
        let nats = Nats::builder().version(version).start().await.unwrap();
        println!("NATS {version} served after {:?}", begun.elapsed());
        let said = greeting(nats.addr(0)).await;
        assert!(
            said.starts_with("INFO ") && said.contains("\"jetstream\":true"),
            "{said}"
        );
        assert!(said.contains(&format!("\"version\":\"{version}\"")), "{said}");

        nats.kill(0);
        assert!(TcpStream::connect(nats.addr(0)).await.is_err());
        nats.restart(0).await.unwrap();
        nats.stop(0).await.unwrap();
        assert!(!nats.is_running(0));
        nats.restart(0).await.unwrap();
        assert_eq!(nats.process_id(0).is_some(), nats.is_running(0));

        let home = nats.home().to_owned();
        drop(nats);
        assert!(!home.exists(), "{} is left over", home.display());
    }
}

#[tokio::test]
async fn servers_of_a_cluster_know_each_other_and_a_paused_one_is_silent() {
    real_servers!("NATS servers of a cluster know each other and a paused one is silent");
    let nats = Nats::builder().cluster(3).behind_proxy().start().await.unwrap();
    assert_eq!(nats.urls().split(',').count(), 3);
    for at in 0..3 {
        let knows = || async { greeting(nats.addr(at)).await.contains("\"cluster\":\"tests\"") };
        eventually("the cluster's name", BOUND, knows).await.unwrap();
        assert!(nats.log(at).is_file() && nats.name(at).ends_with(&at.to_string()));
    }
    assert!(greeting(nats.proxy().addr()).await.contains("server-0"));
    assert_ne!(nats.proxy().forwarded(Direction::ToClient), 0);
    assert!(nats.proxied_url().starts_with("nats://127.0.0.1:"));

    nats.pause(1).unwrap();
    let mut client = TcpStream::connect(nats.addr(1)).await.unwrap();
    let mut byte = [0; 1];
    let read = tokio::time::timeout(Duration::from_millis(300), client.read(&mut byte));
    assert!(read.await.is_err(), "a paused server answered");
    nats.resume(1).unwrap();
    client.read_exact(&mut byte).await.unwrap();
}
