//! The progress that delivery workers report to the journal. It reaches the one writer over a bounded channel, and is
//! stored in its next transaction: a reader never writes.
//!
//! Progress names the range of records that it covers, so that none can be lost between two reports: it is stored only
//! if it starts where the previous one ended. [`SeqRange::after`] checks this, for every journal and when two reports
//! are joined.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::error::JournalError;
use super::sink_snapshot::SinkRun;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Timestamp;

/// The progress of the worker of a sink: a range of records that it has dealt with, and what became of them.
///
/// A dead letter that is retried or dropped, a record that is replayed and a snapshot for one sink move no cursor: their
/// progress has an empty range at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkProgress {
    /// The sink's name.
    pub sink: Arc<str>,
    /// When it was written.
    pub at: Timestamp,
    /// The cursor before it: the first record that it covers is the next one.
    pub from: Seq,
    /// The last record that it covers. All of them are durable at the destination, filtered out, parked or dead
    /// letters.
    pub to: Seq,
    /// The changes of dead letters and parked records, in their order; all at or before `to`.
    pub changes: Vec<BacklogChange>,
    /// Whether the sink was switched off or on.
    pub switch: Option<Switch>,
    /// The progress of the run that is made for this sink.
    pub run: Option<RunStep>,
}

/// A step of a run that is made for one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStep {
    /// It has come to this place.
    At(Box<SinkRun>),
    /// All of the run of this id is delivered.
    Delivered(Uuid),
}

/// A step of a record that a sink sets aside while its cursor goes on.
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
pub enum BacklogChange {
    /// The destination will never accept it: it becomes a dead letter.
    Rejected {
        /// Which.
        seq: Seq,
        /// Its path; `None` for a control record.
        path: Option<ZnodePath>,
        /// The destination's reason.
        reason: String,
        /// How often it was tried, this time included; 0 for a record that only waits for another. The attempts of its
        /// time in the retry queue may be among them.
        attempts: u32,
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

impl BacklogChange {
    /// The record.
    pub fn seq(&self) -> Seq {
        match self {
            BacklogChange::Rejected { seq, .. }
            | BacklogChange::Parked { seq, .. }
            | BacklogChange::Replayed { seq, .. }
            | BacklogChange::Released(seq)
            | BacklogChange::Retried(seq)
            | BacklogChange::Dropped(seq) => *seq,
        }
    }
}

impl SinkProgress {
    /// The records that it covers.
    pub fn range(&self) -> SeqRange {
        SeqRange {
            from: self.from,
            to: self.to,
        }
    }

    /// The cursor of the sink once this is stored, if it is at `cursor` now and the last record is `tail`. Every journal
    /// calls it before it writes anything.
    ///
    /// # Errors
    ///
    /// If its range does not start at `cursor` (see [`SeqRange::after`]) or ends after `tail`, or if it sets a record after
    /// its range aside.
    pub fn applied_at(&self, cursor: Seq, tail: Seq) -> Result<Seq, RefusedProgress> {
        let range = self.range();
        let after = range.after(cursor).and_then(|after| {
            if range.to > tail {
                return Err(RangeMismatch::PastTail);
            }
            match self.changes.iter().any(|change| change.seq() > range.to) {
                true => Err(RangeMismatch::AsideAhead),
                false => Ok(after),
            }
        });
        after.map_err(|misfit| self.refused(cursor, misfit))
    }

    /// The refusal of this progress at a cursor.
    pub fn refused(&self, cursor: Seq, misfit: RangeMismatch) -> RefusedProgress {
        RefusedProgress {
            sink: Arc::clone(&self.sink),
            cursor,
            range: self.range(),
            misfit,
        }
    }

    /// Takes in a later progress of the same sink, so that both are stored as one: `(3, 5]` and `(5, 9]` become
    /// `(3, 9]`. The last durable record is `tail`.
    ///
    /// # Errors
    ///
    /// If the later one does not follow this one, see [`SinkProgress::applied_at`]. This one stays as it is.
    pub fn absorb(&mut self, later: SinkProgress, tail: Seq) -> Result<(), RefusedProgress> {
        self.to = later.applied_at(self.to, tail)?;
        self.at = self.at.max(later.at);
        self.changes.extend(later.changes);
        self.switch = later.switch.or(self.switch.take());
        self.run = later.run.or(self.run.take());
        Ok(())
    }
}

/// The records after `from` up to and including `to`, written `(from, to]`. Empty if both are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqRange {
    /// The last record before the range.
    pub from: Seq,
    /// The last record of the range.
    pub to: Seq,
}

impl SeqRange {
    /// The cursor after a range, where it is at `cursor` before it.
    ///
    /// ```text
    /// range (from, to]               example at cursor 5   result
    /// from = cursor < to             (5, 9]                adjacent: the cursor becomes `to`
    /// from = to <= cursor            (5, 5], (3, 3]        empty: the cursor stays
    /// from > cursor                  (7, 9], (7, 7]        refused, a hole: nobody dealt with 6 and 7
    /// from < cursor, to = cursor     (3, 5]                refused, a duplicate
    /// from < cursor < to             (3, 9]                refused, an overlap
    /// from < to < cursor             (2, 4]                refused, it goes back
    /// to < from                      (9, 7]                refused, it goes back
    /// ```
    ///
    /// An empty range after the cursor is a hole too: its worker believes that it has come further than the journal.
    ///
    /// # Errors
    ///
    /// If the range is refused.
    pub fn after(self, cursor: Seq) -> Result<Seq, RangeMismatch> {
        let SeqRange { from, to } = self;
        if to < from {
            return Err(RangeMismatch::GoesBack);
        }
        if from > cursor {
            return Err(RangeMismatch::Hole);
        }
        if from == to {
            return Ok(cursor);
        }
        if from == cursor {
            return Ok(to);
        }
        Err(match to.cmp(&cursor) {
            Ordering::Less => RangeMismatch::GoesBack,
            Ordering::Equal => RangeMismatch::Duplicate,
            Ordering::Greater => RangeMismatch::Overlap,
        })
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}]", self.from, self.to)
    }
}

