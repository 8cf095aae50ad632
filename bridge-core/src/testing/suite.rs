//! The contract of [`Sink`] as tests that run at any destination: each sink crate implements [`Rig`] for its real one.
//!
//! ```text
//! #[tokio::test]
//! async fn the_sink_keeps_every_promise_of_its_contract() {
//!     every_promise(&mut MyRig::start()).await;
//! }
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::beside_a_taken_path::a_path_that_fails_beside_a_taken_one_waits_longer_and_is_given_up;
use super::kept::{assert_kept_contract, assert_present_state};
use super::{Fault, FaultScript, MemoryJournal, a_record, limit_records, some_records};
use crate::amount::Span;
use crate::delivery::{
    CompiledFilter, Filter, Phase, Refusals, RejectPolicy, Retry, Setup, SinkStatus, Worker,
};
use crate::journal::{ReadLimit, SinkProgress};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Record, Timestamp};
use crate::sink::{Delivery, Sink, SinkErrorKind};

/// A destination under test.
pub trait Rig: Send {
    /// Makes a new, empty destination; what follows is about this one.
    fn fresh(&mut self) -> impl Future<Output = ()> + Send;

    /// A new sink for the present destination, not opened. The one before is gone.
    fn sink(&mut self) -> Box<dyn Sink>;

    /// Everything that arrived at the present destination, in the order of arrival (of each path).
    fn arrived(&mut self) -> impl Future<Output = Vec<Arrived>> + Send;

    /// The data of each znode that the present destination shows, where it keeps the state of the tree and no records.
    fn state(&mut self) -> impl Future<Output = Option<BTreeMap<ZnodePath, Vec<u8>>>> + Send {
        async { None }
    }

    /// From now on the present destination refuses records of these paths and takes all others; with none it takes all.
    /// False where it cannot do so.
    fn refuse(&mut self, paths: &[ZnodePath]) -> bool {
        let _ = paths;
        false
    }

    /// From now on the answers of the present destination are changed, cut or replaced, as the seed decides; with `None`
    /// they are its own again. False where that cannot be done.
    fn garble(&mut self, seed: Option<u64>) -> impl Future<Output = bool> + Send {
        let _ = seed;
        async { false }
    }
}

/// A record as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Its seq.
    pub seq: Seq,
    /// Its id.
    pub id: Uuid,
    /// All of it.
    pub json: Value,
}

impl Arrived {
    /// A record as it is, where the destination holds records.
    ///
    /// # Panics
    ///
    /// If the sink breaks the rule.
    pub fn of(record: &Record) -> Arrived {
        Arrived {
            seq: record.seq,
            id: record.id,
            json: serde_json::from_slice(&record.to_json()).expect("a record is JSON"),
        }
    }

    /// Parses a record as sinks write it with `format = "record"`.
    ///
    /// # Panics
    ///
    /// If it is none: the test has failed.
    pub fn from_json(json: &[u8]) -> Arrived {
        let record: Record = serde_json::from_slice(json)
            .unwrap_or_else(|error| panic!("no record: {error}: {}", String::from_utf8_lossy(json)));
        Arrived {
            seq: record.seq,
            id: record.id,
            json: serde_json::from_slice(json).expect("it was parsed before"),
        }
    }
}

pub(super) const SINK: &str = "under-test";

/// A check that takes longer has failed. Generous: a real destination on a busy machine.
pub(super) const BOUND: Duration = Duration::from_secs(120);

/// Failures that answers must cause before they can be parsed again.
const FAILURES: u64 = 4;

/// All checks, one after another, each at a fresh destination.
pub async fn every_promise<R: Rig>(rig: &mut R) {
    everything_arrives_in_order(rig).await;
    records_at_the_limits_arrive_as_they_are(rig).await;
    delivery_goes_on_after_every_fault(rig).await;
    rejected_records_let_the_others_pass(rig).await;
    deferred_records_hold_only_their_path(rig).await;
    other_paths_go_on_while_some_fail(rig).await;
    a_path_that_fails_beside_a_taken_one_waits_longer_and_is_given_up(rig).await;
    a_destination_that_fails_for_long_gets_everything_when_it_is_back(rig).await;
    answers_that_cannot_be_parsed_lose_nothing(rig).await;
    the_same_sink_goes_on_after_it_is_opened_again(rig).await;
    close_leaves_everything_durable(rig).await;
    a_cancelled_delivery_loses_nothing(rig).await;
    a_crash_before_the_answer_loses_nothing(rig).await;
}

