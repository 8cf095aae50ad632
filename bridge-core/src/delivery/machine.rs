//! The state machine of one sink's delivery. It never awaits, reads no clock and only uses seeded random numbers, so
//! that a simulator can drive it.
//!
//! ```text
//!            opened              fetched
//! Opening ───────────▶ Idle ───────────────▶ Delivering ──┐ delivered: the cursor moves
//!    ▲  │ failed        ▲ └─ journal failed ─┐   │  ▲      │
//!    │  ▼               └────────────────────┼───┘  └──────┘ more of the same batch
//!    │ BackingOff ◀──────────────────────────┴── failed
//!    └──┘ waited            a kind that no retry resolves, retry.give_up_after, a rejection with
//!                           on_reject = "halt", too many dead letters ──▶ Halted ── enabled ──▶ Opening
//!
//! Idle ── a run was ordered ──▶ FetchingSnapshot ──▶ DeliveringSnapshot ── the page is delivered ──▶ Idle or the next page
//! Idle, Delivering ── parked records are due ──▶ FetchingRetries ── fetched ──▶ Delivering
//! ```
//!
//! *Invariants.* The cursor moves only to a record that the sink reported. After a failure delivery continues with the
//! record after the cursor, in the order of `seq`. No record passes a parked one of its path. Parked and fresh records
//! are delivered in turns, so that neither starves the other. A halted sink keeps its cursor.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::attempt::Attempt;
use super::dead_letters::DeadLetters;
use super::on_failure::{ON_REJECT_HALT, too_many_letters};
use super::options::{OnReject, RejectPolicy, RejectedPath};
use super::outcome::CheckedOutcome;
use super::policy;
use super::probing::Probe;
use super::retry_backoff::RetryBackoff;
use super::retry_queue::{RetryQueue, WaitingQueue};
use super::sink_failure::{SinkFailure, SinkFailureKind};
use super::snapshot_cursor::SnapshotCursor;
use super::steps::{FetchedBatch, MachineConfig, OperatorRequest, Phase, StepProgress, Task, WorkerInput};
use crate::journal::{Disabled, SinkRun, Switch};
use crate::number::Seq;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, Extent, SinkErrorKind};

#[derive(Debug)]
pub(super) enum MachineState {
    Opening {
        left: Option<FetchedBatch>,
    },
    Idle,
    FetchingRetries {
        left: Option<FetchedBatch>,
        seqs: Arc<[Seq]>,
    },
    Delivering {
        left: Option<FetchedBatch>,
        attempt: Attempt,
    },
    /// Records of the run are under way.
    DeliveringSnapshot(Arc<Delivery>),
    BackingOff {
        /// The remaining wait, and its end.
        delay: Duration,
        until: Duration,
        then: AfterWait,
    },
    /// A page of the run is read.
    FetchingSnapshot,
    /// The remaining records are kept until an operator enables the sink.
    Halted {
        left: Option<FetchedBatch>,
    },
}

/// The action after a wait.
#[derive(Debug)]
pub(super) enum AfterWait {
    Open { left: Option<FetchedBatch> },
    GoOn { left: Option<FetchedBatch> },
}

/// Whether parked or fresh records are next, if both wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextRecords {
    Parked,
    Fresh,
}

/// The delivery of one source's records to one sink.
#[derive(Debug)]
pub struct Machine {
    pub(super) state: MachineState,
    pub(super) cursor: Seq,
    /// Everything up to this record is handled; ahead of the cursor inside a merged batch.
    pub(super) handled: Seq,
    /// The end of the present merged batch: the cursor moves there at once, and its progress is reported then.
    pub(super) merged_through: Option<Seq>,
    pub(super) unreported: Option<StepProgress>,
    pub(super) backoff: RetryBackoff,
    pub(super) rejects: RejectPolicy,
    pub(super) letters: DeadLetters,
    pub(super) parked: RetryQueue,
    pub(super) turn: NextRecords,
    pub(super) random: StdRng,
    pub(super) failure: Option<SinkFailure>,
    /// A change of the switch in the present step, for the journal.
    pub(super) switch: Option<Switch>,
    pub(super) run: SnapshotCursor,
    pub(super) probe: Probe,
    /// Attempts that failed for a path and are made again, by kind, since the last look.
    pub(super) failed_paths: Vec<SinkErrorKind>,
    /// Records that orders to replay have queued.
    pub(super) replayed: u64,
    /// Records that such orders named and for which the retry queue had no room.
    pub(super) not_replayed: u64,
}

