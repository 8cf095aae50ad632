//! Crashes and faults at random places: whatever happens, the contract is kept.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{Forgets, Stage, answer, assert_caught, assert_kept, to_the_end};
use super::*;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, SinkError, SinkErrorKind};
use crate::testing::{Arrived, Fault, assert_kept_contract, some_records};

/// How the driver treats the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    /// As it must be.
    Careful,
    /// A negative control: the cursor is stored before the answer, so that a crash between the two loses the batch.
    CursorFirst,
    /// A negative control: it stores the cursor and forgets what was parked.
    ForgetsParked,
}

struct World {
    stage: Stage,
    driver: Driver,
    arrived: Vec<Arc<Record>>,
    /// Whether the destination still rejects some records for good.
    is_choosy: bool,
}

/// Some are filtered out, always the same ones.
fn is_filtered(seq: Seq) -> bool {
    seq.0.is_multiple_of(11)
}

/// Records that a choosy destination never takes.
fn is_refused(seq: Seq) -> bool {
    seq.0.is_multiple_of(13)
}

impl World {
    fn new(seed: u64, driver: Driver) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let records = some_records(random.random_range(1..60), random.random_range(1..6));
        let rejected_path = match random.random_bool(0.5) {
            true => RejectedPath::Block,
            false => RejectedPath::Continue,
        };
        let mut stage = Stage::new(random, records, 60);
        stage.rejects = RejectPolicy {
            on_reject: OnReject::DeadLetter,
            rejected_path,
        };
        if driver == Driver::ForgetsParked {
            stage.forgets = Forgets::Parked;
        }
        stage.crash();
        World {
            stage,
            driver,
            arrived: Vec::new(),
            is_choosy: true,
        }
    }

    /// Until everything is delivered or a dead letter.
    fn run(&mut self) {
        to_the_end(self, |world| {
            let task = world.stage.machine.task();
            world.play(task)
        });
    }

    /// Whether there is more to do.
    fn play(&mut self, task: Task) -> bool {
        if matches!(task, Task::Open) && self.stage.fault(0.2) {
            let error = SinkError::new(SinkErrorKind::Unavailable, "scripted");
            self.stage.step(WorkerInput::Opened(Err(error)));
            return true;
        }
        match self.stage.play(task) {
            None => {}
            Some(Task::Fetch) if self.stage.is_at_tail() => return self.stage.pass_time(),
            Some(Task::Fetch) => self.fetch(),
            Some(Task::Deliver(batch)) if self.driver == Driver::CursorFirst => self.store_first(&batch),
            Some(Task::Deliver(batch)) => self.deliver(&batch),
            Some(other) => panic!("nobody ordered {other:?}"),
        }
        true
    }

    /// With `block` an operator may retry all dead letters, and in the end none is left and nothing was overtaken.
    fn retry_letters(&mut self) {
        self.is_choosy = false;
        while !self.stage.letters.is_empty() {
            let seqs = self.stage.letters.iter().copied().collect();
            let progress = self.stage.machine.order(&OperatorRequest::Retry(seqs));
            self.stage.store(progress);
            self.run();
        }
    }

    fn fetch(&mut self) {
        let through = self.stage.position.0 + self.stage.random.random_range(1..12);
        let mut records = self.stage.read(through);
        records.retain(|record| !is_filtered(record.seq));
        self.stage.fetched(records, Parts::default());
    }

    fn store_first(&mut self, batch: &Delivery) {
        let stage = &mut self.stage;
        let progress = stage.machine.step(WorkerInput::Delivered(Ok(())), stage.clock);
        stage.store(progress);
        match stage.fault(0.2) {
            true => stage.crash(),
            false => self.arrived.extend_from_slice(&batch.records),
        }
    }

    fn deliver(&mut self, batch: &Delivery) {
        let count = batch.records.len();
        let written = self.stage.written(count, 0.3);
        let is_choosy = self.is_choosy;
        let rejects = |seq| is_choosy && is_refused(seq);
        let arrive = |record: &Arc<Record>| self.arrived.push(Arc::clone(record));
        let refused = self.stage.receive(&batch.records[..written], rejects, arrive);
        if self.stage.fault(0.2) {
            return self.stage.crash();
        }
        let result = self.answer(count, written, refused);
        self.stage.step(WorkerInput::Delivered(result));
    }

    /// The sink's report on the written front: all of it, or less.
    fn answer(&mut self, count: usize, written: usize, refused: DeliverError) -> Result<(), DeliverError> {
        if written == count && !self.stage.fault(0.2) {
            return answer(count, written, refused);
        }
        let broken = SinkError::new(SinkErrorKind::Broken, "scripted");
        match self.stage.random.random_bool(0.5) {
            false => Err(DeliverError::after(0, broken)),
            true => Err(DeliverError {
                done: written,
                error: Some(broken),
                ..refused
            }),
        }
    }

    fn check(&self) {
        let is_letter = |seq: Seq| self.stage.letters.contains(&seq);
        let mut expected = self.stage.records.clone();
        expected.retain(|record| !is_filtered(record.seq) && !is_letter(record.seq));
        // A record may have arrived before a lost progress report made it a dead letter: only with `block`, in another life.
        let arrived = self.arrived.iter().filter(|record| !is_letter(record.seq));
        let arrived: Vec<Arrived> = arrived.map(|record| Arrived::of(record)).collect();
        assert_kept_contract(&expected, &arrived);
        self.stage.assert_delivered();
        let is_missing = |seq| self.is_choosy && is_refused(seq) && !is_filtered(seq) && !is_letter(seq);
        for record in &self.stage.records {
            assert!(
                !is_missing(record.seq),
                "record {} was dropped in silence",
                record.seq
            );
        }
    }
}

