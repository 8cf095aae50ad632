//! Sinks that misbehave, and the worker of each: the real delivery machine, read ahead of a model of its destination.
//! `destination` has its faults, `operator` an operator's orders.
//!
//! Each action that the real worker does with threads and channels is one step here, so that the bridge can be killed
//! between any two of them: read a batch, write some of it, answer, report to the pipeline.

mod destination;
mod operator;

use std::sync::Arc;
use std::time::Duration;

use bridge_core::delivery::{
    self, CompiledFilter, DeadLetters, FetchedBatch, Filter, Machine, MachineConfig, OnReject, OpClass,
    Parts, QueuedRetry, RejectPolicy, RejectedPath, Retry, StepProgress, Task, WorkerInput,
};
use bridge_core::journal::{BacklogChange, SinkProgress};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, Timestamp};
use bridge_core::sink::{DeliverError, Delivery, SinkError, SinkErrorKind};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::controls::Habit;
use crate::coverage::{Coverage, Seen};
use crate::journal::Store;

pub use destination::Destination;
pub use operator::Orders;

/// A sink, for the whole seed.
pub struct Sink {
    /// Its name.
    pub name: Arc<str>,
    /// Selects its records.
    pub filter: CompiledFilter,
    pub(crate) rejects: RejectPolicy,
    /// The other end. Outlives the bridge.
    pub destination: Destination,
    /// An operator's orders.
    pub orders: Orders,
    random: StdRng,
    worker: Option<Worker>,
}

/// The part that dies with the bridge.
struct Worker {
    machine: Machine,
    /// The machine's zero.
    began_ms: u64,
    /// Everything up to it was read.
    position: Seq,
    /// Until when it waits.
    wakes_ms: Option<u64>,
    /// The destination's answer, and its time.
    answer: Option<(u64, Result<(), DeliverError>)>,
    /// Records that a wrong habit has reported before they were written.
    owed: Vec<Arc<Record>>,
}

/// The result of a worker's step.
pub enum Step {
    /// Nothing is to do.
    Idle,
    /// Something happened.
    Moved,
    /// The pipeline is to get this progress.
    Report(SinkProgress),
}

/// The surroundings of a worker.
pub struct Around<'a> {
    /// The journal.
    pub store: &'a Store,
    /// The durable tail.
    pub durable: Seq,
    /// Virtual time.
    pub now_ms: u64,
    /// Whether the destination may misbehave.
    pub may_fail: bool,
    /// A wrong habit.
    pub habit: Option<Habit>,
    /// The faults and states reached so far.
    pub seen: &'a mut Coverage,
}

impl Sink {
    /// Three sinks: one that gets all, one with a filter, one that rejects.
    ///
    /// # Panics
    ///
    /// Never: the filters are constants.
    pub fn all(mut random: impl FnMut() -> StdRng) -> Vec<Sink> {
        let some = Filter {
            paths: vec!["/a/**".into(), "/b/**".into()],
            ops: vec![
                OpClass::Create,
                OpClass::Update,
                OpClass::Delete,
                OpClass::Snapshot,
            ],
            ..Filter::default()
        };
        let mut sink = |name: &str, filter: &Filter, is_picky: bool| {
            let mut random = random();
            let rejected_path = *[RejectedPath::Block, RejectedPath::Continue]
                .choose(&mut random)
                .unwrap_or(&RejectedPath::Block);
            let on_reject = match random.random_bool(0.3) {
                true => OnReject::Halt,
                false => OnReject::DeadLetter,
            };
            Sink {
                name: name.into(),
                filter: CompiledFilter::new(filter).expect("the filter is a constant"),
                rejects: RejectPolicy {
                    on_reject,
                    rejected_path,
                },
                destination: Destination::new(is_picky, random.random_bool(0.5)),
                orders: Orders::default(),
                random,
                worker: None,
            }
        };
        vec![
            sink("all", &Filter::default(), false),
            sink("some", &some, false),
            sink("picky", &Filter::default(), true),
        ]
    }

