//! The pipeline on a real journal, with a simulated connection: records are durable first, a full journal holds
//! capture, and an older state stops it.

mod compacting;
mod journal_file;
mod live;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::amount::Size;
use crate::capture::{Capture, CaptureOptions, Input, Outcome, SessionFate, Ticket};
use crate::journal::{
    Journal, JournalOptions, JournalWriter, ReadLimit, Reader, SinkProgress, SinkState, Switch,
};
use crate::machine::SourceMachine;
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Op, Stat, Timestamp};
use crate::source::{
    AddressedRequest, Connection, ReadRequest, SourceError, SourceErrorKind, SourceEvent, SourceRequest,
};

/// No condition of these tests takes longer.
const BOUND: Duration = Duration::from_secs(20);

/// A pipeline at work, with the test as its connection.
struct Bench {
    reports: mpsc::Sender<SourceEvent>,
    requests: mpsc::Receiver<AddressedRequest>,
    progress: mpsc::Sender<SinkProgress>,
    watches: Watches,
    thread: std::thread::JoinHandle<()>,
    writer_tasks: mpsc::Sender<WriterTask>,
    folder: TempDir,
}

/// The watch machine of `/a`.
fn machine() -> Box<dyn SourceMachine> {
    let options = CaptureOptions::new("main", vec![ZnodePath::parse("/a").unwrap()]);
    Box::new(Capture::new(options))
}

impl Bench {
    fn start(max_size: Option<Size>) -> Bench {
        let mut options = JournalOptions::new("main");
        if let Some(max_size) = max_size {
            options.max_size = max_size;
        }
        Bench::begin(&options, |_| ())
    }

    fn begin(options: &JournalOptions, look: impl FnOnce(&mut Journal)) -> Bench {
        let folder = TempDir::new().unwrap();
        let mut journal = Journal::open(&folder.path().join("main.journal"), options).unwrap();
        journal.register_sink("slow", Seq::ZERO).unwrap();
        journal.commit().unwrap();
        look(&mut journal);
        let (reports, reports_end) = mpsc::channel(16);
        let (requests_end, requests) = mpsc::channel(16);
        let (progress, progress_end) = mpsc::channel(16);
        let (writer_tasks, writer_tasks_end) = mpsc::channel(1);
        let (pipeline, watches) = Pipeline::new(PipelineSetup {
            source: "main".into(),
            machine: machine(),
            journal,
            reports: reports_end,
            requests: requests_end,
            progress: progress_end,
            writer_tasks: writer_tasks_end,
            clock: Arc::new(|| Timestamp(1_000)),
            seed: 1,
        });
        let thread = std::thread::spawn(move || pipeline.run().unwrap());
        Bench {
            reports,
            requests,
            progress,
            watches,
            thread,
            writer_tasks,
            folder,
        }
    }

    async fn input(&self, input: Input) {
        self.reports.send(SourceEvent::Input(input)).await.unwrap();
    }

    async fn connected(&self, connection: Connection) {
        let session = SessionFate::New;
        let report = SourceEvent::Connected {
            connection,
            session,
            server: Some("zk1:2181 (10.0.0.1:2181)".into()),
        };
        self.reports.send(report).await.unwrap();
    }

    async fn request(&mut self) -> SourceRequest {
        timeout(BOUND, self.requests.recv())
            .await
            .expect("a command within the bound")
            .unwrap()
            .request
    }

    /// Connects up to the first read, and returns its ticket.
    async fn connect(&mut self) -> Ticket {
        self.connected(Connection(1)).await;
        assert!(matches!(self.request().await, SourceRequest::Arm(_)));
        self.input(Input::Armed).await;
        let (ticket, reads) = self.reads().await;
        if reads.iter().any(|read| read.children) {
            return ticket;
        }
        // The sample that identifies the ensemble: it is the known one.
        self.answer(ticket, vec![znode(1, 0, None); reads.len()]).await;
        self.read().await
    }

    async fn read(&mut self) -> Ticket {
        self.reads().await.0
    }

    async fn reads(&mut self) -> (Ticket, Vec<ReadRequest>) {
        match self.request().await {
            SourceRequest::Read { ticket, reads } => (ticket, reads),
            other => panic!("{other:?} is no read"),
        }
    }

