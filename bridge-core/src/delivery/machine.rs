//! The state machine of one sink's delivery: input in, decision out. It never awaits, reads no clock and draws no
//! random number that was not seeded, so that a simulator can drive it.
//!
//! ```text
//!            opened              fetched
//! Opening ───────────▶ Idle ───────────────▶ Delivering ──┐ delivered: the cursor moves
//!    ▲  │ failed        ▲ └─ journal failed ─┐   │  ▲      │
//!    │  ▼               └────────────────────┼───┘  └──────┘ more of the same batch
//!    │ BackingOff ◀──────────────────────────┴── failed
//!    └──┘ waited            a kind that no attempt can heal, patience at its end, a rejection with
//!                           on_reject = "halt", too many blocked paths ──▶ Halted
//! ```
//!
//! What must hold: the cursor moves only behind what the sink reported; after a failure delivery goes on at the record
//! behind the cursor, in the order of `seq`; a halted sink keeps its cursor.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::backoff::{Backoff, RETRY_AFTER_MAX};
use super::blocked::{BLOCKED_PATHS_MAX, Blocked};
use super::options::{OnReject, RejectPolicy, RejectedPath};
use super::outcome::Outcome;
use super::policy::{self, Policy};
use super::steps::{Batch, Input, Phase, Progress, Task, Terms};
use super::trouble::{Trouble, TroubleKind, with_causes};
use crate::journal::JournalError;
use crate::number::Seq;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, Rejected, SinkError};

#[derive(Debug)]
enum State {
    Opening { left: Option<Batch> },
    Idle,
    Delivering { left: Batch, attempt: Attempt },
    BackingOff { delay: Duration, then: Then },
    Halted,
}

/// What follows a wait.
#[derive(Debug)]
enum Then {
    Open { left: Option<Batch> },
    Fetch,
}

/// One call of `deliver`, cut from the front of a batch.
#[derive(Debug)]
struct Attempt {
    delivery: Arc<Delivery>,
    /// Records left out because their path is blocked.
    held: Vec<Rejected>,
    /// The position reached when all of it is delivered.
    through: Seq,
}

/// What failed, and what is to be done about it.
struct Failure {
    kind: TroubleKind,
    message: String,
    policy: Policy,
    /// The destination's word on when to come back.
    not_before: Option<Duration>,
}

/// The delivery of one source's records to one sink.
#[derive(Debug)]
pub struct Machine {
    state: State,
    cursor: Seq,
    backoff: Backoff,
    rejects: RejectPolicy,
    blocked: Blocked,
    random: StdRng,
    trouble: Option<Trouble>,
}

impl Machine {
    /// A sink that has to be opened first.
    pub fn new(terms: Terms) -> Machine {
        Machine {
            state: State::Opening { left: None },
            cursor: terms.cursor,
            backoff: Backoff::new(terms.retry),
            rejects: terms.rejects,
            blocked: terms.blocked,
            random: StdRng::seed_from_u64(terms.seed),
            trouble: None,
        }
    }

    /// Everything up to it is durable at the destination, filtered out, or rejected.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// What stands in the way; cleared by the next success.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The oldest record that is in hand and not delivered.
    pub fn oldest_left(&self) -> Option<&Record> {
        let left = match &self.state {
            State::Delivering { left, .. } => Some(left),
            State::Opening { left }
            | State::BackingOff {
                then: Then::Open { left },
                ..
            } => left.as_ref(),
            State::Idle
            | State::Halted
            | State::BackingOff {
                then: Then::Fetch, ..
            } => None,
        };
        left?.records.first().map(|record| &**record)
    }

