//! `zkbridge run` with `capture = "txnlog"` on the files of real servers: every version of every znode is recorded once and
//! exactly, over restarts of servers and of the bridge, and over an election.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::HashSet;
use std::fs::File;
use std::process::Command;
use std::time::Duration;

use bridge_servers::{Child, Port, ZooKeeper, eventually, is_at_rest, real_servers, status_of};
use bridge_transactions::log_file::{LogItem, LogReader, zxid_of_log};
use bridge_transactions::transaction::{Operation, Transaction};
use serde_json::Value;
use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

const BOUND: Duration = Duration::from_secs(90);
const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// A bridge that reads the logs of some servers and writes a file.
struct Reader {
    folder: TempDir,
    port: Port,
    child: Option<Child>,
}

impl Reader {
    fn of(zookeeper: &ZooKeeper, servers: &[usize]) -> Reader {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::reserve().unwrap();
        let directories: Vec<String> = servers
            .iter()
            .map(|server| format!("\"{}\"", zookeeper.data_dir(*server).display()))
            .collect();
        let configuration = format!(
            "data_dir = \"data\"\n[http]\nlisten = \"{}\"\n[[source]]\nname = \"main\"\nconnect = \"{}\"\n\
             roots = [\"/app\"]\ncapture = \"txnlog\"\n[source.txnlog]\nbypasses_acls = true\ndirectories = [{}]\n\
             [[sink]]\ntype = \"file\"\npath = \"changes.jsonl\"\n",
            port.addr(),
            zookeeper.connect_string(),
            directories.join(", ")
        );
        std::fs::write(folder.path().join("zkbridge.toml"), configuration).unwrap();
        Reader {
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
        });
        if let Err(error) = delivered.await {
            let log = self.child.as_ref().map(Child::stderr).unwrap_or_default();
            panic!("{error}\n{:#?}\n{}", status_of(address).await, log.join("\n"));
        }
    }

    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// The records of the file, each id once, in order.
    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("changes.jsonl")).unwrap();
        let mut ids = HashSet::new();
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .filter(|record| ids.insert(record["id"].as_str().unwrap().to_owned()))
            .collect()
    }
}

fn number(zxid: &str) -> Option<u64> {
    u64::from_str_radix(zxid.trim_start_matches("0x"), 16).ok()
}

