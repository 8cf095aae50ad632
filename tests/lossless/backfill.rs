//! `zkbridge backfill` on the files of real servers: before the first start, and beside a journal.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use bridge_judge::truth::Truth;
use bridge_servers::{Child, ZOOKEEPER_NEWEST, ZooKeeper, real_servers};
use bridge_transactions::snapshot::SnapshotZnode;
use bridge_transactions::testing::{Trailer, root, snapshot_body, snapshot_file};
use serde_json::Value;

use crate::judge::{judge, judge_by, truth};
use crate::observer::observer;
use crate::stage::{BOUND, Bridge, changes, last_zxid, number, write_value};
use crate::txnlog::txnlog;

/// Runs a command of the bridge; its output, whatever the exit code.
fn run(bridge: &Bridge, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let command = command.current_dir(bridge.folder()).args(arguments);
    command.output().unwrap()
}

fn json(bridge: &Bridge, arguments: &[&str]) -> Value {
    let output = run(bridge, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The message of a command that fails with this code.
fn refused(bridge: &Bridge, arguments: &[&str], code: i32) -> String {
    let output = run(bridge, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    error
}

/// The last transaction that a captured znode's Stat shows: a watch sees no other one.
fn last_shown(zookeeper: &ZooKeeper) -> u64 {
    let truth = truth(zookeeper);
    let app = ["/app".to_owned()];
    let incarnations = truth.below(&app).flat_map(|(_, incarnations)| incarnations);
    let shown = incarnations.flat_map(|one| {
        let written = one.versions.iter().map(|version| version.mzxid);
        written.chain([one.czxid]).chain(one.died)
    });
    shown.max().unwrap()
}

/// The values of a znode by the servers' logs: their zxids and contents, the newest first. A transaction that writes it
/// several times has one.
fn writes_of(truth: &Truth, path: &str) -> Vec<(u64, String)> {
    let versions = truth.incarnations[path].iter().flat_map(|one| &one.versions);
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    let last: BTreeMap<u64, String> = versions
        .map(|version| (version.mzxid, text(&version.data)))
        .collect();
    last.into_iter().rev().collect()
}

/// The changes of data that `history` prints of a znode: their zxids and values.
fn printed(bridge: &Bridge, path: &str) -> Vec<(u64, String)> {
    let output = run(bridge, &["history", path, "--json"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record["op"] == "create" || record["op"] == "update")
        .map(|record| {
            let value = record["after"]["data"]["value"].as_str().unwrap_or_default();
            let zxid = number(record["zxid"].as_str().unwrap()).unwrap();
            (zxid, value.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_a_journal_begins_with_the_history_of_its_ensemble() {
    real_servers!("backfill before the first start");
    // The oldest and the newest line: without digests and lists, and with them.
    for version in ["3.4.14", ZOOKEEPER_NEWEST] {
        check_new_journal(version).await;
    }
}

async fn check_new_journal(version: &str) {
    let zookeeper = ZooKeeper::builder().version(version).start().await.unwrap();
    for number in 0..2 {
        changes(&zookeeper, number).await;
        zookeeper.restart(0).await.unwrap();
    }
    let mut bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0]));
    let done = json(&bridge, &["backfill", "main", "--json"]);
    assert_eq!(
        (&done["new_journal"], &done["from_zxid"]),
        (&true.into(), &"0x0000000000000000".into())
    );
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
    // A sink with start = "snapshot" gets the present state; the journal has the history.
    let output = run(&bridge, &["journal", "export"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    judge(&["txnlog"], &records, &zookeeper);
    let check = json(&bridge, &["journal", "check", "--json"]);
    assert_eq!(check["ok"], true, "{check:#}");
    check_times(&bridge, &records);
}

/// The time of each transaction is a range that has its records, although the first ones were captured later.
fn check_times(bridge: &Bridge, records: &[Value]) {
    let is_transaction = |record: &&Value| !record["txn"].is_null();
    let transactions: Vec<&Value> = records.iter().filter(is_transaction).collect();
    let some = transactions.len().div_ceil(8);
    for record in transactions.iter().step_by(some) {
        let time = record["time"]["changed"].as_str().unwrap();
        let list = json(bridge, &["changes", "--from", time, "--to", time, "--json"]);
        let items = list["items"].as_array().unwrap().iter().filter(is_transaction);
        let found: Vec<&Value> = items.map(|record| &record["seq"]).collect();
        let then = |record: &&&Value| record["time"]["changed"] == time;
        let expected: Vec<&Value> = transactions
            .iter()
            .filter(then)
            .map(|record| &record["seq"])
            .collect();
        assert_eq!(found, expected, "{time}: {list:#}");
    }
}

/// The records of the journal.
fn exported(bridge: &Bridge) -> Vec<Value> {
    let text = String::from_utf8(run(bridge, &["journal", "export"]).stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_begins_with_the_history_of_the_ensemble_where_the_options_say_so() {
    real_servers!("backfill at the first start");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    for number in 0..2 {
        changes(&zookeeper, number).await;
        zookeeper.restart(0).await.unwrap();
    }
    let folder = zookeeper.data_dir(0);
    let beside = format!(
        "{}[source.txnlog]\nbypasses_acls = true\ndirectories = [\"{}\"]\n",
        observer(&zookeeper),
        folder.display()
    );
    for (section, number) in [(txnlog(&zookeeper, &[0]), 2), (beside, 4)] {
        let mut bridge = Bridge::of(&zookeeper, &format!("{section}backfill = true\n"));
        bridge.start();
        bridge.delivers(last_zxid(&zookeeper)).await;
        changes(&zookeeper, number).await;
        bridge.delivers(last_zxid(&zookeeper)).await;
        bridge.stop().await;
        // The second start has a journal, and goes on from its position.
        let first = exported(&bridge).remove(0);
        bridge.start();
        changes(&zookeeper, number + 1).await;
        bridge.delivers(last_zxid(&zookeeper)).await;
        bridge.stop().await;
        let records = exported(&bridge);
        assert_eq!(records[0], first);
        let account = judge(&["observer", "txnlog"], &records, &zookeeper);
        assert_eq!(account.gaps, 0, "{account}");
    }
}

#[test]
fn a_first_start_without_files_for_its_history_makes_no_journal_and_says_why() {
    let zookeeper = "127.0.0.1:1";
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let configuration = format!(
        "data_dir = \"data\"\n[[source]]\nname = \"main\"\nconnect = \"{zookeeper}\"\ncapture = \"txnlog\"\n\
         [source.txnlog]\nbypasses_acls = true\ndirectories = [\"{}\"]\nbackfill = true\n\
         [[sink]]\ntype = \"file\"\npath = \"changes.jsonl\"\n",
        empty.display()
    );
    std::fs::write(folder.path().join("zkbridge.toml"), configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let output = command.current_dir(folder.path()).arg("run").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    for words in [
        "the journal of source 'main' cannot begin with the history in transaction logs",
        "no snapshot can be used",
        "or take backfill out of [source.txnlog]",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(!folder.path().join("data/main.journal").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_first_start_reads_a_long_history_ends_it_and_leaves_nothing_half_made() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("server/version-2");
    std::fs::create_dir_all(&files).unwrap();
    let znode = |number: usize| SnapshotZnode {
        path: format!("/{number:07}"),
        data: Some(vec![b'x'; 64]),
        ..root()
    };
    // Reading them takes seconds.
    let znodes: Vec<_> = [root()].into_iter().chain((0..400_000).map(znode)).collect();
    let snapshot = snapshot_file(&snapshot_body(&[], &[], &znodes), Trailer::Seal);
    std::fs::write(files.join("snapshot.100000000"), snapshot).unwrap();
    let configuration = "data_dir = \"data\"\n[[source]]\nname = \"main\"\nconnect = \"127.0.0.1:1\"\n\
         capture = \"txnlog\"\n[source.txnlog]\nbypasses_acls = true\ndirectories = [\"server\"]\nbackfill = true\n";
    std::fs::write(folder.path().join("zkbridge.toml"), configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let mut bridge = Child::start(command.current_dir(folder.path()).arg("run")).unwrap();
    let begun = "the history has only what the logs themselves show to be committed";
    bridge.line(begun, BOUND).await.unwrap();
    bridge.terminate().unwrap();
    assert_eq!(bridge.exit_code(BOUND).await.unwrap(), 0);
    let log = bridge.stderr().join("\n");
    assert!(
        log.contains("the opening of the journal was interrupted"),
        "{log}"
    );
    for left in ["main.journal", "main.backfill"] {
        assert!(!folder.path().join("data").join(left).exists(), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_from_before_a_journal_is_the_time_before_it_and_is_never_delivered() {
    real_servers!("backfill beside a journal");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    for number in 0..2 {
        changes(&zookeeper, number).await;
        zookeeper.restart(0).await.unwrap();
    }
    // A watch: what was overwritten before it began is nowhere else.
    let mut bridge = Bridge::of(&zookeeper, "");
    bridge.start();
    bridge.delivers(last_shown(&zookeeper)).await;
    changes(&zookeeper, 2).await;
    bridge.delivers(last_shown(&zookeeper)).await;
    let delivered = bridge.records().len();
    let from = zookeeper.data_dir(0);
    let from = from.to_str().unwrap();
    assert!(refused(&bridge, &["backfill", "main"], 2).contains("give --from DIR"));
    // Beside the running bridge, and repeated.
    for _ in 0..2 {
        let done = json(&bridge, &["backfill", "main", "--from", from, "--json"]);
        assert_eq!(done["new_journal"], false, "{done:#}");
    }
    bridge.stop().await;
    assert_eq!(bridge.records().len(), delivered);
    let truth = truth(&zookeeper);
    assert_eq!(truth.faults, [""; 0]);
    for path in ["/app/a0", "/app/a1", "/app/m0"] {
        let written = writes_of(&truth, path);
        assert_eq!(printed(&bridge, path), written, "{path}");
    }
    // Every value of before, at its zxid and until the next one.
    let all = writes_of(&truth, "/app/a1");
    assert!(all.len() > 50, "{all:?}");
    for (zxid, value) in all.iter().skip(1).step_by(7) {
        let at = format!("0x{zxid:x}");
        let output = run(&bridge, &["history", "/app/a1", "--at", &at]);
        let doubts = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{at}: {doubts}");
        assert_eq!(output.stdout, value.as_bytes(), "{at}");
    }
    let gone = run(
        &bridge,
        &["history", "/app/m0", "--at", &format!("0x{:x}", all[0].0)],
    );
    assert!(gone.status.success() && gone.stdout.is_empty());
    let text = String::from_utf8(run(&bridge, &["history", "/app/a0"]).stdout).unwrap();
    assert!(
        text.contains("before the journal, from transaction logs:"),
        "{text}"
    );
    let check = json(&bridge, &["journal", "check", "--json"]);
    let files: Vec<&Value> = check["journals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["file"])
        .collect();
    assert_eq!(
        (files, &check["ok"]),
        (
            vec![&Value::from("journal"), &Value::from("history")],
            &true.into()
        )
    );
    check_list_of_past(&bridge, &truth);
    check_backup_of_past(&bridge, &truth);
}

/// The changes of before are a list of their own, and the list of the journal says so.
fn check_list_of_past(bridge: &Bridge, truth: &Truth) {
    let listed = json(bridge, &["changes", "--json", "-n", "1"]);
    assert!(listed["doubts"].to_string().contains("--past"), "{listed:#}");
    let past = json(
        bridge,
        &["changes", "/app/a1", "--past", "--json", "--newest", "-n", "1000"],
    );
    assert_eq!(past["complete"], true);
    let records = past["items"].as_array().unwrap().iter();
    let written = records.filter(|record| record["op"] == "create" || record["op"] == "update");
    let zxids = written.map(|record| number(record["zxid"].as_str().unwrap()).unwrap());
    let expected = writes_of(truth, "/app/a1").into_iter().map(|(zxid, _)| zxid);
    assert_eq!(zxids.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// A backup has the history, and brings it back.
fn check_backup_of_past(bridge: &Bridge, truth: &Truth) {
    let copied = json(bridge, &["journal", "backup", "saved", "--json"]);
    let history = copied["backups"][0]["history"].as_str().unwrap();
    assert!(history.ends_with("saved/main.history"), "{copied:#}");
    let restore = ["restore-journal", "saved", "--json"];
    let error = refused(bridge, &restore, 3);
    assert!(
        error.contains("main.history: there is a history from before the journal already"),
        "{error}"
    );
    let replaced = json(bridge, &[&restore[..], &["--force"]].concat());
    let data = bridge.folder().join("data");
    assert!(data.join("main.history.replaced").exists(), "{replaced:#}");
    for name in ["main.journal", "main.history"] {
        std::fs::remove_file(data.join(name)).unwrap();
    }
    let restored = json(bridge, &restore);
    let history = restored["restored"][0]["history"].as_str().unwrap();
    assert!(history.ends_with("data/main.history"), "{restored:#}");
    assert_eq!(printed(bridge, "/app/a1"), writes_of(truth, "/app/a1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_have_no_history_before_a_journal_or_of_another_ensemble_are_refused() {
    real_servers!("backfill from wrong files");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let other = ZooKeeper::builder().start().await.unwrap();
    for number in 0..3 {
        changes(&other, number).await;
    }
    let mut bridge = Bridge::of(&zookeeper, "");
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let nothing = refused(&bridge, &["backfill", "main", "--from", empty], 3);
    assert!(nothing.contains("no snapshot can be used"), "{nothing}");
    assert!(!bridge.folder().join("data/main.journal").exists());
    bridge.start();
    bridge.delivers(last_shown(&zookeeper)).await;
    let foreign = other.data_dir(0);
    let foreign = refused(
        &bridge,
        &["backfill", "main", "--from", foreign.to_str().unwrap()],
        1,
    );
    assert!(foreign.contains("of another ensemble"), "{foreign}");
    assert!(!bridge.folder().join("data/main.history").exists());
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_begins_after_a_hole_in_the_logs() {
    real_servers!("backfill from logs with a hole");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    for number in 0..4 {
        changes(&zookeeper, number).await;
        zookeeper.restart(0).await.unwrap();
    }
    let all = truth(&zookeeper);
    // Each start of the server begins a log: the second one is lost.
    let folder = zookeeper.data_dir(0).join("version-2");
    let mut logs: Vec<u64> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name();
            u64::from_str_radix(name.to_str()?.strip_prefix("log.")?, 16).ok()
        })
        .collect();
    logs.sort_unstable();
    let (lost, after) = (logs[1], logs[2]);
    std::fs::remove_file(folder.join(format!("log.{lost:x}"))).unwrap();
    let bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0]));
    let done = json(&bridge, &["backfill", "main", "--json"]);
    let from = number(done["from_zxid"].as_str().unwrap()).unwrap();
    assert!(from >= after - 1, "{done:#}");
    let again = refused(&bridge, &["backfill", "main"], 1);
    assert!(again.contains("there is nothing older in the files"), "{again}");
    let passed_over = done["passed_over"].to_string();
    assert!(
        passed_over.contains("the logs have no transaction between"),
        "{done:#}"
    );
    let text = String::from_utf8(run(&bridge, &["journal", "export"]).stdout).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    judge_by(&["txnlog"], &records, &all, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_takes_values_out_of_the_history_from_before_too() {
    real_servers!("masks and a backfill");
    const SECRET: &[u8] = b"correct horse battery staple";
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    write_value(&zookeeper, "/app/secret", SECRET).await;
    changes(&zookeeper, 0).await;
    write_value(&zookeeper, "/app/secret", b"changed").await;
    let mut bridge = Bridge::of(&zookeeper, "");
    bridge.start();
    bridge.delivers(last_shown(&zookeeper)).await;
    bridge.stop().await;
    let past = bridge.folder().join("data/main.history");
    let has_secret = || {
        let bytes = std::fs::read(&past).unwrap();
        bytes.windows(SECRET.len()).any(|window| window == SECRET)
    };
    let data = zookeeper.data_dir(0);
    let backfill = ["backfill", "main", "--from", data.to_str().unwrap(), "--json"];
    json(&bridge, &backfill);
    assert!(has_secret());
    bridge.configure(|text| text.replace("roots = [", "mask = [\"/app/secret\"]\nroots = ["));
    bridge.start();
    bridge.delivers(last_shown(&zookeeper)).await;
    bridge.stop().await;
    assert!(!has_secret());
    // A new one never has it.
    std::fs::remove_file(&past).unwrap();
    json(&bridge, &backfill);
    assert!(!has_secret());
    let text = String::from_utf8(run(&bridge, &["history", "/app/secret", "--json"]).stdout).unwrap();
    assert!(text.contains("masked") && !text.contains("horse"), "{text}");
}
