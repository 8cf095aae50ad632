//! The present state delivered again to one sink: after any fault, a receiver that lost everything has it at the end,
//! and no older state ever follows a newer one.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::stage::{Forgets, Stage, answer, assert_caught, assert_kept, to_the_end};
use super::*;
use crate::journal::SinkRun;
use crate::path::ZnodePath;
use crate::record::{Op, Record};
use crate::sink::Delivery;
use crate::testing::{a_record, restated};

/// How the driver treats a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    /// As it must be.
    Careful,
    /// A negative control: pages hold what the image has, also where that is newer than the position.
    TellsTheNewest,
    /// A negative control: a crash forgets the run.
    ForgetsTheRun,
}

/// A source that keeps changing, the machine, and a receiver that forgets everything when a run begins.
struct World {
    stage: Stage,
    driver: Driver,
    changes_left: u32,
    orders_left: u32,
    receiver: Receiver,
}

#[derive(Default)]
struct Receiver {
    /// The newest record of each path that it has.
    known: BTreeMap<ZnodePath, Seq>,
    /// The newest record of each path that came since the bridge started.
    newest: BTreeMap<ZnodePath, Seq>,
    /// Crashes of the bridge so far.
    crashes: u32,
}

impl Receiver {
    fn arrive(&mut self, crashes: u32, record: &Record) {
        if self.crashes != crashes {
            self.crashes = crashes;
            self.newest.clear();
        }
        let path = path_of(record);
        let newest = self.newest.entry(path.clone()).or_default();
        assert!(
            record.seq >= *newest,
            "{path}: {} ({:?}) follows {newest}",
            record.seq,
            record.op
        );
        *newest = record.seq;
        keep(&mut self.known, record);
    }
}

fn path_of(record: &Record) -> ZnodePath {
    record.path.clone().expect("only znodes change here")
}

fn keep(known: &mut BTreeMap<ZnodePath, Seq>, record: &Record) {
    match record.op {
        Op::Delete => drop(known.remove(&path_of(record))),
        _ => drop(known.insert(path_of(record), record.seq)),
    }
}

impl World {
    fn new(seed: u64, driver: Driver) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let (changes_left, orders_left) = (random.random_range(5..60), random.random_range(1..4));
        let mut stage = Stage::new(random, Vec::new(), 40);
        if driver == Driver::ForgetsTheRun {
            stage.forgets = Forgets::Run;
        }
        World {
            stage,
            driver,
            changes_left,
            orders_left,
            receiver: Receiver::default(),
        }
    }

    fn living(&self) -> BTreeMap<ZnodePath, Seq> {
        let mut living = BTreeMap::new();
        for record in &self.stage.records {
            keep(&mut living, record);
        }
        living
    }

    fn change(&mut self) {
        self.changes_left -= 1;
        let name = format!("/services/{}", self.stage.random.random_range(0..6));
        let is_living = self.living().contains_key(&ZnodePath::parse(&name).unwrap());
        let op = match (is_living, self.stage.random.random_bool(0.3)) {
            (false, _) => Op::Create,
            (true, true) => Op::Delete,
            (true, false) => Op::Update,
        };
        let seq = self.stage.records.len() as u64 + 1;
        self.stage
            .records
            .push(a_record().seq(seq).path(&name).op(op).arc());
    }

    fn order(&mut self) {
        self.orders_left -= 1;
        let id = Uuid::from_u128(self.stage.random.random());
        let run = SinkRun::new(id, None, Timestamp(0));
        let progress = self
            .stage
            .machine
            .order(&OperatorRequest::Snapshot(Box::new(run)));
        if self.stage.fault(0.1) {
            return self.stage.crash();
        }
        self.receiver.known.clear();
        self.stage.store(progress);
    }

    /// Whether there is more to do.
    fn step(&mut self) -> bool {
        if self.changes_left > 0 && self.stage.random.random_bool(0.3) {
            self.change();
        }
        if self.orders_left > 0 && self.stage.random.random_bool(0.05) {
            self.order();
        }
        let task = self.stage.machine.task();
        match self.stage.play(task) {
            None => {}
            Some(Task::Fetch) if self.stage.is_at_tail() => {
                return self.stage.pass_time() || self.changes_left + self.orders_left > 0;
            }
            Some(Task::Fetch) => {
                let through = self.stage.position.0 + self.stage.random.random_range(1..5);
                let records = self.stage.read(through);
                self.stage.fetched(records, Parts::default());
            }
            Some(Task::FetchSnapshot(run)) => self.snapshot_page(*run),
            Some(Task::Deliver(batch)) => self.deliver(&batch),
            Some(other) => panic!("nobody ordered {other:?}"),
        }
        true
    }

    fn snapshot_page(&mut self, mut run: SinkRun) {
        let (position, limit) = (run.at, self.stage.random.random_range(1..4));
        if self.driver == Driver::TellsTheNewest {
            run.at = Some(Seq(self.stage.records.len() as u64));
        }
        let mut page = restated(&self.stage.records, &run, limit);
        if let Some(next) = &mut page.next {
            next.at = position;
        }
        self.stage.step(WorkerInput::SnapshotFetched(Ok(page)));
    }

    fn deliver(&mut self, batch: &Delivery) {
        let count = batch.records.len();
        let written = self.stage.written(count, 0.2);
        let crashes = self.stage.crashes;
        let arrive = |record: &Arc<Record>| self.receiver.arrive(crashes, record);
        let refused = self.stage.receive(&batch.records[..written], |_| false, arrive);
        match self.stage.fault(0.1) {
            true => self.stage.crash(),
            false => self
                .stage
                .step(WorkerInput::Delivered(answer(count, written, refused))),
        }
    }
}

fn play(seed: u64, driver: Driver) {
    let mut world = World::new(seed, driver);
    to_the_end(&mut world, World::step);
    assert_eq!(world.receiver.known, world.living());
    world.stage.assert_delivered();
}

#[test]
fn a_receiver_that_lost_everything_has_it_again_and_nothing_overtakes_anything() {
    assert_kept(600, |seed| play(seed, Driver::Careful));
}

#[test]
fn a_page_with_a_record_newer_than_its_position_is_caught() {
    assert_caught(200, |seed| play(seed, Driver::TellsTheNewest));
}

#[test]
fn a_run_that_a_crash_forgets_is_caught() {
    assert_caught(400, |seed| play(seed, Driver::ForgetsTheRun));
}
