//! Questions about many znodes at one position: what they share is read once, and many are answered in one transaction.

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::slice;
use std::sync::Arc;

use bridge_core::journal::{
    NeighbourSearch, Neighbours, PathNumber, Position, ReadLimit, RootProgress, Side, ValuePart,
};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, Op, Record, Timestamp};

use crate::as_of::{AsOfQuery, AsOfValue, OtherBounds};
use crate::certainty::Doubt;
use crate::coverage::{Coverage, LATE_MS};
use crate::entry::EntrySearch;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::known_paths::KnownPath;
use crate::past::PastPlace;
use crate::timeline::late_time;
use crate::unreadable::BlindSpots;
use crate::visibility::Access;

/// Paths that callers look up in one step: some milliseconds.
pub(crate) const STEP_VALUES: usize = 200;

/// Questions about many znodes at one position.
pub(crate) struct AtPosition<'a> {
    journal: &'a JournalQuery,
    pub(crate) position: Position,
    pub(crate) beyond: Option<Doubt>,
    roots: Vec<RootProgress>,
    oldest: Seq,
    coverage: OnceCell<Coverage>,
    blind: OnceCell<BlindSpots>,
    near: OnceCell<Seq>,
    /// The last transaction at or before a time, and the first after it.
    dated: OnceCell<(Option<Zxid>, Option<Zxid>)>,
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
            blind: OnceCell::new(),
            near: OnceCell::new(),
            dated: OnceCell::new(),
        })
    }

    /// The value of a znode; `None`: the journal knows nothing of it. A hidden one has no value.
    pub(crate) fn value_of(&self, path: &ZnodePath) -> Result<Option<AsOfValue>, QueryError> {
        if self.journal.access(path) == Access::Hidden {
            return Ok(None);
        }
        let known = self.journal.reader()?.known(path)?;
        let known = KnownPath {
            path: path.clone(),
            number: known.as_ref().map(|known| known.number),
            last: known.and_then(|known| known.last),
        };
        let values = self.values_of(slice::from_ref(&known), ValuePart::Whole)?;
        Ok(values.into_iter().next().flatten())
    }

    /// The values of the first ones of some paths, of one at least: one step comes so far. Hidden ones have none.
    pub(crate) fn values_of(
        &self,
        paths: &[KnownPath],
        part: ValuePart,
    ) -> Result<Vec<Option<AsOfValue>>, QueryError> {
        let newest_of = |known: &KnownPath| {
            let is_hidden = self.journal.access(&known.path) == Access::Hidden;
            known.number.zip(known.last).filter(|_| !is_hidden)
        };
        let newest: Vec<_> = paths.iter().map(newest_of).collect();
        let kept = paths.iter().zip(&newest);
        let kept: Vec<_> = kept
            .filter_map(|(known, newest)| Some((&known.path, (*newest)?)))
            .collect();
        let mut searches = self.neighbours(&kept, part)?.into_iter();
        let mut values = Vec::with_capacity(paths.len());
        for (known, newest) in paths.iter().zip(newest) {
            let search = match newest {
                None => None,
                Some(_) => match searches.next() {
                    None => break,
                    found => found,
                },
            };
            values.push(self.value_shown(&known.path, search)?);
        }
        Ok(values)
    }

    /// The records around the position, of the first ones of some paths.
    fn neighbours(
        &self,
        paths: &[(&ZnodePath, (PathNumber, Seq))],
        part: ValuePart,
    ) -> Result<Vec<NeighbourSearch>, QueryError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        // The paths of which other records may show the side of a delete that was met.
        let open = RefCell::new(HashSet::new());
        let read = |query: &AsOfQuery, newest: &[_], near| {
            let mut reader = self.journal.reader()?;
            let read = reader.neighbours(newest, near, part, |path, record| {
                if query.needs_bounds(record) {
                    open.borrow_mut().insert(path);
                }
                query.side_at(record)
            })?;
            Ok::<_, QueryError>(read)
        };
        let query = AsOfQuery::new(self.position);
        let newest: Vec<_> = paths.iter().map(|(_, newest)| *newest).collect();
        let mut searches = read(&query, &newest, self.near.get().copied())?;
        for (search, (path, newest)) in searches.iter_mut().zip(paths) {
            let needs_bounds = || open.borrow().contains(&newest.0);
            if *search != NeighbourSearch::Far && !needs_bounds() {
                continue;
            }
            let near = match *search {
                NeighbourSearch::Far => Some(self.near()?),
                _ => self.near.get().copied(),
            };
            let newest = slice::from_ref(newest);
            let mut again = read(&query, newest, near)?;
            if needs_bounds() {
                let mut bounded = query.clone();
                bounded.with_bounds(self.bounds(path)?);
                again = read(&bounded, newest, near)?;
            }
            *search = again.into_iter().next().unwrap_or(NeighbourSearch::Open);
        }
        Ok(searches)
    }

    /// The last record that counts at the position or before it.
    fn near(&self) -> Result<Seq, QueryError> {
        if let Some(near) = self.near.get() {
            return Ok(*near);
        }
        let near = self.journal.cut(self.position)?.seq;
        Ok(*self.near.get_or_init(|| near))
    }

    /// The value of a path as this caller may see it, from the records around the position or from its history.
    fn value_shown(
        &self,
        path: &ZnodePath,
        search: Option<NeighbourSearch>,
    ) -> Result<Option<AsOfValue>, QueryError> {
        let access = self.journal.access(path);
        if access == Access::Hidden {
            return Ok(None);
        }
        let value = match search {
            Some(NeighbourSearch::Found(found)) => self.value_between(path, &found)?,
            Some(NeighbourSearch::Far | NeighbourSearch::Open) | None => {
                self.value_walked(path, EntrySearch::default())?
            }
        };
        let value = match value {
            Some(value) => Some(value),
            None => {
                let doubt = self.blind_spots()?.doubt_of_unknown(self.journal, path);
                doubt.map(AsOfValue::unreadable)
            }
        };
        let Some(mut value) = value else {
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

    fn reported(&self, path: &ZnodePath) -> Option<Zxid> {
        let root = self.roots.iter().find(|root| root.path.covers(path));
        root.map(|root| root.reported)
    }

    /// The value between two records.
    fn value_between(&self, path: &ZnodePath, found: &Neighbours) -> Result<Option<AsOfValue>, QueryError> {
        let mut query = AsOfQuery::new(self.position);
        let reported = self.reported(path);
        let mut value = None;
        for record in found.next.iter().chain(&found.last) {
            if query.needs_bounds_before(record) {
                query.with_bounds(self.bounds(path)?);
            }
            value = value.or_else(|| query.take(record, reported));
        }
        match value {
            Some(value) => Ok(Some(self.ended(path, &query, value, found.compacted)?)),
            None => {
                let oldest = (found.dated.as_deref(), found.is_cut);
                Ok(Some(self.value_at_end(path, query, oldest, found.compacted)?))
            }
        }
    }

    /// The value of a path from its history.
    pub(crate) fn value_walked(
        &self,
        path: &ZnodePath,
        mut search: EntrySearch,
    ) -> Result<Option<AsOfValue>, QueryError> {
        let reported = self.reported(path);
        let mut query = AsOfQuery::new(self.position);
        let mut from = None;
        // How many records were merged into the record after the position, once that record is known.
        let mut merged = None;
        let mut oldest: Option<Arc<Record>> = None;
        // Of most paths the first records are enough.
        let mut step = FIRST_VERSIONS;
        loop {
            let Some(read) = self.journal.reader()?.history(path, from, step)? else {
                return self.value_before(path, &query, PastPlace::before(None));
            };
            if from.is_none() && read.records.is_empty() {
                let unchanged = self.journal.reader()?.imaged(path)?;
                let value = unchanged.and_then(|znode| query.clone().unchanged(znode, self.oldest));
                let value = value.map(|value| self.with_unfinished(value, path)).transpose()?;
                let value = value
                    .map(|value| self.with_blind_spot(value, path, &query))
                    .transpose()?;
                if value.as_ref().is_some_and(|value| value.exists == Some(true)) {
                    return Ok(value);
                }
                let before = self.value_before(path, &query, PastPlace::before(None))?;
                return Ok(before.or(value));
            }
            for record in &read.records {
                step = STEP_NEAR;
                if query.needs_bounds_before(record) {
                    query.with_bounds(self.bounds(path)?);
                }
                if record.zxid.is_some() {
                    oldest = Some(Arc::clone(record));
                }
                if let Some(value) = query.take(record, reported) {
                    return Ok(Some(self.ended(path, &query, value, merged)?));
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
                    let oldest = (oldest.as_deref(), read.is_cut);
                    return Ok(Some(self.value_at_end(path, query, oldest, merged)?));
                }
            }
        }
    }

    /// A value that a record at or before the position has.
    fn ended(
        &self,
        path: &ZnodePath,
        query: &AsOfQuery,
        mut value: AsOfValue,
        merged: Option<u64>,
    ) -> Result<AsOfValue, QueryError> {
        if query.is_last() {
            value = self.with_unfinished(value, path)?;
        }
        if value.exists == Some(false) {
            value = self.with_gap(value, path)?;
        }
        value = self.with_blind_spot(value, path, query)?;
        Ok(with_merged(value, merged))
    }

    /// The value where no record at or before the position is kept. `oldest`: the oldest record with a zxid, and whether
    /// retention may have removed older ones.
    fn value_at_end(
        &self,
        path: &ZnodePath,
        query: AsOfQuery,
        oldest: (Option<&Record>, bool),
        merged: Option<u64>,
    ) -> Result<AsOfValue, QueryError> {
        let is_complete = self.coverage()?.is_complete(path);
        let before = match is_complete {
            true => None,
            false => self.value_before(path, &query, PastPlace::before(oldest.0))?,
        };
        let value = match before {
            Some(before) => before,
            None => self.with_blind_spot(query.clone().end(oldest.1, is_complete), path, &query)?,
        };
        Ok(with_merged(value, merged))
    }

    /// The bounds for the times of changes by the gaps after the position and the records near it.
    fn bounds(&self, path: &ZnodePath) -> Result<OtherBounds, QueryError> {
        let (before, after) = match (self.position, self.dated.get()) {
            (_, Some(dated)) => *dated,
            (Position::Time(at), None) => {
                let dated = self.dated_around(at)?;
                *self.dated.get_or_init(|| dated)
            }
            (Position::Zxid(_) | Position::Seq(_), None) => (None, None),
        };
        let ahead = self.coverage()?.ahead(path);
        let is_dated = ahead.is_some() && matches!(self.position, Position::Time(_));
        Ok(OtherBounds {
            ahead,
            cut: is_dated.then(|| self.near()).transpose()?,
            before,
            after,
        })
    }

    /// The last transaction at or before a time, and the first after it, among the records near it whose time is known.
    fn dated_around(&self, at: Timestamp) -> Result<(Option<Zxid>, Option<Zxid>), QueryError> {
        let near = self.near()?;
        let from = Seq(near.0.saturating_sub(NEAR.records as u64 / 2));
        let records = self.journal.reader()?.read(from, NEAR)?;
        let dated = records.iter().filter(|record| {
            matches!(record.op, Op::Create | Op::Update) && record.fidelity == Fidelity::Exact
        });
        let dated: Vec<(Zxid, Timestamp)> = dated
            .filter_map(|record| record.zxid.zip(record.time.changed))
            .collect();
        let before = dated.iter().filter(|(_, changed)| *changed <= at);
        let after = dated.iter().filter(|(_, changed)| *changed > at);
        Ok((
            before.map(|(zxid, _)| *zxid).max(),
            after.map(|(zxid, _)| *zxid).min(),
        ))
    }

    /// The value in the time before the journal. A record's number names none there.
    fn value_before(
        &self,
        path: &ZnodePath,
        query: &AsOfQuery,
        place: PastPlace,
    ) -> Result<Option<AsOfValue>, QueryError> {
        if let Position::Seq(_) = self.position {
            return Ok(None);
        }
        let mut value = self.journal.past_value(path, query, place)?;
        // A znode that the journal could not read from its begin on is in the time before alone.
        if let Some(value) = &mut value
            && let Some(doubt) = self.blind_spots()?.doubt_of_unknown(self.journal, path)
            && self.is_after_begin()?
        {
            value.exists = None;
            value.doubt(doubt);
        }
        Ok(value)
    }

    /// Whether the position may be in the time of the journal.
    fn is_after_begin(&self) -> Result<bool, QueryError> {
        if self.oldest > Seq(1) {
            return Ok(true);
        }
        Ok(match self.position {
            Position::Seq(_) => true,
            Position::Zxid(at) => self.journal.begins_at()?.is_none_or(|begin| at >= begin),
            Position::Time(at) => {
                let oldest = self.journal.overview()?.oldest;
                oldest.is_none_or(|(_, captured)| at.0 >= captured.0.saturating_sub(LATE_MS))
            }
        })
    }

    /// No record is known after the value: while the watch is down, there may be changes.
    fn with_unfinished(&self, mut value: AsOfValue, path: &ZnodePath) -> Result<AsOfValue, QueryError> {
        if let Some(doubt) = self.coverage()?.unfinished(path) {
            value.doubt(doubt);
        }
        Ok(value)
    }

    /// A record says that the znode was deleted: in a gap after it, an incarnation without a record may have existed.
    fn with_gap(&self, mut value: AsOfValue, path: &ZnodePath) -> Result<AsOfValue, QueryError> {
        if let Position::Zxid(_) | Position::Time(_) = self.position
            && let Some(doubt) = self.coverage()?.gap(path)
        {
            value.exists = None;
            if !value.doubts.contains(&doubt) {
                value.doubt(doubt);
            }
        }
        Ok(value)
    }

    /// While the znode or one above it may not be read, there may be changes without a record.
    fn with_blind_spot(
        &self,
        mut value: AsOfValue,
        path: &ZnodePath,
        query: &AsOfQuery,
    ) -> Result<AsOfValue, QueryError> {
        if let Some(doubt) = self.blind_spots()?.doubt(self.journal, path, &value, query) {
            // It may have been deleted, or created again.
            value.exists = None;
            value.doubt(doubt);
        }
        Ok(value)
    }

    /// The znodes that could not be read at the position.
    pub(crate) fn blind_spots(&self) -> Result<&BlindSpots, QueryError> {
        if let Some(known) = self.blind.get() {
            return Ok(known);
        }
        let blind = BlindSpots::at(self.journal, self.position)?;
        Ok(self.blind.get_or_init(|| blind))
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
            && coverage.unfinished(path).is_none()
            && !self.blind_spots()?.covers(path))
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

/// Records around a time that are looked at for transactions whose times are known.
const NEAR: ReadLimit = ReadLimit {
    records: 400,
    bytes: 8 << 20,
};

/// The oldest record alone.
pub(crate) const ONE_RECORD: ReadLimit = ReadLimit {
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
            Position::Time(time) => match self.watched_until {
                Some(until) => (time > until).then_some(Doubt::NotWatched(until)),
                None => {
                    let Some(live) = self.reader()?.live_until()? else {
                        return Ok(None);
                    };
                    let is_late = time.0 > live.0.saturating_add(LATE_MS);
                    let reached = self.last_date()?.filter(|last| {
                        // A source that catches up with the past is live, and has not come further than this.
                        last.time.captured.0.saturating_add(LATE_MS) > live.0
                    });
                    let reached = reached
                        .as_ref()
                        .and_then(late_time)
                        .filter(|reached| time > *reached);
                    reached.or(is_late.then_some(live)).map(Doubt::NotLive)
                }
            },
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
