//! Sinks that misbehave, and the worker of each: the real delivery machine, read ahead of a model of its destination.
//!
//! What the real worker does with threads and channels is one step each here, so that the bridge can be killed between
//! any two of them: read a batch, write some of it, answer, tell the pipeline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::delivery::{
    Batch, Filter, Input, Letters, Machine, OnReject, OpClass, Parts, Progress, RejectPolicy, RejectedPath,
    Retry, SetAside, Sieve, Task, Terms,
};
use bridge_core::journal::{Aside, Note};
use bridge_core::number::Seq;
use bridge_core::record::{Record, Timestamp};
use bridge_core::sink::{DeliverError, Delivery, Rejected, SinkError, SinkErrorKind};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::controls::Habit;
use crate::coverage::{Coverage, Seen};
use crate::journal::{State, Store};

/// What a sink gets and does, for the whole seed.
pub struct Sink {
    /// Its name.
    pub name: Arc<str>,
    /// What it gets.
    pub sieve: Sieve,
    rejects: RejectPolicy,
    /// Whether it never accepts some records.
    is_picky: bool,
    /// Everything that arrived, in the order of arrival. Outlives the bridge.
    pub arrived: Vec<Arc<Record>>,
    random: StdRng,
    worker: Option<Worker>,
}

/// The part that dies with the bridge.
struct Worker {
    machine: Machine,
    /// Everything up to it was read.
    position: Seq,
    /// Until when it waits.
    wakes_ms: Option<u64>,
    /// What the destination answers, and when.
    answer: Option<(u64, Result<(), DeliverError>)>,
    /// What a wrong habit has reported before it was written.
    owed: Vec<Arc<Record>>,
}

/// What a step of a worker came to.
pub enum Step {
    /// Nothing is to do.
    Idle,
    /// Something happened.
    Moved,
    /// The pipeline is to be told.
    Told(Note),
}

