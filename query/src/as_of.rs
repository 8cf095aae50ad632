//! The value of a znode at a moment, as far as its records show it.
//!
//! ```text
//! newest ─── later ───┬─── last ─── oldest      records of the path, newest first
//!                     │
//!                  position
//! ```
//!
//! `last` is the newest record that is certainly at or before the position; `later` is the record after it. `later`
//! shows whether anything happened between the two, and so how certain `last` is.

use std::sync::Arc;

use bridge_core::journal::{Imaged, Position, RecordTime, Side};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Fidelity, Op, Record, Stat, Timestamp, ZxidKind};
use schemars::JsonSchema;
use serde::Serialize;

use crate::at_position::AtPosition;
use crate::certainty::{Bound, Certainty, Doubt, RecordRef};
use crate::coverage::{GapsAhead, LATE_MS};
use crate::error::QueryError;
use crate::journal::JournalQuery;

/// A znode at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AsOfValue {
    /// Whether it existed; null if that is not known.
    pub exists: Option<bool>,
    /// Its data; null if it did not exist, and if the data is not known.
    pub data: Option<Data>,
    /// The Stat of this version; null if the version is not known.
    pub stat: Option<Stat>,
    /// The record with this value; null if the value comes from the image or from the time before the journal, or there
    /// is none.
    pub seq: Option<Seq>,
    /// Whether nothing is open: the same as `certainty` = `exact`.
    pub certain: bool,
    /// The doubts, in sentences.
    pub doubts: Vec<Doubt>,
    /// The worst of the doubts.
    pub certainty: Certainty,
}

impl AsOfValue {
    /// Nothing is known yet, and nothing is open.
    fn unknown() -> AsOfValue {
        AsOfValue {
            exists: None,
            data: None,
            stat: None,
            seq: None,
            certain: true,
            doubts: Vec::new(),
            certainty: Certainty::Exact,
        }
    }

    /// A value from the time before the journal, whose records have numbers of their own.
    pub(crate) fn of_past(mut self, doubt: Option<Doubt>) -> AsOfValue {
        self.seq = None;
        if let Some(doubt) = doubt {
            self.doubt(doubt);
        }
        self
    }

    /// A path of which nothing is known, at or below a znode that may not be read.
    pub(crate) fn unreadable(doubt: Doubt) -> AsOfValue {
        let mut value = AsOfValue::unknown();
        value.doubt(doubt);
        value
    }

    /// A path that the image has and no kept record speaks of.
    pub(crate) fn without_record() -> AsOfValue {
        let mut value = AsOfValue::unknown();
        value.doubt(Doubt::NoRecord);
        value
    }

    /// Whether it did not exist, as far as records show it: certainly, or they leave it open and none shows that it may
    /// have existed.
    pub fn is_presumed_absent(&self) -> bool {
        let shows_it = |doubt: &Doubt| matches!(doubt, Doubt::DeletedUpTo { .. } | Doubt::Removed);
        let leaves_open = |doubt: &Doubt| {
            matches!(
                doubt,
                Doubt::BeforeFirst(_) | Doubt::InGap { .. } | Doubt::GapsUnread(_) | Doubt::Unreadable(_)
            )
        };
        match self.exists {
            Some(exists) => !exists,
            None => {
                self.stat.is_none()
                    && self.doubts.iter().any(leaves_open)
                    && !self.doubts.iter().any(shows_it)
            }
        }
    }

    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        self.certainty = self.certainty.max(doubt.certainty());
        self.certain = false;
        self.doubts.push(doubt);
    }
}

impl JournalQuery {
    /// The value of a znode right after a zxid or a record, or at a time of ZooKeeper's clock. `None`: the journal knows
    /// nothing of the path. `now` decides which times are in the future.
    ///
    /// Reads the records of the path, the newest first, until the answer is known.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn as_of(
        &self,
        path: &ZnodePath,
        position: Position,
        now: Timestamp,
    ) -> Result<Option<AsOfValue>, QueryError> {
        self.must_be_visible(path)?;
        AtPosition::new(self, position, now)?.value_of(path)
    }
}

