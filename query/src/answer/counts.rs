//! Gaps and activity of a range.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::record::{Op, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::changes::ResolvedRange;
use super::{AnswerList, RecordPlace};
use crate::PAGE_MAX;
use crate::activity::{ActivityCounts, Grouping};
use crate::certainty::Doubt;
use crate::changes::Range;
use crate::cursor::{asked, query_hash};
use crate::error::QueryError;
use crate::gaps::{GapScan, GapSpan};
use crate::journal::JournalQuery;
use crate::selection::Selection;
use crate::unreadable::UnreadableItem;

/// The most intervals that a range is divided into: a chart on a wide screen.
pub const BUCKETS_MAX: u32 = 500;

/// A question about a range.
#[derive(Clone, Copy, Debug)]
pub struct RangeQuestion<'a> {
    /// Where the range begins; `None` is the oldest kept record.
    pub from: Option<Position>,
    /// Where it ends; `None` is the end of the journal.
    pub to: Option<Position>,
    /// The `next` of the page before.
    pub cursor: Option<&'a str>,
    /// Items of a page, [`PAGE_MAX`] at most.
    pub limit: usize,
}

/// A question about the number of records.
#[derive(Clone, Debug)]
pub struct ActivityQuestion<'a> {
    /// The range.
    pub range: RangeQuestion<'a>,
    /// The filter.
    pub selection: &'a Selection,
    /// Names the filter: a cursor of another one is refused.
    pub filter: &'a str,
    /// How many intervals the range is divided into, about; [`BUCKETS_MAX`] at most.
    pub buckets: u32,
}

/// The records of one interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ActivityBucket {
    /// Its first moment. A record that was read as a transaction counts at the time of that, and any other when it was
    /// captured.
    pub from: Timestamp,
    /// Its end; the first moment of the next interval.
    pub to: Timestamp,
    /// Records by operation; an operation without records is left out.
    pub ops: BTreeMap<String, u64>,
    /// Changes before them that have no record, where their number is known.
    pub missed: u64,
    /// Records before which an unknown number of changes was missed.
    pub missed_unknown: u64,
}