impl Machine {
    /// A sink that has to be opened first, or enabled if it was switched off.
    pub fn new(config: MachineConfig) -> Machine {
        let mut machine = Machine {
            state: MachineState::Opening { left: None },
            cursor: config.cursor,
            handled: config.cursor,
            merged_through: None,
            unreported: None,
            backoff: RetryBackoff::new(config.retry),
            rejects: config.rejects,
            letters: config.backlog.letters,
            parked: RetryQueue::new(config.retry, config.backlog.parked),
            run: SnapshotCursor::of(config.backlog.run),
            turn: NextRecords::Parked,
            random: StdRng::seed_from_u64(config.seed),
            failure: None,
            switch: None,
            probe: Probe::default(),
            failed_paths: Vec::new(),
            replayed: 0,
            not_replayed: 0,
        };
        if let Some(disabled) = config.backlog.disabled {
            machine.stay_disabled(&disabled);
        }
        machine
    }

    fn stay_disabled(&mut self, disabled: &Disabled) {
        let kind = SinkErrorKind::Disabled;
        let message = format!("disabled since {}: {}", disabled.at, disabled.reason);
        let remedy = policy::of_sink(kind).remedy;
        self.halt(SinkFailureKind::Sink(kind), (message, remedy), None);
    }

    /// The last record up to which everything is durable at the destination, filtered out, parked or a dead letter.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// The present failure; cleared by the next success.
    pub fn failure(&self) -> Option<&SinkFailure> {
        self.failure.as_ref()
    }

    /// The run that is made for the sink.
    pub fn run(&self) -> Option<&SinkRun> {
        self.run.run()
    }

    /// The time of the next attempt for a parked record, on the clock of the steps; `None` while none is parked.
    pub fn due(&self) -> Option<Duration> {
        self.parked.due()
    }

    /// The numbers of parked records and of their paths.
    pub fn parked(&self) -> (usize, usize) {
        (self.parked.len(), self.parked.paths())
    }

    /// The last record that was delivered, filtered out, parked or rejected, whether the cursor is there or not.
    pub(super) fn handled(&self) -> Seq {
        self.handled
    }

    /// The number of records that an operator replays.
    pub fn replaying(&self) -> usize {
        self.parked.again()
    }

    /// The number of dead letters.
    pub fn letters(&self) -> usize {
        self.letters.len()
    }

    /// The paths that are tried next.
    pub(super) fn next_queues(&self, count: usize) -> Vec<WaitingQueue> {
        self.parked.next_queues(count)
    }

    /// The oldest fetched record that is not delivered.
    pub fn oldest_left(&self) -> Option<&Record> {
        let left = match &self.state {
            MachineState::Delivering { left, .. }
            | MachineState::FetchingRetries { left, .. }
            | MachineState::Opening { left }
            | MachineState::Halted { left }
            | MachineState::BackingOff {
                then: AfterWait::Open { left } | AfterWait::GoOn { left },
                ..
            } => left.as_ref(),
            MachineState::Idle | MachineState::FetchingSnapshot | MachineState::DeliveringSnapshot(_) => None,
        };
        left?.records.first().map(|record| &**record)
    }

    /// The present state, for the status.
    pub fn phase(&self) -> Phase {
        match self.state {
            MachineState::Opening { .. } => Phase::Opening,
            MachineState::Idle => Phase::Idle,
            MachineState::FetchingRetries { .. }
            | MachineState::Delivering { .. }
            | MachineState::FetchingSnapshot
            | MachineState::DeliveringSnapshot(_) => Phase::Delivering,
            MachineState::BackingOff { .. } => Phase::BackingOff,
            MachineState::Halted { .. } => Phase::Halted,
        }
    }

    /// The present task.
    pub fn task(&self) -> Task {
        match &self.state {
            MachineState::Opening { .. } => Task::Open,
            MachineState::Idle => Task::Fetch,
            MachineState::FetchingRetries { seqs, .. } => Task::FetchRetries(Arc::clone(seqs)),
            MachineState::Delivering { attempt, .. } => Task::Deliver(Arc::clone(&attempt.delivery)),
            MachineState::FetchingSnapshot => Task::FetchSnapshot(self.run.wanted(self.cursor)),
            MachineState::DeliveringSnapshot(delivery) => Task::Deliver(Arc::clone(delivery)),
            MachineState::BackingOff { delay, .. } => Task::Wait(*delay),
            MachineState::Halted { .. } => Task::Rest,
        }
    }