/// Takes the records of a path, the newest first, until the value is known.
#[derive(Clone, Debug)]
pub(crate) struct AsOfQuery {
    position: Position,
    later: Option<Arc<Record>>,
    /// The record with the value, once it is known.
    found: Option<RecordRef>,
    bounds: OtherBounds,
}

/// Bounds by other records for the time of a change that its own record does not know: of a delete that a watch saw,
/// and of what was found by comparing after a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtherBounds {
    /// The gaps after the position, if it is in none.
    pub(crate) ahead: Option<GapsAhead>,
    /// Where the position is a time in no gap, the last record that counts at it or before it: what was found by comparing
    /// was in a gap that ended before the position, or that begins after it.
    pub(crate) cut: Option<Seq>,
    /// A transaction that is certainly at the position or before it, near it.
    pub(crate) before: Option<Zxid>,
    /// A transaction that is certainly after the position, near it.
    pub(crate) after: Option<Zxid>,
}

impl OtherBounds {
    /// The side of a delete that is unclear by its own zxid or time.
    fn side_of(self, delete: &RecordTime) -> Side {
        if delete.fidelity == Fidelity::Reconciled {
            return match self.cut {
                _ if self.ahead.is_some_and(|gaps| gaps.hold(delete.seq)) => Side::After,
                Some(cut) if delete.seq <= cut => Side::Before,
                Some(_) => Side::After,
                None => Side::Unclear,
            };
        }
        let Some(zxid) = delete.zxid else {
            return Side::Unclear;
        };
        if delete.zxid_kind != ZxidKind::Exact {
            return Side::Unclear;
        }
        // One leader has one clock.
        let is_of_same_leader = |other: &Zxid| other.0 >> 32 == zxid.0 >> 32;
        let (before, after) = (self.before, self.after);
        match (before.filter(is_of_same_leader), after.filter(is_of_same_leader)) {
            (_, Some(after)) if zxid >= after => Side::After,
            (Some(before), _) if zxid <= before => Side::Before,
            _ => Side::Unclear,
        }
    }
}

impl AsOfQuery {
    /// Asks for the value at this position.
    pub(crate) fn new(position: Position) -> AsOfQuery {
        AsOfQuery {
            position,
            later: None,
            found: None,
            bounds: OtherBounds::default(),
        }
    }

    /// Takes the next older record; `Some` once the value is known. `reported`: the zxid up to which the journal is
    /// complete.
    pub(crate) fn take(&mut self, record: &Arc<Record>, reported: Option<Zxid>) -> Option<AsOfValue> {
        // An `acl` record has the data of the record before it, and the time of a read.
        if record.op == Op::Acl || record.op.is_control() {
            return None;
        }
        if self.side_of(record) == Side::Before {
            self.found = Some(RecordRef::from(&**record));
            return Some(self.value(record, reported));
        }
        self.later = Some(Arc::clone(record));
        None
    }

    /// Whether other records may show the side of a record.
    pub(crate) fn needs_bounds(&self, record: &RecordTime) -> bool {
        let is_helped = match self.position {
            Position::Seq(_) => false,
            Position::Zxid(_) => record.fidelity == Fidelity::Reconciled,
            Position::Time(_) => true,
        };
        is_helped && record.op == Op::Delete && self.own_side_of(record) == Side::Unclear
    }

    /// Whether other records may show more of the time of a record, or of the changes before it that have none.
    pub(crate) fn needs_bounds_before(&self, record: &Record) -> bool {
        let time = RecordTime::from(record);
        let is_found = record.fidelity == Fidelity::Reconciled && record.missed != Some(0);
        let is_open = is_found && !matches!(self.position, Position::Seq(_));
        self.needs_bounds(&time) || (is_open && self.own_side_of(&time) != Side::Before)
    }

    /// Takes what other records show.
    pub(crate) fn with_bounds(&mut self, bounds: OtherBounds) {
        self.bounds = bounds;
    }

    /// The position of the question.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The first record that is not certainly at or before the position.
    pub(crate) fn later(&self) -> Option<&Record> {
        self.later.as_deref()
    }

    /// The record with the value.
    pub(crate) fn found(&self) -> Option<RecordRef> {
        self.found
    }

    /// Whether no record is known after the position.
    pub(crate) fn is_last(&self) -> bool {
        self.later.is_none()
    }