/// Why a progress does not follow a cursor, see [`SeqRange::after`] and [`SinkProgress::applied_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeMismatch {
    /// It starts after the cursor.
    #[error("records between them are in no progress")]
    Hole,
    /// It ends at the cursor.
    #[error("all of it is stored already")]
    Duplicate,
    /// It starts before the cursor and ends after it.
    #[error("a part of it is stored already")]
    Overlap,
    /// It ends before the cursor or before its own start.
    #[error("it goes back")]
    GoesBack,
    /// It ends after the last record.
    #[error("it ends after the last record of the journal")]
    PastTail,
    /// A record after its end is set aside.
    #[error("it sets a record aside that it does not cover")]
    AsideAhead,
    /// There is no cursor.
    #[error("the journal does not know the sink")]
    UnknownSink,
}

/// The progress of a sink that does not follow its cursor. Nothing of it is stored, and the sink has to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}\nhelp: {}", self.cause(), Self::HELP)]
pub struct RefusedProgress {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The stored cursor, or the end of the progress that waits to be stored.
    pub cursor: Seq,
    /// The range that the progress covers.
    pub range: SeqRange,
    /// Why it is refused.
    pub misfit: RangeMismatch,
}

impl RefusedProgress {
    /// The remedy.
    pub const HELP: &'static str =
        "restart the bridge, and report this defect with the log; delivery resumes after the stored cursor";

    /// The error in one line, without the help.
    pub fn cause(&self) -> String {
        let RefusedProgress {
            sink,
            cursor,
            range,
            misfit,
        } = self;
        format!("the progress of sink '{sink}' does not follow its cursor {cursor}: {range}: {misfit}")
    }
}

/// Why the progress of a sink was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// It contradicts the stored cursor. The open batch continues without it.
    #[error(transparent)]
    Refused(#[from] RefusedProgress),
    /// The journal cannot be written, or its content is not valid.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