    async fn answer(&self, ticket: Ticket, outcomes: Vec<Outcome>) {
        self.input(Input::Answer { ticket, outcomes }).await;
    }

    async fn durable(&mut self, tail: u64) {
        let durable = self.watches.durable.wait_for(|durable| durable.0 >= tail);
        timeout(BOUND, durable)
            .await
            .expect("durable within the bound")
            .unwrap();
    }

    async fn status(&mut self, is_awaited: impl FnMut(&SourceStatus) -> bool) -> SourceStatus {
        let status = self.watches.status.wait_for(is_awaited);
        timeout(BOUND, status)
            .await
            .expect("the status within the bound")
            .unwrap()
            .clone()
    }

    fn ops(&self) -> Vec<Op> {
        let mut reader = Reader::open(&self.folder.path().join("main.journal")).unwrap();
        let limit = ReadLimit {
            records: 1_000,
            bytes: 64 << 20,
        };
        reader
            .read(Seq::ZERO, limit)
            .unwrap()
            .iter()
            .map(|record| record.op)
            .collect()
    }

    /// The connection and the workers end; so must the pipeline.
    async fn end(self) {
        drop((self.reports, self.progress, self.requests));
        tokio::task::spawn_blocking(move || self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

fn znode(czxid: u64, bytes: usize, children: Option<&[String]>) -> Outcome {
    let num_children = children.map_or(0, <[String]>::len) as i32;
    let zxid = Zxid(czxid);
    let stat = Stat {
        czxid: zxid,
        mzxid: zxid,
        pzxid: Zxid(1_000),
        data_length: bytes as i32,
        num_children,
        ..Stat::default()
    };
    let children = children.map(|names| names.iter().map(|name| name.as_str().into()).collect());
    Outcome::Found {
        stat,
        data: vec![b'x'; bytes].into(),
        children,
    }
}

#[tokio::test]
async fn a_listing_is_durable_in_the_journal_before_any_worker_sees_it() {
    let mut bench = Bench::start(None);
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 3, Some(&[]))]).await;
    bench.durable(3).await;
    assert_eq!(bench.ops(), [Op::SnapshotBegin, Op::Snapshot, Op::SnapshotEnd]);
    assert!(bench.status(SourceStatus::is_live).await.halted.is_none());
    bench.end().await;
}

#[tokio::test]
async fn a_full_journal_holds_capture_and_says_so_until_a_sink_has_moved_on() {
    let mut bench = Bench::start(Some(Size(256 << 10)));
    // As many as are asked for at once.
    let names: Vec<String> = (0..16).map(|at| format!("{at:02}")).collect();
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 0, Some(&names))]).await;
    let children = bench.read().await;
    bench.durable(2).await;
    bench
        .answer(children, names.iter().map(|_| znode(2, 32 << 10, None)).collect())
        .await;

    let SourceRequest::Reconnect { after } = bench.request().await else {
        panic!("capture was not held")
    };
    assert!(after >= Duration::from_secs(1), "{after:?}");
    let status = bench.status(|status| status.trouble.is_some()).await;
    assert!(
        status.trouble.unwrap().contains("max_size"),
        "the message names the option"
    );
    let kept = bench.ops();
    assert_eq!(
        kept[..2],
        [Op::SnapshotBegin, Op::Snapshot],
        "what was durable stays, nothing is half there"
    );

    let tail = Seq(kept.len() as u64);
    bench
        .progress
        .send(SinkProgress {
            sink: "slow".into(),
            to: tail,
            ..SinkProgress::default()
        })
        .await
        .unwrap();
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 0, Some(&[]))]).await;
    assert!(bench.status(SourceStatus::is_live).await.trouble.is_none());
    bench.end().await;
}