/// The transactions in the logs of a server, in order.
fn logged(zookeeper: &ZooKeeper, server: usize) -> Vec<Transaction> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(zookeeper.data_dir(server).join("version-2")).unwrap() {
        let file = file.unwrap();
        if zxid_of_log(&file.file_name().to_string_lossy()).is_none() {
            continue;
        }
        let mut reader = LogReader::new(File::open(file.path()).unwrap()).unwrap();
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

/// The changes of an operation below the root: op, path, and the value of a write.
fn changes_of(operation: &Operation) -> Vec<(&'static str, String, Option<String>)> {
    let text = |data: &Option<Vec<u8>>| Some(String::from_utf8(data.clone().unwrap_or_default()).unwrap());
    let all = match operation {
        Operation::Create { path, data, .. } => vec![("create", path.clone(), text(data))],
        Operation::SetData { path, data, .. } => vec![("update", path.clone(), text(data))],
        Operation::Delete { path } => vec![("delete", path.clone(), None)],
        Operation::Multi(parts) => parts.iter().flat_map(changes_of).collect(),
        Operation::CloseSession { paths } => {
            let paths = paths.iter().flatten();
            paths.map(|path| ("delete", path.clone(), None)).collect()
        }
        _ => Vec::new(),
    };
    let is_captured = |path: &str| path == "/app" || path.starts_with("/app/");
    all.into_iter().filter(|(_, path, _)| is_captured(path)).collect()
}

/// Every change of the log after the listing has its record, once, in order, with its author, and there is no other one.
fn judge(records: &[Value], log: &[Transaction]) {
    let listing = records
        .iter()
        .find(|record| record["op"] == "snapshot_end")
        .unwrap();
    let listed = number(listing["zxid"].as_str().unwrap()).unwrap();
    let after = log.iter().filter(|one| one.zxid.cast_unsigned() > listed);
    let expected: Vec<_> = after
        .flat_map(|one| {
            let author = (
                one.zxid.cast_unsigned(),
                format!("0x{:016x}", one.session),
                one.cxid,
            );
            changes_of(&one.operation)
                .into_iter()
                .map(move |change| (author.clone(), change))
        })
        .collect();
    let exact = records.iter().filter(|record| !record["txn"].is_null());
    let found: Vec<_> = exact
        .map(|record| {
            assert_eq!(record["source"]["mode"], "txnlog", "{record:#}");
            assert_eq!(record["fidelity"], "exact", "{record:#}");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let author = (
                number(record["zxid"].as_str().unwrap()).unwrap(),
                text(&record["txn"]["session"]),
                i32::try_from(record["txn"]["cxid"].as_i64().unwrap()).unwrap(),
            );
            let op = match record["op"].as_str().unwrap() {
                "create" => "create",
                "update" => "update",
                "delete" => "delete",
                other => panic!("{other}: {record:#}"),
            };
            let value = (op != "delete").then(|| text(&record["after"]["data"]["value"]));
            (author, (op, text(&record["path"]), value))
        })
        .collect();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    let gaps = records.iter().filter(|record| record["op"] == "gap_begin");
    assert_eq!(gaps.count(), 0, "a gap where the history was at hand");
}

async fn client(zookeeper: &ZooKeeper) -> Client {
    let connect = zookeeper.connect_string();
    let connected = eventually("a session", BOUND, || async {
        Client::connect(&connect).await.ok()
    });
    connected.await.unwrap()
}

/// Many quick changes. The number makes paths of its own.
async fn changes(zookeeper: &ZooKeeper, number: usize) {
    let session = client(zookeeper).await;
    let at = |name: &str| format!("/app/{name}{number}");
    if number == 0 {
        session.create("/app", b"", &OPEN).await.unwrap();
    }
    session.create(&at("a"), b"new", &OPEN).await.unwrap();
    let sets = (0..50).map(|value: usize| {
        let (session, path) = (session.clone(), at("a"));
        async move { session.set_data(&path, value.to_string().as_bytes(), None).await }
    });
    for set in futures::future::join_all(sets).await {
        set.unwrap();
    }
    session
        .create(&format!("/outside{number}"), b"", &OPEN)
        .await
        .unwrap();
    let mut multi = session.new_multi_writer();
    multi.add_create(&at("m"), b"m", &OPEN).unwrap();
    multi.add_set_data(&at("a"), b"last", None).unwrap();
    multi.commit().await.unwrap();
    session.delete(&at("m"), None).await.unwrap();
    let mortal = client(zookeeper).await;
    mortal.create(&at("e"), b"", &EPHEMERAL).await.unwrap();
    drop(mortal);
    let gone = eventually("the end of a session", BOUND, || async {
        session.check_stat(&at("e")).await.unwrap().is_none()
    });
    gone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_in_the_log_of_a_server_is_recorded_once_and_exactly() {
    real_servers!("a bridge on transaction logs");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    changes(&zookeeper, 0).await;
    zookeeper.restart(0).await.unwrap();
    changes(&zookeeper, 1).await;
    let mut bridge = Reader::of(&zookeeper, &[0]);
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    // The log has the history of an absence, also over a restart of the server.
    bridge.kill().await;
    changes(&zookeeper, 3).await;
    zookeeper.restart(0).await.unwrap();
    changes(&zookeeper, 4).await;
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, 0)).await;
    bridge.kill().await;
    judge(&bridge.records(), &logged(&zookeeper, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_leaves_no_gap_in_what_is_read_from_logs() {
    real_servers!("a bridge on transaction logs over an election");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    changes(&zookeeper, 0).await;
    let leader = zookeeper.leader().await.unwrap();
    let mut bridge = Reader::of(&zookeeper, &[0, 1, 2]);
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper, leader)).await;
    changes(&zookeeper, 1).await;
    zookeeper.kill(leader);
    let next = zookeeper.leader().await.unwrap();
    changes(&zookeeper, 2).await;
    bridge.delivers(last_zxid(&zookeeper, next)).await;
    bridge.kill().await;
    judge(&bridge.records(), &logged(&zookeeper, next));
}