    /// The worker starts where the journal has its cursor, with what the sink set aside.
    pub fn start(&mut self, cursor: Seq, store: &Store, now_ms: u64, seen: &mut Coverage) {
        let backlog = store.set_aside(&self.name);
        if !backlog.parked.is_empty() {
            seen.see(Seen::RestartedParked);
        }
        let now = steady(now_ms);
        let terms = MachineConfig {
            cursor,
            retry: Retry::default(),
            rejects: self.rejects,
            backlog: delivery::SinkBacklog {
                letters: DeadLetters::of(
                    backlog
                        .letters
                        .into_values()
                        .map(|letter| (letter.seq, letter.path)),
                ),
                parked: backlog
                    .parked
                    .into_values()
                    .map(|row| QueuedRetry::of(row, now))
                    .collect(),
                ..delivery::SinkBacklog::default()
            },
            seed: self.random.random(),
        };
        self.worker = Some(Worker {
            machine: Machine::new(terms),
            began_ms: now_ms,
            position: cursor,
            wakes_ms: None,
            answer: None,
            owed: Vec::new(),
        });
    }

    /// The bridge is gone. Whether the destination had records whose answer never came.
    pub fn kill(&mut self) -> bool {
        self.worker.take().is_some_and(|worker| worker.answer.is_some())
    }

    /// Everything up to it was dealt with, as far as the worker knows.
    pub fn cursor(&self) -> Option<Seq> {
        self.worker.as_ref().map(|worker| worker.machine.cursor())
    }

    /// Whether the worker has nothing left that it could do.
    pub fn is_at_rest(&self, durable: Seq) -> bool {
        let worker = self.worker.as_ref();
        worker.is_some_and(|worker| {
            worker.machine.cursor() == durable && worker.machine.parked().0 == 0 && !worker.is_halted()
        })
    }

    /// The newest records were lost with the power, and others will have their numbers.
    pub fn forget_behind(&mut self, tail: Seq) {
        self.destination.forget_behind(tail);
        self.orders.forget_behind(tail);
    }

    /// One step of the worker.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub fn step(&mut self, around: &mut Around<'_>) -> Step {
        let Some(worker) = &mut self.worker else {
            return Step::Idle;
        };
        if !worker.owed.is_empty() {
            if self.random.random_bool(0.5) {
                self.destination.arrived.append(&mut worker.owed);
            }
            return Step::Moved;
        }
        if let Some(progress) = worker.ordered(
            (&mut self.orders, &mut self.destination),
            &self.filter,
            &mut self.random,
            around,
        ) {
            return self.report(progress, around);
        }
        match worker.machine.task() {
            Task::Open => {
                let fails = around.may_fail && self.random.random_bool(0.2);
                let opened = match fails {
                    true => {
                        around.seen.see(Seen::SinkOpenFailed);
                        Err(failure(SinkErrorKind::Unavailable))
                    }
                    false => Ok(()),
                };
                self.input(WorkerInput::Opened(opened), around)
            }
            Task::Fetch => self.fetch(around),
            Task::Deliver(delivery) => self.deliver(&delivery, around),
            Task::Wait(delay) => {
                let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                let wakes = *worker.wakes_ms.get_or_insert(around.now_ms + millis);
                if wakes > around.now_ms {
                    return Step::Idle;
                }
                worker.wakes_ms = None;
                self.input(WorkerInput::Waited, around)
            }
            Task::FetchRetries(seqs) => {
                let records = around.store.recall(&seqs);
                around.seen.add(Seen::Recalled, records.len() as u64);
                self.input(WorkerInput::RetriesFetched(Ok(records)), around)
            }
            Task::FetchSnapshot(run) => panic!("nobody orders a run here, and {run:?} is under way"),
            Task::Rest => Step::Idle,
        }
    }

    fn input(&mut self, input: WorkerInput, around: &mut Around<'_>) -> Step {
        let Some(worker) = &mut self.worker else {
            return Step::Idle;
        };
        let was_halted = worker.is_halted();
        let now = Duration::from_millis(around.now_ms - worker.began_ms);
        let progress = worker.machine.step(input, now);
        if worker.is_halted() && !was_halted {
            around.seen.see(Seen::HaltedOnReject);
        }
        progress.map_or(Step::Moved, |progress| self.report(progress, around))
    }

    fn report(&self, progress: StepProgress, around: &mut Around<'_>) -> Step {
        let rejected = progress.changes.iter().filter_map(|change| match change {
            BacklogChange::Rejected { reason, .. } => Some(reason),
            _ => None,
        });
        let blocked = rejected
            .clone()
            .filter(|reason| reason.contains("waits for rejected"))
            .count() as u64;
        around.seen.add(Seen::BlockedPath, blocked);
        around.seen.add(Seen::Rejected, rejected.count() as u64 - blocked);
        for change in &progress.changes {
            match change {
                BacklogChange::Parked { attempts: 0, .. } => around.seen.see(Seen::ParkedBehind),
                BacklogChange::Parked { .. } => around.seen.see(Seen::Deferred),
                BacklogChange::Retried(_) => around.seen.see(Seen::Retried),
                BacklogChange::Dropped(_) => around.seen.see(Seen::LetterDropped),
                BacklogChange::Replayed { .. } => around.seen.see(Seen::Replayed),
                BacklogChange::Rejected { .. } | BacklogChange::Released(_) => {}
            }
        }
        let is_move = progress.from < progress.cursor;
        if around.habit == Some(Habit::ProgressSkipped) && is_move && progress.cursor.0.is_multiple_of(3) {
            return Step::Moved;
        }
        Step::Report(progress.of_sink(Arc::clone(&self.name), steady(around.now_ms)))
    }

    fn fetch(&mut self, around: &mut Around<'_>) -> Step {
        let Some(worker) = &mut self.worker else {
            return Step::Idle;
        };
        if worker.position >= around.durable {
            let now = Duration::from_millis(around.now_ms - worker.began_ms);
            return match worker.machine.due() {
                Some(due) if due <= now => self.input(WorkerInput::Due, around),
                _ => Step::Idle,
            };
        }
        let limit = self.random.random_range(1..20);
        let mut records = around.store.read(worker.position, limit, around.seen);
        records.retain(|record| record.seq <= around.durable);
        let through = records.last().map(|record| record.seq);
        worker.position = through.unwrap_or_else(|| panic!("there is no record after {}", worker.position));
        let count = records.len();
        records.retain(|record| self.filter.passes(record));
        around.seen.add(Seen::Filtered, (count - records.len()) as u64);
        let batch = FetchedBatch {
            records,
            through: worker.position,
            parts: Parts::default(),
        };
        self.input(WorkerInput::Fetched(Ok(batch)), around)
    }

    /// The destination writes, now, and answers, perhaps later.
    fn deliver(&mut self, delivery: &Delivery, around: &mut Around<'_>) -> Step {
        let answer = self.worker.as_mut().and_then(|worker| worker.answer.take());
        match answer {
            Some((at_ms, answer)) if at_ms > around.now_ms => {
                if let Some(worker) = &mut self.worker {
                    worker.answer = Some((at_ms, answer));
                }
                Step::Idle
            }
            Some((_, answer)) => self.input(WorkerInput::Delivered(answer), around),
            None => {
                if around.habit == Some(Habit::CursorBeforeAck)
                    && let Some(worker) = &mut self.worker
                {
                    worker.owed.extend_from_slice(&delivery.records);
                    return self.input(WorkerInput::Delivered(Ok(())), around);
                }
                let (wait_ms, answer) = self
                    .destination
                    .write(&delivery.records, &mut self.random, around);
                if let Some(worker) = &mut self.worker {
                    worker.answer = Some((around.now_ms + wait_ms, answer));
                }
                Step::Moved
            }
        }
    }
}

