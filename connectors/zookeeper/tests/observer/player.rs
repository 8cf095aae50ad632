//! A source, and the part of the machine in the conversation with it: resumes at its position, reads stages, and checks
//! that transactions follow each other without a hole.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use bridge_core::committed::{CommittedTxn, HistoryPosition, StageRead, StagedNode, SyncAnswer, SyncKind};
use bridge_core::path::ZnodePath;
use bridge_core::record::Mode;
use bridge_core::source::{
    AddressedRequest, Connection, Input, Link, Source, SourceErrorKind, SourceEvent, SourceRequest, Ticket,
};
use bridge_transactions::transaction::can_follow;
use bridge_zookeeper::config::ZookeeperConfig;
use bridge_zookeeper::observer::{ObserverOptions, ObserverSource};
use bridge_zookeeper::txnlog::TxnlogOptions;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// Znodes of one page of a stage: few, so that a small tree has many pages.
const PAGE_NODES: usize = 3;

/// The reports of a source.
#[derive(Debug, Default)]
pub struct Seen {
    pub connections: usize,
    pub disconnections: usize,
    pub overflows: usize,
    pub unanswered: usize,
    pub answers: Vec<SyncAnswer>,
    pub staged: Vec<HistoryPosition>,
    /// The last stage.
    pub tree: BTreeMap<String, StagedNode>,
    /// Those after the position, in order.
    pub transactions: Vec<CommittedTxn>,
    /// Those that came again.
    pub repeated: usize,
    pub ups: usize,
    pub troubles: Vec<(SourceErrorKind, String)>,
    pub position: Option<HistoryPosition>,
    /// How the following records were captured, each with the position at which that began.
    pub modes: Vec<(Option<Mode>, u64)>,
}

impl Seen {
    pub fn kinds(&self) -> Vec<SyncKind> {
        self.answers.iter().map(|answer| answer.kind).collect()
    }

    pub fn zxid(&self) -> u64 {
        self.position.map_or(0, |position| position.zxid.0)
    }
}

/// A running source.
pub struct Player {
    requests: mpsc::Sender<AddressedRequest>,
    reported: mpsc::Receiver<SourceEvent>,
    stop: CancellationToken,
    source: JoinHandle<()>,
    number: Connection,
    page: u64,
    /// Whether the machine reads stages and resumes by itself.
    pub seen: Seen,
}

impl Player {
    /// Runs a source that has this position.
    pub fn run(options: ObserverOptions, connect: &str, position: Option<HistoryPosition>) -> Player {
        Player::run_in(options, connect, position, std::env::temp_dir())
    }

    pub fn run_in(
        options: ObserverOptions,
        connect: &str,
        position: Option<HistoryPosition>,
        folder: PathBuf,
    ) -> Player {
        let config = ZookeeperConfig::new(connect.parse().unwrap());
        Player::run_source(ObserverSource::new("test", config, options, folder), position)
    }

    /// Runs a source that may read these folders of logs.
    pub fn run_beside_logs(
        options: ObserverOptions,
        connect: &str,
        position: Option<HistoryPosition>,
        directories: Vec<PathBuf>,
    ) -> Player {
        let mut config = ZookeeperConfig::new(connect.parse().unwrap());
        config.txnlog = Some(TxnlogOptions::new(directories));
        let source = ObserverSource::new("test", config, options, std::env::temp_dir());
        Player::run_source(source, position)
    }

    fn run_source(source: ObserverSource, position: Option<HistoryPosition>) -> Player {
        let (requests_end, requests) = mpsc::channel(8);
        let (reports, reported) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let link = Link {
            requests,
            reports,
            stop: stop.clone(),
        };
        let source = Box::new(source);
        Player {
            requests: requests_end,
            reported,
            stop,
            source: tokio::spawn(source.run(link)),
            number: Connection::default(),
            page: 0,
            seen: Seen {
                position,
                ..Seen::default()
            },
        }
    }

    /// Takes reports until what was seen is as wanted.
    pub async fn until(&mut self, what: &str, is_wanted: impl Fn(&Seen) -> bool) {
        let played = timeout(BOUND, async {
            while !is_wanted(&self.seen) {
                let event = self.reported.recv().await.expect("the source goes on");
                self.take(event).await;
            }
        })
        .await;
        assert!(played.is_ok(), "waited in vain for {what}: {}", self.summary());
    }

