//! The view of operators on sources that read transactions: status, metrics, and the text of `zkbridge status`.

use bridge_servers::{ZooKeeper, eventually, real_servers};
use serde_json::Value;

use crate::observer::observer;
use crate::stage::{BOUND, Bridge, changes, last_zxid, number};
use crate::txnlog::txnlog;

/// The first source of the status once it satisfies a condition.
async fn source_when(bridge: &Bridge, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let found = eventually(what, BOUND, || async {
        let source = bridge.status().await?["sources"][0].clone();
        is_wanted(&source).then_some(source)
    });
    match found.await {
        Ok(source) => source,
        Err(error) => panic!("{error}: {:#?}", bridge.status().await),
    }
}

fn proved(source: &Value) -> Option<u64> {
    source["history"]["proof"]["zxid"].as_str().and_then(number)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_an_observer_names_its_leader_its_lag_and_the_last_proved_transaction() {
    real_servers!("the status of an observer");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, &observer(&zookeeper));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 1).await;
    let last = last_zxid(&zookeeper);
    let source = source_when(&bridge, "the proof of the last transaction", |source| {
        proved(source) >= Some(last) && source["history"]["lag_transactions"] == 0
    })
    .await;
    assert_eq!(source["mode"], "observer");
    let history = &source["history"];
    assert_eq!(history["follows"], zookeeper.quorum_addr(0).to_string());
    assert!(
        history["newest"].as_str().and_then(number) >= Some(last),
        "{history:#}"
    );
    let proof = &history["proof"];
    assert_eq!(proof["mode"], "tree");
    assert!(proof["checked"].as_u64() > Some(50), "{proof:#}");
    for absent in ["unproven", "mismatched"] {
        assert_eq!(proof[absent], 0, "{absent}");
    }
    assert_eq!(proof["suspended"], Value::Null);
    assert_eq!(history["spool"]["limit_bytes"], 1 << 30);
    assert_eq!(history["tree"], Value::Null);
    let text = bridge.run(&["status"]).await;
    for words in [
        "observer of 127.0.0.1:",
        "lag         none",
        "tree: proved up to 0x",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(!text.contains("watch "), "{text}");
    let metrics = bridge.metrics().await;
    for line in [
        "zkbridge_source_lag_transactions{source=\"main\"} 0",
        "zkbridge_source_proof_mismatches_total{source=\"main\"} 0",
        "zkbridge_source_proof_suspended{source=\"main\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(
        !metrics.contains("zkbridge_source_liveness_checks_total"),
        "{metrics}"
    );
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_roots_transactions_elsewhere_are_counted_as_unproven() {
    real_servers!("an observer that proves its roots");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(
        &zookeeper,
        &format!("{}proof = \"roots\"\n", observer(&zookeeper)),
    );
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 1).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    let source = source_when(&bridge, "the count of the last transaction", |source| {
        // A create outside of the root, and a multi that writes there.
        source["history"]["proof"]["unproven"].as_u64() >= Some(2)
    })
    .await;
    let proof = &source["history"]["proof"];
    assert_eq!(proof["mode"], "roots");
    assert!(proof["checked"].as_u64() > Some(50), "{proof:#}");
    assert_eq!(proof["mismatched"], 0);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_digests_show_as_a_suspended_proof() {
    real_servers!("a server without digests");
    let zookeeper = ZooKeeper::builder()
        .system_property("zookeeper.digest.enabled", "false")
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0]));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 1).await;
    let source = source_when(&bridge, "the suspended proof", |source| {
        source["history"]["proof"]["suspended"].is_string()
    })
    .await;
    assert_eq!(source["mode"], "txnlog");
    let folder = zookeeper.data_dir(0).display().to_string();
    assert_eq!(source["history"]["follows"], folder);
    assert_eq!(source["history"]["spool"], Value::Null);
    let text = bridge.run(&["status"]).await;
    assert!(text.contains("suspended: the servers write no digests"), "{text}");
    bridge.stop().await;
}
