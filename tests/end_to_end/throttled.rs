//! A server that throttles requests because it is overloaded.

use bridge_servers::{ZooKeeper, real_servers};

use crate::bridge::Bridge;
use crate::load::Load;
use crate::rewind::{copy, kept};

const ZNODES: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_throttles_requests_is_asked_again_on_the_same_connection() {
    real_servers!("throttled requests");
    let filled = ZooKeeper::start().await.unwrap();
    let nodes = (0..ZNODES).map(|at| (format!("/throttled/n{at:04}"), b"one".to_vec()));
    let load = Load::connect(&filled.connect_string()).await;
    load.create(std::iter::once(("/throttled".to_owned(), Vec::new())).chain(nodes))
        .await;
    filled.stop(0).await.unwrap();
    let throttling = ZooKeeper::builder()
        .system_property("zookeeper.request_throttle_max_requests", "1")
        .system_property("zookeeper.throttled_op_wait_time", "1")
        .start()
        .await
        .unwrap();
    throttling.stop(0).await.unwrap();
    std::fs::remove_dir_all(kept(&throttling)).unwrap();
    copy(&kept(&filled), &kept(&throttling));
    throttling.restart(0).await.unwrap();

    let mut bridge = Bridge::configured(&format!(
        "[[source]]\nconnect = \"{}\"\nroots = [\"/throttled\"]\n\
         [[sink]]\ntype = \"file\"\npath = \"throttled.jsonl\"\n",
        throttling.connect_string()
    ));
    bridge.start_ready().await;
    bridge.at_rest().await;
    let text = std::fs::read_to_string(bridge.folder().join("throttled.jsonl")).unwrap();
    let listed = text
        .lines()
        .filter(|line| line.contains("\"op\":\"snapshot\""))
        .count();
    assert_eq!(listed, ZNODES + 1);
    let connections = bridge
        .metric("zkbridge_source_connections_total", &[("source", "main")])
        .await;
    assert_eq!(connections, 1.0, "it stays on its first connection");
    bridge.terminate().await;
}
