//! The committed history of a real ensemble, read from the logs of its servers over crashes and elections.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bridge_core::committed::{CommittedTxn, HistoryPosition, StageRead, SyncKind, TreeDigestValue};
use bridge_core::path::ZnodePath;
use bridge_core::source::{
    AddressedRequest, Connection, Input, Link, Source, SourceEvent, SourceRequest, Ticket,
};
use bridge_servers::{ZooKeeper, eventually, real_servers};
use bridge_transactions::transaction::{Operation, Transaction, can_follow, epoch};
use bridge_transactions::tree::Tree;
use bridge_zookeeper::config::ZookeeperConfig;
use bridge_zookeeper::txnlog::{LogFolder, LogHistory, LogPosition, TxnlogOptions, TxnlogSource};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
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

    // The log of the lost leader kept its write and goes on after the snapshot of the next one, or was cut.
    let mut alone = Reading::of(&zookeeper, &[leader]);
    let deadline = Instant::now() + BOUND;
    while alone.history.hole().is_none() && alone.values() != expected {
        assert!(
            Instant::now() < deadline,
            "neither a hole nor whole: {:?}",
            alone.history
        );
        for server in 0..zookeeper.count() {
            if let Some(zxid) = applied(&zookeeper, server).await {
                alone.history.applied(zxid);
            }
        }
        alone.all.extend(alone.history.poll().unwrap());
    }
    assert!(
        !alone.values().contains(&"never".to_owned()),
        "{:?}",
        alone.values()
    );
}

/// A running source, without a machine: the test makes its requests.
struct Running {
    requests: mpsc::Sender<AddressedRequest>,
    reports: mpsc::Receiver<SourceEvent>,
    stop: CancellationToken,
    connection: Connection,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(zookeeper: &ZooKeeper, servers: &[usize]) -> Running {
        let config = ZookeeperConfig::new(zookeeper.connect_string().parse().unwrap());
        let directories: Vec<PathBuf> = servers.iter().map(|server| zookeeper.data_dir(*server)).collect();
        let folder = tempfile::tempdir().unwrap();
        let source = TxnlogSource::new(config, TxnlogOptions::new(directories), folder.path().to_owned());
        let (requests, of_pipeline) = mpsc::channel(16);
        let (to_pipeline, reports) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let link = Link {
            requests: of_pipeline,
            reports: to_pipeline,
            stop: stop.clone(),
        };
        Running {
            requests,
            reports,
            stop,
            connection: Connection::default(),
            task: tokio::spawn(Box::new(source).run(link)),
            _folder: folder,
        }
    }

    async fn event(&mut self) -> SourceEvent {
        timeout(BOUND, self.reports.recv()).await.unwrap().unwrap()
    }

    /// The next input of the machine; troubles that pass are passed over.
    async fn input(&mut self) -> Input {
        loop {
            match self.event().await {
                SourceEvent::Input(input) => return input,
                SourceEvent::Connected { connection, .. } => self.connection = connection,
                SourceEvent::Server(_) | SourceEvent::Mode(_) | SourceEvent::Feed(_) => {}
                SourceEvent::Trouble(error) => assert!(!error.kind.is_final(), "{error}"),
            }
        }
    }

    async fn request(&self, request: SourceRequest) {
        let connection = self.connection;
        self.requests
            .send(AddressedRequest { connection, request })
            .await
            .unwrap();
    }

    /// States a position once there is a connection; returns how it goes on.
    async fn resume(&mut self, after: Option<HistoryPosition>) -> SyncKind {
        while !matches!(self.event().await, SourceEvent::Server(_)) {}
        self.connection = self.connection.next();
        self.request(SourceRequest::Resume { after }).await;
        match self.input().await {
            Input::Synced(answer) => answer.kind,
            other => panic!("{other:?}"),
        }
    }

    /// Transactions until one writes this value.
    async fn until(&mut self, value: &str) -> Vec<CommittedTxn> {
        let mut all = Vec::new();
        loop {
            match self.input().await {
                Input::Transactions(transactions) => all.extend(transactions),
                Input::UpToDate | Input::Sessions(_) => {}
                other => panic!("{other:?}"),
            }
            let written = format!("{:?}", value.as_bytes());
            if all
                .iter()
                .any(|one| format!("{:?}", one.content).contains(&written))
            {
                return all;
            }
        }
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(BOUND, self.task).await.unwrap().unwrap();
    }
}