    /// Waits until the source ends by itself.
    pub async fn until_end(&mut self) {
        let played = timeout(BOUND, async {
            while let Some(event) = self.reported.recv().await {
                self.take(event).await;
            }
        })
        .await;
        assert!(played.is_ok(), "the source does not end: {}", self.summary());
    }

    fn summary(&self) -> String {
        let Seen {
            connections,
            disconnections,
            answers,
            staged,
            ups,
            troubles,
            ..
        } = &self.seen;
        let parts: [&dyn Debug; 7] = [
            connections,
            disconnections,
            answers,
            staged,
            ups,
            troubles,
            &self.seen.transactions.len(),
        ];
        format!("{parts:?}")
    }

    /// The source ends when it is asked to. Returns what it reported.
    pub async fn end(self) -> Seen {
        self.stop.cancel();
        drop(self.reported);
        timeout(BOUND, self.source)
            .await
            .expect("the source ends")
            .unwrap();
        self.seen
    }

    async fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Connected { connection, .. } => {
                assert_ne!(connection, self.number, "each connection has a number of its own");
                self.number = connection;
                self.seen.connections += 1;
                let after = self.seen.position;
                self.request(SourceRequest::Resume { after }).await;
            }
            SourceEvent::Input(input) => self.input(input).await,
            SourceEvent::Server(_) | SourceEvent::Feed(_) => {}
            SourceEvent::Mode(mode) => self.seen.modes.push((mode, self.seen.zxid())),
            SourceEvent::Trouble(error) => self.seen.troubles.push((error.kind, error.message)),
        }
    }

    async fn input(&mut self, input: Input) {
        let seen = &mut self.seen;
        match input {
            Input::Synced(answer) => seen.answers.push(answer),
            Input::Staged(at) => {
                seen.staged.push(at);
                seen.tree.clear();
                seen.position = Some(at);
                self.read_stage(None).await;
            }
            Input::StagePage { ticket, page } => {
                assert_eq!(ticket, Ticket(self.page));
                let last = page.nodes.last().map(|node| node.path.clone());
                for node in page.nodes {
                    let path = node.path.to_string();
                    assert!(seen.tree.insert(path, node).is_none(), "a znode comes once");
                }
                match page.is_last {
                    true => self.request(SourceRequest::Follow).await,
                    false => self.read_stage(last).await,
                }
            }
            Input::Transactions(transactions) => {
                transactions.into_iter().for_each(|txn| seen.transaction(txn))
            }
            Input::Sessions(_) => {}
            Input::UpToDate => seen.ups += 1,
            Input::Disconnected => seen.disconnections += 1,
            Input::Overflow => seen.overflows += 1,
            Input::Unanswered => seen.unanswered += 1,
            other => panic!("{other:?}"),
        }
    }

    async fn read_stage(&mut self, after: Option<ZnodePath>) {
        self.page += 1;
        let read = StageRead {
            below: ZnodePath::slash(),
            after,
            nodes: PAGE_NODES,
            bytes: 1 << 20,
        };
        let ticket = Ticket(self.page);
        self.request(SourceRequest::ReadStage { ticket, read }).await;
    }

    pub async fn request(&self, request: SourceRequest) {
        let connection = self.number;
        self.requests
            .send(AddressedRequest { connection, request })
            .await
            .unwrap();
    }
}

impl Seen {
    fn transaction(&mut self, txn: CommittedTxn) {
        let position = self.position.expect("transactions follow a position");
        if txn.zxid <= position.zxid {
            self.repeated += 1;
            return;
        }
        let (zxid, last) = (txn.zxid.0.cast_signed(), position.zxid.0.cast_signed());
        assert!(can_follow(zxid, last), "0x{zxid:x} after 0x{last:x}");
        self.position = Some(HistoryPosition {
            zxid: txn.zxid,
            payload_crc: Some(txn.payload_crc),
            digest: txn.digest.map(|digest| digest.value),
            ..position
        });
        self.transactions.push(txn);
    }
}
