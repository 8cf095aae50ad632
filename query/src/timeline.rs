//! When the records of a journal count, for moments and ranges by time.
//!
//! Most records are captured as they happen. Those of a history that was read later, by `zkbridge backfill` or by a source
//! that was away, were captured together, long after their changes.
//!
//! ```text
//! seq        1         2     3     4     5     6     7
//!            listing   09:00 09:10 09:05 09:20 gap   11:00    by the clocks of the leaders
//! captured   12:00     12:00 12:00 12:00 12:00 12:01 12:01
//! counts at  09:00     09:00 09:10 09:10 09:20 11:00 11:00
//! ```
//!
//! Invariants:
//!
//! * A record that was read as a transaction counts at the time of that, by its leader's clock, and at the latest a minute
//!   after its capture: a clock may be ahead. One that a watch saw counts at its capture.
//! * Any other record, which a comparison found or which is no change, is between the changes beside it. It counts at its
//!   capture, or at the next change if that is an earlier transaction. So a listing with the history after it counts at
//!   the first transaction of that, and a moment before is before the journal.
//! * No record counts before one with a lower number. Transactions of an ensemble are in the order of their zxids; where the
//!   clock of a leader shows an earlier time than that of the one before it, its records count at the latest time so far,
//!   until its clock has passed that.
//! * So a time divides the records at one place, and an interval of the activity has as many records as a list of its range.
//! * In a journal that no source of transactions has written, records count at their capture.
//!
//! The bounds of stretches are in memory. A stretch that may hold the place is read without its values, 256 records, and
//! its bound is exact from then on. Of each stretch that was captured long after its latest change one record is read, once,
//! to know that it is a transaction: then the latest change is the bound.

use std::collections::{BTreeSet, VecDeque};
use std::sync::PoisonError;

use bridge_core::journal::{DateKind, OpCount, RecordDate, StretchSummary};
use bridge_core::number::Seq;
use bridge_core::record::{Op, Record, Times, Timestamp};

use crate::activity::Grouping;
use crate::answer::Moment;
use crate::coverage::LATE_MS;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::stretches::{BorrowReader, Stretches};

/// The operations of changes.
pub(crate) const CHANGES: [Op; 4] = [Op::Create, Op::Update, Op::Delete, Op::Acl];

/// Records after a mark that are looked at without the bounds of stretches.
const LOOK_NEAR: u64 = 64;

/// When the records of a stretch count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeline {
    /// At their capture.
    Captured,
    /// Only the records say it.
    Mixed,
    /// They were captured long after, and the last one is a transaction. A source that begins to capture in another way
    /// writes marks, and there is none: so no record is later than the latest change.
    Past,
}

/// The first transaction, or record that a watch saw, after each record from `from` on and before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextDated {
    from: Seq,
    found: RecordDate,
}

/// The latest time at which records can count, of which the latest capture and the latest change are known.
pub(crate) fn bound(latest: Option<Timestamp>, changed: Option<Timestamp>) -> Option<Timestamp> {
    let latest = latest?;
    Some(changed.map_or(latest, |changed| believed(changed, latest).max(latest)))
}

/// A time of a leader's clock, which may be ahead.
fn believed(changed: Timestamp, captured: Timestamp) -> Timestamp {
    changed.min(Timestamp(captured.0.saturating_add(LATE_MS)))
}

/// When a record counts, for itself.
pub(crate) fn own_time(date: &RecordDate) -> Timestamp {
    let captured = date.time.captured;
    match (date.kind, date.time.changed) {
        (DateKind::Committed, Some(changed)) => believed(changed, captured),
        (DateKind::Found, _) => time_of_event(&date.time),
        _ => captured,
    }
}

/// When a service event counts, which comes with its change.
fn time_of_event(time: &Times) -> Timestamp {
    time.changed
        .map_or(time.captured, |changed| changed.min(time.captured))
}

/// The time of a transaction that was captured long after it; `None` for any other record.
pub(crate) fn late_time(date: &RecordDate) -> Option<Timestamp> {
    let changed = date.time.changed.filter(|_| date.kind == DateKind::Committed)?;
    is_late(changed, date.time.captured).then_some(changed)
}

fn is_late(changed: Timestamp, captured: Timestamp) -> bool {
    changed.0.saturating_add(LATE_MS) < captured.0
}

/// When a record counts that is between changes, for itself and the next one.
fn time_before(own: Timestamp, next: Option<&RecordDate>) -> Timestamp {
    match next {
        Some(next) if next.kind == DateKind::Committed => own.min(own_time(next)),
        _ => own,
    }
}