    /// Handles the end of the present task. `now` is the time since the machine was created.
    ///
    /// # Panics
    ///
    /// If the input does not belong to the present task: the driver is wrong.
    pub fn step(&mut self, input: WorkerInput, now: Duration) -> Option<StepProgress> {
        let phase = self.phase();
        let state = std::mem::replace(&mut self.state, MachineState::Idle);
        let progress = match (state, input) {
            (MachineState::Opening { left }, WorkerInput::Opened(Ok(()))) => self.opened(left, now),
            (MachineState::Opening { left }, WorkerInput::Opened(Err(error))) => {
                self.sink_failed(error, Extent::Destination, left, now);
                None
            }
            (MachineState::Idle, WorkerInput::Fetched(Ok(batch))) => {
                self.journal_answered();
                self.go_on(Some(batch), now)
            }
            (MachineState::Idle, WorkerInput::Fetched(Err(error))) => {
                self.journal_failed(&error, None, now);
                None
            }
            (MachineState::Idle, WorkerInput::Due) => {
                self.turn = NextRecords::Parked;
                self.go_on(None, now)
            }
            (MachineState::FetchingRetries { left, seqs }, WorkerInput::RetriesFetched(Ok(records))) => {
                self.journal_answered();
                self.recalled(left, &seqs, records, now)
            }
            (MachineState::FetchingRetries { left, .. }, WorkerInput::RetriesFetched(Err(error))) => {
                self.journal_failed(&error, left, now);
                None
            }
            (MachineState::Delivering { left, attempt }, WorkerInput::Delivered(result)) => {
                self.delivered(left, attempt, result, now)
            }
            (MachineState::FetchingSnapshot, WorkerInput::SnapshotFetched(Ok(page))) => {
                self.journal_answered();
                self.restated(page, now)
            }
            (MachineState::FetchingSnapshot, WorkerInput::SnapshotFetched(Err(error))) => {
                self.journal_failed(&error, None, now);
                None
            }
            (MachineState::DeliveringSnapshot(delivery), WorkerInput::Delivered(result)) => {
                self.snapshot_delivered(&delivery, result, now)
            }
            (MachineState::BackingOff { until, then, .. }, WorkerInput::More(more)) => {
                let (until, then) = self.extended(until, then, more, now);
                let delay = until.saturating_sub(now);
                self.state = MachineState::BackingOff { delay, until, then };
                None
            }
            (MachineState::BackingOff { then, .. }, WorkerInput::Waited) => match then {
                AfterWait::Open { left } => {
                    self.state = MachineState::Opening { left };
                    None
                }
                AfterWait::GoOn { left } => self.go_on(left, now),
            },
            // Without the values: a batch holds data of znodes.
            _ => panic!("the driver reported the end of a task that is not that of {phase:?}"),
        };
        let progress = self.with_switch(progress);
        self.held_to_window_end(progress)
    }

    /// Handles a request of an operator, between two tasks; the task may be another one afterwards.
    pub fn order(&mut self, order: &OperatorRequest) -> Option<StepProgress> {
        let progress = match order {
            OperatorRequest::Enable => {
                self.enable();
                None
            }
            OperatorRequest::Retry(seqs) => self.retry_letters(seqs),
            OperatorRequest::Drop(seqs) => self.drop_letters(seqs),
            OperatorRequest::Snapshot(run) => Some(self.begin_run((**run).clone())),
            OperatorRequest::Replay(order) => self.replay(order),
        };
        let progress = self.with_switch(progress);
        self.held_to_window_end(progress)
    }

    fn enable(&mut self) {
        match std::mem::replace(&mut self.state, MachineState::Idle) {
            MachineState::Halted { left } => {
                self.state = MachineState::Opening { left };
                self.recovered();
                self.switch = Some(Switch::Enabled);
            }
            other => self.state = other,
        }
    }

    fn with_switch(&mut self, progress: Option<StepProgress>) -> Option<StepProgress> {
        let Some(switch) = self.switch.take() else {
            return progress;
        };
        let mut progress = progress.unwrap_or_else(|| self.standing());
        progress.switch = Some(switch);
        Some(progress)
    }

    /// The progress of a step that moves nothing.
    pub(super) fn standing(&self) -> StepProgress {
        StepProgress {
            from: self.cursor,
            cursor: self.cursor,
            ..StepProgress::default()
        }
    }

    fn opened(&mut self, left: Option<FetchedBatch>, now: Duration) -> Option<StepProgress> {
        let progress = self.go_on(left, now);
        // A parked record that is due may be what failed; its attempt shows whether the sink takes it now.
        if self.parked.due().is_none_or(|due| due > now) {
            self.recovered_at_rest();
        }
        progress
    }

