//! What goes into the machine and what comes out: plain values.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::merge::bytes_of;
use super::options::{RejectPolicy, Retry};
use super::sink_backlog::SinkBacklog;
use crate::journal::{BacklogChange, JournalError, RunPage, RunStep, SinkProgress, SinkRun, Switch};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Record, Timestamp};
use crate::sink::{DeliverError, Delivery, Rejected, SinkError};

/// What a machine needs to know of its sink.
#[derive(Clone, Debug, Default)]
pub struct MachineConfig {
    /// The position behind which delivery begins.
    pub cursor: Seq,
    /// How failures are tried again.
    pub retry: Retry,
    /// What becomes of rejected records.
    pub rejects: RejectPolicy,
    /// What the sink set aside before.
    pub backlog: SinkBacklog,
    /// Of the jitter.
    pub seed: u64,
}

/// For each merged record all that it stands for, ascending, itself last.
pub type Parts = Arc<HashMap<Seq, Vec<Seq>>>;

/// Records read from the journal and filtered, with the position that they reach.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedBatch {
    /// What passed the filter, ascending by `seq`; may be empty.
    pub records: Vec<Arc<Record>>,
    /// The last record read, whether it passed or not.
    pub through: Seq,
    /// Of those that were merged. Such a batch moves the cursor as a whole: behind one of its records stand others that
    /// went into a later one.
    pub parts: Parts,
}

/// What the driver reports to the machine.
#[derive(Debug)]
pub enum WorkerInput {
    /// The sink's `open` ended.
    Opened(Result<(), SinkError>),
    /// The journal gave the next records behind the last batch, or failed to.
    Fetched(Result<FetchedBatch, JournalError>),
    /// The sink's `deliver` ended.
    Delivered(Result<(), DeliverError>),
    /// The wait is over.
    Waited,
    /// During a wait, where [`Machine::wants_more`](super::Machine::wants_more): the next batch of the journal. The wait
    /// goes on, and may be shorter.
    More(FetchedBatch),
    /// Instead of `Fetched`: the moment of [`Machine::due`](super::Machine::due) has come and the journal has nothing
    /// ready.
    Due,
    /// The journal gave the parked records that were asked for, as far as it has them, or failed to.
    RetriesFetched(Result<Vec<Arc<Record>>, JournalError>),
    /// The journal gave the next page of the run, filtered, or failed to.
    SnapshotFetched(Result<RunPage, JournalError>),
}

/// An operator's request to a sink. The machine takes it between two tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRequest {
    /// Deliver again, whatever halted the sink.
    Enable,
    /// Try these dead letters again.
    Retry(Vec<Seq>),
    /// Let these dead letters go for good.
    Drop(Vec<Seq>),
    /// Send the present state again, instead of what is left of an earlier such order.
    Snapshot(Box<SinkRun>),
    /// Deliver these records once more, each with its path, as far as they were dealt with before and there is room for
    /// parked records. Dead letters among them are left to [`OperatorRequest::Retry`].
    Replay(Vec<(Seq, Option<ZnodePath>)>),
}

/// What the driver has to do next; its end is the next [`WorkerInput`].
#[derive(Clone, Debug)]
pub enum Task {
    /// Call `open`.
    Open,
    /// Get the next batch; [`WorkerInput::Due`] instead when its moment comes first.
    Fetch,
    /// Get these parked records.
    FetchRetries(Arc<[Seq]>),
    /// Get the next page of this run.
    FetchSnapshot(Box<SinkRun>),
    /// Call `deliver`.
    Deliver(Arc<Delivery>),
    /// Wait so long.
    Wait(Duration),
    /// Nothing, until the shutdown.
    Rest,
}

/// How far a step brought the sink. It belongs in the journal before the next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepProgress {
    /// The cursor before the step.
    pub from: Seq,
    /// The new cursor.
    pub cursor: Seq,
    /// What became of records that are set aside, all at or before the cursor.
    pub changes: Vec<BacklogChange>,
    /// Records that became durable at the destination.
    pub delivered: u64,
    /// Records that went into them and were not delivered themselves.
    pub merged: u64,
    /// Bytes of znode data (`after`) in them.
    pub delivered_bytes: u64,
    /// When those were captured that were delivered for the first time; neighbours of one moment stand for one.
    pub captured: Vec<Timestamp>,
    /// Whether the sink was switched off or on.
    pub switch: Option<Switch>,
    /// How far the run has come.
    pub run: Option<RunStep>,
    /// Records of the run that the destination will never accept. They are no dead letters: what they restate stands in
    /// the journal, and can be ordered again.
    pub not_restated: Vec<Rejected>,
}

/// The words for a machine's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Proving the destination.
    Opening,
    /// Everything in the journal is delivered.
    Idle,
    /// Records are under way.
    Delivering,
    /// QueuedRetry for the next attempt.
    BackingOff,
    /// Stopped until the next start or an operator's word; see the trouble.
    Halted,
    /// Ended by a shutdown.
    Closed,
}

impl FetchedBatch {
    /// The same with the next one of the journal.
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

    /// What of it lies behind a position.
    pub(super) fn behind(mut self, cursor: Seq) -> FetchedBatch {
        let first = self.records.partition_point(|record| record.seq <= cursor);
        self.records.drain(..first);
        self
    }
}

impl StepProgress {
    /// What the journal is told of it.
    pub fn note(self, sink: Arc<str>, at: Timestamp) -> SinkProgress {
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

    /// Two steps taken at once.
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
