//! A source of transaction logs on written files, beside servers that only say what they have applied.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bridge_core::committed::{HistoryPosition, StageRead, SyncKind};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::source::{
    AddressedRequest, Connection, Input, Link, Source, SourceEvent, SourceRequest, Ticket,
};
use bridge_transactions::testing;
use bridge_zookeeper::config::ZookeeperConfig;
use bridge_zookeeper::txnlog::{TxnlogOptions, TxnlogSource};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(30);
const EPOCH: i64 = 1 << 32;

/// A server that answers `srvr` and nothing else.
struct Server {
    address: String,
    applied: Arc<AtomicI64>,
}

impl Server {
    async fn start(zxid: i64) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let applied = Arc::new(AtomicI64::new(zxid));
        let shown = Arc::clone(&applied);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let zxid = shown.load(Ordering::SeqCst);
                let answer = format!("Zookeeper version: 3.9.5-x\nZxid: 0x{zxid:x}\nMode: follower\n");
                let mut word = [0; 4];
                if stream.read_exact(&mut word).await.is_ok() {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        Server { address, applied }
    }
}

fn write_log(folder: &Path, zxids: &[i64]) {
    let (all, _) = testing::some_creates(zxids);
    let name = format!("log.{:x}", zxids[0]);
    std::fs::write(folder.join(name), testing::log_file(&all)).unwrap();
}

/// The snapshot after these transactions.
fn write_snapshot(folder: &Path, zxids: &[i64]) {
    let file = testing::snapshot_after_creates(zxids);
    let name = format!("snapshot.{:x}", zxids.last().copied().unwrap_or_default());
    std::fs::write(folder.join(name), file).unwrap();
}

/// A running source, which the test asks in the place of a machine.
struct Running {
    requests: mpsc::Sender<AddressedRequest>,
    reports: mpsc::Receiver<SourceEvent>,
    stop: CancellationToken,
    connection: Connection,
    connections: usize,
    /// The position from which each connection is asked to go on; a tree without one.
    after: Option<HistoryPosition>,
    _folder: TempDir,
}

impl Running {
    fn start(servers: &[&Server], folders: &[&TempDir]) -> Running {
        let connect: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
        let config = ZookeeperConfig::new(connect.join(",").parse().unwrap());
        let directories = folders.iter().map(|folder| folder.path().to_owned()).collect();
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
        tokio::spawn(Box::new(source).run(link));
        Running {
            requests,
            reports,
            stop,
            connection: Connection::default(),
            connections: 0,
            after: None,
            _folder: folder,
        }
    }

    async fn request(&self, request: SourceRequest) {
        let connection = self.connection;
        let addressed = AddressedRequest { connection, request };
        self.requests.send(addressed).await.unwrap();
    }

    /// The next input or trouble.
    async fn next(&mut self) -> Result<Input, String> {
        loop {
            match timeout(BOUND, self.reports.recv()).await.unwrap().unwrap() {
                SourceEvent::Connected { connection, .. } => {
                    (self.connection, self.connections) = (connection, self.connections + 1);
                    let after = self.after;
                    self.request(SourceRequest::Resume { after }).await;
                }
                SourceEvent::Input(Input::Synced(answer)) => {
                    let expected = match self.after {
                        Some(_) => SyncKind::Diff,
                        None => SyncKind::Snapshot,
                    };
                    assert_eq!(answer.kind, expected);
                }
                SourceEvent::Input(Input::Disconnected) => {}
                SourceEvent::Input(input) => return Ok(input),
                SourceEvent::Trouble(error) => return Err(error.message),
                SourceEvent::Server(_) | SourceEvent::Mode(_) | SourceEvent::Feed(_) => {}
            }
        }
    }

