//! Activity without reading records: the summary of a stretch counts all of its records at once, where all of them are in
//! one interval. Of the others the operation and the time are read, and no values.

use bridge_core::journal::{OpCount, RecordCount, StretchSummary};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Timestamp};

use crate::activity::{ActivityKey, ActivityPage, Grouping};
use crate::changes::Range;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::plan::LOOK_MAX;
use crate::selection::{PathPattern, Selection};

/// Summaries that one step reads: some milliseconds.
const STEP_SUMMARIES: usize = 2_000;

/// Records that one step counts: a millisecond.
const STEP_COUNTS: usize = 4_000;

/// Keys that a summary may need: one for records of znodes, and one for the others.
const KEYS_OF_SUMMARY: usize = 2;

/// A selection whose records are known by their operation alone.
#[derive(Clone, Copy, Debug)]
struct OpsSelected<'a> {
    /// Empty: all.
    ops: &'a [Op],
    /// Whether records that name no znode are selected.
    has_control: bool,
}

impl<'a> OpsSelected<'a> {
    fn of(selection: &'a Selection) -> Option<OpsSelected<'a>> {
        let Selection {
            paths,
            within,
            session,
            text,
            ops,
            sink,
        } = selection;
        let is_narrow = within.is_some() || session.is_some() || text.is_some() || sink.is_some();
        let has_control = match &paths[..] {
            _ if is_narrow => return None,
            [] => true,
            [PathPattern::Subtree(top)] if top.is_slash() => false,
            _ => return None,
        };
        Some(OpsSelected { ops, has_control })
    }

    /// Whether records of an operation are selected that name a znode, or that name none.
    fn selects(&self, op: Op, has_path: bool) -> bool {
        (has_path || self.has_control) && (self.ops.is_empty() || self.ops.contains(&op))
    }
}

/// Whether the records of an operation name a znode: one operation has either only such records or none.
fn has_path(op: Op) -> bool {
    !op.is_control() || op == Op::Service
}

/// A page under way.
struct Counting<'a> {
    selected: OpsSelected<'a>,
    grouping: Grouping,
    limit: usize,
    page: ActivityPage,
}

impl Counting<'_> {
    fn key(&self, captured: Timestamp, has_path: bool) -> ActivityKey {
        (self.grouping.interval(captured), has_path.then(ZnodePath::slash))
    }

    fn has_room_for(&self, keys: usize) -> bool {
        self.page.counts.len() + keys <= self.limit
    }

    fn count(&mut self, record: &RecordCount) {
        if !self.selected.selects(record.op, record.has_path) {
            return;
        }
        let one = OpCount {
            records: 1,
            missed: record.missed.unwrap_or(0),
            missed_unknown: u64::from(record.missed.is_none() && record.has_path),
        };
        let key = self.key(record.captured, record.has_path);
        self.page.counts.entry(key).or_default().add_of(record.op, one);
    }

    /// Counts a whole stretch; `false` if its records are not in one interval, or the page may have no room for them.
    fn count_all(&mut self, summary: &StretchSummary) -> bool {
        let Some((earliest, latest)) = summary.captured else {
            return true;
        };
        let is_one = self.grouping.interval(earliest) == self.grouping.interval(latest);
        if !is_one || !self.has_room_for(KEYS_OF_SUMMARY) {
            return false;
        }
        for op in Op::ALL {
            let (count, has_path) = (summary.of(*op), has_path(*op));
            if count.records > 0 && self.selected.selects(*op, has_path) {
                let key = self.key(earliest, has_path);
                self.page.counts.entry(key).or_default().add_of(*op, count);
            }
        }
        true
    }
}

impl JournalQuery {
    /// The counts of a range, if they are known without the records; `None` otherwise.
    pub(crate) fn counted_activity(
        &self,
        range: Range,
        selection: &Selection,
        grouping: Grouping,
        limit: usize,
    ) -> Result<Option<ActivityPage>, QueryError> {
        let Some(selected) = OpsSelected::of(selection) else {
            return Ok(None);
        };
        // Without an index of marks the gaps would have to be looked for in all records.
        let has_marks = self.reader()?.marks(Seq::ZERO, 1)?.is_some();
        if grouping.depth > 0 || !self.shows_all() || !has_marks {
            return Ok(None);
        }
        let mut counting = Counting {
            selected,
            grouping,
            limit,
            page: ActivityPage::default(),
        };
        let left = self.count_range(range, &mut counting)?;
        let mut page = counting.page;
        let seen = Range {
            until: left.after.min(range.until),
            ..range
        };
        page.gaps = self.gap_marks(seen)?;
        page.next = (!left.is_empty()).then_some(left);
        Ok(Some(page))
    }

    /// Counts until the page is full or [`LOOK_MAX`] records were looked at. Returns the rest of the range.
    fn count_range(&self, range: Range, counting: &mut Counting<'_>) -> Result<Range, QueryError> {
        let mut left = range;
        let Some(oldest) = self.oldest()? else {
            left.after = left.until;
            return Ok(left);
        };
        left.until = left.until.min(self.tail()?);
        left.after = left.after.max(Seq(oldest.0 - 1)).min(left.until);
        let length = self.reader()?.stretch_length()?;
        while !left.is_empty() {
            let summaries = match length {
                Some(_) => self.reader()?.summaries(left.after, STEP_SUMMARIES)?,
                None => Vec::new(),
            };
            let is_last = summaries.len() < STEP_SUMMARIES;
            let begin = left;
            let whole = summaries.iter().filter_map(|(last, summary)| {
                let after = Seq(last.0.saturating_sub(length?));
                (after >= begin.after && *last <= begin.until).then_some((after, *last, summary))
            });
            for (after, last, summary) in whole {
                left = self.count_records(left, after, counting)?;
                if left.after < after || !counting.has_room_for(1) {
                    return Ok(left);
                }
                match counting.count_all(summary) {
                    true => left.after = last,
                    false => left = self.count_records(left, last, counting)?,
                }
                if left.after < last {
                    return Ok(left);
                }
            }
            if is_last || summaries.last().is_none_or(|(last, _)| *last > left.until) {
                return self.count_records(left, left.until, counting);
            }
        }
        Ok(left)
    }

    /// Counts the records up to `until` one by one, until the page is full.
    fn count_records(
        &self,
        mut left: Range,
        until: Seq,
        counting: &mut Counting<'_>,
    ) -> Result<Range, QueryError> {
        while left.after < until && counting.has_room_for(1) && counting.page.scanned < LOOK_MAX {
            let records = self.reader()?.counts((left.after, until), STEP_COUNTS)?;
            let is_rest = records.len() < STEP_COUNTS;
            for (seq, record) in records {
                counting.page.scanned += 1;
                counting.count(&record);
                left.after = seq;
                if !counting.has_room_for(1) {
                    return Ok(left);
                }
            }
            if is_rest {
                left.after = until;
            }
        }
        Ok(left)
    }
}
