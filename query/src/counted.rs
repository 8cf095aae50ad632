//! Activity without reading records: the summary of a stretch, which is in memory, counts all of its records at once,
//! where all of them are in one interval. Of the others the operation and the times are read, and no values.

use bridge_core::journal::{OpCount, RecordCount};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Timestamp};

use crate::activity::{ActivityCounts, ActivityKey, ActivityPage, Grouping};
use crate::changes::Range;
use crate::counted_stretches::CountedStretch;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::plan::LOOK_MAX;
use crate::selection::{PathPattern, Selection};
use crate::timeline::IntervalWalk;

/// Records that one step counts: a millisecond.
const STEP_COUNTS: usize = 4_000;

/// Keys that an interval may need: one for records of znodes, and one for the others.
const KEYS_OF_INTERVAL: usize = 2;

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
            client,
            user,
            text,
            ops,
            sink,
        } = selection;
        let is_of_writer = session.is_some() || client.is_some() || user.is_some();
        let is_narrow = within.is_some() || is_of_writer || text.is_some() || sink.is_some();
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

/// An interval under way.
struct IntervalCounts {
    /// Its first moment, and that of the next one.
    begin: Timestamp,
    end: Timestamp,
    /// Of records that name a znode, and of the others.
    of_znodes: ActivityCounts,
    of_others: ActivityCounts,
}

/// A page under way.
struct Counting<'a> {
    journal: &'a JournalQuery,
    selected: OpsSelected<'a>,
    grouping: Grouping,
    /// `None`: records count at their capture.
    intervals: Option<IntervalWalk>,
    limit: usize,
    /// Not yet in the page.
    interval: Option<IntervalCounts>,
    page: ActivityPage,
}

impl Counting<'_> {
    fn has_room_for(&mut self, keys: usize) -> bool {
        if self.page.counts.len() + KEYS_OF_INTERVAL + keys > self.limit {
            self.end_interval();
        }
        self.page.counts.len() + keys <= self.limit
    }

    /// Puts the interval under way into the page.
    fn end_interval(&mut self) {
        let Some(interval) = self.interval.take() else {
            return;
        };
        let of_znodes = (Some(ZnodePath::slash()), interval.of_znodes);
        for (subtree, counts) in [of_znodes, (None, interval.of_others)] {
            if counts != ActivityCounts::default() {
                let key: ActivityKey = (interval.begin, subtree);
                self.page.counts.entry(key).or_default().add(&counts);
            }
        }
    }

    /// The interval of a moment.
    fn interval_at(&mut self, moment: Timestamp) -> &mut IntervalCounts {
        let is_same = |known: &IntervalCounts| known.begin <= moment && moment < known.end;
        if !self.interval.as_ref().is_some_and(is_same) {
            self.end_interval();
        }
        let grouping = self.grouping;
        self.interval.get_or_insert_with(|| {
            let begin = grouping.interval(moment);
            IntervalCounts {
                begin,
                end: grouping.end_of(begin),
                of_znodes: ActivityCounts::default(),
                of_others: ActivityCounts::default(),
            }
        })
    }

    /// Counts a record; `false` if it is not selected.
    fn count(&mut self, seq: Seq, record: &RecordCount) -> Result<bool, QueryError> {
        if !self.selected.selects(record.op, record.has_path) {
            return Ok(false);
        }
        let moment = match &mut self.intervals {
            Some(intervals) => intervals.moment_of(self.journal, seq, record.captured)?,
            None => record.captured,
        };
        let one = OpCount {
            records: 1,
            missed: record.missed.unwrap_or(0),
            missed_unknown: u64::from(record.missed.is_none() && record.has_path),
        };
        let interval = self.interval_at(moment);
        match record.has_path {
            true => interval.of_znodes.add_of(record.op, one),
            false => interval.of_others.add_of(record.op, one),
        }
        Ok(true)
    }

    /// Counts a whole stretch; `false` if its records are not in one interval, or the page may have no room for them.
    fn count_all(&mut self, stretch: &CountedStretch, after: Seq) -> bool {
        let Some(captured) = stretch.captured else {
            return true;
        };
        if !self.has_room_for(KEYS_OF_INTERVAL) {
            return false;
        }
        let moments = match &mut self.intervals {
            Some(intervals) => {
                let moment = intervals.moment_of_all(self.journal, (after, stretch.last));
                moment.map(|moment| (moment, moment))
            }
            None => Some(captured),
        };
        let Some((earliest, latest)) = moments else {
            return false;
        };
        let selected = self.selected;
        let interval = self.interval_at(earliest);
        if latest >= interval.end {
            return false;
        }
        stretch.add_to(&mut interval.of_znodes, |op| {
            has_path(op) && selected.selects(op, true)
        });
        stretch.add_to(&mut interval.of_others, |op| {
            !has_path(op) && selected.selects(op, false)
        });
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
            journal: self,
            selected,
            intervals: self.intervals(grouping, range.after)?,
            grouping,
            limit,
            interval: None,
            page: ActivityPage::default(),
        };
        let left = self.count_range(range, &mut counting)?;
        counting.end_interval();
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
        let Some(length) = self.reader()?.stretch_length()? else {
            return self.count_records(left, left.until, counting);
        };
        let stretches = self.counted_stretches()?.unwrap_or_default();
        let first = stretches.partition_point(|stretch| stretch.last.0 < left.after.0 + length);
        let whole = stretches[first..].iter();
        let until = left.until;
        for stretch in whole.take_while(|stretch| stretch.last <= until) {
            let (after, last) = (Seq(stretch.last.0 - length), stretch.last);
            if left.after < after {
                left = self.count_records(left, after, counting)?;
            }
            if left.after < after || !counting.has_room_for(1) {
                return Ok(left);
            }
            match counting.count_all(stretch, after) {
                true => left.after = last,
                false => left = self.count_records(left, last, counting)?,
            }
            if left.after < last {
                return Ok(left);
            }
        }
        self.count_records(left, left.until, counting)
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
                let is_counted = counting.count(seq, &record)?;
                left.after = seq;
                if is_counted && !counting.has_room_for(1) {
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