    /// The zxid of the tree that is staged, and the paths below the root.
    async fn staged(&mut self) -> (i64, Vec<String>) {
        let staged = self.next().await;
        let Ok(Input::Staged(at)) = staged else {
            panic!("{staged:?}")
        };
        let read = StageRead {
            below: ZnodePath::slash(),
            after: None,
            nodes: 100,
            bytes: 1 << 20,
        };
        let ticket = Ticket(1);
        self.request(SourceRequest::ReadStage { ticket, read }).await;
        let page = self.next().await;
        let Ok(Input::StagePage { page, .. }) = page else {
            panic!("{page:?}")
        };
        let paths = page.nodes.iter().map(|node| node.path.as_str().to_owned());
        let own = |path: &String| path != "/" && !path.starts_with("/zookeeper");
        (at.zxid.0.cast_signed(), paths.filter(own).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn paths(zxids: &[i64]) -> Vec<String> {
    zxids.iter().map(|zxid| format!("/{zxid:x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_listing_has_nothing_that_a_snapshot_without_a_quorum_has() {
    let (leader, follower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let zxids = [8 * EPOCH + 1, 8 * EPOCH + 2];
    let dead = [&zxids[..], &[8 * EPOCH + 3]].concat();
    write_log(leader.path(), &dead);
    write_snapshot(leader.path(), &zxids[..1]);
    write_snapshot(leader.path(), &dead);
    write_log(follower.path(), &zxids);
    let (first, second) = (Server::start(8 * EPOCH + 2).await, Server::start(9 * EPOCH).await);
    let mut both = Running::start(&[&first, &second], &[&leader, &follower]);
    let mut alone = Running::start(&[&first, &second], &[&leader]);
    // The new leader's first transaction comes after the one before the dead one.
    let all = [&zxids[..], &[9 * EPOCH + 1]].concat();
    std::fs::remove_file(follower.path().join("log.800000001")).unwrap();
    write_log(follower.path(), &all);
    second.applied.store(9 * EPOCH + 1, Ordering::SeqCst);
    assert_eq!(both.staged().await, (9 * EPOCH + 1, paths(&all)));
    // One that has the leader's files only waits for what follows, and says so.
    let trouble = alone.next().await.unwrap_err();
    assert!(
        trouble.contains("the logs end at 0x0000000800000003"),
        "{trouble}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_nothing_shows_to_be_committed_is_named_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let zxids = [8 * EPOCH + 1, 8 * EPOCH + 2];
    write_snapshot(folder.path(), &zxids);
    let server = Server::start(9 * EPOCH).await;
    let mut source = Running::start(&[&server], &[&folder]);
    let trouble = source.next().await.unwrap_err();
    let expected = "snapshot.800000002: nothing shows that 0x0000000800000002 was committed";
    assert!(trouble.contains(expected), "{trouble}");
    // The digest of the new leader's first transaction does.
    let all = [&zxids[..], &[9 * EPOCH + 1]].concat();
    let (transactions, _) = testing::some_creates(&all);
    std::fs::write(
        folder.path().join("log.900000001"),
        testing::log_file(&transactions[2..]),
    )
    .unwrap();
    server.applied.store(9 * EPOCH + 1, Ordering::SeqCst);
    assert_eq!(source.staged().await, (9 * EPOCH + 1, paths(&all)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_another_ensemble_are_refused_and_left_out_beside_the_right_ones() {
    let (right, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let zxids = [2 * EPOCH + 1, 2 * EPOCH + 2];
    write_log(right.path(), &zxids);
    write_snapshot(right.path(), &zxids[..1]);
    let others = [EPOCH + 1, 6 * EPOCH + 1, 6 * EPOCH + 2];
    write_log(foreign.path(), &others);
    write_snapshot(foreign.path(), &others[..2]);
    let server = Server::start(2 * EPOCH + 2).await;
    let mut alone = Running::start(&[&server], &[&foreign]);
    let mut both = Running::start(&[&server], &[&foreign, &right]);
    let refused = alone.next().await.unwrap_err();
    let named = format!("{} has 0x0000000600000002, of epoch 6", foreign.path().display());
    assert!(refused.contains(&named), "{refused}");
    assert_eq!(alone.connections, 0);
    assert_eq!(both.staged().await, (2 * EPOCH + 2, paths(&zxids)));
    assert_eq!(both.connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_moved_away_for_a_moment_is_waited_for_and_read_on_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let zxids = [2 * EPOCH + 1, 2 * EPOCH + 2, 2 * EPOCH + 3];
    write_snapshot(folder.path(), &zxids[..1]);
    write_log(folder.path(), &zxids);
    let server = Server::start(zxids[2]).await;
    let (log, away) = ("log.200000001", "away");
    std::fs::rename(folder.path().join(log), folder.path().join(away)).unwrap();
    let mut source = Running::start(&[&server], &[&folder]);
    source.after = Some(HistoryPosition {
        zxid: Zxid(zxids[1].cast_unsigned()),
        ..HistoryPosition::default()
    });
    let trouble = source.next().await.unwrap_err();
    let expected =
        "lead to 0x0000000200000002, the last transaction in the journal: if they do not within 20 s";
    assert!(trouble.contains(expected), "{trouble}");
    std::fs::rename(folder.path().join(away), folder.path().join(log)).unwrap();
    // A connection from before may still say that it is away.
    let next = loop {
        if let Ok(input) = source.next().await {
            break input;
        }
    };
    let Input::Transactions(txns) = next else {
        panic!("{next:?}")
    };
    assert_eq!(
        txns.iter().map(|txn| txn.zxid.0).collect::<Vec<_>>(),
        [zxids[2].cast_unsigned()]
    );
}