/// What a worker sees around it.
pub struct Around<'a> {
    /// The journal.
    pub store: &'a Store,
    /// What the pipeline said to be durable.
    pub durable: Seq,
    /// Virtual time.
    pub now_ms: u64,
    /// What the wall clock shows.
    pub wall: Timestamp,
    /// Whether the destination may misbehave.
    pub may_fail: bool,
    /// A wrong habit.
    pub habit: Option<Habit>,
    /// What was reached.
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
            Sink {
                name: name.into(),
                sieve: Sieve::new(filter).expect("the filter is a constant"),
                rejects: RejectPolicy {
                    on_reject: OnReject::DeadLetter,
                    rejected_path,
                },
                is_picky,
                arrived: Vec::new(),
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

    /// The worker starts where the journal has its cursor.
    pub fn start(&mut self, cursor: Seq, state: &State) {
        let letters = state.letters.get(&self.name).into_iter().flatten();
        let path_of = |seq: &Seq| {
            let record = &state.model.records[usize::try_from(seq.0 - 1).unwrap_or_default()];
            record.path.clone()
        };
        let terms = Terms {
            cursor,
            retry: Retry::default(),
            rejects: self.rejects,
            aside: SetAside {
                letters: Letters::of(letters.map(|(seq, _)| (*seq, path_of(seq)))),
                ..SetAside::default()
            },
            seed: self.random.random(),
        };
        self.worker = Some(Worker {
            machine: Machine::new(terms),
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

    /// Whether this sink never accepts a record.
    pub fn refuses(&self, record: &Record) -> bool {
        self.is_picky && record.id.as_u128() % 17 == 3
    }

    /// One step of the worker.
    pub fn step(&mut self, around: &mut Around<'_>) -> Step {
        let Some(worker) = &mut self.worker else {
            return Step::Idle;
        };
        if !worker.owed.is_empty() {
            if self.random.random_bool(0.5) {
                self.arrived.append(&mut worker.owed);
            }
            return Step::Moved;
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
                self.input(Input::Opened(opened), around)
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
                self.input(Input::Waited, around)
            }
            Task::Recall(seqs) => panic!("no simulated destination defers, and {seqs:?} are parked"),
            Task::Restate(run) => panic!("nobody gives orders here, and {run:?} is under way"),
            Task::Rest => Step::Idle,
        }
    }

    fn input(&mut self, input: Input, around: &mut Around<'_>) -> Step {
        let Some(worker) = &mut self.worker else {
            return Step::Idle;
        };
        let progress = worker.machine.step(input, Duration::from_millis(around.now_ms));
        progress.map_or(Step::Moved, |progress| self.note(progress, around))
    }

    fn note(&self, progress: Progress, around: &mut Around<'_>) -> Step {
        let rejected = progress.asides.iter().filter_map(|aside| match aside {
            Aside::Rejected { reason, .. } => Some(reason),
            _ => None,
        });
        let blocked = rejected
            .clone()
            .filter(|reason| reason.contains("waits behind"))
            .count() as u64;
        around.seen.add(Seen::BlockedPath, blocked);
        around.seen.add(Seen::Rejected, rejected.count() as u64 - blocked);
        Step::Told(progress.note(Arc::clone(&self.name), around.wall))
    }

    fn fetch(&mut self, around: &mut Around<'_>) -> Step {
        let Some(worker) = &mut self.worker else {
            return Step::Idle;
        };
        if worker.position >= around.durable {
            return Step::Idle;
        }
        let limit = self.random.random_range(1..20);
        let mut records = around.store.read(worker.position, limit);
        records.retain(|record| record.seq <= around.durable);
        let through = records.last().map(|record| record.seq);
        worker.position = through.unwrap_or_else(|| panic!("nothing behind {} is there", worker.position));
        let count = records.len();
        records.retain(|record| self.sieve.passes(record));
        around.seen.add(Seen::Filtered, (count - records.len()) as u64);
        let batch = Batch {
            records,
            through: worker.position,
            parts: Parts::default(),
        };
        self.input(Input::Fetched(Ok(batch)), around)
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
            Some((_, answer)) => self.input(Input::Delivered(answer), around),
            None => {
                if around.habit == Some(Habit::CursorBeforeAck)
                    && let Some(worker) = &mut self.worker
                {
                    worker.owed.extend_from_slice(&delivery.records);
                    return self.input(Input::Delivered(Ok(())), around);
                }
                let (wait_ms, answer) = self.write(delivery, around);
                if let Some(worker) = &mut self.worker {
                    worker.answer = Some((around.now_ms + wait_ms, answer));
                }
                Step::Moved
            }
        }
    }

    fn write(&mut self, delivery: &Delivery, around: &mut Around<'_>) -> (u64, Result<(), DeliverError>) {
        let count = delivery.records.len();
        let fault = match around.may_fail {
            true => self.random.random_range(0..10),
            false => 9,
        };
        let wait_ms = match fault {
            0 => {
                around.seen.see(Seen::SinkSlow);
                self.random.random_range(50..2_000)
            }
            _ => self.random.random_range(0..10),
        };
        let written = match fault {
            1 => 0,
            2 | 3 => count / 2,
            _ => count,
        };
        let rejected = self.accept(&delivery.records[..written], around);
        let answer = match fault {
            1 => {
                around.seen.see(Seen::SinkFailed);
                Err(DeliverError::after(0, failure(SinkErrorKind::Unavailable)))
            }
            2 => {
                around.seen.see(Seen::SinkHalf);
                Err(DeliverError::after(0, failure(SinkErrorKind::Broken)))
            }
            3 => Err(DeliverError {
                done: written,
                rejected,
                error: Some(failure(SinkErrorKind::Broken)),
                ..DeliverError::default()
            }),
            4 => {
                around.seen.see(Seen::SinkFailedAfter);
                Err(DeliverError::after(0, failure(SinkErrorKind::Unavailable)))
            }
            _ if rejected.is_empty() => Ok(()),
            _ => Err(DeliverError {
                done: count,
                rejected,
                ..DeliverError::default()
            }),
        };
        (wait_ms, answer)
    }

    /// Takes in what is not rejected.
    fn accept(&mut self, records: &[Arc<Record>], around: &mut Around<'_>) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        let newest = self
            .arrived
            .iter()
            .rev()
            .take(200)
            .map(|record| record.seq)
            .collect::<BTreeSet<_>>();
        for record in records {
            if self.refuses(record) {
                let reason = "the simulated destination never takes it".into();
                rejected.push(Rejected {
                    seq: record.seq,
                    reason,
                });
                continue;
            }
            if newest.contains(&record.seq) {
                around.seen.see(Seen::Duplicate);
            }
            self.arrived.push(Arc::clone(record));
        }
        rejected
    }
}

fn failure(kind: SinkErrorKind) -> SinkError {
    SinkError::new(kind, "simulated")
}