/// The times of some records alone, ascending by number, and whether later records leave them as they are.
struct OwnTimes {
    times: Vec<(Seq, Timestamp)>,
    are_final: bool,
}

impl OwnTimes {
    fn latest(&self) -> Option<Timestamp> {
        self.times.iter().map(|(_, time)| *time).max()
    }
}

impl Stretches {
    fn range_of(&self, at: usize, tail: Seq) -> (Seq, Seq) {
        let after = Seq(at as u64 * self.length);
        (after, Seq(after.0 + self.length).min(tail))
    }

    fn place_of(&self, after: Seq) -> usize {
        usize::try_from(after.0 / self.length).unwrap_or(usize::MAX)
    }

    fn learn_all(&mut self, tail: Seq, lend: BorrowReader<'_, '_>) -> Result<(), QueryError> {
        let complete = self.place_of(tail);
        while self.known.len() < complete {
            self.learn(tail, lend)?;
        }
        Ok(())
    }

    /// The timelines of stretches, by their summaries and the marks beside them.
    pub(crate) fn timelines(
        &self,
        summaries: &[(Seq, StretchSummary)],
        lend: BorrowReader<'_, '_>,
    ) -> Result<Vec<Timeline>, QueryError> {
        if !self.has_transactions {
            return Ok(vec![Timeline::Captured; summaries.len()]);
        }
        // Between a mark and a transaction there may be anything.
        let is_found = |op: &Op| !CHANGES.contains(op) && *op != Op::Service;
        let has_none = |summary: &StretchSummary| {
            let mut found = Op::ALL.iter().filter(|op| is_found(op));
            found.all(|op| summary.of(*op) == OpCount::default())
        };
        let is_late = |summary: &StretchSummary| {
            let times = summary.changed.zip(summary.captured);
            times.is_some_and(|(changed, (earliest, _))| is_late(changed, earliest))
        };
        let late = summaries
            .iter()
            .filter(|(_, summary)| is_late(summary) && has_none(summary));
        let late: Vec<Seq> = late.map(|(last, _)| *last).collect();
        let are_transactions = match late.is_empty() {
            true => Vec::new(),
            false => lend()?.are_transactions(&late)?,
        };
        let of_past = late.iter().zip(are_transactions).filter(|(_, is_one)| *is_one);
        let of_past: BTreeSet<Seq> = of_past.map(|(last, _)| *last).collect();
        let timeline = |(last, _): &(Seq, StretchSummary)| match of_past.contains(last) {
            true => Timeline::Past,
            false => Timeline::Mixed,
        };
        Ok(summaries.iter().map(timeline).collect())
    }

    /// The first transaction, or record that a watch saw, after a record; `None` if there is none yet.
    fn next_dated(
        &mut self,
        after: Seq,
        tail: Seq,
        lend: BorrowReader<'_, '_>,
    ) -> Result<Option<RecordDate>, QueryError> {
        let is_known = |next: &NextDated| next.from <= after && after < next.found.seq;
        if let Some(next) = self.next_dated.filter(is_known) {
            return Ok(Some(next.found));
        }
        let mut at = after;
        while at < tail {
            let place = self.place_of(at);
            let (_, until) = self.range_of(place, tail);
            let is_passed = self.known.get(place).is_some_and(|bounds| !bounds.has_changes);
            if !is_passed && let Some(found) = lend()?.dated_between((at, until))? {
                self.next_dated = Some(NextDated { from: after, found });
                return Ok(Some(found));
            }
            at = until;
        }
        Ok(None)
    }

    /// When the records of a range count, without those before it.
    fn times(
        &mut self,
        (after, until): (Seq, Seq),
        tail: Seq,
        lend: BorrowReader<'_, '_>,
    ) -> Result<OwnTimes, QueryError> {
        let dates = lend()?.dates((after, until))?;
        let is_open = dates.last().is_some_and(|last| last.kind == DateKind::Found);
        let mut next = match is_open {
            true => self.next_dated(until, tail, lend)?,
            false => None,
        };
        let are_final = !is_open || next.is_some();
        let mut times = Vec::with_capacity(dates.len());
        for date in dates.iter().rev() {
            let own = own_time(date);
            let time = match date.kind {
                DateKind::Found => time_before(own, next.as_ref()),
                DateKind::Committed | DateKind::Seen => {
                    next = Some(*date);
                    own
                }
            };
            times.push((date.seq, time));
        }
        times.reverse();
        Ok(OwnTimes { times, are_final })
    }