impl JournalQuery {
    /// The gaps of a range: those that end in it, by their ends, and then those that are open at its end, without one.
    ///
    /// # Errors
    ///
    /// If the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn gaps_between(
        &self,
        question: &RangeQuestion<'_>,
        now: Timestamp,
    ) -> Result<AnswerList<GapSpan>, QueryError> {
        let asked = (asked(question.from), asked(question.to));
        let hash = query_hash(&("gaps", asked));
        let resolved = match question.cursor {
            Some(text) => ResolvedRange::resumed(text, hash)?,
            None => self.resolve(question.from, question.to)?,
        };
        // A gap that is open between two pages is found again from its begin: marks are few.
        let mut scan = GapScan::from(Range {
            after: Seq::ZERO,
            until: resolved.left.after,
        });
        while !scan.range.is_empty() {
            scan = self.gaps(scan, PAGE_MAX)?.left;
        }
        scan.range = resolved.left;
        let page = self.gaps(scan, question.limit)?;
        let mut items = page.closed;
        let next = match page.left.range.is_empty() {
            false => Some(resolved.cursor(page.left.range, hash)),
            true => {
                items.extend(page.left.open);
                None
            }
        };
        let (from, to) = self.moments(&resolved, now)?;
        let known = self.known_since_begin(resolved.from, resolved.to)?;
        let (unreadable, open) = match next {
            Some(_) => (Vec::new(), Vec::new()),
            None => self.unreadable_items(&resolved)?,
        };
        Ok(AnswerList {
            doubts: page.doubts.into_iter().chain(known).chain(open).collect(),
            unreadable,
            ..AnswerList::of(from, to, items, next)
        })
    }

    /// The znodes that could not be read in a range, and what is open about that.
    fn unreadable_items(
        &self,
        resolved: &ResolvedRange,
    ) -> Result<(Vec<UnreadableItem>, Vec<Doubt>), QueryError> {
        let spans = self.unreadable_between(resolved.from, resolved.to)?;
        let items = spans.iter().take(PAGE_MAX).map(UnreadableItem::from).collect();
        let more = spans.len().saturating_sub(PAGE_MAX) as u64;
        let more = (more > 0).then_some(Doubt::MoreUnreadable(more));
        let first = match resolved.from {
            Some(from) => self.cut(from)?.seq,
            None => Seq::ZERO,
        };
        let unknown = match self.reader()?.unreadable_unknown_until()? {
            Some(until) => until,
            None => self.tail()?,
        };
        let oldest = self.reader()?.oldest()?.unwrap_or_default();
        let is_unknown = unknown > first && unknown >= oldest;
        let unknown = is_unknown.then_some(Doubt::UnreadableUnknown(unknown));
        Ok((items, more.into_iter().chain(unknown).collect()))
    }

    /// The number of records by interval. An interval may go on in the next page: add the counts of equal intervals.
    ///
    /// # Errors
    ///
    /// If the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn activity_between(
        &self,
        question: &ActivityQuestion<'_>,
        now: Timestamp,
    ) -> Result<AnswerList<ActivityBucket>, QueryError> {
        let ActivityQuestion { range, buckets, .. } = question;
        let buckets = (*buckets).clamp(1, BUCKETS_MAX);
        let asked = (asked(range.from), asked(range.to));
        let hash = query_hash(&("activity", asked, question.filter, buckets));
        let resolved = match range.cursor {
            Some(text) => ResolvedRange::resumed(text, hash)?,
            None => self.resolve(range.from, range.to)?,
        };
        let (from, to) = self.moments(&resolved, now)?;
        let known = self.known_since_begin(resolved.from, resolved.to)?;
        let unreadable = self.unreadable_of_records((resolved.from, resolved.to), question.selection)?;
        let counted = |place: Option<(Seq, Timestamp)>| {
            let counted = place.map(|(seq, captured)| self.counted_at(seq, captured));
            counted.transpose()
        };
        let of_place = |place: RecordPlace| (place.seq, place.captured);
        let begin = match (resolved.from, &from) {
            (Some(Position::Time(time)), _) => Some(time),
            (_, Some(from)) => counted(from.after.or(from.before).map(of_place))?,
            // All of the journal.
            (_, None) => counted(self.overview()?.oldest)?,
        };
        let end = match resolved.to {
            Position::Time(time) => Some(time.min(now)),
            _ => counted(to.before.map(of_place))?,
        };
        let span = match (begin, end) {
            (Some(begin), Some(end)) => end.0.saturating_sub(begin.0).max(0).unsigned_abs(),
            _ => 0,
        };
        let grouping = Grouping {
            every: Duration::from_millis((span / u64::from(buckets)).max(1) + 1),
            depth: 0,
        };
        let page = self.activity(resolved.left, question.selection, grouping, PAGE_MAX)?;
        let mut by_time: BTreeMap<Timestamp, ActivityCounts> = BTreeMap::new();
        for ((time, _), counts) in page.counts {
            by_time.entry(time).or_default().add(&counts);
        }
        let every = i64::try_from(grouping.every.as_millis()).unwrap_or(i64::MAX);
        let items = by_time
            .into_iter()
            .map(|(time, counts)| bucket(time, every, &counts))
            .collect();
        let next = page.next.map(|left| resolved.cursor(left, hash));
        Ok(AnswerList {
            scanned: page.scanned,
            gaps: page.gaps,
            doubts: page.doubts.into_iter().chain(known).chain(unreadable).collect(),
            ..AnswerList::of(from, to, items, next)
        })
    }
}

fn bucket(from: Timestamp, every: i64, counts: &ActivityCounts) -> ActivityBucket {
    let ops = Op::ALL.iter().filter(|op| counts.of(**op) > 0);
    ActivityBucket {
        from,
        to: Timestamp(from.0.saturating_add(every)),
        ops: ops.map(|op| (op.as_str().to_owned(), counts.of(*op))).collect(),
        missed: counts.missed,
        missed_unknown: counts.missed_unknown,
    }
}

impl ActivityBucket {
    /// Adds the counts of the same interval from another page.
    pub fn add(&mut self, other: &ActivityBucket) {
        for (op, count) in &other.ops {
            *self.ops.entry(op.clone()).or_default() += count;
        }
        self.missed += other.missed;
        self.missed_unknown += other.missed_unknown;
    }

    /// All records of the interval.
    pub fn total(&self) -> u64 {
        self.ops.values().sum()
    }
}