    /// Starts the next delivery: parked records that are due, or the next records of the batch. Skips records that need
    /// no delivery.
    pub(super) fn go_on(&mut self, left: Option<FetchedBatch>, now: Duration) -> Option<StepProgress> {
        let mut left = left.filter(|batch| batch.through > self.handled);
        self.merged_through = left
            .as_ref()
            .filter(|batch| !batch.parts.is_empty())
            .map(|batch| batch.through);
        let mut moved: Option<StepProgress> = None;
        loop {
            if self.turn == NextRecords::Parked && self.parked.due().is_some_and(|due| due <= now) {
                self.recall(left, now);
                return moved;
            }
            let Some(batch) = left else {
                self.state = self.at_rest();
                return moved;
            };
            let attempt = self.cut(&batch);
            if !attempt.delivery.records.is_empty() {
                self.has_room();
                let left = Some(batch);
                self.state = MachineState::Delivering { left, attempt };
                return moved;
            }
            let Some(through) = attempt.through.filter(|through| *through > self.handled) else {
                self.wait_for_room(batch, now);
                return moved;
            };
            let progress = moved.get_or_insert_with(|| self.standing());
            progress
                .changes
                .extend(self.set_held_aside(attempt.held, through));
            self.reach(through);
            progress.cursor = self.cursor;
            left = Some(batch.after(through)).filter(|batch| batch.through > through);
        }
    }

    pub(super) fn recall(&mut self, left: Option<FetchedBatch>, now: Duration) {
        let one_of_a_path = self.rejects.rejected_path == RejectedPath::Block;
        let seqs = self.parked.take_due(now, one_of_a_path).into();
        self.state = MachineState::FetchingRetries { left, seqs };
    }

    fn recalled(
        &mut self,
        left: Option<FetchedBatch>,
        seqs: &[Seq],
        records: Vec<Arc<Record>>,
        now: Duration,
    ) -> Option<StepProgress> {
        let lost = self.release_lost(seqs, &records);
        if records.is_empty() {
            let more = self.go_on(left, now);
            self.recovered_at_rest();
            return StepProgress::joined(lost, more);
        }
        self.state = MachineState::Delivering {
            left,
            attempt: Attempt::again(records),
        };
        lost
    }

    fn delivered(
        &mut self,
        left: Option<FetchedBatch>,
        attempt: Attempt,
        result: Result<(), DeliverError>,
        now: Duration,
    ) -> Option<StepProgress> {
        let records = &attempt.delivery.records;
        let outcome = match result {
            Ok(()) => CheckedOutcome::all(records.len()),
            Err(error) => CheckedOutcome::checked(error, records),
        };
        let has_failed = outcome.error.is_some() || !outcome.deferred.is_empty();
        let outcome = self.judged(outcome, &attempt, left.as_ref());
        let (progress, halt) = match attempt.through {
            Some(_) => {
                self.turn = NextRecords::Parked;
                self.account(&attempt, &outcome, now)
            }
            None => {
                self.turn = NextRecords::Fresh;
                self.account_again(&attempt, &outcome, now)
            }
        };
        let took_one = progress.as_ref().is_some_and(|progress| progress.delivered > 0);
        if took_one {
            self.probe.took();
        }
        let left = left.map(|batch| batch.after(self.handled));
        if let Some(message) = halt {
            self.halt(SinkFailureKind::Rejected, (message, ON_REJECT_HALT), left);
            return progress;
        }
        if self.letters.is_over_limit() {
            self.halt(SinkFailureKind::TooManyLetters, too_many_letters(), left);
            return progress;
        }
        match outcome.error {
            None => {
                // A failed attempt of parked records proves nothing about the fresh ones that wait for the sink.
                let is_proof = took_one || !has_failed || attempt.through.is_some();
                if is_proof {
                    self.recovered();
                }
                // The held records at the front of the rest move the cursor in the same step.
                let more = self.go_on(left, now);
                if !is_proof {
                    self.recovered_at_rest();
                }
                StepProgress::joined(progress, more)
            }
            Some(error) => {
                if outcome.done > outcome.deferred.len() {
                    self.backoff.succeeded();
                }
                self.sink_failed(error, outcome.extent, left, now);
                progress
            }
        }
    }

    /// The state without a fetched batch: a run has precedence over fresh records.
    fn at_rest(&self) -> MachineState {
        match self.run.next_delivery() {
            _ if !self.run.is_there() => MachineState::Idle,
            None => MachineState::FetchingSnapshot,
            Some(delivery) => MachineState::DeliveringSnapshot(delivery),
        }
    }

    pub(super) fn halts_on_reject(&self) -> bool {
        self.rejects.on_reject == OnReject::Halt
    }
}

impl AfterWait {
    pub(super) fn left(self) -> Option<FetchedBatch> {
        match self {
            AfterWait::Open { left } | AfterWait::GoOn { left } => left,
        }
    }
}