/// Without faults every record arrives once, in order.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn everything_arrives_in_order<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let journal = MemoryJournal::with(some_records(500, 7));
    run_to_the_tail(&journal, a_sink(rig, &journal)).await;
    assert_arrived_once(rig, &journal, &journal.records()).await;
}

/// Odd names, empty, binary and large values arrive as they are.
pub async fn records_at_the_limits_arrive_as_they_are<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let journal = MemoryJournal::with(limit_records());
    run_to_the_tail(&journal, a_sink(rig, &journal)).await;
    assert_arrived(rig, &journal, &journal.records()).await;
}

/// After each kind of fault delivery continues after the cursor.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn delivery_goes_on_after_every_fault<R: Rig>(rig: &mut R) {
    let rows: [(&str, FaultScript); 6] = [
        (
            "fail before the write",
            deliveries(Fault::FailBeforeWrite(SinkErrorKind::Unavailable)),
        ),
        ("fail after the write", deliveries(Fault::FailAfterWrite)),
        ("drop in the middle", deliveries(Fault::DropMidway)),
        (
            "drop in the middle, reported",
            deliveries(Fault::DropMidwayReported),
        ),
        (
            "respond slowly",
            deliveries(Fault::RespondSlowly(Duration::from_millis(20))),
        ),
        (
            "fail to open",
            deliveries(Fault::FailAfterWrite).opens([
                Some(SinkErrorKind::Unavailable),
                None,
                Some(SinkErrorKind::Broken),
            ]),
        ),
    ];
    for (name, script) in rows {
        rig.fresh().await;
        let journal = MemoryJournal::with(some_records(120, 5));
        let sink = Box::new(script.in_front_of(a_sink(rig, &journal)));
        run_to_the_tail(&journal, sink).await;
        assert!(script.is_played(), "{name}: the fault did not happen");
        assert_arrived(rig, &journal, &journal.records()).await;
    }
}

fn deliveries(fault: Fault) -> FaultScript {
    FaultScript::new().deliveries([Fault::None, fault, Fault::None, fault])
}

/// A record that is rejected in front of the sink does not stop the others, and its absence is on the record.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn rejected_records_let_the_others_pass<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let journal = MemoryJournal::with(some_records(60, 3));
    let script = FaultScript::new().rejects([1, 20, 60]);
    let sink = Box::new(script.in_front_of(a_sink(rig, &journal)));
    run_to_the_tail(&journal, sink).await;
    let letters: Vec<u64> = journal
        .rejected(SINK)
        .iter()
        .map(|rejected| rejected.seq.0)
        .collect();
    assert_eq!(letters, [1, 20, 60]);
    let mut expected = journal.records();
    expected.retain(|record| !letters.contains(&record.seq.0));
    assert_arrived(rig, &journal, &expected).await;
}

/// Records that are refused for now hold their own path and no other; in the end all are there, each path in order.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn deferred_records_hold_only_their_path<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let journal = MemoryJournal::with(some_records(90, 3));
    let script = FaultScript::new().defers([4, 5, 31, 88], 3);
    let sink = Box::new(script.in_front_of(a_sink(rig, &journal)));
    run_to_the_tail(&journal, sink).await;
    assert_eq!(journal.parked(SINK), [0_u64; 0]);
    assert_arrived(rig, &journal, &journal.records()).await;
}

/// Whether records wait in the journal when some begin to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// The failing records are all there is; those of other paths come later, one at a time.
    Idle,
    /// Records of all paths wait, and more come.
    Busy,
}

/// The point at which records fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// In front of the sink, which cannot know.
    InFront,
    /// At the destination.
    AtTheDestination,
}

/// While records of some paths fail, and the sink does not know whether the destination does, records of other paths
/// that arrive meanwhile are delivered. In the end all are there, each path in order.
pub async fn other_paths_go_on_while_some_fail<R: Rig>(rig: &mut R) {
    for place in [Where::InFront, Where::AtTheDestination] {
        for load in [Load::Idle, Load::Busy] {
            for failing in [1, 2, 100] {
                other_paths_go_on(rig, place, load, failing).await;
            }
        }
    }
}

