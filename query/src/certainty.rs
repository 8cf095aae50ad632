//! How certain an answer is, and what it leaves open.

use std::borrow::Cow;
use std::fmt;

use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{GapReason, Op, Record, Timestamp};
use bridge_core::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// How certain an answer is, from the best to the worst. The certainty of an answer is the worst of its doubts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Nothing is open.
    Exact,
    /// The value was overwritten at a known zxid before it could be read.
    Superseded,
    /// A known number of values in between is not known.
    Missed,
    /// A delete happened at some zxid up to a known one.
    Bounded,
    /// The watch was down, or the znode may not be read, so the number of changes in between is not known.
    Gap,
    /// The value was never read, or the source keeps no data.
    Unread,
    /// The value is masked.
    Masked,
    /// Only the beginning of the value is kept (`max_data`).
    Cut,
    /// The journal keeps no record that old: retention removed it, or the journal began later.
    Removed,
    /// The moment lies past what the journal knows.
    Beyond,
}

/// Names a record in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef {
    /// Its operation.
    pub op: Op,
    /// Its position.
    pub seq: Seq,
}

impl From<&Record> for RecordRef {
    fn from(record: &Record) -> RecordRef {
        RecordRef {
            op: record.op,
            seq: record.seq,
        }
    }
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (seq {})", self.op.as_str(), self.seq)
    }
}

/// One thing that an answer leaves open. Displays as a sentence, and is serialized as that sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Retention removed older records.
    Removed,
    /// The list ends with the begin of the journal, and the time before it is in a file of its own.
    OlderHistory,
    /// The journal has no record of the znode.
    NoRecord,
    /// The time before the journal is known up to a zxid only, and the journal begins later.
    NotJoined {
        /// The last zxid of the time before.
        until: Zxid,
        /// The zxid with which the kept records of the journal begin.
        from: Zxid,
    },
    /// The first record is the create; what was before the journal began is not known.
    BeforeFirst(RecordRef),
    /// The first kept record is later than the moment.
    FirstKept(RecordRef),
    /// The znode existed from `born` on; its first known value is that of `first`.
    FirstValue {
        /// The zxid of its create.
        born: Zxid,
        /// The record with the first value that is kept.
        first: RecordRef,
    },
    /// The znode was created again at `born`; its first value that was read is that of `first`.
    Recreated {
        /// The zxid of the create.
        born: Zxid,
        /// The record with the first value.
        first: RecordRef,
    },
    /// A delete happened at some moment up to a bound.
    DeletedUpTo {
        /// The bound.
        bound: Bound,
        /// The record of the delete.
        delete: RecordRef,
    },
    /// The value written at this zxid was overwritten before it could be read.
    Overwritten(Zxid),
    /// Values before `next` could not be read.
    Missed {
        /// How many.
        values: u64,
        /// The record after them.
        next: RecordRef,
    },
    /// The number of values before this record is not known.
    MissedUnknown(RecordRef),
    /// This number of records was merged into the next one when the journal was full.
    Compacted(u64),
    /// The record has no value.
    Unread(RecordRef),
    /// The journal keeps the Stat and no value.
    NoValue,
    /// The caller may not see the value.
    Masked,
    /// Only the beginning of the value is kept.
    Cut,
    /// The journal knows everything up to this zxid, and the moment is later.
    NotReported(Zxid),
    /// There is no record `seq` yet.
    PastTail {
        /// The record that was asked for.
        seq: Seq,
        /// The last record.
        tail: Seq,
    },
    /// The moment is in the future.
    Future(Timestamp),
    /// No bridge captures, and the moment is after the last record.
    NotWatched(Timestamp),
    /// Capture is not known to have been live since this moment.
    NotLive(Timestamp),
    /// The watch of a root was down.
    InGap {
        /// The root.
        root: ZnodePath,
        /// The `gap_begin`.
        begin: Seq,
        /// Everything up to it is known.
        from_zxid: Zxid,
        /// Why.
        reason: GapReason,
    },
    /// The znode, or one above it, may not be read, or could not be at the moment: changes of it have no event.
    Unreadable(UnreadableZnode),
    /// The same of this number of further znodes.
    MoreUnreadable(u64),
    /// An earlier version has written the records up to this one, and has not noted which znodes could not be read.
    UnreadableUnknown(Seq),
    /// The first listing of a root is not complete.
    NotListed(ZnodePath),
    /// The first listing of a root was complete after the moment only.
    BeforeListing {
        /// The root.
        root: ZnodePath,
        /// The record with which its kept history begins.
        seq: Seq,
        /// When that was.
        at: Timestamp,
        /// Whether a backfill has made the history from before.
        is_backfilled: bool,
    },
    /// The kept records begin after the begin of the range.
    KnownSince {
        /// The first kept record.
        seq: Seq,
        /// When it counts.
        at: Timestamp,
        /// Whether a backfill has made the history from before.
        is_backfilled: bool,
    },
    /// The gaps of a root are too many to be read, or the format of the journal has no index of them.
    GapsUnread(ZnodePath),
    /// The journal has no record of anything.
    EmptyJournal,
}