    /// The word for the present state.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Opening { .. } => Phase::Opening,
            State::Idle => Phase::Idle,
            State::Delivering { .. } => Phase::Delivering,
            State::BackingOff { .. } => Phase::BackingOff,
            State::Halted => Phase::Halted,
        }
    }

    /// What to do now.
    pub fn task(&self) -> Task {
        match &self.state {
            State::Opening { .. } => Task::Open,
            State::Idle => Task::Fetch,
            State::Delivering { attempt, .. } => Task::Deliver(Arc::clone(&attempt.delivery)),
            State::BackingOff { delay, .. } => Task::Wait(*delay),
            State::Halted => Task::Rest,
        }
    }

    /// Takes the end of the present task. `now` is counted from any fixed moment.
    ///
    /// # Panics
    ///
    /// If the input does not belong to the present task: the driver is wrong.
    pub fn step(&mut self, input: Input, now: Duration) -> Option<Progress> {
        let phase = self.phase();
        let state = std::mem::replace(&mut self.state, State::Idle);
        match (state, input) {
            (State::Opening { left }, Input::Opened(Ok(()))) => self.opened(left),
            (State::Opening { left }, Input::Opened(Err(error))) => {
                self.sink_failed(error, left, now);
                None
            }
            (State::Idle, Input::Fetched(Ok(batch))) => {
                self.journal_answered();
                self.go_on(batch)
            }
            (State::Idle, Input::Fetched(Err(error))) => {
                self.journal_failed(&error, now);
                None
            }
            (State::Delivering { left, attempt }, Input::Delivered(result)) => {
                self.delivered(left, attempt, result, now)
            }
            (State::BackingOff { then, .. }, Input::Waited) => {
                self.state = match then {
                    Then::Open { left } => State::Opening { left },
                    Then::Fetch => State::Idle,
                };
                None
            }
            // Without the values: a batch holds data of znodes.
            _ => panic!("the driver reported the end of a task that is not that of {phase:?}"),
        }
    }

    fn opened(&mut self, left: Option<Batch>) -> Option<Progress> {
        match left {
            Some(batch) => {
                let progress = self.go_on(batch);
                if matches!(self.state, State::Idle) {
                    self.healed();
                }
                progress
            }
            None => {
                self.healed();
                None
            }
        }
    }

    /// Delivers the front of what is left of a batch; goes over what needs no delivery.
    fn go_on(&mut self, mut left: Batch) -> Option<Progress> {
        let mut moved: Option<Progress> = None;
        loop {
            if left.through <= self.cursor {
                return moved;
            }
            let attempt = self.cut(&left);
            if !attempt.delivery.records.is_empty() {
                self.state = State::Delivering { left, attempt };
                return moved;
            }
            let progress = moved.get_or_insert_default();
            progress.rejected.extend(attempt.held);
            progress.cursor = attempt.through;
            self.move_to(attempt.through);
            left = left.behind(attempt.through);
        }
    }

    /// With `block`, a path stands once in a delivery, so that no record can arrive behind one that is rejected.
    fn cut(&self, left: &Batch) -> Attempt {
        let blocks = self.rejects.rejected_path == RejectedPath::Block;
        let mut paths = HashSet::new();
        let mut records = Vec::with_capacity(left.records.len());
        let mut held = Vec::new();
        let mut through = left.through;
        let mut last = self.cursor;
        for record in &left.records {
            if let Some(path) = record.path.as_ref().filter(|_| blocks) {
                if let Some(waits) = self.blocked.why(path, record.seq) {
                    held.push(waits);
                    last = record.seq;
                    continue;
                }
                if !paths.insert(path) {
                    through = last;
                    break;
                }
            }
            records.push(Arc::clone(record));
            last = record.seq;
        }
        Attempt {
            delivery: Arc::new(Delivery { records }),
            held,
            through,
        }
    }

    fn delivered(
        &mut self,
        left: Batch,
        attempt: Attempt,
        result: Result<(), DeliverError>,
        now: Duration,
    ) -> Option<Progress> {
        let records = &attempt.delivery.records;
        let outcome = match result {
            Ok(()) => Outcome::all(records.len()),
            Err(error) => Outcome::checked(error, records),
        };
        if let Some(first) = outcome.rejected.first()
            && self.rejects.on_reject == OnReject::Halt
        {
            return self.halt_before(first, &attempt);
        }
        let progress = self.account(&attempt, &outcome);
        let left = left.behind(self.cursor);
        if self.blocked.is_over_limit() {
            self.halt(TroubleKind::TooManyBlocked, too_many_blocked());
            return progress;
        }
        match outcome.error {
            None => self.after_success(left, progress),
            Some(error) => {
                if outcome.done > 0 {
                    self.backoff.succeeded();
                }
                self.sink_failed(error, Some(left), now);
                progress
            }
        }
    }

    fn after_success(&mut self, left: Batch, progress: Option<Progress>) -> Option<Progress> {
        self.healed();
        // The blocked records at the front of what is left move the cursor in the same step.
        let more = self.go_on(left);
        Progress::joined(progress, more)
    }

    /// Moves the cursor behind what is done, and only behind that.
    fn account(&mut self, attempt: &Attempt, outcome: &Outcome) -> Option<Progress> {
        let records = &attempt.delivery.records;
        let cursor = match outcome.done {
            0 => return None,
            done if done == records.len() && outcome.error.is_none() => attempt.through,
            done => records[done - 1].seq,
        };
        let is_rejected = |seq: Seq| {
            outcome
                .rejected
                .binary_search_by_key(&seq, |rejected| rejected.seq)
                .is_ok()
        };
        let mut progress = Progress {
            cursor,
            rejected: outcome.rejected.clone(),
            ..Progress::default()
        };
        for record in &records[..outcome.done] {
            if is_rejected(record.seq) {
                self.block(record);
            } else {
                progress.delivered += 1;
                progress.delivered_bytes += data_bytes(record);
            }
        }
        let held = attempt.held.iter().filter(|held| held.seq <= cursor);
        progress.rejected.extend(held.cloned());
        progress.rejected.sort_by_key(|rejected| rejected.seq);
        self.move_to(cursor);
        Some(progress)
    }

    fn block(&mut self, record: &Record) {
        if self.rejects.rejected_path == RejectedPath::Block
            && let Some(path) = &record.path
        {
            self.blocked.add(path.clone(), record.seq);
        }
    }

    fn halt_before(&mut self, rejected: &Rejected, attempt: &Attempt) -> Option<Progress> {
        let records = &attempt.delivery.records;
        let done = records.partition_point(|record| record.seq < rejected.seq);
        let before = Outcome {
            done,
            rejected: Vec::new(),
            error: None,
        };
        let progress = self.account(attempt, &before);
        let message = format!("record {} was rejected: {}", rejected.seq, rejected.reason);
        self.halt(TroubleKind::Rejected, (message, ON_REJECT_HALT));
        progress
    }

    fn sink_failed(&mut self, error: SinkError, left: Option<Batch>, now: Duration) {
        let failure = Failure {
            kind: TroubleKind::Sink(error.kind),
            message: with_causes(&error),
            policy: policy::of_sink(error.kind),
            not_before: error.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
        };
        self.failed(failure, Then::Open { left }, now);
    }

    fn journal_failed(&mut self, error: &JournalError, now: Duration) {
        let failure = Failure {
            kind: TroubleKind::Journal,
            message: with_causes(error),
            policy: policy::of_journal(error.kind),
            not_before: None,
        };
        self.failed(failure, Then::Fetch, now);
    }

    fn failed(&mut self, failure: Failure, then: Then, now: Duration) {
        let Failure {
            kind,
            message,
            policy,
            not_before,
        } = failure;
        let Some(pace) = policy.action.pace() else {
            return self.halt(kind, (message, policy.remedy));
        };
        let Some(delay) = self.backoff.failed(pace, now, &mut self.random) else {
            let message = format!("gave up after retry.give_up_after: {message}");
            return self.halt(kind, (message, policy.remedy));
        };
        let delay = delay.max(not_before.unwrap_or_default());
        self.state = State::BackingOff { delay, then };
        self.trouble = Some(Trouble {
            kind,
            message,
            remedy: policy.remedy,
            calls_operator: policy.action.calls_operator(),
            failures: self.backoff.failures(),
            retry_after_seconds: not_before.map(whole_seconds),
        });
    }

    fn halt(&mut self, kind: TroubleKind, (message, remedy): (String, &'static str)) {
        self.state = State::Halted;
        self.trouble = Some(Trouble {
            kind,
            message,
            remedy,
            calls_operator: true,
            failures: self.backoff.failures(),
            retry_after_seconds: None,
        });
    }

    fn healed(&mut self) {
        self.backoff.succeeded();
        self.trouble = None;
    }

    /// A batch that is read heals a failed read, and nothing else: an open failure is healed before by `open`.
    fn journal_answered(&mut self) {
        if matches!(&self.trouble, Some(trouble) if trouble.kind == TroubleKind::Journal) {
            self.healed();
        }
    }

    fn move_to(&mut self, cursor: Seq) {
        assert!(
            cursor >= self.cursor,
            "the cursor would go back from {} to {cursor}",
            self.cursor
        );
        self.cursor = cursor;
    }
}

const ON_REJECT_HALT: &str = "correct the destination or the sink's options so that the record can be accepted, or set \
                              on_reject = \"dead_letter\", and restart; the cursor is before the record";

fn too_many_blocked() -> (String, &'static str) {
    (
        format!("more than {BLOCKED_PATHS_MAX} paths wait behind a rejected record"),
        "the destination rejects nearly everything: correct the cause, retry the dead letters, and restart",
    )
}

/// Rounded up: who comes back a moment early is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn data_bytes(record: &Record) -> u64 {
    let data = record.after.as_ref().and_then(|state| state.data.as_ref());
    data.map_or(0, |data| data.bytes.len() as u64)
}
