//! Records that are delivered once more while their paths change.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::failures::journal_error;
use super::*;
use crate::journal::JournalErrorKind;
use crate::path::ZnodePath;
use crate::testing::a_record;

const PATHS: [&str; 3] = ["/a", "/b", "/c"];

/// Whether the orders say up to which record the paths were looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orders {
    /// As `zkbridge replay` does.
    Current,
    /// As `zkbridge replay --force` does.
    Forced,
}

/// A worker, records that are appended, and orders to replay a range that ended a while ago.
struct Play {
    random: StdRng,
    journal: MemoryJournal,
    destination: MemoryDestination,
    status: watch::Receiver<SinkStatus>,
    orders: mpsc::Sender<OperatorRequest>,
    tail: u64,
    named: u64,
}

impl Play {
    fn append(&mut self) {
        let count = self.random.random_range(1..6);
        let record = |seq| {
            let path = PATHS[self.random.random_range(0..PATHS.len())];
            a_record().seq(seq).path(path).arc()
        };
        let records = (self.tail + 1..=self.tail + count).map(record).collect();
        self.tail += count;
        self.journal.append(records);
    }

    async fn until_delivered(&mut self) {
        let tail = Seq(self.tail);
        until(&mut self.status, "at the tail", |status| status.cursor == tail).await;
    }

    /// Orders the records of some paths, from a random one up to the record that was looked at.
    async fn order(&mut self, orders: Orders, looked_to: Seq) {
        let after = self.random.random_range(0..=looked_to.0);
        let left_out = PATHS[self.random.random_range(0..PATHS.len())];
        let is_wanted = |path: &ZnodePath| &**path != left_out;
        let range = after + 1..=looked_to.0;
        let records = self.journal.records();
        let named = records.iter().filter(|record| range.contains(&record.seq.0));
        let named = named.filter(|record| record.path.as_ref().is_some_and(is_wanted));
        let records: Vec<_> = named.map(|record| (record.seq, record.path.clone())).collect();
        self.named += records.len() as u64;
        let order = ReplayOrder {
            records,
            current_to: (orders == Orders::Current).then_some(looked_to),
        };
        self.orders.send(OperatorRequest::Replay(order)).await.unwrap();
        let named = self.named;
        until(&mut self.status, "ordered", |status| status.replay.named == named).await;
    }
}

/// Returns the first path whose last record at the destination is not its newest.
async fn play(seed: u64, orders: Orders) -> Option<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let deferred: Vec<u64> = (0..3).map(|_| random.random_range(1..40)).collect();
    let script = FaultScript::new().defers(deferred, 3);
    let journal = MemoryJournal::with(Vec::new());
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);
    let sink = Box::new(script.in_front_of(Box::new(destination.sink())));
    let mut setup = bench.setup("one", sink, Given::default());
    let (sender, received) = mpsc::channel(1);
    setup.orders = received;
    let status = bench.start_with(setup);
    let mut play = Play {
        random,
        journal: journal.clone(),
        destination: destination.clone(),
        status,
        orders: sender,
        tail: 0,
        named: 0,
    };
    let mut looked_to = Seq::ZERO;
    for _ in 0..16 {
        match play.random.random_range(0..5) {
            0 | 1 => play.append(),
            2 => play.until_delivered().await,
            3 => looked_to = play.status.borrow().cursor,
            _ => play.order(orders, looked_to).await,
        }
    }
    play.append();
    play.until_delivered().await;
    let end = until(&mut play.status, "at rest", |status| status.parked.records == 0).await;
    bench.stop().await;

    assert_eq!(
        (end.replay.named, end.replay.not_queued),
        (play.named, 0),
        "seed {seed}: each named record is counted"
    );
    let again = play.destination.seqs().len() as u64 - play.tail;
    let queued = end.replay.named - end.replay.left_out;
    assert!(
        again <= queued,
        "seed {seed}: {again} came again, and {queued} were queued"
    );
    let (mut last, mut newest) = (HashMap::new(), HashMap::new());
    for record in play.destination.arrived() {
        let path = record.path.clone().unwrap().to_string();
        last.insert(path.clone(), record.seq);
        let newest = newest.entry(path).or_insert(record.seq);
        *newest = record.seq.max(*newest);
    }
    newest
        .into_iter()
        .find(|(path, newest)| last[path] != *newest)
        .map(|(path, newest)| format!("seed {seed}: {path} ends with {}, not {newest}", last[&path]))
}