    /// No older record is kept. `is_cut`: retention may have removed some. `is_complete`: all znodes that existed at the
    /// position have a record, or had one that was removed.
    pub(crate) fn end(self, is_cut: bool, is_complete: bool) -> AsOfValue {
        if let Some(before) = self.later.as_ref().and_then(|later| self.kept_before(later)) {
            return before;
        }
        let mut value = AsOfValue::unknown();
        if is_complete
            && self
                .later
                .as_ref()
                .is_some_and(|later| self.is_created_after(later))
        {
            value.exists = Some(false);
            return value;
        }
        if is_cut {
            value.doubt(Doubt::Removed);
        }
        let Some(later) = self.later.clone() else {
            value.doubt(Doubt::NoRecord);
            return value;
        };
        let first = RecordRef::from(&*later);
        match (later.op, self.position, czxid_of(&later)) {
            (Op::Create, _, _) if self.side_of(&later) == Side::After && !is_cut => {
                value.doubt(Doubt::BeforeFirst(first));
            }
            (_, Position::Zxid(at), Some(born)) if born <= at => {
                value.exists = Some(true);
                value.doubt(Doubt::FirstValue { born, first });
            }
            _ => value.doubt(Doubt::FirstKept(first)),
        }
        value
    }

    /// Whether a record is that of a create which is certainly after the position.
    fn is_created_after(&self, later: &Record) -> bool {
        let stat = later.after.as_ref().and_then(|state| state.stat);
        let is_born_after = stat.is_none_or(|stat| match self.position {
            Position::Zxid(at) => stat.czxid > at,
            Position::Time(at) => stat.ctime > at.0,
            Position::Seq(_) => true,
        });
        later.op == Op::Create && self.side_of(later) == Side::After && is_born_after
    }

    /// No record of the path is kept, and the image has it: it has not changed since the Stat of the image. `oldest`: the
    /// first record of the journal that is kept.
    pub(crate) fn unchanged(self, znode: Imaged, oldest: Seq) -> Option<AsOfValue> {
        let stat = znode.node.stat?;
        let is_since = match self.position {
            Position::Seq(seq) => seq.next() >= oldest,
            _ => self.is_at_or_after(&stat),
        };
        let mut value = AsOfValue::unknown();
        if !is_since {
            value.doubt(Doubt::Removed);
            return Some(value);
        }
        value.exists = Some(true);
        value.stat = Some(stat);
        match znode.data {
            Some(data) => {
                let is_cut = data.truncated;
                value.data = Some(data);
                if is_cut {
                    value.doubt(Doubt::Cut);
                }
            }
            None => value.doubt(Doubt::NoValue),
        }
        Some(value)
    }

    /// The first kept record has the state before it, and no version was missed in between: the value is that state, if
    /// the position is at or after its last write.
    fn kept_before(&self, later: &Record) -> Option<AsOfValue> {
        let state = later.before.as_ref()?;
        let stat = state.stat?;
        let is_next = later.missed == Some(0) && self.side_of(later) == Side::After;
        if !is_next || !self.is_at_or_after(&stat) {
            return None;
        }
        let mut value = AsOfValue::unknown();
        value.exists = Some(true);
        value.stat = Some(stat);
        value.data.clone_from(&state.data);
        match &value.data {
            None => value.doubt(Doubt::Unread(later.into())),
            Some(data) if data.truncated => value.doubt(Doubt::Cut),
            Some(_) => {}
        }
        Some(value)
    }

    /// Whether the position is at or after the last write of a version. Not known of a record's number.
    fn is_at_or_after(&self, stat: &Stat) -> bool {
        match self.position {
            Position::Zxid(at) => stat.mzxid <= at,
            Position::Time(at) => stat.mtime <= at.0,
            Position::Seq(_) => false,
        }
    }

    pub(crate) fn side_of(&self, record: &Record) -> Side {
        self.side_at(&RecordTime::from(record))
    }

    /// The side of a record of which only the time is read.
    pub(crate) fn side_at(&self, record: &RecordTime) -> Side {
        match self.own_side_of(record) {
            Side::Unclear if record.op == Op::Delete => self.bounds.side_of(record),
            side => side,
        }
    }

