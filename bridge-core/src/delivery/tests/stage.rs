//! The parts of the random tests: the machine, a journal and a destination of plain values, faults and crashes. No
//! runtime, thousands of crashes a second. A seed that fails is printed and replayed by `ZKBRIDGE_SEED`.

use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::Rng;
use rand::rngs::StdRng;

use super::*;
use crate::journal::{BacklogChange, RunStep, SinkRun};
use crate::record::Record;
use crate::sink::{Deferred, DeliverError, Rejected, SinkError, SinkErrorKind};

/// More steps than any run takes.
const STEPS: u32 = 20_000;

/// The negative controls: state that a careless journal forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgets {
    Nothing,
    /// Parked records are not stored with the cursor.
    Parked,
    /// A run does not survive a crash.
    Run,
}

/// One sink's machine, with what survives its crashes.
pub(super) struct Stage {
    pub(super) random: StdRng,
    pub(super) records: Vec<Arc<Record>>,
    pub(super) machine: Machine,
    pub(super) rejects: RejectPolicy,
    pub(super) forgets: Forgets,
    pub(super) stored: Seq,
    pub(super) letters: BTreeSet<Seq>,
    pub(super) parked: BTreeSet<Seq>,
    pub(super) run: Option<SinkRun>,
    /// Where the present life reads on.
    pub(super) position: Seq,
    pub(super) clock: Duration,
    /// How many crashes there were.
    pub(super) crashes: u32,
    /// Faults end here, so that the rest must be delivered.
    faults_left: u32,
}

impl Stage {
    pub(super) fn new(mut random: StdRng, records: Vec<Arc<Record>>, most_faults: u32) -> Stage {
        Stage {
            machine: Machine::new(MachineConfig {
                seed: random.random(),
                ..MachineConfig::default()
            }),
            faults_left: random.random_range(0..most_faults),
            random,
            records,
            rejects: RejectPolicy::default(),
            forgets: Forgets::Nothing,
            stored: Seq::ZERO,
            letters: BTreeSet::new(),
            parked: BTreeSet::new(),
            run: None,
            position: Seq::ZERO,
            clock: Duration::ZERO,
            crashes: 0,
        }
    }

    pub(super) fn fault(&mut self, chance: f64) -> bool {
        let happens = self.faults_left > 0 && self.random.random_bool(chance);
        self.faults_left -= u32::from(happens);
        happens
    }

    pub(super) fn is_at_tail(&self) -> bool {
        self.position.0 as usize == self.records.len()
    }

    /// The process dies and another goes on from what is stored.
    pub(super) fn crash(&mut self) {
        if self.forgets == Forgets::Run {
            self.run = None;
        }
        let path_of = |seq: &Seq| self.records[seq.0 as usize - 1].path.clone();
        let waiting = |seq: &Seq| QueuedRetry {
            seq: *seq,
            path: path_of(seq),
            reason: "kept".into(),
            attempts: 1,
            failing_for: Duration::ZERO,
            wait: Duration::ZERO,
        };
        let backlog = SinkBacklog {
            letters: DeadLetters::of(self.letters.iter().map(|seq| (*seq, path_of(seq)))),
            parked: self.parked.iter().map(waiting).collect(),
            run: self.run.clone(),
            ..SinkBacklog::default()
        };
        self.machine = Machine::new(MachineConfig {
            cursor: self.stored,
            rejects: self.rejects,
            backlog,
            seed: self.random.random(),
            ..MachineConfig::default()
        });
        self.position = self.stored;
        self.clock = Duration::ZERO;
        self.crashes += 1;
    }

    pub(super) fn step(&mut self, input: WorkerInput) {
        let progress = self.machine.step(input, self.clock);
        // A progress that is lost in a crash must do no harm.
        if self.fault(0.05) {
            return self.crash();
        }
        self.store(progress);
    }

    pub(super) fn store(&mut self, progress: Option<StepProgress>) {
        let Some(progress) = progress else { return };
        assert!(progress.cursor >= self.stored);
        self.stored = progress.cursor;
        match progress.run {
            Some(RunStep::At(run)) => self.run = Some(*run),
            Some(RunStep::Delivered(_)) => self.run = None,
            None => {}
        }
        for change in progress.changes {
            assert!(change.seq() <= self.stored, "{change:?} is ahead of the cursor");
            self.set_aside(change);
        }
    }

