//! How the records of a selection are found: by reading all of them, or, where the selection is a subtree with few paths,
//! by the chains of these paths. If those are long, by looking at the paths of all records and reading those alone.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bridge_core::journal::{PathNumber, ReadLimit, ReadOrder};
use bridge_core::number::Seq;
use bridge_core::record::Record;

use crate::changes::{ChangesPage, GapMark, PAGE_BYTES_MAX, Range, SCAN_MAX, STEP, bytes_of};
use crate::coverage::STEP_MARKS;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::selection::{PathPattern, Selection};

/// Paths of a subtree with few paths. Finding them costs up to some milliseconds for each page.
const PATHS_MAX: usize = 2_000;

/// Records that one page looks at where it reads few of them: 20 times as many as it could read.
pub(crate) const LOOK_MAX: u64 = 20 * SCAN_MAX;

/// Steps along the records of the paths of a subtree: some 30 ms. Where they are not enough, the records are close to each
/// other, or an older format has written them.
const STEPS_MAX: usize = 20_000;

/// Records that one step reads by their numbers.
const STEP_SEQS: usize = if cfg!(test) { 3 } else { 200 };

/// Records that one step looks at. Few in tests, so that short histories take several steps.
const LOOK_STEP: u64 = if cfg!(test) { 3 } else { 50_000 };

/// A range that is read in less time than the paths are found. None in tests, whose histories are short.
const SHORT: u64 = if cfg!(test) { 1 } else { 2_000 };

/// The way to find the records of a selection.
#[derive(Debug)]
pub(crate) enum ScanPlan {
    /// Reads every record.
    All,
    /// Reads the records of these paths, and the marks of gaps.
    Paths(HashSet<PathNumber>),
    /// Reads these records, and the marks of gaps.
    Seqs(Vec<Seq>),
}

impl JournalQuery {
    /// The plan for a selection in a range. Every record up to now has a path that is known now.
    pub(crate) fn plan(&self, selection: &Selection, range: Range) -> Result<ScanPlan, QueryError> {
        if range.until.0.saturating_sub(range.after.0) < SHORT {
            return Ok(ScanPlan::All);
        }
        let [PathPattern::Subtree(top)] = &selection.paths[..] else {
            return Ok(ScanPlan::All);
        };
        if top.is_slash() {
            return Ok(ScanPlan::All);
        }
        // An older format has no marks that could be found alone.
        if self.reader()?.marks(Seq::ZERO, 1)?.is_none() {
            return Ok(ScanPlan::All);
        }
        // Later records may be of paths that are not known yet.
        let has_all = range.until <= self.tail()?;
        let Some(paths) = self.reader()?.paths_below(top, PATHS_MAX)? else {
            return Ok(ScanPlan::All);
        };
        if has_all {
            let range = (range.after, range.until);
            let newest = paths.iter().filter_map(|end| Some((end.number, end.last?)));
            let newest: Vec<_> = newest.collect();
            let seqs = self.reader()?.seqs_of_paths(&newest, range, STEPS_MAX)?;
            if let Some(seqs) = seqs {
                return Ok(ScanPlan::Seqs(seqs));
            }
        }
        Ok(ScanPlan::Paths(paths.into_iter().map(|end| end.number).collect()))
    }

    /// Gives these records and the marks of a range that this caller may see to `take`, in order, until it breaks or
    /// [`LOOK_MAX`] records were read. Returns the rest of the range, and the number of records that were read.
    pub(crate) fn scan_seqs(
        &self,
        range: Range,
        seqs: &[Seq],
        mut take: impl FnMut(&Arc<Record>) -> ControlFlow<()>,
    ) -> Result<(Range, u64), QueryError> {
        let (mut left, mut read) = (range, 0);
        while !left.is_empty() && read < LOOK_MAX {
            let next = seqs.partition_point(|seq| *seq <= left.after);
            let step = &seqs[next..seqs.len().min(next + STEP_SEQS)];
            let step: Vec<Seq> = step
                .iter()
                .copied()
                .take_while(|seq| *seq <= left.until)
                .collect();
            let (mut records, count) = self.reader()?.records(&step, STEP.bytes)?;
            let mut reached = match step.get(count).or(step.last()) {
                Some(unread) if count < step.len() => Seq(unread.0 - 1),
                Some(last) if step.len() == STEP_SEQS => *last,
                _ => left.until,
            };
            let marks = self.reader()?.marks(left.after, STEP_MARKS)?.unwrap_or_default();
            if let Some(last) = marks.last().filter(|_| marks.len() == STEP_MARKS) {
                reached = reached.min(last.seq);
            }
            records.extend(marks);
            records.retain(|record| record.seq <= reached);
            records.sort_by_key(|record| record.seq);
            for record in &records {
                read += 1;
                left.after = record.seq;
                if !self.is_hidden(record) && take(record).is_break() {
                    return Ok((left, read));
                }
            }
            left.after = reached;
        }
        Ok((left, read))
    }

