//! Real ensembles: every committed transaction arrives once and in order, whatever happens to the connection.

use std::collections::BTreeMap;

use bridge_core::committed::SyncKind;
use bridge_servers::{Proxy, ZOOKEEPER_LINES, ZooKeeper, eventually, real_servers};
use bridge_zookeeper::observer::{ObserverOptions, QuorumAddress};

use crate::player::{BOUND, Player, Seen};
use crate::workload::{as_read, client, every_kind, logged, read_tree, writes};

fn options(zookeeper: &ZooKeeper) -> ObserverOptions {
    let address = |i: usize| QuorumAddress {
        host: "127.0.0.1".to_owned(),
        port: zookeeper.quorum_addr(i).port(),
    };
    ObserverOptions::new((0..zookeeper.count()).map(address).collect())
}

/// The last zxid of the leader's log.
fn last_logged(zookeeper: &ZooKeeper, server: usize) -> u64 {
    *logged(zookeeper, server).last_key_value().unwrap().0
}

/// The log of a server after the last stage holds the same transactions as were seen.
fn assert_as_logged(seen: &Seen, log: &BTreeMap<u64, u32>) {
    let (first, last) = (seen.transactions[0].zxid.0, seen.zxid());
    let expected: Vec<(u64, u32)> = log.range(first..=last).map(|(zxid, crc)| (*zxid, *crc)).collect();
    let found: Vec<(u64, u32)> = seen
        .transactions
        .iter()
        .map(|txn| (txn.zxid.0, txn.payload_crc))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_committed_transaction_of_each_line_arrives_once_and_in_order() {
    real_servers!("every committed transaction of each line arrives once and in order");
    // Before 3.5 a single server has no quorum port.
    for version in &ZOOKEEPER_LINES[1..] {
        let zookeeper = ZooKeeper::builder()
            .version(version)
            .quorum()
            .start()
            .await
            .unwrap();
        every_kind(&zookeeper, "/before").await;
        let mut player = Player::run(options(&zookeeper), &zookeeper.connect_string(), None);
        player.until("a stage", |seen| seen.ups == 1).await;
        assert_eq!(player.seen.kinds(), [SyncKind::Snapshot], "{version}");
        assert_eq!(
            as_read(&player.seen.tree).len(),
            read_tree(&zookeeper).await.len(),
            "{version}"
        );

        every_kind(&zookeeper, "/after").await;
        let last = last_logged(&zookeeper, 0);
        player
            .until("the last transaction", |seen| seen.zxid() >= last)
            .await;
        assert_as_logged(&player.seen, &logged(&zookeeper, 0));
        let troubles = &player.seen.troubles;
        assert!(troubles.is_empty(), "{version}: {troubles:?}");
        player.end().await;
    }
}

#[tokio::test]
async fn a_staged_tree_is_the_one_that_clients_read() {
    real_servers!("a staged tree is the one that clients read");
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.extendedTypesEnabled", "true")
        .start()
        .await
        .unwrap();
    every_kind(&zookeeper, "/some").await;
    let keeps = client(&zookeeper).await;
    let ephemeral = zookeeper_client::CreateMode::Ephemeral.with_acls(zookeeper_client::Acls::anyone_all());
    keeps.create("/some/mine", b"", &ephemeral).await.unwrap();
    let expected = read_tree(&zookeeper).await;

    let mut player = Player::run(options(&zookeeper), &zookeeper.connect_string(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    assert_eq!(as_read(&player.seen.tree), expected);
    let named = &player.seen.tree["/some"].children;
    assert_eq!(
        named.len(),
        usize::try_from(expected["/some"].0.num_children).unwrap()
    );
    let list = player.seen.tree["/some/a"].acl.as_ref().unwrap();
    assert_eq!((list[0].perms.as_str(), list[0].scheme.as_str()), ("r", "world"));
    player.end().await;
}

#[tokio::test]
async fn a_restart_continues_the_history_and_a_long_absence_brings_the_tree() {
    real_servers!("a restart continues the history and a long absence brings the tree");
    // Without the history in the log, only the last 500 transactions are at hand.
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.snapshotSizeFactor", "-1")
        .start()
        .await
        .unwrap();
    let connect = zookeeper.connect_string();
    writes(&zookeeper, "/w", 10).await;
    let mut player = Player::run(options(&zookeeper), &connect, None);
    player.until("a stage", |seen| seen.ups == 1).await;
    writes(&zookeeper, "/w", 10).await;
    let last = last_logged(&zookeeper, 0);
    player.until("the writes", |seen| seen.zxid() >= last).await;
    let position = player.end().await.position;

    writes(&zookeeper, "/w", 400).await;
    let last = last_logged(&zookeeper, 0);
    let mut player = Player::run(options(&zookeeper), &connect, position);
    player
        .until("the writes of a short absence", |seen| seen.zxid() >= last)
        .await;
    assert_eq!(player.seen.kinds(), [SyncKind::Diff]);
    assert_as_logged(&player.seen, &logged(&zookeeper, 0));
    let position = player.end().await.position;

    writes(&zookeeper, "/w", 1_000).await;
    let mut player = Player::run(options(&zookeeper), &connect, position);
    player.until("a stage", |seen| seen.ups == 1).await;
    assert_eq!(player.seen.kinds(), [SyncKind::Snapshot]);
    assert_eq!(as_read(&player.seen.tree)["/w"].1, b"999");
    player.end().await;
}

#[tokio::test]
async fn a_change_of_the_leader_loses_and_repeats_nothing() {
    real_servers!("a change of the leader loses and repeats nothing");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    writes(&zookeeper, "/w", 10).await;
    let mut player = Player::run(options(&zookeeper), &zookeeper.connect_string(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    for _ in 0..2 {
        let leader = zookeeper.leader().await.unwrap();
        writes(&zookeeper, "/w", 50).await;
        zookeeper.kill(leader);
        let next = zookeeper.leader().await.unwrap();
        writes(&zookeeper, "/w", 50).await;
        let last = last_logged(&zookeeper, next);
        player
            .until("the writes after an election", |seen| seen.zxid() >= last)
            .await;
        zookeeper.restart(leader).await.unwrap();
    }
    // The player has asserted that no transaction is missing. None needed a tree.
    let seen = player.end().await;
    assert_eq!(seen.staged.len(), 1, "{:?}", seen.kinds());
    let epochs: Vec<u32> = seen.answers.iter().map(|answer| answer.epoch).collect();
    assert!(epochs.is_sorted() && epochs.len() >= 3, "{epochs:?}");
}

#[tokio::test]
async fn a_tree_that_is_sent_while_it_changes_is_staged_exactly() {
    real_servers!("a tree that is sent while it changes is staged exactly");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    every_kind(&zookeeper, "/some").await;
    for round in 0..3 {
        // A create of a znode that exists would be an error, which has no digest.
        let path = format!("/w{round}");
        let written = writes(&zookeeper, &path, 1_500);
        let observed = async {
            let mut player = Player::run(options(&zookeeper), &zookeeper.connect_string(), None);
            player.until("a stage", |seen| seen.ups == 1).await;
            player
        };
        let ((), mut player) = tokio::join!(written, observed);
        let last = last_logged(&zookeeper, 0);
        player.until("the writes", |seen| seen.zxid() >= last).await;
        let at = player.seen.staged[0];
        assert!(at.digest.is_some() || at.payload_crc.is_none(), "{at:?}");
        // The versions of the znode continue from the one in the stage.
        let version = player
            .seen
            .tree
            .get(path.as_str())
            .map_or(0, |node| node.raw.version);
        let (_, stat) = client(&zookeeper).await.get_data(&path).await.unwrap();
        let sets = player
            .seen
            .transactions
            .iter()
            .filter(|txn| {
                matches!(&txn.content, bridge_core::committed::TxnContent::Single(
                bridge_core::committed::NodeOperation::SetData { path: set, .. }) if set.as_str() == path)
            })
            .count();
        assert_eq!(version + i32::try_from(sets).unwrap(), stat.version);
        player.end().await;
    }
}

#[tokio::test]
async fn the_servers_are_found_in_the_configuration_of_the_ensemble() {
    real_servers!("the servers are found in the configuration of the ensemble");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    let mut player = Player::run(
        ObserverOptions::new(Vec::new()),
        &zookeeper.connect_string(),
        None,
    );
    player.until("a stage", |seen| seen.ups == 1).await;
    player.end().await;
}

#[tokio::test]
async fn the_addresses_of_the_ensemble_are_used_when_the_named_ones_fail_unless_discover_is_false() {
    real_servers!("the addresses of the ensemble are used when the named ones fail unless discover is false");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    writes(&zookeeper, "/w", 10).await;
    for discover in [true, false] {
        let proxy = Proxy::start(zookeeper.quorum_addr(0)).await.unwrap();
        let named = QuorumAddress {
            host: "127.0.0.1".to_owned(),
            port: proxy.addr().port(),
        };
        let mut options = ObserverOptions::new(vec![named]);
        options.discover = discover;
        let mut player = Player::run(options, &zookeeper.connect_string(), None);
        player.until("a stage", |seen| seen.ups == 1).await;
        proxy.cut().await.unwrap();
        if discover {
            player.until("a way past the proxy", |seen| seen.ups == 2).await;
        } else {
            // Several, so that every server that is known was tried.
            player.until("failures", |seen| seen.troubles.len() >= 5).await;
            assert_eq!(player.seen.ups, 1);
            let real = zookeeper.quorum_addr(0).to_string();
            let troubles = &player.seen.troubles;
            assert!(
                troubles.iter().all(|(_, message)| !message.contains(&real)),
                "{troubles:?}"
            );
            proxy.restore().await.unwrap();
            player
                .until("the way through the proxy", |seen| seen.ups == 2)
                .await;
        }
        player.end().await;
    }
}

#[tokio::test]
async fn an_observer_master_serves_the_same_history() {
    real_servers!("an observer master serves the same history");
    let port = bridge_servers::Port::reserve().unwrap();
    // All servers have the option; only a follower opens the port, and only one can.
    let zookeeper = ZooKeeper::builder()
        .servers(3)
        .property("observerMasterPort", &port.number().to_string())
        .start()
        .await
        .unwrap();
    writes(&zookeeper, "/w", 10).await;
    let mut masters = ObserverOptions::new(Vec::new());
    masters.observer_masters = vec![QuorumAddress {
        host: "127.0.0.1".to_owned(),
        port: port.number(),
    }];
    let mut player = Player::run(masters, &zookeeper.connect_string(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    writes(&zookeeper, "/w", 100).await;
    let leader = zookeeper.leader().await.unwrap();
    let last = last_logged(&zookeeper, leader);
    player.until("the writes", |seen| seen.zxid() >= last).await;
    player.end().await;
}

#[tokio::test]
async fn a_leader_whose_observer_is_stalled_keeps_no_queue_and_the_observer_loses_nothing() {
    real_servers!("a leader whose observer is stalled keeps no queue and the observer loses nothing");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    writes(&zookeeper, "/w", 1).await;
    let mut player = Player::run(options(&zookeeper), &zookeeper.connect_string(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    // Nobody takes the reports meanwhile.
    writes(&zookeeper, "/w", 3_000).await;
    let queued = |answer: &str| {
        let line = answer
            .lines()
            .find(|line| line.contains("learner_handler_qp_size"))?;
        Some(line.to_owned())
    };
    let answer = eventually("the queue of the observer", BOUND, || async {
        queued(&zookeeper.four_letter(0, "mntr").await.ok()?)
    })
    .await
    .unwrap();
    println!("{answer}");
    let last = last_logged(&zookeeper, 0);
    player.until("the writes", |seen| seen.zxid() >= last).await;
    let seen = player.end().await;
    assert_eq!((seen.connections, seen.disconnections), (1, 0));
}