    /// The side of a record by its own zxid and time alone.
    fn own_side_of(&self, record: &RecordTime) -> Side {
        match self.position {
            Position::Seq(seq) => side(record.seq <= seq, true),
            Position::Zxid(at) => match (record.zxid, record.zxid_kind) {
                (Some(zxid), kind) => side(zxid <= at, kind == ZxidKind::Exact),
                (None, _) => Side::Unclear,
            },
            Position::Time(at) => match record.time.changed {
                Some(changed) => side(changed <= at, true),
                None => {
                    let captured = record.time.captured;
                    let is_long_after = at.0.saturating_add(LATE_MS) < captured.0;
                    side(
                        captured <= at,
                        is_long_after && record.fidelity == Fidelity::Exact,
                    )
                }
            },
        }
    }

    fn value(&self, last: &Record, reported: Option<Zxid>) -> AsOfValue {
        let mut value = AsOfValue::unknown();
        value.exists = Some(last.op != Op::Delete);
        value.seq = Some(last.seq);
        value.data = last.after.as_ref().and_then(|state| state.data.clone());
        value.stat = last.after.as_ref().and_then(|state| state.stat);
        match &self.later {
            Some(later) => self.doubt_between(last, later, &mut value),
            None => self.doubt_end(reported, &mut value),
        }
        let is_without_data = value.exists == Some(true) && value.data.is_none();
        if is_without_data && value.certain {
            value.doubt(Doubt::Unread(last.into()));
        }
        if value.data.as_ref().is_some_and(|data| data.truncated) {
            value.doubt(Doubt::Cut);
        }
        value
    }

    /// The next record says what is not known of the time before it.
    fn doubt_between(&self, last: &Record, later: &Record, value: &mut AsOfValue) {
        if let Position::Seq(_) = self.position {
            return;
        }
        let next = RecordRef::from(later);
        if self.side_of(later) == Side::Unclear {
            value.exists = None;
            let bound = match (self.position, later.zxid) {
                (Position::Time(_), _) => Bound::Time(later.time.captured),
                (_, Some(zxid)) => Bound::Zxid(zxid),
                (_, None) => Bound::Unknown,
            };
            value.doubt(Doubt::DeletedUpTo { bound, delete: next });
        }
        let born = czxid_of(later).filter(|_| last.op == Op::Delete);
        if let (Some(born), Position::Zxid(at)) = (born, self.position)
            && born <= at
        {
            value.exists = Some(true);
            (value.data, value.stat) = (None, None);
            value.doubt(Doubt::Recreated { born, first: next });
            return;
        }
        let overwritten = match self.position {
            Position::Zxid(at) => later.superseded.iter().find(|zxid| **zxid <= at),
            _ => None,
        };
        if let Some(zxid) = overwritten {
            (value.data, value.stat) = (None, None);
            value.doubt(Doubt::Overwritten(*zxid));
            return;
        }
        let is_found = later.fidelity == Fidelity::Reconciled;
        let gaps = self.bounds.ahead.filter(|_| is_found);
        if gaps.is_some_and(|gaps| gaps.hold_all_before(later.seq)) {
            return;
        }
        let missed = later.missed.unwrap_or(0);
        let has_unplaced = missed > later.superseded.len() as u64;
        let is_timeless = matches!(self.position, Position::Time(_)) && missed > 0;
        if has_unplaced || is_timeless {
            value.doubt(Doubt::Missed { values: missed, next });
        } else if later.missed.is_none() && later.op != Op::Snapshot && last.op != Op::Delete {
            value.doubt(Doubt::MissedUnknown(next));
        }
    }

    /// It is the last record: it holds as far as the journal is complete.
    fn doubt_end(&self, reported: Option<Zxid>, value: &mut AsOfValue) {
        if let (Position::Zxid(at), Some(reported)) = (self.position, reported)
            && at > reported
        {
            value.doubt(Doubt::NotReported(reported));
        }
    }
}

fn side(is_before: bool, is_exact: bool) -> Side {
    match (is_before, is_exact) {
        (true, _) => Side::Before,
        (false, true) => Side::After,
        (false, false) => Side::Unclear,
    }
}

fn czxid_of(record: &Record) -> Option<Zxid> {
    let state = record.after.as_ref().or(record.before.as_ref());
    state.and_then(|state| state.stat).map(|stat| stat.czxid)
}
