//! Whether the records of a root are complete around a position: its first listing is over, and the watch was not down.
//!
//! ```text
//! snapshot_end      since   gap_begin    gap_end
//!      │ complete     │ in a gap  │          │ complete
//! ```
//!
//! A gap is recorded when the bridge is back, and begins in time where capture is last known to have been live: with the
//! `since` of its record, or else, in journals of earlier versions, with the record before it. Where a history was read
//! later, marks are at the transactions beside them ([`crate::timeline`]): a listing or a gap ends with the one after it,
//! and a gap begins with the one before it.

use bridge_core::journal::{Position, RootProgress};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{GapReason, Op, Record, Timestamp};

use crate::certainty::Doubt;
use crate::error::QueryError;
use crate::journal::JournalQuery;

/// A change is captured within the session timeout: a lost connection looks live for as long.
pub(crate) const LATE_MS: i64 = 60_000;

/// Marks read in one step; each costs a look-up of its own.
pub(crate) const STEP_MARKS: usize = 500;

/// The most marks of a journal that are looked at. With more, no root counts as complete. Few in tests.
const MARKS_MAX: usize = if cfg!(test) { 600 } else { 10_000 };

/// An open gap of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenGap {
    begin: Seq,
    from_zxid: Zxid,
    reason: GapReason,
}

impl OpenGap {
    /// Whether the root is watched; otherwise its next listing ends the gap.
    fn is_watched(&self) -> bool {
        self.reason != GapReason::Unwatched
    }

    /// A gap after a further begin: it goes on, and is that of a root that is not watched from then on.
    fn continued(open: Option<OpenGap>, next: Option<OpenGap>) -> Option<OpenGap> {
        match (open, next) {
            (Some(open), Some(next)) if !next.is_watched() => Some(OpenGap {
                reason: next.reason,
                ..open
            }),
            (open, next) => open.or(next),
        }
    }
}

/// The gaps of a root that begin after a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GapsAhead {
    /// The first `gap_begin`.
    first: Option<Seq>,
    /// The first one that does not say since when changes may be missing: they may be missing before it, too.
    undated: Option<Seq>,
}

impl GapsAhead {
    fn add(&mut self, begin: &Record) {
        self.first = self.first.or(Some(begin.seq));
        if begin.gap.as_ref().is_none_or(|gap| gap.since.is_none()) {
            self.undated = self.undated.or(Some(begin.seq));
        }
    }

    /// Whether a record that was found by comparing was found after one of them. Its change is then after the position.
    pub(crate) fn hold(self, found: Seq) -> bool {
        self.first.is_some_and(|first| first < found)
    }

    /// Whether the changes before such a record that have no record are after the position, too.
    pub(crate) fn hold_all_before(self, found: Seq) -> bool {
        self.hold(found) && self.undated.is_none_or(|undated| found < undated)
    }
}

/// The state of the records of a root at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RootCoverage {
    pub(crate) root: ZnodePath,
    is_listed: bool,
    /// The first mark after the position that shows the root listed.
    listed: Option<(Seq, Timestamp)>,
    /// Whether the root is listed at the end of the journal.
    is_listed_now: bool,
    gap: Option<OpenGap>,
    /// Whether a mark of the root is at or before the position.
    is_marked: bool,
    /// The gap at the end of the journal, if it begins at or before the position.
    unfinished: Option<OpenGap>,
    ahead: GapsAhead,
    /// Whether there are more marks than are looked at, or none can be found: then nothing is known of gaps.
    is_unread: bool,
    /// Whether a file has the history from before the journal.
    is_backfilled: bool,
    /// The epochs that had begun at its last mark that shows it complete.
    epochs: usize,
}

/// The state of each root at one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(pub(crate) Vec<RootCoverage>);

impl Coverage {
    fn of(&self, path: &ZnodePath) -> Option<&RootCoverage> {
        let above = self.0.iter().filter(|known| known.root.covers(path));
        above.max_by_key(|known| known.root.as_str().len())
    }

    /// Whether every znode of this path that existed at the position, and every change after it, has a record.
    pub(crate) fn is_complete(&self, path: &ZnodePath) -> bool {
        self.of(path)
            .is_some_and(|root| root.is_listed && root.gap.is_none())
    }

    /// The gaps after the position, if [`Coverage::is_complete`].
    pub(crate) fn ahead(&self, path: &ZnodePath) -> Option<GapsAhead> {
        let root = self.of(path).filter(|_| self.is_complete(path));
        root.map(|root| root.ahead)
    }

    /// The doubt of an absence: inside a gap a znode may have been created and deleted again.
    pub(crate) fn gap(&self, path: &ZnodePath) -> Option<Doubt> {
        let root = self.of(path)?;
        match root.is_unread {
            true => Some(Doubt::GapsUnread(root.root.clone())),
            false => root.gap.map(|gap| root.doubt(gap)),
        }
    }