/// A znode that may not be read, as a doubt names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableZnode {
    /// The znode, or the root below which there are too many to be named.
    pub path: ZnodePath,
    /// Which znodes.
    pub extent: UnreadableExtent,
    /// Its state is surely known up to here.
    pub since: HistoryPoint,
    /// When it was read again; `None` while it may not be read.
    pub until: Option<HistoryPoint>,
}

impl From<&UnreadableSpan> for UnreadableZnode {
    fn from(span: &UnreadableSpan) -> UnreadableZnode {
        UnreadableZnode {
            path: span.path.clone(),
            extent: span.extent,
            since: span.since,
            until: span.until,
        }
    }
}

impl fmt::Display for UnreadableZnode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnreadableZnode { path, extent, .. } = self;
        match (extent, self.until) {
            (UnreadableExtent::Znode, None) => write!(f, "the bridge may not read {path}")?,
            (UnreadableExtent::Znode, Some(_)) => write!(f, "the bridge could not read {path}")?,
            (UnreadableExtent::Unnamed, None) => {
                write!(
                    f,
                    "the bridge may not read znodes of {path} that are too many to be named"
                )?;
            }
            (UnreadableExtent::Unnamed, Some(_)) => {
                write!(
                    f,
                    "the bridge could not read znodes of {path} that were too many to be named"
                )?;
            }
        }
        match self.since {
            since if since == HistoryPoint::default() => f.write_str(", and has never read it")?,
            since => write!(f, " since some moment after {}", PointWords(since))?,
        }
        if let Some(until) = self.until {
            write!(f, ", until {}", PointWords(until))?;
        }
        f.write_str(": changes of it and of what is below it have no record")
    }
}

/// A place in the history for a sentence: the parts of it that are known.
struct PointWords(HistoryPoint);

impl fmt::Display for PointWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HistoryPoint { seq, zxid, time } = self.0;
        match time {
            Timestamp(0) => write!(f, "seq {seq} ({zxid})"),
            time => write!(f, "{time} (seq {seq}, {zxid})"),
        }
    }
}

/// The latest moment at which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// At or before this zxid.
    Zxid(Zxid),
    /// At or before this time.
    Time(Timestamp),
    /// Nothing is known.
    Unknown,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Zxid(zxid) => zxid.fmt(f),
            Bound::Time(time) => time.fmt(f),
            Bound::Unknown => f.write_str("an unknown zxid"),
        }
    }
}

