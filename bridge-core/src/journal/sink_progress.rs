//! What the delivery workers tell the journal. Notes travel over a bounded channel to the one writer, which stores
//! them in its next transaction: a reader never writes.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::sink_snapshot::SinkRun;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Timestamp;

/// News from the worker of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkProgress {
    /// The sink's name.
    pub sink: Arc<str>,
    /// When it was written.
    pub at: Timestamp,
    /// Everything up to it is durable at the destination, filtered out, or set aside. Never goes back.
    pub cursor: Seq,
    /// What became of records that are set aside, in the order in which it happened; all at or before `cursor`.
    pub asides: Vec<Aside>,
    /// Whether the sink was switched off or on.
    pub switch: Option<Switch>,
    /// How far the run that is made for this sink has come.
    pub run: Option<RunStep>,
}

/// A step of a run that is made for one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStep {
    /// It has come to this place.
    At(Box<SinkRun>),
    /// All of the run of this id is delivered.
    Told(Uuid),
}

/// A step in the life of a record that a sink sets aside while its cursor goes on.
///
/// ```text
///            ┌────────── Parked ──────────┐
///            ▼                            │ again
/// fresh ─▶ parked ── Released ─▶ delivered
///   │        │ ▲
/// Rejected   │ │ Retried
///   │        ▼ │
///   └───▶ dead letter ── Dropped ─▶ gone
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The destination will never accept it: it becomes a dead letter.
    Rejected {
        /// Which.
        seq: Seq,
        /// Its path; `None` for a control record.
        path: Option<ZnodePath>,
        /// The destination's reason.
        reason: String,
    },
    /// It is parked, or stays so after another attempt.
    Parked {
        /// Which.
        seq: Seq,
        /// Its path; `None` for a control record.
        path: Option<ZnodePath>,
        /// Why.
        reason: String,
        /// Attempts in a row that failed; 0 for a record that only waits for another.
        attempts: u32,
        /// How long until the next one.
        wait: Duration,
    },
    /// A parked record is durable at the destination.
    Released(Seq),
    /// A dead letter is parked, to be tried at once.
    Retried(Seq),
    /// A dead letter goes for good.
    Dropped(Seq),
    /// A record that was dealt with is parked, to be delivered once more, if the journal still has it.
    Replayed {
        /// Which.
        seq: Seq,
        /// Its path; `None` for a control record.
        path: Option<ZnodePath>,
    },
}

/// Whether a sink may deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Not before an operator has enabled it.
    Disabled {
        /// Why.
        reason: String,
    },
    /// An operator has enabled it.
    Enabled,
}

impl Aside {
    /// The record.
    pub fn seq(&self) -> Seq {
        match self {
            Aside::Rejected { seq, .. }
            | Aside::Parked { seq, .. }
            | Aside::Replayed { seq, .. }
            | Aside::Released(seq)
            | Aside::Retried(seq)
            | Aside::Dropped(seq) => *seq,
        }
    }
}

impl SinkProgress {
    /// Takes in a later note of the same sink, so that both are stored as one.
    pub fn absorb(&mut self, later: SinkProgress) {
        self.at = self.at.max(later.at);
        self.cursor = self.cursor.max(later.cursor);
        self.asides.extend(later.asides);
        self.switch = later.switch.or(self.switch.take());
        self.run = later.run.or(self.run.take());
    }
}