    /// The doubt of a value after which the journal has no record, while the watch is down.
    pub(crate) fn unfinished(&self, path: &ZnodePath) -> Option<Doubt> {
        let root = self.of(path)?;
        match root.is_unread {
            true => Some(Doubt::GapsUnread(root.root.clone())),
            false => root.unfinished.map(|gap| root.doubt(gap)),
        }
    }
}

impl Coverage {
    /// With the times at which the marks count that show the roots listed.
    fn dated(mut self, journal: &JournalQuery) -> Result<Coverage, QueryError> {
        for (seq, at) in self.0.iter_mut().filter_map(|root| root.listed.as_mut()) {
            *at = journal.counted_at(*seq, *at)?;
        }
        Ok(self)
    }

    /// Nothing is known of any root.
    fn unread(mut self) -> Coverage {
        for root in &mut self.0 {
            (root.is_listed, root.gap, root.is_unread) = (false, None, true);
        }
        self
    }
}

impl RootCoverage {
    fn doubt(&self, gap: OpenGap) -> Doubt {
        Doubt::InGap {
            root: self.root.clone(),
            begin: gap.begin,
            from_zxid: gap.from_zxid,
            reason: gap.reason,
        }
    }

    /// The doubt about everything below the root.
    pub(crate) fn doubt_of_all(&self) -> Option<Doubt> {
        match self.gap {
            _ if self.is_unread => Some(Doubt::GapsUnread(self.root.clone())),
            Some(gap) => Some(self.doubt(gap)),
            None if self.is_listed => None,
            None => Some(self.doubt_of_listing()),
        }
    }

    /// Why znodes without a record may have existed at the position.
    fn doubt_of_listing(&self) -> Doubt {
        match self.listed {
            Some((seq, at)) => Doubt::BeforeListing {
                root: self.root.clone(),
                seq,
                at,
                is_backfilled: self.is_backfilled,
            },
            None if self.is_listed_now => Doubt::Removed,
            None => Doubt::NotListed(self.root.clone()),
        }
    }

    fn follow(&mut self, mark: &Record, is_before: bool) {
        let gap = mark.gap.as_ref().map(|gap| OpenGap {
            begin: mark.seq,
            from_zxid: gap.from_zxid,
            reason: gap.reason,
        });
        match mark.op {
            Op::GapBegin => self.unfinished = OpenGap::continued(self.unfinished, gap.filter(|_| is_before)),
            Op::GapEnd => self.unfinished = None,
            // The root was not watched, and begins anew.
            Op::SnapshotEnd => self.unfinished = self.unfinished.filter(OpenGap::is_watched),
            _ => {}
        }
        if !is_before {
            match mark.op {
                Op::SnapshotEnd | Op::GapEnd => {
                    self.listed = self.listed.or(Some((mark.seq, mark.time.captured)));
                }
                Op::GapBegin => self.ahead.add(mark),
                _ => {}
            }
            self.before_first(mark);
            return;
        }
        self.is_marked |= mark.op != Op::SnapshotBegin;
        match mark.op {
            Op::GapBegin => self.gap = OpenGap::continued(self.gap, gap),
            Op::GapEnd => (self.is_listed, self.gap) = (true, None),
            Op::SnapshotEnd => {
                (self.is_listed, self.gap) = (true, self.gap.filter(OpenGap::is_watched));
            }
            _ => {}
        }
    }

    /// The first mark after the position says what the removed marks before it said.
    fn before_first(&mut self, mark: &Record) {
        if !self.is_marked {
            self.is_marked = true;
            self.is_listed = self.is_listed && mark.op == Op::GapBegin;
        }
    }
}

/// Whether a mark is at or before a position. `live`: the last moment before a gap at which capture is known to have
/// been live; `None` if there is none.
fn is_before(mark: &Record, position: Position, live: Option<Timestamp>) -> bool {
    let captured = mark.time.captured.0;
    match (position, mark.op) {
        (Position::Seq(at), _) => mark.seq <= at,
        (Position::Time(at), Op::GapBegin) => live.is_none_or(|live| {
            let live = live.0.min(captured);
            live.saturating_sub(LATE_MS) <= at.0
        }),
        (Position::Time(at), _) => captured <= at.0,
        (Position::Zxid(at), Op::GapBegin) => mark.gap.as_ref().is_some_and(|gap| gap.from_zxid < at),
        (Position::Zxid(at), Op::GapEnd) => {
            // An accepted baseline may be older than the history before it.
            let gap = mark.gap.as_ref();
            gap.is_some_and(|gap| gap.to_zxid.is_some_and(|to| to.max(gap.from_zxid) <= at))
        }
        (Position::Zxid(at), _) => mark.zxid.is_some_and(|zxid| zxid <= at),
    }
}

