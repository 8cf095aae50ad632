//! How many records of each kind there are, by interval and subtree.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bridge_core::journal::OpCount;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record, Timestamp};

use crate::PAGE_MAX;
use crate::certainty::Doubt;
use crate::changes::{GapMark, Range};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::selection::Selection;

/// How records are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// The length of an interval, in milliseconds at least 1. Intervals begin at multiples of it since 1970, by the time at
    /// which a record counts (`timeline`).
    pub every: Duration,
    /// How many names of a path make its subtree: 0 puts everything into `/`, 1 has `/services`, 2 has
    /// `/services/payments`.
    pub depth: usize,
}

/// The beginning of an interval, and a subtree; `None` for control records.
pub type ActivityKey = (Timestamp, Option<ZnodePath>);

/// The records of one interval and subtree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityCounts {
    /// Records by operation, in the order of [`Op::ALL`].
    pub ops: [u64; Op::ALL.len()],
    /// Changes before them that have no record, where their number is known.
    pub missed: u64,
    /// Records before which an unknown number of changes was missed.
    pub missed_unknown: u64,
}

impl ActivityCounts {
    /// Records with this operation.
    pub fn of(&self, op: Op) -> u64 {
        let at = Op::ALL.iter().position(|known| *known == op);
        at.map_or(0, |at| self.ops[at])
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &ActivityCounts) {
        for (own, more) in self.ops.iter_mut().zip(other.ops) {
            *own += more;
        }
        self.missed += other.missed;
        self.missed_unknown += other.missed_unknown;
    }

    /// Adds records of an operation.
    pub(crate) fn add_of(&mut self, op: Op, count: OpCount) {
        let at = Op::ALL.iter().position(|known| *known == op);
        self.ops[at.expect("every operation is listed")] += count.records;
        self.missed += count.missed;
        self.missed_unknown += count.missed_unknown;
    }

    fn count(&mut self, record: &Record) {
        let at = Op::ALL.iter().position(|op| *op == record.op);
        self.ops[at.expect("every operation is listed")] += 1;
        match record.missed {
            Some(missed) => self.missed += missed,
            None if record.path.is_some() => self.missed_unknown += 1,
            None => {}
        }
    }
}

/// A page of counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityPage {
    /// The counts of the records read. An interval may go on in the next page: add the counts of equal keys.
    pub counts: BTreeMap<ActivityKey, ActivityCounts>,
    /// The rest of the range; `None` at its end.
    pub next: Option<Range>,
    /// Records read, selected or not, visible or not.
    pub scanned: u64,
    /// The gaps of visible roots among the records read, selected or not: more changes may have been missed in them.
    pub gaps: Vec<GapMark>,
    /// The doubts about the counts.
    pub doubts: Vec<Doubt>,
}

impl JournalQuery {
    /// Counts the selected records of a range, with at most `limit` counts ([`PAGE_MAX`] at most). Hidden records are
    /// not counted.
    ///
    /// Without a filter but operations, and without subtrees, counts whole stretches of records by their summaries.
    /// Otherwise reads every record of the range, [`SCAN_MAX`](crate::SCAN_MAX) for each page.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn activity(
        &self,
        range: Range,
        selection: &Selection,
        grouping: Grouping,
        limit: usize,
    ) -> Result<ActivityPage, QueryError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let doubts = self.removed(range)?.into_iter().collect();
        if let Some(page) = self.counted_activity(range, selection, grouping, limit)? {
            return Ok(ActivityPage { doubts, ..page });
        }
        let mut page = ActivityPage {
            doubts,
            ..ActivityPage::default()
        };
        let plan = self.plan(selection, range)?;
        let mut intervals = self.intervals(grouping, range.after)?;
        let mut failed = None;
        let (left, scanned) = self.scan_by(&plan, range, |record| {
            page.gaps.extend(GapMark::of(record));
            if self.selected(record, selection).is_some() {
                let captured = record.time.captured;
                let moment = match &mut intervals {
                    Some(intervals) => intervals.moment_of(self, record.seq, captured),
                    None => Ok(captured),
                };
                match moment {
                    Ok(moment) => page
                        .counts
                        .entry(grouping.key(record, moment))
                        .or_default()
                        .count(record),
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            // A record may need one count more, so the page ends before it could.
            match page.counts.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        page.scanned = scanned;
        page.next = (!left.is_empty()).then_some(left);
        Ok(page)
    }
}

impl Grouping {
    fn key(self, record: &Record, moment: Timestamp) -> ActivityKey {
        let subtree = record.path.as_ref().map(|path| {
            let names = path.names().take(self.depth);
            names.fold(ZnodePath::slash(), |above, name| above.child(name))
        });
        (self.interval(moment), subtree)
    }

    /// The beginning of the interval of a moment.
    pub(crate) fn interval(self, moment: Timestamp) -> Timestamp {
        Timestamp(moment.0 - moment.0.rem_euclid(self.every_ms()))
    }

    /// The beginning of the next interval.
    pub(crate) fn end_of(self, interval: Timestamp) -> Timestamp {
        Timestamp(interval.0.saturating_add(self.every_ms()))
    }

    fn every_ms(self) -> i64 {
        i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX).max(1)
    }
}