#[tokio::test(start_paused = true)]
async fn a_replay_never_ends_with_an_old_record_of_a_path_that_changed_meanwhile() {
    for seed in seeds(400) {
        assert_eq!(play(seed, Orders::Current).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_forced_can_end_with_an_old_record() {
    let mut broken = 0;
    for seed in seeds(400) {
        broken += u64::from(play(seed, Orders::Forced).await.is_some());
    }
    assert!(broken > 0, "the check above would not notice");
}

#[tokio::test(start_paused = true)]
async fn records_that_are_left_out_of_a_replay_are_counted_as_such() {
    let record = |seq, path: &str| a_record().seq(seq).path(path).arc();
    let journal = MemoryJournal::with(vec![record(1, "/a"), record(2, "/b"), record(3, "/a")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([2]);
    let mut bench = Bench::at(&journal);
    let sink = Box::new(script.in_front_of(Box::new(destination.sink())));
    let mut setup = bench.setup("one", sink, Given::default());
    let (orders, received) = mpsc::channel(1);
    setup.orders = received;
    let mut status = bench.start_with(setup);
    until_idle_at(&mut status, 3).await;

    let path = |name: &str| Some(ZnodePath::parse(name).unwrap());
    let order = ReplayOrder {
        // The last one is not handled yet.
        records: vec![(Seq(1), path("/a")), (Seq(2), path("/b")), (Seq(9), path("/c"))],
        current_to: Some(Seq(2)),
    };
    orders.send(OperatorRequest::Replay(order)).await.unwrap();
    let end = until(&mut status, "ordered", |status| status.replay.named == 3).await;
    bench.stop().await;

    assert_eq!(
        (end.replay.left_out, end.replay.not_queued, end.parked.replaying),
        (3, 0, 0)
    );
    assert_eq!(destination.seqs(), [1, 3]);
}

/// A sink on a journal with one order that names these records.
async fn ordered(
    journal: &MemoryJournal,
    script: &FaultScript,
    is_ready: impl FnMut(&SinkStatus) -> bool,
    order: impl FnOnce() -> ReplayOrder,
) -> (SinkStatus, MemoryDestination) {
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(journal);
    let sink = Box::new(script.in_front_of(Box::new(destination.sink())));
    let given = Given {
        records_at_once: 1000,
        ..Given::default()
    };
    let mut setup = bench.setup("one", sink, given);
    let (orders, received) = mpsc::channel(1);
    setup.orders = received;
    let mut status = bench.start_with(setup);
    until(&mut status, "ready for an order", is_ready).await;
    let order = order();
    let named = order.records.len() as u64;
    orders.send(OperatorRequest::Replay(order)).await.unwrap();
    let end = until(&mut status, "ordered", |status| {
        status.replay.named == named && status.parked.replaying == 0
    })
    .await;
    bench.stop().await;
    (end, destination)
}

#[tokio::test(start_paused = true)]
async fn records_for_which_the_retry_queue_has_no_room_are_counted_as_not_queued_with_the_reason() {
    let path = |seq: u64| format!("/n/{seq}");
    let count = 3 + PARKED_MAX as u64;
    let record = |seq| a_record().seq(seq).path(&path(seq)).arc();
    let journal = MemoryJournal::with((1..=count).map(record).collect());
    let script = FaultScript::new().defers(4..=count, u32::MAX);
    let is_full = |status: &SinkStatus| status.parked.records == PARKED_MAX as u64;
    let (end, destination) = ordered(&journal, &script, is_full, || ReplayOrder {
        records: (1..=3)
            .map(|seq| (Seq(seq), Some(ZnodePath::parse(&path(seq)).unwrap())))
            .collect(),
        current_to: None,
    })
    .await;

    assert_eq!((end.replay.not_queued, end.replay.left_out), (3, 0));
    assert_eq!(
        end.replay.problem.as_deref(),
        Some("the retry queue is full: 10000 records wait")
    );
    assert_eq!(destination.seqs(), [1, 2, 3], "nothing came again");
}

#[tokio::test(start_paused = true)]
async fn records_whose_newer_ones_cannot_be_looked_for_are_counted_as_not_queued_with_the_reason() {
    let record = |seq| a_record().seq(seq).path("/a").arc();
    let journal = MemoryJournal::with((1..=5).map(record).collect());
    let is_done = |status: &SinkStatus| status.cursor == Seq(5) && status.state == Phase::Idle;
    let (end, destination) = ordered(&journal, &FaultScript::new(), is_done, || {
        journal.fail_reads(vec![journal_error(JournalErrorKind::Storage)]);
        ReplayOrder {
            records: vec![(Seq(1), Some(ZnodePath::parse("/a").unwrap()))],
            current_to: Some(Seq(2)),
        }
    })
    .await;

    assert_eq!((end.replay.not_queued, end.replay.left_out), (1, 0));
    let problem = end.replay.problem.unwrap();
    assert!(
        problem.starts_with("the journal could not be read: "),
        "{problem}"
    );
    assert_eq!(destination.seqs(), [1, 2, 3, 4, 5]);
}