fn position(of: &CommittedTxn) -> HistoryPosition {
    HistoryPosition {
        zxid: of.zxid,
        payload_crc: Some(of.payload_crc),
        digest: of.digest.map(|TreeDigestValue { value, .. }| value),
        epoch: 0,
        scope: 0,
        is_of_other_charset: false,
    }
}

fn assert_follows(all: &[CommittedTxn], zxid: u64) {
    let mut last = zxid.cast_signed();
    for one in all {
        assert!(
            can_follow(one.zxid.0.cast_signed(), last),
            "{} after {last:x}",
            one.zxid
        );
        last = one.zxid.0.cast_signed();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_begins_with_a_snapshot_and_goes_on_from_its_position_without_a_hole() {
    real_servers!("a source of transaction logs");
    let zookeeper = ZooKeeper::builder().start().await.unwrap();
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/a", b"0", &open).await.unwrap();
    client.create("/a/b", b"child", &open).await.unwrap();
    drop(client);
    zookeeper.restart(0).await.unwrap();
    write(&zookeeper, numbered("first-", 20)).await;

    let mut source = Running::start(&zookeeper, &[0]);
    assert_eq!(source.resume(None).await, SyncKind::Snapshot);
    let Input::Staged(at) = source.input().await else {
        panic!("the tree is staged")
    };
    assert!(at.digest.is_some());
    let read = StageRead {
        below: ZnodePath::parse("/a").unwrap(),
        after: None,
        nodes: 100,
        bytes: 1 << 20,
    };
    let ticket = Ticket(1);
    source.request(SourceRequest::ReadStage { ticket, read }).await;
    let Input::StagePage { page, .. } = source.input().await else {
        panic!("the page is read")
    };
    let paths: Vec<&str> = page.nodes.iter().map(|node| node.path.as_str()).collect();
    assert_eq!(
        (paths.as_slice(), page.is_last),
        (["/a", "/a/b"].as_slice(), true)
    );
    write(&zookeeper, numbered("second-", 20)).await;
    source.request(SourceRequest::Follow).await;
    let taken = source.until("second-19").await;
    assert_follows(&taken, at.zxid.0);
    source.end().await;

    // Another start goes on where this one ended, also over a restart of the server.
    let last = position(taken.last().unwrap());
    zookeeper.restart(0).await.unwrap();
    write(&zookeeper, numbered("third-", 20)).await;
    let mut source = Running::start(&zookeeper, &[0]);
    assert_eq!(source.resume(Some(last)).await, SyncKind::Diff);
    let taken = source.until("third-19").await;
    assert_follows(&taken, last.zxid.0);
    write(&zookeeper, numbered("fourth-", 3)).await;
    source.until("fourth-2").await;
    source.end().await;

    // A position of another history is not gone on from.
    for other in [
        HistoryPosition {
            payload_crc: last.payload_crc.map(|crc| crc ^ 1),
            ..last
        },
        HistoryPosition {
            digest: last.digest.map(|digest| digest ^ 1),
            ..last
        },
    ] {
        let mut source = Running::start(&zookeeper, &[0]);
        assert_eq!(source.resume(Some(other)).await, SyncKind::Snapshot);
        source.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_leader_ends_a_connection_and_the_next_one_goes_on_without_a_hole() {
    real_servers!("transaction logs over an election");
    let zookeeper = ZooKeeper::builder().servers(3).start().await.unwrap();
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/a", b"0", &open).await.unwrap();
    drop(client);
    write(&zookeeper, numbered("first-", 20)).await;
    let leader = zookeeper.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    let mut source = Running::start(&zookeeper, &[follower]);
    assert_eq!(source.resume(None).await, SyncKind::Snapshot);
    let Input::Staged(at) = source.input().await else {
        panic!("the tree is staged")
    };
    source.request(SourceRequest::Follow).await;
    write(&zookeeper, numbered("second-", 20)).await;
    let mut taken = source.until("second-19").await;
    assert_follows(&taken, at.zxid.0);

    zookeeper.kill(leader);
    write(&zookeeper, numbered("third-", 20)).await;
    loop {
        match source.input().await {
            Input::Disconnected => break,
            Input::UpToDate | Input::Sessions(_) => {}
            // The end of the writer's session.
            Input::Transactions(more) => taken.extend(more),
            other => panic!("{other:?}"),
        }
    }
    let last = position(taken.last().unwrap());
    assert_eq!(source.resume(Some(last)).await, SyncKind::Diff);
    let taken = source.until("third-19").await;
    assert_follows(&taken, last.zxid.0);
    assert!(taken.last().unwrap().zxid.0 >> 32 > last.zxid.0 >> 32);
    source.end().await;
}
