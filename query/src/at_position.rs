//! Questions about many znodes at one position: what they share is read once.

use std::cell::OnceCell;
use std::sync::Arc;

use bridge_core::journal::{Position, ReadLimit, RootProgress};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record, Timestamp};

use crate::as_of::{AsOfQuery, AsOfValue, Side};
use crate::certainty::Doubt;
use crate::coverage::Coverage;
use crate::entry::EntrySearch;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::past::PastPlace;
use crate::visibility::Access;

/// Questions about many znodes at one position.
pub(crate) struct AtPosition<'a> {
    journal: &'a JournalQuery,
    pub(crate) position: Position,
    pub(crate) beyond: Option<Doubt>,
    roots: Vec<RootProgress>,
    oldest: Seq,
    coverage: OnceCell<Coverage>,
}

impl<'a> AtPosition<'a> {
    pub(crate) fn new(
        journal: &'a JournalQuery,
        position: Position,
        now: Timestamp,
    ) -> Result<AtPosition<'a>, QueryError> {
        Ok(AtPosition {
            journal,
            position,
            beyond: journal.beyond(position, now)?,
            roots: journal.reader()?.roots()?,
            oldest: journal.reader()?.oldest()?.unwrap_or_default(),
            coverage: OnceCell::new(),
        })
    }

    /// The value of a znode; `None`: the journal knows nothing of it. A hidden one has no value.
    pub(crate) fn value_of(&self, path: &ZnodePath) -> Result<Option<AsOfValue>, QueryError> {
        let access = self.journal.access(path);
        if access == Access::Hidden {
            return Ok(None);
        }
        let Some(mut value) = self.value_at(path)? else {
            return Ok(None);
        };
        if let Some(doubt) = &self.beyond {
            value.doubt(doubt.clone());
        }
        if access == Access::Masked && value.data.take().is_some() {
            value.doubt(Doubt::Masked);
        }
        Ok(Some(value))
    }

    fn value_at(&self, path: &ZnodePath) -> Result<Option<AsOfValue>, QueryError> {
        let root = self.roots.iter().find(|root| root.path.covers(path));
        let reported = root.map(|root| root.reported);
        let mut query = AsOfQuery::new(self.position);
        let mut from = None;
        // How many records were merged into the record after the position, once that record is known.
        let mut merged = None;
        let mut oldest: Option<Arc<Record>> = None;
        // Of most paths the first records are enough.
        let mut step = FIRST_VERSIONS;
        let mut search = EntrySearch::default();
        loop {
            let Some(read) = self.journal.reader()?.history(path, from, step)? else {
                return self.value_before(path, &query, PastPlace::before(None));
            };
            if from.is_none() && read.records.is_empty() {
                let unchanged = self.journal.reader()?.imaged(path)?;
                let value = unchanged.and_then(|znode| query.clone().unchanged(znode, self.oldest));
                let value = value.map(|value| self.with_unfinished(value, path)).transpose()?;
                if value.as_ref().is_some_and(|value| value.exists == Some(true)) {
                    return Ok(value);
                }
                let before = self.value_before(path, &query, PastPlace::before(None))?;
                return Ok(before.or(value));
            }
            for record in &read.records {
                step = STEP_NEAR;
                if record.zxid.is_some() {
                    oldest = Some(Arc::clone(record));
                }
                if let Some(mut value) = query.take(record, reported) {
                    if query.is_last() {
                        value = self.with_unfinished(value, path)?;
                    }
                    return Ok(Some(with_merged(value, merged)));
                }
                if record.op != Op::Acl {
                    merged = read.compacted.get(&record.seq).copied();
                }
            }
            match read.next {
                Some(next) => {
                    let walked = read.records.len();
                    from = Some(search.go_on(self.journal, path, &query, walked, next)?);
                }
                None => {
                    let is_complete = self.coverage()?.is_complete(path);
                    let before = match is_complete {
                        true => None,
                        false => self.value_before(path, &query, PastPlace::before(oldest.as_deref()))?,
                    };
                    let value = before.unwrap_or_else(|| query.end(read.is_cut, is_complete));
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
        match self.position {
            Position::Seq(_) => Ok(None),
            Position::Zxid(_) | Position::Time(_) => self.journal.past_value(path, query, place),
        }
    }

    /// No record is known after the value: while the watch is down, there may be changes.
    fn with_unfinished(&self, mut value: AsOfValue, path: &ZnodePath) -> Result<AsOfValue, QueryError> {
        if let Some(doubt) = self.coverage()?.unfinished(path) {
            value.doubt(doubt);
        }
        Ok(value)
    }

    /// Whether a child of a path that did not exist, as far as its records say, certainly did not: the position is covered
    /// by the journal, and all children have the same root, whose records are complete.
    pub(crate) fn is_complete_below(&self, path: &ZnodePath) -> Result<bool, QueryError> {
        let Some(root) = self.roots.iter().find(|root| root.path.covers(path)) else {
            return Ok(false);
        };
        let has_root_below = self
            .roots
            .iter()
            .any(|other| other.path != *path && path.covers(&other.path));
        let is_reported = match self.position {
            Position::Zxid(at) => at <= root.reported,
            Position::Seq(_) | Position::Time(_) => true,
        };
        let coverage = self.coverage()?;
        Ok(self.beyond.is_none()
            && is_reported
            && !has_root_below
            && coverage.is_complete(path)
            && coverage.unfinished(path).is_none())
    }

    /// The state of the roots at the position.
    pub(crate) fn coverage(&self) -> Result<&Coverage, QueryError> {
        if let Some(known) = self.coverage.get() {
            return Ok(known);
        }
        let coverage = self
            .journal
            .coverage(&self.roots, self.position, self.is_kept()?)?;
        Ok(self.coverage.get_or_init(|| coverage))
    }

    /// Whether retention has removed records, and all of them were certainly before the position.
    fn is_kept(&self) -> Result<bool, QueryError> {
        if self.oldest <= Seq(1) {
            return Ok(false);
        }
        if let Position::Seq(at) = self.position {
            return Ok(at.next() >= self.oldest);
        }
        let query = AsOfQuery::new(self.position);
        let first = self.journal.reader()?.read(Seq(self.oldest.0 - 1), ONE_RECORD)?;
        Ok(first
            .first()
            .is_some_and(|record| query.side_of(record) == Side::Before))
    }
}

/// Records of a path that are read first.
const FIRST_VERSIONS: usize = 4;

/// Records of a path that are read in each further step: enough to come to the waypoints, and from one of them to a
/// position.
const STEP_NEAR: usize = 36;

/// The oldest record alone.
const ONE_RECORD: ReadLimit = ReadLimit {
    records: 1,
    bytes: 1 << 20,
};

impl JournalQuery {
    /// The doubts if the moment is after the last one that the journal covers.
    pub(crate) fn beyond(&self, position: Position, now: Timestamp) -> Result<Option<Doubt>, QueryError> {
        Ok(match position {
            Position::Seq(seq) => {
                let tail = self.tail()?;
                (seq > tail).then_some(Doubt::PastTail { seq, tail })
            }
            Position::Time(time) if time > now => Some(Doubt::Future(time)),
            Position::Time(time) => {
                let end = self.watched_until.filter(|until| time > *until);
                end.map(Doubt::NotWatched)
            }
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
