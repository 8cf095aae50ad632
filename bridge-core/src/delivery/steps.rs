//! Inputs and outputs of the machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::merge::bytes_of;
use super::options::{RejectPolicy, Retry};
use super::replay::ReplayOrder;
use super::sink_backlog::SinkBacklog;
use crate::journal::{BacklogChange, JournalError, RunPage, RunStep, SinkProgress, SinkRun, Switch};
use crate::number::Seq;
use crate::record::{Record, Timestamp};
use crate::sink::{DeliverError, Delivery, Rejected, SinkError};

/// The configuration and the stored state of a machine.
#[derive(Clone, Debug, Default)]
pub struct MachineConfig {
    /// Delivery begins after this record.
    pub cursor: Seq,
    /// How failures are tried again.
    pub retry: Retry,
    /// The handling of rejected records.
    pub rejects: RejectPolicy,
    /// The stored parked records and dead letters.
    pub backlog: SinkBacklog,
    /// The seed of the jitter.
    pub seed: u64,
}

/// For each merged record the positions of its parts, ascending, itself last.
pub type Parts = Arc<HashMap<Seq, Vec<Seq>>>;

/// Records read from the journal and filtered, with the position that they reach.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedBatch {
    /// The records that passed the filter, ascending by `seq`; may be empty.
    pub records: Vec<Arc<Record>>,
    /// The last record read, whether it passed or not.
    pub through: Seq,
    /// The parts of merged records. Such a batch moves the cursor as a whole, because records after one of it may have
    /// been merged into a later one.
    pub parts: Parts,
}

/// A report of the driver to the machine.
#[derive(Debug)]
pub enum WorkerInput {
    /// The sink's `open` ended.
    Opened(Result<(), SinkError>),
    /// The read of the next records after the last batch ended.
    Fetched(Result<FetchedBatch, JournalError>),
    /// The sink's `deliver` ended.
    Delivered(Result<(), DeliverError>),
    /// The wait ended.
    Waited,
    /// During a wait, if [`Machine::wants_more`](super::Machine::wants_more): the next batch of the journal. The wait
    /// continues, and may be shorter.
    More(FetchedBatch),
    /// Instead of `Fetched`: the time of [`Machine::due`](super::Machine::due) was reached before the journal had a
    /// batch.
    Due,
    /// The read of the requested parked records ended. Those that the journal no longer has are left out.
    RetriesFetched(Result<Vec<Arc<Record>>, JournalError>),
    /// The read of the next page of the run, filtered, ended.
    SnapshotFetched(Result<RunPage, JournalError>),
}

/// A request of an operator to a sink. The machine handles it between two tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRequest {
    /// Deliver again after a halt.
    Enable,
    /// Try these dead letters again.
    Retry(Vec<Seq>),
    /// Drop these dead letters.
    Drop(Vec<Seq>),
    /// Send the present state again, instead of the rest of an earlier such request.
    Snapshot(Box<SinkRun>),
    /// Deliver these records once more.
    Replay(ReplayOrder),
}

/// The next task of the driver; it reports the end as the next [`WorkerInput`].
#[derive(Clone, Debug)]
pub enum Task {
    /// Call `open`.
    Open,
    /// Read the next batch; [`WorkerInput::Due`] instead if its time comes first.
    Fetch,
    /// Read these parked records.
    FetchRetries(Arc<[Seq]>),
    /// Read the next page of this run.
    FetchSnapshot(Box<SinkRun>),
    /// Call `deliver`.
    Deliver(Arc<Delivery>),
    /// Wait.
    Wait(Duration),
    /// Nothing, until the shutdown.
    Rest,
}

/// The progress of a step. It is stored in the journal before the next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepProgress {
    /// The cursor before the step.
    pub from: Seq,
    /// The new cursor.
    pub cursor: Seq,
    /// Changes of the parked records and dead letters, all at or before the cursor.
    pub changes: Vec<BacklogChange>,
    /// Records that became durable at the destination.
    pub delivered: u64,
    /// Records that went into them and were not delivered themselves.
    pub merged: u64,
    /// Bytes of znode data (`after`) in them.
    pub delivered_bytes: u64,
    /// The capture times of records delivered for the first time; consecutive equal times are listed once.
    pub captured: Vec<Timestamp>,
    /// Whether the sink was switched off or on.
    pub switch: Option<Switch>,
    /// The new position of the run.
    pub run: Option<RunStep>,
    /// Records of the run that the destination will never accept. They are no dead letters: the journal has their
    /// state, and a new run sends it again.
    pub not_restated: Vec<Rejected>,
}

/// The state of a machine, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Checking the destination.
    Opening,
    /// Everything in the journal is delivered.
    Idle,
    /// Records are being delivered.
    Delivering,
    /// Waiting for the next attempt.
    BackingOff,
    /// Stopped until the next start or until an operator enables the sink; see the failure.
    Halted,
    /// Ended by a shutdown.
    Closed,
}

impl Phase {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FetchedBatch {
    /// The batch joined with the next one of the journal.
    pub(super) fn joined(mut self, next: FetchedBatch) -> FetchedBatch {
        self.records.extend(next.records);
        self.through = next.through;
        if !next.parts.is_empty() {
            let mut parts = Arc::unwrap_or_clone(self.parts);
            parts.extend(next.parts.iter().map(|(seq, parts)| (*seq, parts.clone())));
            self.parts = Arc::new(parts);
        }
        self
    }

    /// Bytes of znode data in it, before and after the changes.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(|record| bytes_of(record)).sum()
    }

    /// The rest of the batch after a position.
    pub(super) fn after(mut self, cursor: Seq) -> FetchedBatch {
        let first = self.records.partition_point(|record| record.seq <= cursor);
        self.records.drain(..first);
        self
    }
}

impl StepProgress {
    /// The progress as the journal stores it.
    pub fn of_sink(self, sink: Arc<str>, at: Timestamp) -> SinkProgress {
        SinkProgress {
            sink,
            at,
            from: self.from,
            to: self.cursor,
            changes: self.changes,
            switch: self.switch,
            run: self.run,
        }
    }

    /// Two steps joined into one.
    ///
    /// # Panics
    ///
    /// If the second does not start where the first ended.
    pub(super) fn joined(first: Option<StepProgress>, second: Option<StepProgress>) -> Option<StepProgress> {
        match (first, second) {
            (Some(mut first), Some(second)) => {
                assert_eq!(
                    second.from, first.cursor,
                    "a step of a sink does not start where the step before it ended"
                );
                first.cursor = second.cursor;
                first.changes.extend(second.changes);
                first.switch = second.switch.or(first.switch);
                first.run = second.run.or(first.run);
                first.not_restated.extend(second.not_restated);
                first.delivered += second.delivered;
                first.delivered_bytes += second.delivered_bytes;
                first.merged += second.merged;
                first.captured.extend(second.captured);
                Some(first)
            }
            (first, second) => first.or(second),
        }
    }
}
