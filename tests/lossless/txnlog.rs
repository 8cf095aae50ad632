//! `capture = "txnlog"` on the files of real servers, over restarts of servers and of the bridge, and over an election.

use bridge_servers::{ZOOKEEPER_NEWEST, ZooKeeper, real_servers};

use crate::judge::judge;
use crate::observer::observer;
use crate::stage::{Bridge, changes, last_zxid};

/// The options of a source that reads the files of these servers.
pub fn txnlog(zookeeper: &ZooKeeper, servers: &[usize]) -> String {
    let directories: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{}\"", zookeeper.data_dir(*server).display()))
        .collect();
    format!(
        "capture = \"txnlog\"\nacls = \"list\"\n[source.txnlog]\nbypasses_acls = true\ndirectories = [{}]\n",
        directories.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_in_the_log_of_a_server_is_recorded_once_and_exactly() {
    real_servers!("a bridge on transaction logs");
    check_line(ZOOKEEPER_NEWEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_in_the_log_of_zookeeper_3_4_without_digests_is_recorded_once_and_exactly() {
    real_servers!("a bridge on transaction logs of ZooKeeper 3.4");
    check_line("3.4.14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_in_the_log_of_zookeeper_3_5_without_lists_is_recorded_once_and_exactly() {
    real_servers!("a bridge on transaction logs of ZooKeeper 3.5");
    check_line("3.5.10").await;
}

async fn check_line(version: &str) {
    let zookeeper = ZooKeeper::builder().version(version).start().await.unwrap();
    changes(&zookeeper, 0).await;
    zookeeper.restart(0).await.unwrap();
    changes(&zookeeper, 1).await;
    let mut bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0]));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    // The log has the history of an absence, also over a restart of the server.
    bridge.kill().await;
    changes(&zookeeper, 3).await;
    zookeeper.restart(0).await.unwrap();
    changes(&zookeeper, 4).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.kill().await;
    let account = judge(&["txnlog"], &bridge.records(), &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_leaves_no_gap_in_what_is_read_from_logs() {
    real_servers!("a bridge on transaction logs over an election");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    changes(&zookeeper, 0).await;
    let leader = zookeeper.leader().await.unwrap();
    let mut bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0, 1, 2]));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 1).await;
    zookeeper.kill(leader);
    zookeeper.leader().await.unwrap();
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.kill().await;
    let account = judge(&["txnlog"], &bridge.records(), &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_an_observer_and_back_leaves_no_gap() {
    real_servers!("a change between the modes that read transactions");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let (files, port) = (txnlog(&zookeeper, &[0]), observer(&zookeeper));
    let mut bridge = Bridge::of(&zookeeper, &files);
    for (at, other) in [(1, Some((&files, &port))), (2, Some((&port, &files))), (3, None)] {
        bridge.start();
        bridge.delivers(last_zxid(&zookeeper)).await;
        changes(&zookeeper, at).await;
        bridge.delivers(last_zxid(&zookeeper)).await;
        bridge.stop().await;
        if let Some((before, after)) = other {
            bridge.configure(|text| text.replace(before.as_str(), after));
        }
    }
    let records = bridge.records();
    for mode in ["observer", "txnlog"] {
        assert!(
            records.iter().any(|record| record["source"]["mode"] == mode),
            "{mode}"
        );
    }
    let account = judge(&["observer", "txnlog"], &records, &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
}