impl Doubt {
    /// The certainty of an answer with this doubt alone.
    pub fn certainty(&self) -> Certainty {
        match self {
            Doubt::Overwritten(_) => Certainty::Superseded,
            Doubt::Missed { .. } | Doubt::Compacted(_) => Certainty::Missed,
            Doubt::DeletedUpTo { .. } => Certainty::Bounded,
            Doubt::MissedUnknown(_)
            | Doubt::InGap { .. }
            | Doubt::GapsUnread(_)
            | Doubt::Unreadable(_)
            | Doubt::MoreUnreadable(_)
            | Doubt::UnreadableUnknown(_) => Certainty::Gap,
            Doubt::Unread(_) | Doubt::NoValue | Doubt::FirstValue { .. } | Doubt::Recreated { .. } => {
                Certainty::Unread
            }
            Doubt::Masked => Certainty::Masked,
            Doubt::Cut => Certainty::Cut,
            Doubt::Removed
            | Doubt::OlderHistory
            | Doubt::NoRecord
            | Doubt::NotJoined { .. }
            | Doubt::BeforeFirst(_)
            | Doubt::FirstKept(_)
            | Doubt::NotListed(_)
            | Doubt::BeforeListing { .. }
            | Doubt::KnownSince { .. }
            | Doubt::EmptyJournal => Certainty::Removed,
            Doubt::NotReported(_)
            | Doubt::PastTail { .. }
            | Doubt::Future(_)
            | Doubt::NotWatched(_)
            | Doubt::NotLive(_) => Certainty::Beyond,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Removed => f.write_str("retention has removed older records"),
            Doubt::OlderHistory => f.write_str(
                "the history from before the journal is in a list of its own: 'zkbridge changes --past', or past=1",
            ),
            Doubt::NotJoined { until, from } => write!(
                f,
                "no file has the changes between {until}, the end of the backfilled history, and {from}, with which the \
                 journal begins: run 'zkbridge backfill' again"
            ),
            Doubt::NoRecord => f.write_str("the journal has no record of it"),
            Doubt::BeforeFirst(first) => write!(
                f,
                "its first record is {first}; what was before the journal began is not known"
            ),
            Doubt::FirstKept(first) => write!(f, "the first record that is kept is {first}"),
            Doubt::FirstValue { born, first } => write!(
                f,
                "it was created at {born}; the first value that is kept is that of {first}"
            ),
            Doubt::Recreated { born, first } => write!(
                f,
                "it was created again at {born}; the first value that was read is that of {first}"
            ),
            Doubt::DeletedUpTo { bound, delete } => write!(
                f,
                "it was deleted at some time up to {bound}, found as {delete}: perhaps before"
            ),
            Doubt::Overwritten(zxid) => {
                write!(
                    f,
                    "it was written at {zxid} and overwritten before it could be read"
                )
            }
            Doubt::Missed { values: 1, next } => {
                write!(
                    f,
                    "a value between this and {next} could not be read: it may have been that one"
                )
            }
            Doubt::Missed { values, next } => write!(
                f,
                "{values} values between this and {next} could not be read: it may have been one of them"
            ),
            Doubt::MissedUnknown(next) => {
                write!(f, "the number of values between this and {next} is not known")
            }
            Doubt::Compacted(1) => f.write_str(
                "a record was merged into the next one because the journal was full: its value is lost",
            ),
            Doubt::Compacted(records) => write!(
                f,
                "{records} records were merged into the next one because the journal was full: their values are lost"
            ),
            Doubt::Unread(record) => write!(
                f,
                "{record} has no value: it was never read, or the source keeps no data"
            ),
            Doubt::NoValue => f.write_str(
                "the journal keeps no value of it: it was never read, or the source keeps no data",
            ),
            Doubt::Masked => f.write_str("the value is masked"),
            Doubt::Cut => f.write_str("only the beginning of the value is kept (max_data)"),
            Doubt::NotReported(reported) => write!(
                f,
                "the journal is complete up to {reported}; later changes are not known yet"
            ),
            Doubt::PastTail { seq, tail } => write!(
                f,
                "the last record of the journal is {tail}: there is no record {seq} yet"
            ),
            Doubt::Future(time) => write!(f, "{time} is still to come"),
            Doubt::NotWatched(until) => write!(
                f,
                "no bridge captures now, and what was captured ends at {until}: later changes are not known"
            ),
            Doubt::NotLive(until) => write!(
                f,
                "the bridge captures nothing since {until}, or is late: later changes are not known yet; see 'zkbridge \
                 status'"
            ),
            Doubt::InGap {
                root,
                begin,
                from_zxid,
                reason,
            } => write!(
                f,
                "it is inside a gap of {root} (seq {begin}, {}): changes after {from_zxid} may be missing",
                reason.phrase()
            ),
            Doubt::GapsUnread(root) => write!(
                f,
                "the journal has more gaps of {root} than are looked at, or no index of them: this may be inside one"
            ),
            Doubt::Unreadable(znode) => znode.fmt(f),
            Doubt::MoreUnreadable(1) => {
                f.write_str("the bridge may not read one more znode, or could not: 'zkbridge gaps' lists it")
            }
            Doubt::MoreUnreadable(more) => write!(
                f,
                "the bridge may not read {more} more znodes, or could not: 'zkbridge gaps' lists them"
            ),
            Doubt::UnreadableUnknown(until) => write!(
                f,
                "an earlier version wrote the records up to {until} and did not note which znodes it could not read: such a \
                 znode is answered there with the last value that was read"
            ),
            Doubt::EmptyJournal => f.write_str("the journal has no record yet"),
            Doubt::NotListed(root) => write!(
                f,
                "the first listing of {root} is not complete: znodes without a record may have existed"
            ),
            Doubt::BeforeListing {
                root,
                seq,
                at,
                is_backfilled,
            } => {
                write!(
                    f,
                    "the journal knows the whole of {root} since {at} (seq {seq}): znodes without a record may have existed \
                     before"
                )?;
                backfill_hint(*is_backfilled, f)
            }
            Doubt::KnownSince {
                seq,
                at,
                is_backfilled,
            } => {
                write!(
                    f,
                    "the journal has records since {at} (seq {seq}) and knows nothing of the time before"
                )?;
                backfill_hint(*is_backfilled, f)
            }
        }
    }
}

/// Who has an earlier history needs no hint to make it.
fn backfill_hint(is_backfilled: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match is_backfilled {
        true => Ok(()),
        false => f.write_str("; 'zkbridge backfill' makes earlier history from transaction logs"),
    }
}

impl Serialize for Doubt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Doubt {
    fn schema_name() -> Cow<'static, str> {
        "Doubt".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "One thing that the answer leaves open, as a sentence for people.",
        })
    }
}
