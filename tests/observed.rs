//! `zkbridge run` with `capture = "observer"` on real ensembles: every version of every znode is recorded once and exactly,
//! with its author, whatever happens to leaders and to the bridge.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::process::Command;
use std::time::Duration;

use bridge_servers::{Child, Port, ZooKeeper, eventually, is_at_rest, real_servers, status_of};
use bridge_transactions::log_file::{LogItem, LogReader, zxid_of_log};
use bridge_transactions::transaction::{Operation, Transaction};
use serde_json::{Value, json};
use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

const BOUND: Duration = Duration::from_secs(90);

const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A bridge that observes an ensemble and writes a file.
struct Bridge {
    folder: TempDir,
    port: Port,
    child: Option<Child>,
}

impl Bridge {
    fn of(zookeeper: &ZooKeeper, more: &str) -> Bridge {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::reserve().unwrap();
        let quorum: Vec<String> = (0..zookeeper.count())
            .map(|i| format!("\"{}\"", zookeeper.quorum_addr(i)))
            .collect();
        let configuration = format!(
            "data_dir = \"data\"\n[http]\nlisten = \"{}\"\n[[source]]\nname = \"main\"\nconnect = \"{}\"\n\
             roots = [\"/app\"]\ncapture = \"observer\"\nacls = \"list\"\n[source.observer]\nbypasses_acls = true\n\
             servers = [{}]\n{more}[[sink]]\ntype = \"file\"\npath = \"changes.jsonl\"\n",
            port.addr(),
            zookeeper.connect_string(),
            quorum.join(", ")
        );
        std::fs::write(folder.path().join("zkbridge.toml"), configuration).unwrap();
        Bridge {
            folder,
            port,
            child: None,
        }
    }

    fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
        command.current_dir(self.folder.path()).arg("run");
        self.child = Some(Child::start(&command).unwrap());
    }

    /// Waits until everything up to this transaction is delivered.
    async fn delivers(&self, zxid: u64) {
        let address = self.port.addr();
        let delivered = eventually(format!("the delivery of 0x{zxid:x}"), BOUND, || async {
            let status = status_of(address).await?;
            let reported = status["sources"][0]["reported"].as_str().and_then(number);
            (is_at_rest(&status) && reported >= Some(zxid)).then_some(())
        })
        .await;
        if delivered.is_err() {
            let log = self.child.as_ref().map(Child::stderr).unwrap_or_default();
            panic!(
                "{:?}\n{:#?}\n{}",
                delivered,
                status_of(address).await,
                log.join("\n")
            );
        }
    }

    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.terminate().unwrap();
        assert_eq!(child.exit_code(BOUND).await.unwrap(), 0);
    }

    /// The records of the file, each id once, in order.
    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("changes.jsonl")).unwrap();
        let mut ids = HashSet::new();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|record| ids.insert(record["id"].as_str().unwrap().to_owned()))
            .collect()
    }
}

fn number(zxid: &str) -> Option<u64> {
    u64::from_str_radix(zxid.trim_start_matches("0x"), 16).ok()
}

/// The transactions in the logs of a server, in order.
fn logged(zookeeper: &ZooKeeper, server: usize) -> Vec<Transaction> {
    let folder = zookeeper.data_dir(server).join("version-2");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if zxid_of_log(&file.file_name().to_string_lossy()).is_none() {
            continue;
        }
        let mut reader = LogReader::new(BufReader::new(File::open(file.path()).unwrap())).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            if let LogItem::Transaction { transaction, .. } = item {
                found.push(transaction);
            }
        }
    }
    found.sort_by_key(|transaction| transaction.zxid);
    found
}

fn last_zxid(zookeeper: &ZooKeeper, server: usize) -> u64 {
    logged(zookeeper, server).last().unwrap().zxid.cast_unsigned()
}

/// The records that a transaction must have: op and path, in order.
fn expected(operation: &Operation) -> Vec<(&'static str, String)> {
    let one = |op, path: &str| vec![(op, path.to_owned())];
    match operation {
        Operation::Create { path, .. } => one("create", path),
        Operation::SetData { path, .. } => one("update", path),
        Operation::SetAcl { path, .. } => one("acl", path),
        Operation::Delete { path } | Operation::DeleteContainer { path } => one("delete", path),
        Operation::Multi(parts) => parts.iter().flat_map(expected).collect(),
        Operation::CloseSession { paths } => {
            let paths = paths.iter().flatten();
            paths.map(|path| ("delete", path.clone())).collect()
        }
        _ => Vec::new(),
    }
}

fn is_captured(path: &str) -> bool {
    path == "/app" || path.starts_with("/app/")
}

