//! `capture = "observer"` on real ensembles: every version is recorded whatever happens to leaders and to the bridge.

use std::process::Command;

use bridge_servers::{ZooKeeper, real_servers};

use crate::judge::{judge, notices_each_fault};
use crate::stage::{Bridge, changes, last_zxid, mortal, number, write_value, writes};

/// The options of a source that observes all servers.
pub fn observer(zookeeper: &ZooKeeper) -> String {
    let quorum: Vec<String> = (0..zookeeper.count())
        .map(|i| format!("\"{}\"", zookeeper.quorum_addr(i)))
        .collect();
    format!(
        "capture = \"observer\"\nacls = \"list\"\n[source.observer]\nbypasses_acls = true\nservers = [{}]\n",
        quorum.join(", ")
    )
}

async fn check_line(version: &str) {
    let zookeeper = ZooKeeper::builder()
        .version(version)
        .quorum()
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, &observer(&zookeeper));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 1).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    // The ensemble has the history of a short absence.
    bridge.kill().await;
    changes(&zookeeper, 2).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    changes(&zookeeper, 3).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    let records = bridge.records();
    let account = judge(&["observer"], &records, &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
    notices_each_fault(&["observer"], &records, &zookeeper);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_zookeeper_3_6_is_recorded_once_and_exactly() {
    real_servers!("an observer of ZooKeeper 3.6");
    check_line("3.6.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_zookeeper_3_9_is_recorded_once_and_exactly() {
    real_servers!("an observer of ZooKeeper 3.9");
    check_line("3.9.5").await;
}

/// The paths of a session: the first one is excluded, the second one is captured, and the others are outside of the root.
fn owned(number: usize) -> [String; 4] {
    ["/app/hidden", "/app/seen", "/out-a", "/out-b"].map(|path| format!("{path}{number}"))
}

/// Sessions end that own znodes that are not captured, on a server that does not list them: of the listing, of the time
/// after it, and of an absence.
async fn check_ends_without_lists(has_digests: bool) {
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.closeSessionTxn.enabled", "false")
        .system_property("zookeeper.digest.enabled", &has_digests.to_string())
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let early = mortal(&zookeeper, &owned(0)).await;
    let options = format!("exclude = [\"/app/hidden*\"]\n{}", observer(&zookeeper));
    let mut bridge = Bridge::of(&zookeeper, &options);
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    let late = mortal(&zookeeper, &owned(1)).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    early.end().await;
    late.end().await;
    let absent = mortal(&zookeeper, &owned(2)).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.kill().await;
    absent.end().await;
    changes(&zookeeper, 1).await;
    bridge.start();
    let stat = write_value(&zookeeper, "/app", b"the end").await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    let log = bridge.log();
    bridge.stop().await;
    let records = bridge.records();
    let count = |op: &str| records.iter().filter(|record| record["op"] == op).count();
    assert_eq!(count("gap_begin"), 0, "{log:#?}");
    let ended = records.iter().filter(|record| {
        let path = record["path"].as_str().unwrap_or_default();
        record["txn"]["type"] == "closeSession" && path.starts_with("/app/seen")
    });
    let places: Vec<_> = ended
        .map(|record| {
            let about = |field: &str| record["txn"][field].as_u64();
            (record["path"].as_str().unwrap(), about("index"), about("count"))
        })
        .collect();
    let at = |path| (path, Some(0), Some(1));
    assert_eq!(places, ["/app/seen0", "/app/seen1", "/app/seen2"].map(at));
    // The children that are not captured are in the Stat.
    let last = records.iter().rfind(|record| record["path"] == "/app").unwrap();
    let found = ["numChildren", "cversion"].map(|field| last["after"]["stat"][field].as_i64());
    assert_eq!(
        found,
        [stat.num_children, stat.cversion].map(|number| Some(i64::from(number)))
    );
    let pzxid = last["after"]["stat"]["pzxid"].as_str().and_then(number);
    assert_eq!(pzxid, Some(stat.pzxid.cast_unsigned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_end_without_its_list_leaves_no_gap_where_the_session_had_znodes_that_are_not_captured() {
    real_servers!("an observer of a server that does not list the znodes of a session that ends");
    check_ends_without_lists(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_digests_leaves_no_gap_either() {
    real_servers!("an observer of a server without lists and digests");
    check_ends_without_lists(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_leader_leaves_no_gap_and_is_no_error() {
    real_servers!("an observer while the leader changes");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, &observer(&zookeeper));
    bridge.start();
    let first = zookeeper.leader().await.unwrap();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 1).await;
    zookeeper.kill(first);
    zookeeper.leader().await.unwrap();
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    let log = bridge.log();
    bridge.stop().await;
    let account = judge(&["observer"], &bridge.records(), &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
    // Only an election of more than ten seconds is one, after these lines.
    let mut live = log.iter().skip_while(|line| !line.contains("\"live\""));
    let is_loss = |line: &&String| line.contains("connects again") || line.contains("\"ERROR\"");
    let loss = live.find(is_loss).unwrap();
    assert!(loss.contains("connects again"), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_absence_is_a_declared_gap_and_everything_after_it_is_exact() {
    real_servers!("an observer after a long absence");
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.snapshotSizeFactor", "-1")
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, &observer(&zookeeper));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    for number in 1..=10 {
        changes(&zookeeper, number).await;
    }
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 11).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    let account = judge(&["observer"], &bridge.records(), &zookeeper);
    assert_eq!(account.gaps, 1, "{account}");
    assert!(account.inside > 500, "{account}");
}

/// An observer beside the files of the first server, and a server that keeps few transactions in memory.
async fn beside_logs() -> (ZooKeeper, Bridge) {
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.snapshotSizeFactor", "-1")
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let options = format!(
        "{}[source.txnlog]\nbypasses_acls = true\ndirectories = [\"{}\"]\n",
        observer(&zookeeper),
        zookeeper.data_dir(0).display()
    );
    let mut bridge = Bridge::of(&zookeeper, &options);
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    (zookeeper, bridge)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_absence_is_filled_from_transaction_logs_without_a_gap() {
    real_servers!("an observer after a long absence, beside transaction logs");
    let (zookeeper, mut bridge) = beside_logs().await;
    writes(&zookeeper, "/app/many", 5_000).await;
    changes(&zookeeper, 1).await;
    let absent = last_zxid(&zookeeper);
    bridge.start();
    bridge.delivers(absent).await;
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    let log = bridge.log();
    bridge.stop().await;
    let records = bridge.records();
    let account = judge(&["observer", "txnlog"], &records, &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
    let of_logs = |record: &&serde_json::Value| record["source"]["mode"] == "txnlog";
    assert!(records.iter().filter(of_logs).count() > 5_000, "{log:#?}");
    let said = |line: &String| line.contains("filled what the leader no longer has");
    assert!(log.iter().any(said), "{log:#?}");
    // Records of the connection after it are the observer's again.
    assert_eq!(records.last().unwrap()["source"]["mode"], "observer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_absence_with_a_change_of_the_leader_is_filled_from_the_logs_of_all_servers() {
    real_servers!("an observer after a long absence with an election, beside transaction logs");
    let zookeeper = ZooKeeper::builder()
        .servers(3)
        .system_property("zookeeper.snapshotSizeFactor", "-1")
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let directories: Vec<String> = (0..3)
        .map(|server| format!("\"{}\"", zookeeper.data_dir(server).display()))
        .collect();
    let options = format!(
        "{}[source.txnlog]\nbypasses_acls = true\ndirectories = [{}]\n",
        observer(&zookeeper),
        directories.join(", ")
    );
    let mut bridge = Bridge::of(&zookeeper, &options);
    bridge.start();
    let first = zookeeper.leader().await.unwrap();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    writes(&zookeeper, "/app/many", 1_000).await;
    zookeeper.kill(first);
    zookeeper.leader().await.unwrap();
    writes(&zookeeper, "/app/many", 1_000).await;
    changes(&zookeeper, 1).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    let log = bridge.log();
    bridge.stop().await;
    let said = |line: &String| line.contains("filled what the leader no longer has");
    assert!(log.iter().any(said), "{log:#?}");
    let account = judge(&["observer", "txnlog"], &bridge.records(), &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_absence_that_logs_cannot_fill_is_a_declared_gap_and_the_log_says_why() {
    real_servers!("an observer after a long absence, beside lost logs");
    let (zookeeper, mut bridge) = beside_logs().await;
    writes(&zookeeper, "/app/many", 1_000).await;
    let version = zookeeper.data_dir(0).join("version-2");
    let aside = zookeeper.data_dir(0).join("aside");
    std::fs::create_dir(&aside).unwrap();
    let last = last_zxid(&zookeeper);
    for entry in std::fs::read_dir(&version).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with("log.") {
            std::fs::rename(entry.path(), aside.join(entry.file_name())).unwrap();
        }
    }
    bridge.start();
    bridge.delivers(last).await;
    let log = bridge.log();
    bridge.stop().await;
    let records = bridge.records();
    let gaps = records.iter().filter(|record| record["op"] == "gap_end");
    let reasons: Vec<_> = gaps.map(|gap| gap["gap"]["reason"].clone()).collect();
    assert_eq!(reasons, ["started"]);
    let said =
        |line: &String| line.contains("no log has 0x") && line.contains("transaction logs do not have");
    assert!(log.iter().any(said), "{log:#?}");
}

#[test]
fn a_mode_without_its_section_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        std::fs::write(folder.path().join("zkbridge.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
        let output = command.current_dir(folder.path()).arg("check").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let source = "[[source]]\nconnect = \"a:2181\"\ncapture = \"observer\"\n";
    let sink = "[[sink]]\ntype = \"console\"\n";
    let (is_right, words) = check(&format!("{source}{sink}"));
    assert!(!is_right && words.contains("[source.observer]"), "{words}");
    let (is_right, words) = check(&format!(
        "{source}[source.observer]\nservers = [\"a:2888\"]\n{sink}"
    ));
    assert!(!is_right && words.contains("bypasses_acls"), "{words}");
    let section = "[source.observer]\nbypasses_acls = true\nservers = [\"a:2888\"]\n";
    let (is_right, words) = check(&format!("{source}{section}{sink}"));
    assert!(is_right, "{words}");
}