    fn set_aside(&mut self, change: BacklogChange) {
        match change {
            BacklogChange::Rejected { seq, .. } => {
                self.parked.remove(&seq);
                self.letters.insert(seq);
            }
            BacklogChange::Parked { .. } if self.forgets == Forgets::Parked => {}
            BacklogChange::Parked { seq, .. } | BacklogChange::Replayed { seq, .. } => {
                self.parked.insert(seq);
            }
            BacklogChange::Released(seq) => drop(self.parked.remove(&seq)),
            BacklogChange::Dropped(seq) => drop(self.letters.remove(&seq)),
            BacklogChange::Retried(seq) => {
                self.letters.remove(&seq);
                self.parked.insert(seq);
            }
        }
    }

    /// The next records of the journal, `through` the one at this place.
    pub(super) fn read(&mut self, through: u64) -> Vec<Arc<Record>> {
        let first = self.position.0 as usize;
        let last = (through as usize).min(self.records.len());
        self.position = Seq(last as u64);
        self.records[first..last].to_vec()
    }

    pub(super) fn fetched(&mut self, records: Vec<Arc<Record>>, parts: Parts) {
        let through = self.position;
        self.step(WorkerInput::Fetched(Ok(FetchedBatch {
            records,
            through,
            parts,
        })));
    }

    /// How many of so many records from the front reach the destination.
    pub(super) fn written(&mut self, count: usize, chance: f64) -> usize {
        match self.fault(chance) {
            true => self.random.random_range(0..=count),
            false => count,
        }
    }

    /// A destination that rejects what it must, and does not answer for some paths now and then.
    pub(super) fn receive(
        &mut self,
        records: &[Arc<Record>],
        rejects: impl Fn(Seq) -> bool,
        mut arrive: impl FnMut(&Arc<Record>),
    ) -> DeliverError {
        let mut refused = DeliverError::default();
        let mut waiting = HashSet::new();
        for record in records {
            let seq = record.seq;
            if rejects(seq) {
                refused.rejected.push(Rejected::at_once(seq, "never"));
            } else if waiting.contains(&record.path) || self.fault(0.1) {
                waiting.insert(record.path.clone());
                let error = SinkError::new(SinkErrorKind::Unavailable, "scripted");
                refused.deferred.push(Deferred { seq, error });
            } else {
                arrive(record);
            }
        }
        refused
    }

    /// Does what any world does with a task, and gives back the others.
    pub(super) fn play(&mut self, task: Task) -> Option<Task> {
        match task {
            Task::Open => self.step(WorkerInput::Opened(Ok(()))),
            Task::FetchRetries(seqs) => {
                let record = |seq: &Seq| Arc::clone(&self.records[seq.0 as usize - 1]);
                let records = seqs.iter().map(record).collect();
                self.step(WorkerInput::RetriesFetched(Ok(records)));
            }
            Task::Wait(delay) => {
                self.clock += delay;
                self.step(WorkerInput::Waited);
            }
            Task::Rest => panic!("halted: {:?}", self.machine.failure()),
            other => return Some(other),
        }
        None
    }

    /// Lets the time of what waits come; false if nothing does.
    pub(super) fn pass_time(&mut self) -> bool {
        let Some(due) = self.machine.due() else {
            return false;
        };
        self.clock = self.clock.max(due);
        self.step(WorkerInput::Due);
        true
    }

    /// Whether nothing waits and the cursor is at the last record.
    pub(super) fn assert_delivered(&self) {
        assert!(self.parked.is_empty(), "{:?} are left", self.parked);
        assert_eq!(self.stored.0 as usize, self.records.len());
        assert_eq!(self.run, None);
    }
}

/// The answer of a sink that wrote this number of records from the front.
pub(super) fn answer(count: usize, written: usize, refused: DeliverError) -> Result<(), DeliverError> {
    let error = (written < count).then(|| SinkError::new(SinkErrorKind::Broken, "scripted"));
    if error.is_none() && refused.rejected.is_empty() && refused.deferred.is_empty() {
        return Ok(());
    }
    Err(DeliverError {
        done: written,
        error,
        ..refused
    })
}

/// Takes steps until one says that it was the last.
///
/// # Panics
///
/// If there is no end.
pub(super) fn to_the_end<W>(world: &mut W, mut step: impl FnMut(&mut W) -> bool) {
    for _ in 0..STEPS {
        if !step(world) {
            return;
        }
    }
    panic!("no end after {STEPS} steps");
}

/// Plays so many seeds, each of which must keep what `play` asserts.
pub(super) fn assert_kept(count: u64, play: impl Fn(u64)) {
    for seed in seeds(count) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(seed))) {
            eprintln!("replay with ZKBRIDGE_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Plays so many seeds of a negative control: `play` must notice in more than 20 of them.
pub(super) fn assert_caught(count: u64, play: impl Fn(u64)) {
    let caught = (0..count)
        .filter(|seed| catch_unwind(AssertUnwindSafe(|| play(*seed))).is_err())
        .count();
    assert!(caught > 20, "only {caught} of {count} runs noticed");
}