impl JournalQuery {
    /// The state of these roots at a position. `is_kept`: the oldest kept record is certainly at or before it, so
    /// that nothing that matters was removed.
    pub(crate) fn coverage(
        &self,
        roots: &[RootProgress],
        position: Position,
        is_kept: bool,
    ) -> Result<Coverage, QueryError> {
        let mut coverage = Coverage::default();
        for root in roots {
            coverage.0.push(RootCoverage {
                // Where marks were removed, the root was listed unless the kept ones say otherwise.
                is_listed: is_kept && root.is_listed,
                listed: None,
                is_listed_now: root.is_listed,
                root: root.path.clone(),
                gap: None,
                is_marked: false,
                unfinished: None,
                ahead: GapsAhead::default(),
                is_unread: false,
                is_backfilled: self.past.is_some(),
                epochs: 0,
            });
        }
        let (mut after, mut read) = (Seq::ZERO, 0);
        let mut epochs = Epochs::default();
        let mut late = LateMarks::new(self, position)?;
        loop {
            let Some(marks) = self.reader()?.marks(after, STEP_MARKS)? else {
                return Ok(coverage.unread());
            };
            let Some(last) = marks.last() else {
                return coverage.dated(self);
            };
            let is_last = marks.len() < STEP_MARKS;
            after = last.seq;
            read += marks.len();
            if read > MARKS_MAX {
                return Ok(coverage.unread());
            }
            for mark in &marks {
                epochs.take(self, mark)?;
                let known = coverage
                    .0
                    .iter_mut()
                    .find(|known| Some(&known.root) == mark.root.as_ref());
                if let Some(known) = known {
                    let live = epochs.live_before(mark, known.epochs);
                    let is_before = match late.is_before(self, mark)? {
                        Some(is_before) => is_before,
                        None => is_before(mark, position, live),
                    };
                    known.follow(mark, is_before);
                    if matches!(mark.op, Op::GapEnd | Op::SnapshotEnd) {
                        known.epochs = epochs.count();
                    }
                }
            }
            if is_last {
                return coverage.dated(self);
            }
        }
    }
}

/// The sides of marks that were captured after a time, in a history that was read later.
struct LateMarks {
    /// `None` for another position.
    at: Option<Timestamp>,
    /// Whether a change after the time is before the next mark.
    is_passed: bool,
}

impl LateMarks {
    fn new(journal: &JournalQuery, position: Position) -> Result<LateMarks, QueryError> {
        Ok(LateMarks {
            at: match position {
                Position::Time(at) if journal.reader()?.has_transactions()? => Some(at),
                _ => None,
            },
            is_passed: false,
        })
    }

    /// Whether the next mark is at the time or before it, by the transaction beside it; `None` if that does not say it.
    fn is_before(&mut self, journal: &JournalQuery, mark: &Record) -> Result<Option<bool>, QueryError> {
        let Some(at) = self.at.filter(|at| mark.time.captured > *at) else {
            return Ok(None);
        };
        if mark.op == Op::GapBegin {
            return Ok(journal.late_before(mark.seq)?.map(|before| before <= at));
        }
        if self.is_passed {
            return Ok(None);
        }
        let after = journal.committed_after(mark)?;
        self.is_passed = after.is_some_and(|after| after > at);
        Ok(after.map(|after| after <= at))
    }
}

/// The watch epochs that begin with a gap whose record does not say since when. Each has the time of the record before.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Vec<(Epoch, Option<Timestamp>)>);

impl Epochs {
    /// Takes the next mark.
    pub(crate) fn take(&mut self, journal: &JournalQuery, mark: &Record) -> Result<(), QueryError> {
        let Some(gap) = mark.gap.as_ref().filter(|_| mark.op == Op::GapBegin) else {
            return Ok(());
        };
        if gap.since.is_none() && self.0.last().is_none_or(|(last, _)| *last != gap.epoch) {
            let before = journal.reader()?.captured_before(mark.seq)?;
            self.0.push((gap.epoch, before));
        }
        Ok(())
    }

    /// The last moment before a `gap_begin` at which capture of its root is known to have been live; `None` if there is
    /// none. `seen`: how many epochs had begun when the root was complete. Other roots may have had gaps since, without
    /// one of this root.
    pub(crate) fn live_before(&self, mark: &Record, seen: usize) -> Option<Timestamp> {
        let since = mark.gap.as_ref().and_then(|gap| gap.since);
        since.or_else(|| self.0.get(seen).or(self.0.last()).and_then(|(_, before)| *before))
    }

    /// How many have begun.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}
