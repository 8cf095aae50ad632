//! Crashes and faults at random places: whatever happens, the contract is kept. The seed is printed and replayed by
//! `ZKBRIDGE_SEED`.

use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::journal::Aside;
use crate::record::Record;
use crate::sink::{Deferred, DeliverError, Delivery, Rejected, SinkError, SinkErrorKind};
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

/// The machine with a journal and a destination of plain values: no runtime, thousands of crashes a second.
struct World {
    random: StdRng,
    driver: Driver,
    records: Vec<Arc<Record>>,
    machine: Machine,
    rejects: RejectPolicy,
    /// What survives a crash.
    stored: Seq,
    letters: BTreeSet<Seq>,
    parked: BTreeSet<Seq>,
    arrived: Vec<Arc<Record>>,
    /// Where the present life reads on.
    position: Seq,
    /// Faults end here, so that the rest must be delivered.
    faults_left: u32,
    /// Whether the destination still rejects some records for good.
    is_choosy: bool,
    clock: Duration,
}

impl World {
    fn new(seed: u64, driver: Driver) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let records = some_records(random.random_range(1..60), random.random_range(1..6));
        let rejected_path = match random.random_bool(0.5) {
            true => RejectedPath::Block,
            false => RejectedPath::Continue,
        };
        let rejects = RejectPolicy {
            on_reject: OnReject::DeadLetter,
            rejected_path,
        };
        let mut world = World {
            machine: Machine::new(Terms::default()),
            faults_left: random.random_range(0..60),
            random,
            driver,
            records,
            rejects,
            stored: Seq::ZERO,
            letters: BTreeSet::new(),
            parked: BTreeSet::new(),
            arrived: Vec::new(),
            position: Seq::ZERO,
            is_choosy: true,
            clock: Duration::ZERO,
        };
        world.crash();
        world
    }

    fn fault(&mut self, chance: f64) -> bool {
        let happens = self.faults_left > 0 && self.random.random_bool(chance);
        self.faults_left -= u32::from(happens);
        happens
    }

    fn record(&self, seq: Seq) -> &Arc<Record> {
        &self.records[seq.0 as usize - 1]
    }

    fn crash(&mut self) {
        let waiting = |seq: &Seq| Waiting {
            seq: *seq,
            path: self.record(*seq).path.clone(),
            reason: "kept".into(),
            attempts: 1,
            failing_for: Duration::ZERO,
            wait: Duration::ZERO,
        };
        let letters = self
            .letters
            .iter()
            .map(|seq| (*seq, self.record(*seq).path.clone()));
        let aside = SetAside {
            letters: Letters::of(letters),
            parked: self.parked.iter().map(waiting).collect(),
            ..SetAside::default()
        };
        self.machine = Machine::new(Terms {
            cursor: self.stored,
            rejects: self.rejects,
            aside,
            seed: self.random.random(),
            ..Terms::default()
        });
        self.position = self.stored;
        self.clock = Duration::ZERO;
    }

    fn store(&mut self, progress: Option<Progress>) {
        let Some(progress) = progress else { return };
        assert!(progress.cursor >= self.stored);
        self.stored = progress.cursor;
        for aside in progress.asides {
            assert!(aside.seq() <= self.stored, "{aside:?} is ahead of the cursor");
            match aside {
                Aside::Rejected { seq, .. } => {
                    self.parked.remove(&seq);
                    self.letters.insert(seq);
                }
                Aside::Parked { .. } if self.driver == Driver::ForgetsParked => {}
                Aside::Parked { seq, .. } => drop(self.parked.insert(seq)),
                Aside::Replayed { seq, .. } => drop(self.parked.insert(seq)),
                Aside::Released(seq) => drop(self.parked.remove(&seq)),
                Aside::Dropped(seq) => drop(self.letters.remove(&seq)),
                Aside::Retried(seq) => {
                    self.letters.remove(&seq);
                    self.parked.insert(seq);
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        let progress = self.machine.step(input, self.clock);
        // A note that is lost in a crash must do no harm.
        if self.fault(0.05) {
            return self.crash();
        }
        self.store(progress);
    }

    /// Until everything is delivered or a dead letter.
    fn run(&mut self) {
        for _ in 0..20_000 {
            match self.machine.task() {
                Task::Open if self.fault(0.2) => {
                    let error = SinkError::new(SinkErrorKind::Unavailable, "scripted");
                    self.step(Input::Opened(Err(error)));
                }
                Task::Open => self.step(Input::Opened(Ok(()))),
                Task::Fetch if self.position.0 as usize == self.records.len() => {
                    let Some(due) = self.machine.due() else { return };
                    self.clock = self.clock.max(due);
                    self.step(Input::Due);
                }
                Task::Fetch => self.fetch(),
                Task::Recall(seqs) => self.recall(&seqs),
                Task::Restate(run) => panic!("nobody ordered {run:?}"),
                Task::Deliver(batch) => self.deliver(&batch),
                Task::Wait(delay) => {
                    self.clock += delay;
                    self.step(Input::Waited);
                }
                Task::Rest => panic!("halted: {:?}", self.machine.trouble()),
            }
        }
        panic!("no end: {:?}", self.machine.phase());
    }

    /// With `block` an operator may retry all dead letters, and in the end none is left and nothing was overtaken.
    fn retry_letters(&mut self) {
        self.is_choosy = false;
        while !self.letters.is_empty() {
            let seqs = self.letters.iter().copied().collect();
            let progress = self.machine.order(&Order::Retry(seqs));
            self.store(progress);
            self.run();
        }
    }

    fn fetch(&mut self) {
        let first = self.position.0 as usize;
        let last = (first + self.random.random_range(1..12)).min(self.records.len());
        let mut records = self.records[first..last].to_vec();
        self.position = Seq(last as u64);
        // Some are filtered out, always the same ones.
        records.retain(|record| !record.seq.0.is_multiple_of(11));
        self.step(Input::Fetched(Ok(Batch {
            records,
            through: self.position,
            parts: Parts::default(),
        })));
    }

    fn recall(&mut self, seqs: &[Seq]) {
        let records = seqs.iter().map(|seq| Arc::clone(self.record(*seq))).collect();
        self.step(Input::Recalled(Ok(records)));
    }

    fn deliver(&mut self, batch: &Delivery) {
        if self.driver == Driver::CursorFirst {
            let progress = self.machine.step(Input::Delivered(Ok(())), self.clock);
            self.store(progress);
            if self.fault(0.2) {
                return self.crash();
            }
            return self.arrived.extend_from_slice(&batch.records);
        }
        let count = batch.records.len();
        let written = match self.fault(0.3) {
            true => self.random.random_range(0..=count),
            false => count,
        };
        let refused = self.write(&batch.records[..written]);
        if self.fault(0.2) {
            return self.crash();
        }
        let result = self.answer(count, written, refused);
        self.step(Input::Delivered(result));
    }

    /// The destination rejects some records for good, and does not answer for some paths now and then.
    fn write(&mut self, records: &[Arc<Record>]) -> DeliverError {
        let mut refused = DeliverError::default();
        let mut waiting = HashSet::new();
        for record in records {
            let seq = record.seq;
            if self.is_choosy && seq.0.is_multiple_of(13) {
                let reason = "never".into();
                refused.rejected.push(Rejected { seq, reason });
            } else if waiting.contains(&record.path) || self.fault(0.1) {
                waiting.insert(record.path.clone());
                let error = SinkError::new(SinkErrorKind::Unavailable, "scripted");
                refused.deferred.push(Deferred { seq, error });
            } else {
                self.arrived.push(Arc::clone(record));
            }
        }
        refused
    }

    /// What the sink knows of the front that was written: all of it, or less.
    fn answer(&mut self, count: usize, written: usize, refused: DeliverError) -> Result<(), DeliverError> {
        if written == count && !self.fault(0.2) {
            if refused.rejected.is_empty() && refused.deferred.is_empty() {
                return Ok(());
            }
            return Err(DeliverError {
                done: count,
                ..refused
            });
        }
        let broken = SinkError::new(SinkErrorKind::Broken, "scripted");
        match self.random.random_bool(0.5) {
            false => Err(DeliverError::after(0, broken)),
            true => Err(DeliverError {
                done: written,
                error: Some(broken),
                ..refused
            }),
        }
    }

    fn check(&self) {
        let is_letter = |seq: Seq| self.letters.contains(&seq);
        let mut expected = self.records.clone();
        expected.retain(|record| !record.seq.0.is_multiple_of(11) && !is_letter(record.seq));
        // A record may have arrived before a lost note made it a dead letter: only with `block`, in another life.
        let arrived: Vec<Arrived> = self
            .arrived
            .iter()
            .filter(|record| !is_letter(record.seq))
            .map(|record| Arrived::of(record))
            .collect();
        assert_kept_contract(&expected, &arrived);
        assert!(self.parked.is_empty(), "{:?} are left", self.parked);
        assert_eq!(self.stored.0 as usize, self.records.len());
        let refused = self.records.iter().filter(|record| {
            self.is_choosy && record.seq.0.is_multiple_of(13) && !record.seq.0.is_multiple_of(11)
        });
        for record in refused {
            assert!(
                is_letter(record.seq),
                "record {} was dropped in silence",
                record.seq
            );
        }
    }
}

fn holds(seed: u64, driver: Driver) -> std::thread::Result<()> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, driver);
        world.run();
        world.check();
        if world.rejects.rejected_path == RejectedPath::Block {
            world.retry_letters();
            world.check();
        }
    }))
}

#[test]
fn no_fault_and_no_crash_loses_or_reorders_a_record() {
    for seed in seeds(1_000) {
        if let Err(panic) = holds(seed, Driver::Careful) {
            eprintln!("replay with ZKBRIDGE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_cursor_that_moves_before_the_answer_is_caught() {
    let caught = (0..200)
        .filter(|seed| holds(*seed, Driver::CursorFirst).is_err())
        .count();
    assert!(caught > 20, "only {caught} of 200 runs noticed");
}

#[test]
fn a_cursor_that_moves_behind_records_that_are_parked_nowhere_is_caught() {
    let caught = (0..200)
        .filter(|seed| holds(*seed, Driver::ForgetsParked).is_err())
        .count();
    assert!(caught > 20, "only {caught} of 200 runs noticed");
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