async fn other_paths_go_on<R: Rig>(rig: &mut R, place: Where, load: Load, failing: usize) {
    rig.fresh().await;
    let bad: Vec<ZnodePath> = (0..failing)
        .map(|at| ZnodePath::parse(&format!("/bad/{at}")).expect("it is a path"))
        .collect();
    let script = FaultScript::new();
    let journal = MemoryJournal::with(some_that_fail(&bad, load));
    let sink: Box<dyn Sink> = match place {
        Where::InFront => {
            script.fail_paths(bad.clone());
            Box::new(script.in_front_of(a_sink(rig, &journal)))
        }
        Where::AtTheDestination if !rig.refuse(&bad) => return,
        Where::AtTheDestination => a_sink(rig, &journal),
    };
    let (worker, mut status, stop, stored) = a_worker(&journal, sink);
    let shown = status.clone();
    let others_go_on = async {
        // An idle bridge has nothing but what fails.
        let has_failed = |status: &SinkStatus| {
            status.retries > 0 || status.parked.records > 0 || status.rejected > 0 || load == Load::Busy
        };
        drop(status.wait_for(has_failed).await);
        for at in 0..4 {
            append_some(&journal, &bad, load, at);
            let tail = *journal.durable().borrow();
            let passed = status.wait_for(|status| status.cursor >= tail).await;
            drop(passed.expect("the worker runs"));
        }
        if place == Where::InFront {
            let waiting = status.borrow().parked.paths as usize;
            assert_eq!(
                waiting, failing,
                "{load:?}: every failing path waits, and no other"
            );
        }
        script.accept_all();
        rig.refuse(&[]);
        let empty = status.wait_for(|status| status.parked.records == 0).await;
        drop(empty.expect("the worker runs"));
        stop.cancel();
    };
    let all = async { tokio::join!(worker.run(), journal.store(stored), others_go_on) };
    if tokio::time::timeout(BOUND, all).await.is_err() {
        let status = shown.borrow().clone();
        panic!("{place:?}, {load:?}, {failing} failing: the others never went on: {status:?}");
    }
    let letters: Vec<Seq> = journal.rejected(SINK).iter().map(|one| one.seq).collect();
    let mut expected = journal.records();
    expected.retain(|record| !letters.contains(&record.seq));
    assert_arrived(rig, &journal, &expected).await;
    let is_bad = |record: &Record| record.path.as_ref().is_some_and(|path| bad.contains(path));
    let good = |records: &[Arc<Record>]| records.iter().filter(|record| !is_bad(record)).count();
    assert_eq!(
        good(&expected),
        good(&journal.records()),
        "a record of another path was rejected"
    );
}

/// The records in the journal when some of them begin to fail.
fn some_that_fail(bad: &[ZnodePath], load: Load) -> Vec<Arc<Record>> {
    let mut paths: Vec<String> = bad.iter().map(ToString::to_string).collect();
    if load == Load::Busy {
        // Several batches that hold nothing but failing records, also where there is one such path.
        paths.extend((0..60).map(|at| bad[at % bad.len()].to_string()));
        paths.extend((0..60).map(|at| format!("/good/{}", at % 3)));
    }
    let record = |(path, seq): (&String, u64)| a_record().seq(seq).path(path).arc();
    paths.iter().zip(1..).map(record).collect()
}

fn append_some(journal: &MemoryJournal, bad: &[ZnodePath], load: Load, at: usize) {
    let more = match load {
        Load::Idle => 0,
        Load::Busy => bad.len().min(5),
    };
    let mut paths = vec![format!("/good/{at}")];
    paths.extend(bad[..more].iter().map(ToString::to_string));
    let tail = journal.durable().borrow().0;
    let record = |(path, seq): (&String, u64)| a_record().seq(seq).path(path).arc();
    journal.append(paths.iter().zip(tail + 1..).map(record).collect());
}

/// A destination that refuses every call for long, while records arrive, gets all of them when it takes them again. No
/// record becomes a dead letter, and none is parked.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn a_destination_that_fails_for_long_gets_everything_when_it_is_back<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let records = some_records(90, 7);
    let journal = MemoryJournal::with(records[..30].to_vec());
    let script = deliveries_that_fail(30);
    let sink = Box::new(script.in_front_of(a_sink(rig, &journal)));
    let (worker, mut status, stop, stored) = a_worker(&journal, sink);
    let comes_back = async {
        for (at, record) in records[30..].iter().enumerate() {
            let retries = at as u64 / 2;
            drop(status.wait_for(|status| status.retries >= retries.min(29)).await);
            journal.append(vec![Arc::clone(record)]);
        }
        drop(status.wait_for(|status| status.cursor == Seq(90)).await);
        stop.cancel();
    };
    let all = async { tokio::join!(worker.run(), journal.store(stored), comes_back) };
    tokio::time::timeout(BOUND, all)
        .await
        .expect("everything is delivered within the bound");
    assert_eq!(journal.parked(SINK), [0_u64; 0]);
    assert!(journal.rejected(SINK).is_empty());
    assert_arrived(rig, &journal, &records).await;
}

fn deliveries_that_fail(count: usize) -> FaultScript {
    let fault = Fault::FailBeforeWrite(SinkErrorKind::Unavailable);
    FaultScript::new().deliveries(std::iter::repeat_n(fault, count))
}

