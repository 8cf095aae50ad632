//! Merged windows in the engine: what fails in the middle of one loses nothing of what went into its records.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{Stage, answer, assert_caught, assert_kept, to_the_end};
use super::*;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Op, Record};
use crate::sink::Delivery;
use crate::testing::a_record;

/// How the driver treats the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    /// As it must be.
    Careful,
    /// A negative control: the cursor of a merged batch moves record by record.
    RecordByRecord,
}

struct World {
    stage: Stage,
    driver: Driver,
    window: u64,
    arrived: Vec<Arc<Record>>,
}

/// Changes of four znodes.
fn changes(random: &mut StdRng) -> Vec<Arc<Record>> {
    let mut living = HashSet::new();
    let change = |seq: u64| {
        let path = format!("/services/{}", random.random_range(0..4));
        let op = match living.contains(&path) {
            false => Op::Create,
            true if random.random_bool(0.15) => Op::Delete,
            true => Op::Update,
        };
        match op {
            Op::Delete => living.remove(&path),
            _ => living.insert(path.clone()),
        };
        a_record().seq(seq).path(&path).op(op).arc()
    };
    (1..80).map(change).collect()
}

impl World {
    fn new(seed: u64, driver: Driver) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let records = changes(&mut random);
        World {
            driver,
            window: random.random_range(2..20),
            stage: Stage::new(random, records, 40),
            arrived: Vec::new(),
        }
    }

    /// Whether there is more to do.
    fn step(&mut self) -> bool {
        let task = self.stage.machine.task();
        match self.stage.play(task) {
            None => {}
            Some(Task::Fetch) if self.stage.is_at_tail() => return self.stage.pass_time(),
            Some(Task::Fetch) => self.fetch(),
            Some(Task::Deliver(batch)) => self.deliver(&batch),
            Some(other) => panic!("nobody ordered {other:?}"),
        }
        true
    }

    fn fetch(&mut self) {
        let through = (self.stage.position.0 / self.window + 1) * self.window;
        let (records, parts) = merge(self.stage.read(through));
        let parts = match self.driver {
            Driver::Careful => Arc::new(parts),
            Driver::RecordByRecord => Parts::default(),
        };
        self.stage.fetched(records, parts);
    }

    fn deliver(&mut self, batch: &Delivery) {
        let count = batch.records.len();
        let written = self.stage.written(count, 0.3);
        let rejects = |seq: Seq| seq.0.is_multiple_of(23);
        let arrive = |record: &Arc<Record>| self.arrived.push(Arc::clone(record));
        let refused = self.stage.receive(&batch.records[..written], rejects, arrive);
        match self.stage.fault(0.15) {
            true => self.stage.crash(),
            false => self
                .stage
                .step(WorkerInput::Delivered(answer(count, written, refused))),
        }
    }

    /// Every version was delivered, counted in what was, or is a dead letter; the last state of each path arrived last.
    fn check(&self) {
        self.stage.assert_delivered();
        let listed: BTreeSet<Zxid> = self
            .arrived
            .iter()
            .flat_map(|record| record.superseded.iter().chain(&record.zxid))
            .copied()
            .collect();
        let mut last: BTreeMap<&ZnodePath, Seq> = BTreeMap::new();
        for record in &self.arrived {
            last.insert(record.path.as_ref().expect("only znodes change here"), record.seq);
        }
        let mut newest: BTreeMap<&ZnodePath, Seq> = BTreeMap::new();
        let letters = &self.stage.letters;
        let records = self.stage.records.iter();
        for record in records.filter(|record| !letters.contains(&record.seq)) {
            let zxid = record.zxid.expect("each has one");
            assert!(listed.contains(&zxid), "{} was lost silently", record.seq);
            newest.insert(record.path.as_ref().expect("only znodes change here"), record.seq);
        }
        for (path, seq) in newest {
            let arrived = last[path];
            let is_letter = letters.contains(&arrived);
            assert!(
                arrived == seq || is_letter,
                "{path}: {arrived} came last, and {seq} is newer"
            );
        }
    }
}

fn play(seed: u64, driver: Driver) {
    let mut world = World::new(seed, driver);
    to_the_end(&mut world, World::step);
    world.check();
}

#[test]
fn no_fault_and_no_crash_loses_what_went_into_another_record() {
    assert_kept(600, |seed| play(seed, Driver::Careful));
}

#[test]
fn a_cursor_that_moves_within_a_merged_batch_is_caught() {
    assert_caught(400, |seed| play(seed, Driver::RecordByRecord));
}

/// Twenty writes of two znodes at one moment.
fn writes() -> Vec<Arc<Record>> {
    let write = |seq: u64| a_record().seq(seq).path(&format!("/services/{}", seq % 2)).arc();
    (1..=20).map(write).collect()
}

fn merging() -> Given {
    Given {
        merge: Some(Duration::from_secs(2)),
        ..Given::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_delivered_when_its_time_is_over() {
    let journal = MemoryJournal::with(writes());
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);
    let began = tokio::time::Instant::now();

    let mut status = bench.start("one", Box::new(destination.sink()), merging());
    until_idle_at(&mut status, 20).await;

    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(destination.seqs(), [19, 20]);
    assert!(
        destination
            .arrived()
            .iter()
            .all(|record| record.missed == Some(9))
    );
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_control_record_ends_the_window_and_comes_in_its_place() {
    let mut records = writes();
    records.push(a_record().seq(21).control(Op::Heartbeat).arc());
    let journal = MemoryJournal::with(records);
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);
    let began = tokio::time::Instant::now();

    let mut status = bench.start("one", Box::new(destination.sink()), merging());
    until_idle_at(&mut status, 21).await;

    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(destination.seqs(), [19, 20, 21]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_delivers_the_window_that_is_being_filled() {
    let journal = MemoryJournal::with(writes());
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);
    let mut given = merging();
    given.merge = Some(Duration::from_secs(600));

    let mut status = bench.start("one", Box::new(destination.sink()), given);
    until(&mut status, "idle", |status| status.state == Phase::Idle).await;
    bench.stop().await;

    assert_eq!(destination.seqs(), [19, 20]);
    assert_eq!(journal.cursor("one"), Seq(20));
}
