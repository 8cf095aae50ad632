//! Large transactions, with `jute.maxbuffer` raised on the servers.

use bridge_servers::{ZooKeeper, real_servers};

use crate::judge::judge;
use crate::observer::observer;
use crate::stage::{Bridge, create, last_zxid, multi_of_creates};
use crate::txnlog::txnlog;

/// Creates of one transaction, and the bytes of each: 20 MB.
const CREATES: usize = 20;
const BYTES: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_20_megabytes_is_recorded_whole_by_both_modes() {
    real_servers!("a multi of 20 MB");
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .heap("512m")
        .system_property("jute.maxbuffer", "33554432")
        .start()
        .await
        .unwrap();
    create(&zookeeper, "/app").await;
    let modes = [
        ("observer", observer(&zookeeper)),
        ("txnlog", txnlog(&zookeeper, &[0])),
    ];
    let mut bridges = Vec::new();
    for (mode, options) in modes {
        let mut bridge = Bridge::of(&zookeeper, &options);
        bridge.start();
        bridge.delivers(last_zxid(&zookeeper)).await;
        bridges.push((mode, bridge));
    }
    multi_of_creates(&zookeeper, "/app/large", CREATES, BYTES).await;
    for (mode, mut bridge) in bridges {
        bridge.delivers(last_zxid(&zookeeper)).await;
        bridge.stop().await;
        let account = judge(&[mode], &bridge.records(), &zookeeper);
        assert_eq!((account.gaps, account.exact), (0, CREATES), "{account}");
    }
}
