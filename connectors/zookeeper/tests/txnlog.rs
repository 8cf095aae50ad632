//! The committed history of a real ensemble, read from the logs of its servers over crashes and elections.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::time::{Duration, Instant};

use bridge_servers::{ZooKeeper, eventually, real_servers};
use bridge_transactions::transaction::{Operation, Transaction, can_follow, epoch};
use bridge_transactions::tree::Tree;
use bridge_zookeeper::txnlog::{LogFolder, LogHistory, LogPosition};
use zookeeper_client::{Acls, Client, CreateMode};

const BOUND: Duration = Duration::from_secs(60);

const BEGIN: LogPosition = LogPosition {
    zxid: 0,
    payload_crc: None,
    digest: None,
};

/// The zxid that `srvr` gives, of a server that serves.
async fn applied(zookeeper: &ZooKeeper, server: usize) -> Option<i64> {
    let answer = zookeeper.four_letter(server, "srvr").await.ok()?;
    let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x"))?;
    i64::from_str_radix(zxid, 16).ok()
}

/// A reader of some servers' logs, and what it has read.
struct Reading {
    history: LogHistory,
    all: Vec<Transaction>,
}

impl Reading {
    fn of(zookeeper: &ZooKeeper, servers: &[usize]) -> Reading {
        let folders = servers
            .iter()
            .map(|server| LogFolder::new(&zookeeper.data_dir(*server)));
        Reading {
            history: LogHistory::new(folders.collect(), BEGIN, Some(Box::new(Tree::of_new_server()))),
            all: Vec::new(),
        }
    }

    /// The values that were written to `/a`, in the order of the history.
    fn values(&self) -> Vec<String> {
        let value = |transaction: &Transaction| match &transaction.operation {
            Operation::SetData { path, data, .. } if path == "/a" => data.clone(),
            _ => None,
        };
        let values = self.all.iter().filter_map(value);
        values.map(|value| String::from_utf8(value).unwrap()).collect()
    }

    /// Reads on until the last value is there.
    async fn read_to(&mut self, last: &str, zookeeper: &ZooKeeper) {
        let deadline = Instant::now() + BOUND;
        while self.values().last().map(String::as_str) != Some(last) {
            assert!(
                Instant::now() < deadline,
                "{last} is not in the logs: {:?}",
                self.history
            );
            for server in 0..zookeeper.count() {
                if let Some(zxid) = applied(zookeeper, server).await {
                    self.history.applied(zxid);
                }
            }
            self.all.extend(self.history.poll().unwrap());
        }
        for pair in self.all.windows(2) {
            assert!(can_follow(pair[1].zxid, pair[0].zxid), "{pair:?}");
        }
    }
}

async fn write(zookeeper: &ZooKeeper, values: impl IntoIterator<Item = String>) {
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    for value in values {
        client.set_data("/a", value.as_bytes(), None).await.unwrap();
    }
}

fn numbered(begin: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{begin}{at}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_an_ensemble_give_every_committed_write_once_and_none_that_only_a_lost_leader_logged() {
    real_servers!("the committed history of an ensemble");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/a", b"0", &open).await.unwrap();
    drop(client);
    let mut whole = Reading::of(&zookeeper, &[0, 1, 2]);
    let mut expected = numbered("first-", 40);
    write(&zookeeper, expected.clone()).await;
    whole.read_to("first-39", &zookeeper).await;

    // A leader logs a write that nobody else gets, and is lost.
    let leader = zookeeper.leader().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|server| *server != leader).collect();
    let connect = zookeeper.client_addr(leader).to_string();
    let lonely = Client::connect(&connect).await.unwrap();
    for server in &others {
        zookeeper.kill(*server);
    }
    let lost = tokio::spawn(async move { lonely.set_data("/a", b"never", None).await.map(|_| ()) });
    let logs = zookeeper.data_dir(leader).join("version-2");
    let is_logged = || async {
        let files = std::fs::read_dir(&logs)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut logs = files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("log."));
        logs.any(|log| {
            std::fs::read(log)
                .unwrap()
                .windows(5)
                .any(|window| window == b"never")
        })
    };
    eventually("the write in the leader's log", BOUND, is_logged)
        .await
        .unwrap();
    zookeeper.kill(leader);
    for server in &others {
        zookeeper.launch(*server).unwrap();
    }
    zookeeper.serves().await.unwrap();
    let second = numbered("second-", 40);
    write(&zookeeper, second.clone()).await;
    expected.extend(second);
    whole.read_to("second-39", &zookeeper).await;
    assert!(lost.await.unwrap().is_err());

    // It comes back.
    zookeeper.restart(leader).await.unwrap();
    let third = numbered("third-", 40);
    write(&zookeeper, third.clone()).await;
    expected.extend(third);
    whole.read_to("third-39", &zookeeper).await;
    assert_eq!(whole.values(), expected);
    let epochs = epoch(whole.all.last().unwrap().zxid) - epoch(whole.all[0].zxid);
    assert!(epochs >= 1, "there was an election");
    let digests = whole
        .all
        .iter()
        .filter(|transaction| transaction.digest.is_some())
        .count();
    assert!(digests >= expected.len());

    // A reader that begins now gets the same, and the log of a server that was always there is enough.
    for servers in [vec![0, 1, 2], vec![others[0]]] {
        let mut late = Reading::of(&zookeeper, &servers);
        late.read_to("third-39", &zookeeper).await;
        assert_eq!(late.values(), expected);
    }
}