    /// The latest time at which a record of a complete stretch counts for itself.
    pub(crate) fn measure(
        &mut self,
        at: usize,
        tail: Seq,
        lend: BorrowReader<'_, '_>,
    ) -> Result<Option<Timestamp>, QueryError> {
        let bounds = self.known[at];
        if bounds.is_time_met {
            return Ok(bounds.time);
        }
        let range = self.range_of(at, tail);
        let (time, is_final) = match bounds.has_changes {
            true => {
                let times = self.times(range, tail, lend)?;
                (times.latest(), times.are_final)
            }
            // All records are before the same change, and none needs to be read.
            false => {
                let next = self.next_dated(range.1, tail, lend)?;
                let time = bounds.time.map(|latest| time_before(latest, next.as_ref()));
                (time, next.is_some())
            }
        };
        if is_final {
            self.meet(at, time);
        }
        Ok(time)
    }

    /// The first record of a stretch that counts at a time or after it.
    pub(crate) fn first_in(
        &mut self,
        at: usize,
        time: Timestamp,
        tail: Seq,
        lend: BorrowReader<'_, '_>,
    ) -> Result<Option<Seq>, QueryError> {
        self.learn_all(tail, lend)?;
        let bounds = self.known.get(at).copied();
        if bounds.is_some_and(|bounds| !bounds.has_changes) && self.measure(at, tail, lend)? < Some(time) {
            return Ok(None);
        }
        let times = self.times(self.range_of(at, tail), tail, lend)?;
        let found = times.times.iter().find(|(_, own)| *own >= time);
        if found.is_none() && times.are_final {
            self.meet(at, times.latest());
        }
        Ok(found.map(|(seq, _)| *seq))
    }

    /// When the last record up to and including `until` counts; `None` if none is kept.
    fn reached(
        &mut self,
        until: Seq,
        tail: Seq,
        lend: BorrowReader<'_, '_>,
    ) -> Result<Option<Timestamp>, QueryError> {
        let complete = self.place_of(until).min(self.known.len());
        let rest = (Seq(complete as u64 * self.length), until);
        let mut reached = self.times(rest, tail, lend)?.latest();
        let mut measured = BTreeSet::new();
        loop {
            let known = self.known[..complete].iter().enumerate();
            let left = known.filter(|(at, bounds)| bounds.time > reached && !measured.contains(at));
            let Some((at, _)) = left.max_by_key(|(_, bounds)| bounds.time) else {
                return Ok(reached);
            };
            measured.insert(at);
            reached = reached.max(self.measure(at, tail, lend)?);
        }
    }
}

impl JournalQuery {
    /// Lends the bounds of all complete stretches of a journal with transactions, and its tail; `None` for any other.
    fn with_stretches<T>(
        &self,
        ask: impl FnOnce(&mut Stretches, Seq, BorrowReader<'_, '_>) -> Result<T, QueryError>,
    ) -> Result<Option<T>, QueryError> {
        let mut stretches = self.stretches.lock().unwrap_or_else(PoisonError::into_inner);
        let lend: BorrowReader<'_, '_> = &|| self.reader();
        stretches.begin(lend)?;
        if !stretches.has_transactions {
            return Ok(None);
        }
        let tail = self.tail()?;
        stretches.learn_all(tail, lend)?;
        ask(&mut stretches, tail, lend).map(Some)
    }

    /// When a record counts that was captured at `captured`.
    pub(crate) fn counted_at(&self, seq: Seq, captured: Timestamp) -> Result<Timestamp, QueryError> {
        let reached = self.with_stretches(|stretches, tail, lend| stretches.reached(seq, tail, lend))?;
        Ok(reached.flatten().unwrap_or(captured))
    }