/// No record counts as delivered that the destination did not take, whatever it answers. When its answers can be parsed
/// again, everything is delivered, by the same worker or, if it has halted, by the next one.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn answers_that_cannot_be_parsed_lose_nothing<R: Rig>(rig: &mut R) {
    for seed in [1, 2] {
        rig.fresh().await;
        if !rig.garble(Some(seed)).await {
            return;
        }
        let journal = MemoryJournal::with(some_records(120, 7));
        let is_over = |status: &SinkStatus| {
            let is_done = status.cursor == Seq(120) && status.parked.records == 0;
            is_done || status.state == Phase::Halted
        };
        let (worker, mut status, stop, stored) = a_worker(&journal, a_sink(rig, &journal));
        let heals = async {
            let enough = |status: &SinkStatus| status.retries >= FAILURES || is_over(status);
            drop(status.wait_for(enough).await);
            rig.garble(None).await;
            drop(status.wait_for(is_over).await);
            stop.cancel();
        };
        let all = async { tokio::join!(worker.run(), journal.store(stored), heals) };
        let ended = tokio::time::timeout(BOUND, all).await;
        ended.unwrap_or_else(|_| panic!("seed {seed}: the worker neither delivers nor halts"));
        run_to_the_tail(&journal, a_sink(rig, &journal)).await;
        let arrived = rig.arrived().await;
        // An answer may have said that a record is refused, whether it was taken or not.
        let letters: Vec<Seq> = journal.rejected(SINK).iter().map(|one| one.seq).collect();
        let has_arrived = |record: &Record| arrived.iter().any(|one| one.seq == record.seq);
        let mut expected = journal.records();
        expected.retain(|record| !letters.contains(&record.seq) || has_arrived(record));
        assert_arrived(rig, &journal, &expected).await;
    }
}

/// `open` on a sink that has delivered starts again and loses nothing.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn the_same_sink_goes_on_after_it_is_opened_again<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let records = some_records(30, 3);
    let journal = MemoryJournal::with(Vec::new());
    let mut sink = a_sink(rig, &journal);
    for chunk in records.chunks(10) {
        sink.open().await.expect("the destination can be opened");
        journal.append(chunk.to_vec());
        deliver(sink.as_mut(), chunk).await;
    }
    sink.close().await.expect("the sink can be closed");
    assert_arrived(rig, &journal, &records).await;
}

/// Records that were reported as durable exist after `close`, and the next sink continues after them.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn close_leaves_everything_durable<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let records = some_records(40, 4);
    let journal = MemoryJournal::with(Vec::new());
    for (chunk, so_far) in records.chunks(20).zip([20, 40]) {
        let mut sink = a_sink(rig, &journal);
        sink.open().await.expect("the destination can be opened");
        journal.append(chunk.to_vec());
        deliver(sink.as_mut(), chunk).await;
        sink.close().await.expect("the sink can be closed");
        drop(sink);
        assert_arrived_once(rig, &journal, &records[..so_far]).await;
    }
}

/// Dropping the future of `deliver` at any of its waits loses nothing: the next sink delivers the batch again.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn a_cancelled_delivery_loses_nothing<R: Rig>(rig: &mut R) {
    for polls in [1, 2, 3, 5, 8] {
        rig.fresh().await;
        let records = some_records(200, 5);
        let journal = MemoryJournal::with(Vec::new());
        let mut sink = a_sink(rig, &journal);
        sink.open().await.expect("the destination can be opened");
        let batch = Delivery {
            records: records.clone(),
        };
        journal.append(records.clone());
        drop_after(polls, sink.deliver(&batch)).await;
        // A shutdown closes the sink, a crash does not; both must do.
        if polls % 2 == 0 {
            let _ = sink.close().await;
        }
        drop(sink);
        let mut sink = a_sink(rig, &journal);
        sink.open().await.expect("the destination can be opened");
        deliver(sink.as_mut(), &records).await;
        sink.close().await.expect("the sink can be closed");
        assert_arrived(rig, &journal, &records).await;
    }
}

async fn drop_after<F: Future>(polls: usize, future: F) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        // Lets the destination answer in between, so that a later poll comes further.
        if tokio::time::timeout(Duration::from_millis(1), &mut future)
            .await
            .is_ok()
        {
            return;
        }
    }
}

