//! A real Kafka: it starts, keeps its topics over a kill and a pause, and stays behind its proxy.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it like the test itself"
)]

use std::time::{Duration, Instant};

use bridge_servers::{Direction, Kafka, real_servers};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

async fn topics(kafka: &Kafka, arguments: &[&str]) -> String {
    let bootstrap = kafka.bootstrap();
    let mut all = vec!["--bootstrap-server", bootstrap.as_str()];
    all.extend(arguments);
    kafka.tool(TOPICS, &all).await.unwrap()
}

#[tokio::test]
async fn a_topic_survives_a_kill_and_a_stop() {
    real_servers!("a topic survives a kill and a stop");
    let begun = Instant::now();
    let kafka = Kafka::start().await.unwrap();
    println!("Kafka served after {:?}", begun.elapsed());
    topics(&kafka, &["--create", "--topic", "kept"]).await;

    let begun = Instant::now();
    kafka.kill();
    assert!(TcpStream::connect(kafka.addr()).await.is_err());
    kafka.restart().await.unwrap();
    println!("Kafka served again after {:?}", begun.elapsed());
    assert!(topics(&kafka, &["--list"]).await.contains("kept"));

    kafka.stop().await.unwrap();
    assert!(!kafka.is_running());
    kafka.restart().await.unwrap();
    assert!(topics(&kafka, &["--list"]).await.contains("kept"));

    let home = kafka.home().to_owned();
    drop(kafka);
    assert!(!home.exists(), "{} is left over", home.display());
}

#[tokio::test]
async fn clients_that_connect_through_the_proxy_keep_using_it() {
    real_servers!("clients that connect through the proxy keep using it");
    let kafka = Kafka::builder().behind_proxy().start().await.unwrap();
    let bootstrap = kafka.proxied_bootstrap();
    let create = [
        "--bootstrap-server",
        &bootstrap,
        "--create",
        "--topic",
        "seen",
        "--partitions",
        "3",
    ];
    kafka.tool(TOPICS, &create).await.unwrap();
    assert!(topics(&kafka, &["--list"]).await.contains("seen"));

    // The client opens one connection to bootstrap and another to the node as advertised.
    assert!(
        kafka.proxy().accepted() >= 2,
        "{} connections",
        kafka.proxy().accepted()
    );
    assert!(kafka.proxy().forwarded(Direction::ToClient) > 0);
}

#[tokio::test]
async fn a_paused_node_holds_its_connections() {
    real_servers!("a paused node holds its connections");
    let kafka = Kafka::builder()
        .property("message.max.bytes", "2000")
        .start()
        .await
        .unwrap();
    kafka.pause().unwrap();
    let mut silent = TcpStream::connect(kafka.addr()).await.unwrap();
    let read = tokio::time::timeout(Duration::from_millis(200), silent.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
    kafka.resume().unwrap();
    topics(&kafka, &["--create", "--topic", "small"]).await;
    let log = std::fs::read_to_string(kafka.log()).unwrap();
    assert!(log.contains("message.max.bytes = 2000"));
}