fn play(seed: u64, driver: Driver) {
    let mut world = World::new(seed, driver);
    world.run();
    world.check();
    if world.stage.rejects.rejected_path == RejectedPath::Block {
        world.retry_letters();
        world.check();
    }
}

#[test]
fn no_fault_and_no_crash_loses_or_reorders_a_record() {
    assert_kept(1_000, |seed| play(seed, Driver::Careful));
}

#[test]
fn a_cursor_that_moves_before_the_answer_is_caught() {
    assert_caught(200, |seed| play(seed, Driver::CursorFirst));
}

#[test]
fn a_cursor_that_moves_past_records_that_are_parked_nowhere_is_caught() {
    assert_caught(200, |seed| play(seed, Driver::ForgetsParked));
}

/// The same for the driver: real tasks, crashes by dropping them at any of their waits.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_at_any_moment_goes_on_from_its_stored_cursor() {
    for seed in seeds(60) {
        eprintln!("seed {seed}, replay with ZKBRIDGE_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let journal = MemoryJournal::with(some_records(200, 5));
        let names = ["a", "b", "c"];
        let destinations: [MemoryDestination; 3] = Default::default();
        for _ in 0..random.random_range(1..8) {
            let mut bench = Bench::at(&journal);
            for (name, destination) in names.into_iter().zip(&destinations) {
                let script = random_script(&mut random);
                bench.start_scripted(name, destination, &script, Given::default());
            }
            tokio::time::sleep(Duration::from_micros(random.random_range(0..200_000))).await;
            bench.crash();
        }
        finish_and_check(&journal, &names, &destinations).await;
    }
}

async fn finish_and_check(journal: &MemoryJournal, names: &[&str], destinations: &[MemoryDestination]) {
    let mut bench = Bench::at(journal);
    let mut statuses = Vec::new();
    for (name, destination) in names.iter().zip(destinations) {
        statuses.push(bench.start(name, Box::new(destination.sink()), Given::default()));
    }
    for status in &mut statuses {
        until(status, "delivered", |status| {
            status.cursor == Seq(200) && status.parked.records == 0
        })
        .await;
    }
    bench.stop().await;
    for destination in destinations {
        let arrived = destination.arrived();
        let arrived: Vec<Arrived> = arrived.iter().map(|record| Arrived::of(record)).collect();
        assert_kept_contract(&journal.records(), &arrived);
    }
}

fn random_script(random: &mut StdRng) -> FaultScript {
    let faults = [
        Fault::None,
        Fault::FailBeforeWrite(SinkErrorKind::Unavailable),
        Fault::FailAfterWrite,
        Fault::HoldResponse,
        Fault::RespondSlowly(Duration::from_millis(30)),
        Fault::DropMidway,
        Fault::DropMidwayReported,
    ];
    let deliveries: Vec<Fault> = (0..random.random_range(0..12))
        .map(|_| faults[random.random_range(0..faults.len())])
        .collect();
    let opens: Vec<_> = (0..random.random_range(0..4))
        .map(|_| random.random_bool(0.5).then_some(SinkErrorKind::Unavailable))
        .collect();
    let refused: Vec<u64> = (0..random.random_range(0..6))
        .map(|_| random.random_range(1..200))
        .collect();
    let times = random.random_range(1..4);
    FaultScript::new()
        .deliveries(deliveries)
        .opens(opens)
        .defers(refused, times)
}
