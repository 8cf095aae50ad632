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

use bridge_core::journal::{Imaged, Position};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Fidelity, Op, Record, Stat, Timestamp, ZxidKind};
use serde::Serialize;

use crate::certainty::{Bound, Certainty, Doubt, RecordRef};
use crate::error::QueryError;
use crate::history::STEP_VERSIONS;
use crate::journal::JournalQuery;
use crate::past::PastPlace;
use crate::visibility::Access;

/// A change that is seen as it happens is captured within the session timeout; servers allow 40 s by default.
const LATE_MS: i64 = 60_000;

/// A znode at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AsOfValue {
    /// Whether it existed; null if that is not known.
    pub exists: Option<bool>,
    /// Its data; null if it did not exist, and if the data is not known.
    pub data: Option<Data>,
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

    fn doubt(&mut self, doubt: Doubt) {
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
        let access = self.must_be_visible(path)?;
        let Some(mut value) = self.value_at(path, position)? else {
            return Ok(None);
        };
        if let Some(doubt) = self.beyond(position, now)? {
            value.doubt(doubt);
        }
        if access == Access::Masked && value.data.take().is_some() {
            value.doubt(Doubt::Masked);
        }
        Ok(Some(value))
    }

    fn value_at(&self, path: &ZnodePath, position: Position) -> Result<Option<AsOfValue>, QueryError> {
        let reported = self.reported(path)?;
        let mut query = AsOfQuery::new(position);
        let mut from = None;
        // How many records were merged into the record after the position, once that record is known.
        let mut merged = None;
        let mut oldest: Option<Arc<Record>> = None;
        loop {
            let Some(read) = self.reader()?.history(path, from, STEP_VERSIONS)? else {
                return self.value_before(path, &query, PastPlace::before(None));
            };
            if from.is_none() && read.records.is_empty() {
                let mut reader = self.reader()?;
                let oldest = reader.oldest()?.unwrap_or_default();
                let unchanged = reader.imaged(path)?;
                drop(reader);
                let value = unchanged.and_then(|znode| query.clone().unchanged(znode, oldest));
                if value.as_ref().is_some_and(|value| value.exists == Some(true)) {
                    return Ok(value);
                }
                let before = self.value_before(path, &query, PastPlace::before(None))?;
                return Ok(before.or(value));
            }
            for record in &read.records {
                if record.zxid.is_some() {
                    oldest = Some(Arc::clone(record));
                }
                if let Some(value) = query.take(record, reported) {
                    return Ok(Some(with_merged(value, merged)));
                }
                if record.op != Op::Acl {
                    merged = read.compacted.get(&record.seq).copied();
                }
            }
            match read.next {
                Some(next) => from = Some(next),
                None => {
                    let place = PastPlace::before(oldest.as_deref());
                    let before = self.value_before(path, &query, place)?;
                    let value = before.unwrap_or_else(|| query.end(read.is_cut));
                    return Ok(Some(with_merged(value, merged)));
                }
            }
        }
    }

    /// The value in the time before the journal. A record's number names none there.
    fn value_before(
        &self,
        path: &ZnodePath,
        query: &AsOfQuery,
        place: PastPlace,
    ) -> Result<Option<AsOfValue>, QueryError> {
        match query.position {
            Position::Seq(_) => Ok(None),
            Position::Zxid(_) | Position::Time(_) => self.past_value(path, query, place),
        }
    }

    /// The doubts if the moment is after the last one that the journal covers.
    fn beyond(&self, position: Position, now: Timestamp) -> Result<Option<Doubt>, QueryError> {
        Ok(match position {
            Position::Seq(seq) => {
                let tail = self.tail()?;
                (seq > tail).then_some(Doubt::PastTail { seq, tail })
            }
            Position::Time(time) => (time > now).then_some(Doubt::Future(time)),
            // The records themselves say how far the journal has come.
            Position::Zxid(_) => None,
        })
    }
}

/// A certain value stays certain: merged records only matter where something is open.
fn with_merged(mut value: AsOfValue, merged: Option<u64>) -> AsOfValue {
    if let Some(records) = merged.filter(|_| !value.certain) {
        value.doubt(Doubt::Compacted(records));
    }
    value
}

/// Takes the records of a path, the newest first, until the value is known.
#[derive(Clone, Debug)]
pub(crate) struct AsOfQuery {
    position: Position,
    later: Option<Arc<Record>>,
}

/// The place of a record relative to the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// At the position or before it.
    Before,
    /// After it.
    After,
    /// Its own zxid or time is only a bound.
    Unclear,
}

impl AsOfQuery {
    /// Asks for the value at this position.
    pub(crate) fn new(position: Position) -> AsOfQuery {
        AsOfQuery {
            position,
            later: None,
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
            return Some(self.value(record, reported));
        }
        self.later = Some(Arc::clone(record));
        None
    }

    /// No older record is kept. `is_cut`: retention may have removed some.
    pub(crate) fn end(self, is_cut: bool) -> AsOfValue {
        if let Some(before) = self.later.as_ref().and_then(|later| self.kept_before(later)) {
            return before;
        }
        let mut value = AsOfValue::unknown();
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
                value.exists = Some(false);
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

    fn side_of(&self, record: &Record) -> Side {
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
            value.data = None;
            value.doubt(Doubt::Recreated { born, first: next });
            return;
        }
        let overwritten = match self.position {
            Position::Zxid(at) => later.superseded.iter().find(|zxid| **zxid <= at),
            _ => None,
        };
        if let Some(zxid) = overwritten {
            value.data = None;
            value.doubt(Doubt::Overwritten(*zxid));
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