/// Every operation of the log after the listing has its record, once, in order, with author and time, and there is no
/// other record.
fn judge(records: &[Value], log: &[Transaction]) {
    let listing = records
        .iter()
        .find(|record| record["op"] == "snapshot_end")
        .unwrap();
    let listed = number(listing["zxid"].as_str().unwrap()).unwrap();
    assert_eq!(listing["zxid_kind"], "exact");
    let exact: Vec<&Value> = records.iter().filter(|record| !record["txn"].is_null()).collect();
    let mut found = exact.iter();
    for transaction in log.iter().filter(|one| one.zxid.cast_unsigned() > listed) {
        let all = expected(&transaction.operation);
        for (index, (op, path)) in all.iter().enumerate().filter(|(_, (_, path))| is_captured(path)) {
            let record = found
                .next()
                .unwrap_or_else(|| panic!("no record of {transaction:?}"));
            let context = format!("{record:#}\n{transaction:?}");
            assert_eq!(
                (record["op"].as_str(), record["path"].as_str()),
                (Some(*op), Some(path.as_str())),
                "{context}"
            );
            assert_eq!(
                number(record["zxid"].as_str().unwrap()),
                Some(transaction.zxid.cast_unsigned()),
                "{context}"
            );
            assert_eq!(record["fidelity"], "exact", "{context}");
            assert_eq!(record["zxid_kind"], "exact", "{context}");
            assert_eq!(record["source"]["mode"], "observer", "{context}");
            let txn = &record["txn"];
            assert_eq!(
                txn["session"],
                format!("0x{:016x}", transaction.session),
                "{context}"
            );
            assert_eq!(txn["cxid"], json!(transaction.cxid), "{context}");
            assert_eq!(txn["time"], json!(transaction.time), "{context}");
            assert_eq!(
                (&txn["index"], &txn["count"]),
                (&json!(index), &json!(all.len())),
                "{context}"
            );
            assert_eq!(record["missed"], json!(0), "{context}");
        }
    }
    assert_eq!(found.next(), None, "a record of no transaction");
    let gaps = records.iter().filter(|record| record["op"] == "gap_begin");
    assert_eq!(gaps.count(), 0, "a gap where the history was at hand");
}

async fn client(zookeeper: &ZooKeeper) -> Client {
    let connect = zookeeper.connect_string();
    eventually("a session", BOUND, || async {
        Client::connect(&connect).await.ok()
    })
    .await
    .unwrap()
}

/// Changes of every kind, a few of them at once. The number makes paths of its own.
async fn changes(zookeeper: &ZooKeeper, number: usize) {
    let session = client(zookeeper).await;
    let at = |name: &str| format!("/app/{name}{number}");
    match session.create("/app", b"", &OPEN).await {
        Ok(_) | Err(Error::NodeExists) => {}
        Err(error) => panic!("{error}"),
    }
    session.create(&at("a"), b"0", &OPEN).await.unwrap();
    let sets: Vec<_> = (0..50)
        .map(|i| {
            let (session, path) = (session.clone(), at("a"));
            async move { session.set_data(&path, i.to_string().as_bytes(), None).await }
        })
        .collect();
    for set in futures::future::join_all(sets).await {
        set.unwrap();
    }
    session
        .set_acl(&at("a"), Acls::anyone_all().to_vec().as_slice(), None)
        .await
        .unwrap();
    session
        .create(&format!("/outside{number}"), b"", &OPEN)
        .await
        .unwrap();
    let mut multi = session.new_multi_writer();
    multi.add_create(&at("m"), b"m", &OPEN).unwrap();
    multi
        .add_set_data(&format!("/outside{number}"), b"x", None)
        .unwrap();
    multi.add_set_data(&at("a"), b"last", None).unwrap();
    multi.commit().await.unwrap();
    session.delete(&at("m"), None).await.unwrap();
    let mortal = client(zookeeper).await;
    mortal.create(&at("e"), b"", &EPHEMERAL).await.unwrap();
    mortal.create(&at("f"), b"", &EPHEMERAL).await.unwrap();
    drop(mortal);
    eventually("the end of a session", BOUND, || async {
        session.check_stat(&at("e")).await.unwrap().is_none()
    })
    .await
    .unwrap();
}

async fn check_line(version: &str) {
    let zookeeper = ZooKeeper::builder()
        .version(version)
        .quorum()
        .start()
        .await
        .unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, "");
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    changes(&zookeeper, 1).await;
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    // The ensemble has the history of a short absence.
    bridge.kill().await;
    changes(&zookeeper, 2).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    bridge.stop().await;
    changes(&zookeeper, 3).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    bridge.stop().await;
    judge(&bridge.records(), &logged(&zookeeper, 0));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_leader_leaves_no_gap() {
    real_servers!("an observer while the leader changes");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, "");
    bridge.start();
    let first = zookeeper.leader().await.unwrap();
    bridge.delivers(last_zxid(&zookeeper, first)).await;
    changes(&zookeeper, 1).await;
    zookeeper.kill(first);
    let second = zookeeper.leader().await.unwrap();
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper, second)).await;
    bridge.stop().await;
    judge(&bridge.records(), &logged(&zookeeper, second));
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
    let mut bridge = Bridge::of(&zookeeper, "");
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    bridge.stop().await;
    for number in 1..=10 {
        changes(&zookeeper, number).await;
    }
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    changes(&zookeeper, 11).await;
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    bridge.stop().await;
    let records = bridge.records();
    let ends: Vec<u64> = records
        .iter()
        .filter(|record| record["op"] == "gap_end")
        .map(|record| number(record["gap"]["to_zxid"].as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(ends.len(), 1, "one gap");
    let gap_ends_at = records
        .iter()
        .position(|record| record["op"] == "gap_end")
        .unwrap();
    let mut after = records[gap_ends_at + 1..].to_vec();
    // The rest of the file, judged as if the gap's end were the listing.
    let mut end = records[gap_ends_at].clone();
    end["op"] = json!("snapshot_end");
    end["zxid"] = end["gap"]["to_zxid"].clone();
    end["zxid_kind"] = json!("exact");
    after.insert(0, end);
    judge(&after, &logged(&zookeeper, 0));
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
