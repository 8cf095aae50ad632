//! Merged windows in the engine: what fails in the middle of one loses nothing of what went into its records. The seed is
//! printed and replayed by `ZKBRIDGE_SEED`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::journal::Aside;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Op, Record};
use crate::sink::{Deferred, DeliverError, Delivery, Rejected, SinkError, SinkErrorKind};
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
    random: StdRng,
    driver: Driver,
    records: Vec<Arc<Record>>,
    window: u64,
    machine: Machine,
    stored: Seq,
    letters: BTreeSet<Seq>,
    parked: BTreeSet<Seq>,
    position: Seq,
    faults_left: u32,
    clock: Duration,
    arrived: Vec<Arc<Record>>,
}

impl World {
    fn new(seed: u64, driver: Driver) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let mut living = HashSet::new();
        let record = |seq: u64| {
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
        let records: Vec<_> = (1..80).map(record).collect();
        let mut world = World {
            driver,
            records,
            window: random.random_range(2..20),
            faults_left: random.random_range(0..40),
            random,
            machine: Machine::new(Terms::default()),
            stored: Seq::ZERO,
            letters: BTreeSet::new(),
            parked: BTreeSet::new(),
            position: Seq::ZERO,
            clock: Duration::ZERO,
            arrived: Vec::new(),
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
        let path_of = |seq: &Seq| self.record(*seq).path.clone();
        let waiting = |seq: &Seq| Waiting {
            seq: *seq,
            path: path_of(seq),
            reason: "kept".into(),
            attempts: 1,
            failing_for: Duration::ZERO,
            wait: Duration::ZERO,
        };
        self.machine = Machine::new(Terms {
            cursor: self.stored,
            aside: SetAside {
                letters: Letters::of(self.letters.iter().map(|seq| (*seq, path_of(seq)))),
                parked: self.parked.iter().map(waiting).collect(),
                ..SetAside::default()
            },
            seed: self.random.random(),
            ..Terms::default()
        });
        self.position = self.stored;
        self.clock = Duration::ZERO;
    }

    fn step(&mut self, input: Input) {
        let progress = self.machine.step(input, self.clock);
        if self.fault(0.05) {
            return self.crash();
        }
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
                Aside::Parked { seq, .. } => drop(self.parked.insert(seq)),
                Aside::Released(seq) => drop(self.parked.remove(&seq)),
                other => panic!("nobody orders anything here: {other:?}"),
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..20_000 {
            match self.machine.task() {
                Task::Open => self.step(Input::Opened(Ok(()))),
                Task::Fetch if self.position.0 as usize == self.records.len() => {
                    let Some(due) = self.machine.due() else { return };
                    self.clock = self.clock.max(due);
                    self.step(Input::Due);
                }
                Task::Fetch => self.fetch(),
                Task::Recall(seqs) => {
                    let records = seqs.iter().map(|seq| Arc::clone(self.record(*seq))).collect();
                    self.step(Input::Recalled(Ok(records)));
                }
                Task::Deliver(batch) => self.deliver(&batch),
                Task::Wait(delay) => {
                    self.clock += delay;
                    self.step(Input::Waited);
                }
                Task::Restate(_) | Task::Rest => panic!("halted: {:?}", self.machine.trouble()),
            }
        }
        panic!("no end: {:?}", self.machine.phase());
    }

    fn fetch(&mut self) {
        let first = self.position.0;
        let last = ((first / self.window + 1) * self.window).min(self.records.len() as u64);
        self.position = Seq(last);
        let (records, parts) = merge(self.records[first as usize..last as usize].to_vec());
        let parts = match self.driver {
            Driver::Careful => Arc::new(parts),
            Driver::RecordByRecord => Parts::default(),
        };
        let through = self.position;
        self.step(Input::Fetched(Ok(Batch {
            records,
            through,
            parts,
        })));
    }

    fn deliver(&mut self, batch: &Delivery) {
        let count = batch.records.len();
        let written = match self.fault(0.3) {
            true => self.random.random_range(0..=count),
            false => count,
        };
        let mut refused = DeliverError::default();
        let mut waiting = HashSet::new();
        for record in &batch.records[..written] {
            let seq = record.seq;
            if seq.0.is_multiple_of(23) {
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
        if self.fault(0.15) {
            return self.crash();
        }
        let error = (written < count).then(|| SinkError::new(SinkErrorKind::Broken, "scripted"));
        let is_fine = error.is_none() && refused.rejected.is_empty() && refused.deferred.is_empty();
        let result = match is_fine {
            true => Ok(()),
            false => Err(DeliverError {
                done: written,
                error,
                ..refused
            }),
        };
        self.step(Input::Delivered(result));
    }

    /// Every version was delivered, counted in what was, or is a dead letter; the last state of each path arrived last.
    fn check(&self) {
        assert_eq!(self.stored.0 as usize, self.records.len());
        assert!(self.parked.is_empty(), "{:?} are left", self.parked);
        let told: BTreeSet<Zxid> = self
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
        for record in self
            .records
            .iter()
            .filter(|record| !self.letters.contains(&record.seq))
        {
            let zxid = record.zxid.expect("each has one");
            assert!(told.contains(&zxid), "{} was lost in silence", record.seq);
            newest.insert(record.path.as_ref().expect("only znodes change here"), record.seq);
        }
        for (path, seq) in newest {
            let arrived = last[path];
            let is_letter = self.letters.contains(&arrived);
            assert!(
                arrived == seq || is_letter,
                "{path}: {arrived} came last, and {seq} is newer"
            );
        }
    }
}

fn holds(seed: u64, driver: Driver) -> std::thread::Result<()> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, driver);
        world.run();
        world.check();
    }))
}

#[test]
fn no_fault_and_no_crash_loses_what_went_into_another_record() {
    for seed in seeds(600) {
        if let Err(panic) = holds(seed, Driver::Careful) {
            eprintln!("replay with ZKBRIDGE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_cursor_that_moves_within_a_merged_batch_is_caught() {
    let caught = (0..400)
        .filter(|seed| holds(*seed, Driver::RecordByRecord).is_err())
        .count();
    assert!(caught > 20, "only {caught} of 400 runs noticed");
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