impl Around<'_> {
    /// Of these records those that a sink gets, with their paths, as an order names them.
    fn with_paths(&self, seqs: &[Seq], filter: &CompiledFilter) -> Vec<(Seq, Option<ZnodePath>)> {
        let disk = self.store.disk.borrow();
        let record = |seq: &Seq| &disk.state.model.records[usize::try_from(seq.0 - 1).unwrap_or_default()];
        let passing = seqs.iter().map(record).filter(|record| filter.passes(record));
        passing.map(|record| (record.seq, record.path.clone())).collect()
    }
}

impl Worker {
    fn is_halted(&self) -> bool {
        matches!(self.machine.task(), Task::Rest)
    }

    /// An operator's order between two tasks.
    fn ordered(
        &mut self,
        (orders, destination): (&mut Orders, &mut Destination),
        filter: &CompiledFilter,
        random: &mut StdRng,
        around: &mut Around<'_>,
    ) -> Option<StepProgress> {
        let is_between = self.answer.is_none();
        let order = match self.is_halted() {
            true => orders.for_halted(destination, random, around),
            false if is_between => orders.draw(&self.machine, destination, filter, random, around),
            false => None,
        }?;
        let progress = self.machine.order(&order);
        if !matches!(self.machine.task(), Task::Wait(_)) {
            self.wakes_ms = None;
        }
        progress
    }
}

/// The time of day without the jumps of the clock: what waits for hours because of them is no fault of a delivery.
fn steady(now_ms: u64) -> Timestamp {
    Timestamp(now_ms.cast_signed())
}

pub(crate) fn failure(kind: SinkErrorKind) -> SinkError {
    SinkError::new(kind, "simulated")
}