#[tokio::test]
async fn a_server_that_stays_older_than_the_journal_stops_the_source_after_growing_waits() {
    let mut bench = Bench::start(None);
    let root = bench.connect().await;
    bench.answer(root, vec![znode(5, 3, Some(&[]))]).await;
    bench.status(SourceStatus::is_live).await;
    for ceiling in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
        let root = bench.connect().await;
        bench.answer(root, vec![znode(4, 3, Some(&[]))]).await;
        let SourceRequest::Reconnect { after } = bench.request().await else {
            panic!("no other server was tried")
        };
        let after = after.as_millis();
        assert!((ceiling / 2..=ceiling).contains(&after), "{after} of {ceiling}");
    }
    let root = bench.connect().await;
    bench.answer(root, vec![znode(4, 3, Some(&[]))]).await;
    let halted = bench
        .status(|status| status.halted.is_some())
        .await
        .halted
        .unwrap();
    assert!(
        halted.contains("--accept-baseline main") && halted.contains("/a"),
        "{halted}"
    );
    let ops = bench.ops();
    assert!(
        !ops.contains(&Op::Delete) && !ops.contains(&Op::GapEnd),
        "nothing was taken back: {ops:?}"
    );
    bench.end().await;
}

#[tokio::test]
async fn a_final_trouble_of_the_connection_is_shown_as_the_end_and_another_as_passing() {
    let mut bench = Bench::start(None);
    let trouble = |kind, message: &str| {
        SourceEvent::Trouble(SourceError {
            kind,
            message: message.into(),
        })
    };
    bench
        .reports
        .send(trouble(SourceErrorKind::Unavailable, "nobody there"))
        .await
        .unwrap();
    let status = bench.status(|status| status.trouble.is_some()).await;
    assert_eq!(
        (status.trouble.as_deref(), status.halted),
        (Some("nobody there"), None)
    );
    bench
        .reports
        .send(trouble(SourceErrorKind::Authentication, "refused"))
        .await
        .unwrap();
    let status = bench.status(|status| status.halted.is_some()).await;
    assert_eq!(status.halted.as_deref(), Some("refused"));
    bench.end().await;
}

#[tokio::test]
async fn cursors_are_stored_although_nothing_is_captured() {
    let mut bench = Bench::start(None);
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 3, Some(&[]))]).await;
    bench.durable(3).await;
    bench
        .progress
        .send(SinkProgress {
            sink: "slow".into(),
            to: Seq(2),
            ..SinkProgress::default()
        })
        .await
        .unwrap();
    let file = bench.folder.path().join("main.journal");
    let folder = bench.folder;
    drop((bench.reports, bench.progress, bench.requests));
    tokio::task::spawn_blocking(move || bench.thread.join().unwrap())
        .await
        .unwrap();
    assert_eq!(Reader::open(&file).unwrap().cursor("slow").unwrap(), Some(Seq(2)));
    drop(folder);
}

#[test]
fn a_sink_that_was_switched_off_is_stored_at_once_and_a_cursor_with_what_comes_next() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("main.journal");
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    let mut flow = Flow::new(machine(), journal, 1);
    let progress = |switch| SinkProgress {
        sink: "slow".into(),
        switch,
        ..SinkProgress::default()
    };
    flow.take_progress(progress(None));
    assert!(!flow.is_urgent());
    let reason = "gone".to_owned();
    flow.take_progress(progress(Some(Switch::Disabled { reason })));
    flow.take_progress(progress(None));
    assert!(flow.is_urgent(), "a later progress does not make it less so");
    flow.commit().unwrap();
    assert!(!flow.is_urgent());
    let disabled = Reader::open(&file).unwrap().disabled("slow").unwrap();
    assert_eq!(disabled.unwrap().reason, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_names_the_server_of_a_connection_until_it_ends() {
    let mut bench = Bench::start(None);
    bench.connected(Connection(1)).await;
    let server = Some("zk1:2181 (10.0.0.1:2181)");
    bench
        .status(|status| status.connected_to.as_deref() == server)
        .await;
    bench.input(Input::Disconnected).await;
    bench.status(|status| status.connected_to.is_none()).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_names_the_connection_that_it_is_meant_for() {
    let mut bench = Bench::start(None);
    bench.connected(Connection(1)).await;
    bench.input(Input::Disconnected).await;
    bench.connected(Connection(2)).await;
    for connection in [1, 2] {
        let addressed = timeout(BOUND, bench.requests.recv()).await.unwrap().unwrap();
        assert_eq!(addressed.connection, Connection(connection));
        assert!(
            matches!(addressed.request, SourceRequest::Arm(_)),
            "{addressed:?}"
        );
    }
    bench.end().await;
}