/// The process dies after the destination took the records and before the answer: they come again, none is lost.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn a_crash_before_the_answer_loses_nothing<R: Rig>(rig: &mut R) {
    rig.fresh().await;
    let journal = MemoryJournal::with(some_records(100, 4));
    let script = FaultScript::new().deliveries([Fault::None, Fault::HoldResponse]);
    let held = a_run(&journal, Box::new(script.in_front_of(a_sink(rig, &journal))));
    let until_held = tokio::time::timeout(BOUND, script.held());
    tokio::select! {
        status = held => panic!("the answer was not held: {status:?}"),
        reached = until_held => reached.expect("the second batch is written within the bound"),
    }
    run_to_the_tail(&journal, a_sink(rig, &journal)).await;
    assert_arrived(rig, &journal, &journal.records()).await;
}

/// A new sink of the rig, with the image of this journal if it reads it.
pub(super) fn a_sink<R: Rig>(rig: &mut R, journal: &MemoryJournal) -> Box<dyn Sink> {
    let mut sink = rig.sink();
    if sink.reads_subtrees() {
        sink.attach(Box::new(journal.subtrees()));
    }
    sink
}

/// Checks that these records arrived, or that the destination shows the state after all records of the journal.
pub(super) async fn assert_arrived<R: Rig>(rig: &mut R, journal: &MemoryJournal, expected: &[Arc<Record>]) {
    match rig.state().await {
        Some(state) => assert_present_state(journal, &state),
        None => assert_kept_contract(expected, &rig.arrived().await),
    }
}

/// The same where nothing may arrive twice.
async fn assert_arrived_once<R: Rig>(rig: &mut R, journal: &MemoryJournal, expected: &[Arc<Record>]) {
    if let Some(state) = rig.state().await {
        return assert_present_state(journal, &state);
    }
    let arrived = rig.arrived().await;
    assert_kept_contract(expected, &arrived);
    assert_eq!(arrived.len(), expected.len(), "duplicates without a fault");
}

async fn deliver(sink: &mut dyn Sink, records: &[Arc<Record>]) {
    let batch = Delivery {
        records: records.to_vec(),
    };
    let delivered = tokio::time::timeout(BOUND, sink.deliver(&batch)).await;
    delivered
        .expect("the destination answers within the bound")
        .expect("the destination takes every record");
}

async fn run_to_the_tail(journal: &MemoryJournal, sink: Box<dyn Sink>) {
    let status = tokio::time::timeout(BOUND, a_run(journal, sink))
        .await
        .expect("everything is delivered within the bound");
    assert_eq!(status.lag_records, 0, "{status:?}");
    assert_eq!(journal.cursor(SINK), *journal.durable().borrow());
}

/// Runs a worker from the stored cursor to the tail. Dropping the future is a crash.
async fn a_run(journal: &MemoryJournal, sink: Box<dyn Sink>) -> SinkStatus {
    let (worker, mut status, stop, stored) = a_worker(journal, sink);
    let tail = *journal.durable().borrow();
    let until_delivered = async {
        let is_done = |status: &SinkStatus| status.cursor >= tail && status.parked.records == 0;
        let reached = status.wait_for(is_done).await;
        drop(reached);
        stop.cancel();
    };
    tokio::join!(worker.run(), journal.store(stored), until_delivered);
    status.borrow().clone()
}

/// A worker, its status, its stop, and the progress that it reports.
pub(super) type AWorker = (
    Worker,
    watch::Receiver<SinkStatus>,
    CancellationToken,
    mpsc::Receiver<SinkProgress>,
);

/// A worker that continues at the stored cursor.
fn a_worker(journal: &MemoryJournal, sink: Box<dyn Sink>) -> AWorker {
    let retry = Retry {
        first: Span(Duration::from_millis(1)),
        max: Span(Duration::from_millis(20)),
        ..Retry::default()
    };
    a_worker_with(journal, sink, retry)
}

pub(super) fn a_worker_with(journal: &MemoryJournal, sink: Box<dyn Sink>, retry: Retry) -> AWorker {
    let (progress, stored) = mpsc::channel(4);
    let (_nobody, orders) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let setup = Setup {
        sink: SINK.into(),
        source: "main".into(),
        destination: sink,
        tail: Box::new(journal.tail()),
        durable: journal.durable(),
        refusals: Refusals::default(),
        progress,
        cursor: journal.cursor(SINK),
        backlog: journal.backlog(SINK),
        orders,
        merge: None,
        filter: CompiledFilter::new(&Filter::default()).expect("the default filter passes everything"),
        retry,
        rejects: RejectPolicy::default(),
        limit: ReadLimit {
            records: 25,
            bytes: 4 << 20,
        },
        clock: Arc::new(|| Timestamp(0)),
        seed: 1,
        stop: stop.clone(),
        drain: Duration::ZERO,
    };
    let (worker, status) = Worker::new(setup);
    (worker, status, stop, stored)
}