    /// The last selected ones of these records, as [`JournalQuery::newest`].
    pub(crate) fn newest_of_seqs(
        &self,
        mut left: Range,
        seqs: &[Seq],
        selection: &Selection,
        limit: usize,
    ) -> Result<ChangesPage, QueryError> {
        let (mut page, mut bytes, begin) = (ChangesPage::default(), 0, left.until);
        let mut seqs = &seqs[..seqs.partition_point(|seq| *seq <= left.until)];
        while page.records.len() < limit && bytes < PAGE_BYTES_MAX && page.scanned < LOOK_MAX {
            let Some(last) = seqs.last().filter(|seq| **seq > left.after) else {
                left.until = left.after;
                break;
            };
            let from = Seq(last.0 - 1);
            seqs = &seqs[..seqs.len() - 1];
            page.scanned += 1;
            left.until = from;
            let (records, _) = self.reader()?.records(&[*last], STEP.bytes)?;
            let visible = records.iter().filter(|record| !self.is_hidden(record));
            let selected = visible.filter_map(|record| self.selected(record, selection));
            for record in selected {
                bytes += bytes_of(&record);
                page.records.push(record);
            }
        }
        page.gaps = self.gap_marks(Range {
            after: left.until,
            until: begin,
        })?;
        page.records.reverse();
        page.next = (!left.is_empty()).then_some(left);
        Ok(page)
    }

    /// Gives the records of these paths and the marks of a range that this caller may see to `take`, in order, until it
    /// breaks or [`LOOK_MAX`] records were looked at. Returns the rest of the range, and the number of records looked at.
    pub(crate) fn scan_paths(
        &self,
        range: Range,
        paths: &HashSet<PathNumber>,
        mut take: impl FnMut(&Arc<Record>) -> ControlFlow<()>,
    ) -> Result<(Range, u64), QueryError> {
        let (mut left, mut looked) = (range, 0);
        while !left.is_empty() && looked < LOOK_MAX {
            let until = Seq(left.after.0.saturating_add(LOOK_STEP)).min(left.until);
            let (mut records, mut reached) =
                self.reader()?
                    .read_paths(paths, (left.after, until), ReadOrder::Oldest, STEP)?;
            let marks = self.reader()?.marks(left.after, STEP_MARKS)?.unwrap_or_default();
            if let Some(last) = marks.last().filter(|_| marks.len() == STEP_MARKS) {
                reached = reached.min(last.seq);
            }
            records.extend(marks);
            records.retain(|record| record.seq <= reached);
            records.sort_by_key(|record| record.seq);
            for record in &records {
                if !self.is_hidden(record) && take(record).is_break() {
                    looked += record.seq.0 - left.after.0;
                    left.after = record.seq;
                    return Ok((left, looked));
                }
            }
            looked += reached.0 - left.after.0;
            left.after = reached;
        }
        Ok((left, looked))
    }

    /// The last selected records of these paths, as [`JournalQuery::newest`].
    pub(crate) fn newest_of_paths(
        &self,
        mut left: Range,
        paths: &HashSet<PathNumber>,
        selection: &Selection,
        limit: usize,
    ) -> Result<ChangesPage, QueryError> {
        let mut page = ChangesPage::default();
        let mut bytes = 0;
        while !left.is_empty()
            && page.records.len() < limit
            && bytes < PAGE_BYTES_MAX
            && page.scanned < LOOK_MAX
        {
            let after = Seq(left.until.0.saturating_sub(LOOK_STEP)).max(left.after);
            let step = ReadLimit {
                records: limit - page.records.len(),
                bytes: PAGE_BYTES_MAX - bytes,
            };
            let (records, reached) =
                self.reader()?
                    .read_paths(paths, (after, left.until), ReadOrder::Newest, step)?;
            let visible = records.iter().filter(|record| !self.is_hidden(record));
            let selected: Vec<_> = visible
                .filter_map(|record| self.selected(record, selection))
                .collect();
            bytes += selected.iter().map(|record| bytes_of(record)).sum::<usize>();
            page.records.extend(selected);
            let seen = Range {
                after: Seq(reached.0 - 1),
                until: left.until,
            };
            page.gaps.extend(self.gap_marks(seen)?);
            page.scanned += seen.until.0 - seen.after.0;
            left.until = seen.after;
        }
        page.records.reverse();
        page.gaps.sort_by_key(|gap| gap.seq);
        page.next = (!left.is_empty()).then_some(left);
        Ok(page)
    }

    /// The gaps of visible roots that begin or end in a range.
    pub(crate) fn gap_marks(&self, range: Range) -> Result<Vec<GapMark>, QueryError> {
        let (mut gaps, mut after) = (Vec::new(), range.after);
        loop {
            let marks = self.reader()?.marks(after, STEP_MARKS)?.unwrap_or_default();
            let inside = marks.iter().filter(|mark| mark.seq <= range.until);
            let visible = inside.filter(|mark| !self.is_hidden(mark));
            gaps.extend(visible.filter_map(|mark| GapMark::of(mark)));
            match marks.last() {
                Some(last) if marks.len() == STEP_MARKS && last.seq < range.until => after = last.seq,
                _ => return Ok(gaps),
            }
        }
    }
}
