//! What goes into the machine and what comes out: plain values.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::blocked::Blocked;
use super::options::{RejectPolicy, Retry};
use crate::journal::JournalError;
use crate::number::Seq;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, Rejected, SinkError};

/// What a machine needs to know of its sink.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The position behind which delivery begins.
    pub cursor: Seq,
    /// How failures are tried again.
    pub retry: Retry,
    /// What becomes of rejected records.
    pub rejects: RejectPolicy,
    /// Paths with dead letters in the journal, for `rejected_path = "block"`.
    pub blocked: Blocked,
    /// Of the jitter.
    pub seed: u64,
}

/// Records read from the journal and filtered, with the position that they reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What passed the filter, ascending by `seq`; may be empty.
    pub records: Vec<Arc<Record>>,
    /// The last record read, whether it passed or not.
    pub through: Seq,
}

/// What the driver reports to the machine.
#[derive(Debug)]
pub enum Input {
    /// The sink's `open` ended.
    Opened(Result<(), SinkError>),
    /// The journal gave the next records behind the last batch, or failed to.
    Fetched(Result<Batch, JournalError>),
    /// The sink's `deliver` ended.
    Delivered(Result<(), DeliverError>),
    /// The wait is over.
    Waited,
}

/// What the driver has to do next; its end is the next [`Input`].
#[derive(Clone, Debug)]
pub enum Task {
    /// Call `open`.
    Open,
    /// Get the next batch.
    Fetch,
    /// Call `deliver`.
    Deliver(Arc<Delivery>),
    /// Wait so long.
    Wait(Duration),
    /// Nothing, until the shutdown.
    Rest,
}

/// How far a step brought the sink. It belongs in the journal before the next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The new cursor.
    pub cursor: Seq,
    /// New dead letters, ascending, all at or before the cursor.
    pub rejected: Vec<Rejected>,
    /// Records that became durable at the destination.
    pub delivered: u64,
    /// Bytes of znode data (`after`) in them.
    pub delivered_bytes: u64,
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
    /// Waiting for the next attempt.
    BackingOff,
    /// Stopped until the next start; see the trouble.
    Halted,
    /// Ended by a shutdown.
    Closed,
}

impl Batch {
    /// What of it lies behind a position.
    pub(super) fn behind(mut self, cursor: Seq) -> Batch {
        let first = self.records.partition_point(|record| record.seq <= cursor);
        self.records.drain(..first);
        self
    }
}

impl Progress {
    /// Two steps taken at once.
    pub(super) fn joined(first: Option<Progress>, second: Option<Progress>) -> Option<Progress> {
        match (first, second) {
            (Some(mut first), Some(second)) => {
                first.cursor = second.cursor;
                first.rejected.extend(second.rejected);
                first.delivered += second.delivered;
                first.delivered_bytes += second.delivered_bytes;
                Some(first)
            }
            (first, second) => first.or(second),
        }
    }
}