    /// When the last record at or before a moment counts; `None` without one.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn time_of(&self, moment: &Moment) -> Result<Option<Timestamp>, QueryError> {
        let before = moment.before.as_ref();
        before
            .map(|before| self.counted_at(before.seq, before.captured))
            .transpose()
    }

    /// The times at which service events count, for themselves: with the transactions of the journal, or where it has none
    /// at their capture.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn clock_of_events(&self) -> Result<fn(&Times) -> Timestamp, QueryError> {
        let has_transactions = self.with_stretches(|_, _, _| Ok(()))?.is_some();
        Ok(match has_transactions {
            true => time_of_event,
            false => |time| time.captured,
        })
    }

    /// When the change after a mark was, if that is a transaction.
    pub(crate) fn committed_after(&self, mark: &Record) -> Result<Option<Timestamp>, QueryError> {
        let near = (mark.seq, Seq(mark.seq.0.saturating_add(LOOK_NEAR)));
        let next = match self.reader()?.dated_between(near)? {
            Some(next) => Some(next),
            None => self
                .with_stretches(|stretches, tail, lend| stretches.next_dated(mark.seq, tail, lend))?
                .flatten(),
        };
        let next = next.filter(|next| next.kind == DateKind::Committed);
        Ok(next.as_ref().map(own_time))
    }

    /// When the last change before a mark was, if that is a transaction that was captured long after.
    pub(crate) fn late_before(&self, mark: Seq) -> Result<Option<Timestamp>, QueryError> {
        let last = self.reader()?.dated_before(mark)?;
        Ok(last.as_ref().and_then(late_time))
    }

    /// When the last record happened; `None` without one.
    pub(crate) fn last_date(&self) -> Result<Option<RecordDate>, QueryError> {
        let tail = self.tail()?;
        let last = self.reader()?.dates((Seq(tail.0.saturating_sub(1)), tail))?;
        Ok(last.first().copied())
    }

    /// Begins to look up the intervals of records after `after`, in order; `None`: they count at their capture.
    pub(crate) fn intervals(
        &self,
        grouping: Grouping,
        after: Seq,
    ) -> Result<Option<IntervalWalk>, QueryError> {
        let reached = self.with_stretches(|stretches, tail, lend| stretches.reached(after, tail, lend))?;
        Ok(reached.map(|reached| IntervalWalk {
            grouping,
            reached,
            covered: after,
            times: VecDeque::new(),
        }))
    }
}

/// The intervals of records, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct IntervalWalk {
    grouping: Grouping,
    /// When the last record counts that was passed, or an earlier time in the same interval.
    reached: Option<Timestamp>,
    /// Records up to this one are passed, or in `times`.
    covered: Seq,
    times: VecDeque<(Seq, Timestamp)>,
}

impl IntervalWalk {
    /// Passes the records up to and including one; `false` if their times are not known yet.
    fn pass(&mut self, until: Seq) -> bool {
        while let Some((_, time)) = self.times.pop_front_if(|(seq, _)| *seq <= until) {
            self.reached = self.reached.max(Some(time));
        }
        until <= self.covered
    }

    /// Whether records up to this bound are in the interval that is reached.
    fn stays(&self, bound: Option<Timestamp>) -> bool {
        let end = self
            .reached
            .map(|reached| self.grouping.end_of(self.grouping.interval(reached)));
        bound.is_none() || bound < end
    }

    /// A moment of the interval of a record that was captured at `captured`. No earlier record may be asked for afterwards.
    pub(crate) fn moment_of(
        &mut self,
        journal: &JournalQuery,
        seq: Seq,
        captured: Timestamp,
    ) -> Result<Timestamp, QueryError> {
        if !self.pass(seq) {
            journal.with_stretches(|stretches, tail, lend| {
                while !self.pass(seq) {
                    let at = stretches.place_of(self.covered);
                    let (_, until) = stretches.range_of(at, tail.max(seq));
                    let bounds = stretches.known.get(at);
                    if bounds.is_none_or(|bounds| !self.stays(bounds.time)) {
                        self.times = stretches.times((self.covered, until), tail, lend)?.times.into();
                    }
                    self.covered = until;
                }
                Ok(())
            })?;
        }
        Ok(self.reached.unwrap_or(captured))
    }

    /// A moment of the interval that has all records of a stretch; `None` if they may be in several. The records before it
    /// count up to the last one that was asked for, or are in its interval.
    pub(crate) fn moment_of_all(
        &mut self,
        journal: &JournalQuery,
        (after, last): (Seq, Seq),
    ) -> Option<Timestamp> {
        self.pass(after);
        let is_one = match self.covered < last {
            false => self.stays(self.times.iter().map(|(_, time)| *time).max()),
            true => {
                let stretches = journal.stretches.lock().unwrap_or_else(PoisonError::into_inner);
                let bounds = stretches.known.get(stretches.place_of(after));
                bounds.is_some_and(|bounds| self.stays(bounds.time))
            }
        };
        self.reached.filter(|_| is_one)
    }
}
