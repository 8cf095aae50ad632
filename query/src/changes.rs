//! Records of a range of the journal, in order, page by page.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bridge_core::journal::{Position, ReadLimit};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Gap, Op, Record, State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::PAGE_MAX;
use crate::at_position::ONE_RECORD;
use crate::certainty::Doubt;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::plan::{LOOK_MAX, ScanPlan};
use crate::selection::Selection;

/// The most records that one step reads: a transaction of a few milliseconds.
pub const STEP: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 8 << 20,
};

/// Records that the first step of a short page reads where the newest are wanted: mostly the step finds them all.
const FIRST_WIDTH: u64 = 64;

/// Records that one page reads at most, selected or not: some 100 ms.
pub const SCAN_MAX: u64 = 20_000;

/// Bytes of values that one page holds at most, beside one record.
pub(crate) const PAGE_BYTES_MAX: usize = 4 << 20;

/// The bytes of the values of a record.
pub(crate) fn bytes_of(record: &Record) -> usize {
    let bytes = |state: &Option<State>| {
        let data = state.as_ref().and_then(|state| state.data.as_ref());
        data.map_or(0, |data| data.bytes.len())
    };
    bytes(&record.before) + bytes(&record.after)
}

/// The records after `after`, up to and including `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The record before the first.
    pub after: Seq,
    /// The last record.
    pub until: Seq,
}

impl Range {
    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.after >= self.until
    }
}

/// A gap that begins or ends within the records that a page has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GapMark {
    /// The control record.
    pub seq: Seq,
    /// Whether the gap ends here; otherwise it begins.
    pub is_end: bool,
    /// The root of which changes may have been missed.
    pub root: Option<ZnodePath>,
    /// The gap, as the record describes it.
    pub gap: Gap,
}

/// A page of selected records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangesPage {
    /// Ascending by seq.
    pub records: Vec<Arc<Record>>,
    /// The rest of the range; `None` at its end.
    pub next: Option<Range>,
    /// Records read, selected or not, visible or not.
    pub scanned: u64,
    /// The gaps of visible roots among the records read, selected or not.
    pub gaps: Vec<GapMark>,
}

impl GapMark {
    /// The mark of a control record; `None` for any other record.
    pub(crate) fn of(record: &Record) -> Option<GapMark> {
        Some(GapMark {
            seq: record.seq,
            is_end: record.op == Op::GapEnd,
            root: record.root.clone(),
            gap: record.gap.clone()?,
        })
    }
}

impl JournalQuery {
    /// The first selected records of a range, at most `limit` ([`PAGE_MAX`] at most).
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn changes(
        &self,
        range: Range,
        selection: &Selection,
        limit: usize,
    ) -> Result<ChangesPage, QueryError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let plan = self.plan(selection, range)?;
        let mut page = ChangesPage::default();
        let mut bytes = 0;
        let (left, scanned) = self.scan_by(&plan, range, |record| {
            page.gaps.extend(GapMark::of(record));
            if let Some(record) = self.selected(record, selection) {
                bytes += bytes_of(&record);
                page.records.push(record);
            }
            match page.records.len() < limit && bytes < PAGE_BYTES_MAX {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        page.scanned = scanned;
        page.next = (!left.is_empty()).then_some(left);
        Ok(page)
    }

    /// The last selected records of a range, at most `limit` ([`PAGE_MAX`] at most), ascending. The next page holds the
    /// records before them.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn newest(
        &self,
        range: Range,
        selection: &Selection,
        limit: usize,
    ) -> Result<ChangesPage, QueryError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut page = ChangesPage::default();
        let Some(oldest) = self.reader()?.oldest()? else {
            return Ok(page);
        };
        // Records that retention has removed cost no steps.
        let mut left = Range {
            after: range.after.max(Seq(oldest.0 - 1)),
            until: range.until.min(self.tail()?),
        };
        match self.plan(selection, left)? {
            ScanPlan::All => {}
            ScanPlan::Paths(paths) => return self.newest_of_paths(left, &paths, selection, limit),
            ScanPlan::Seqs(seqs) => return self.newest_of_seqs(left, &seqs, selection, limit),
        }
        // Each step is put before the ones that were read earlier.
        let mut steps: Vec<VecDeque<Arc<Record>>> = Vec::new();
        let (mut found, mut bytes, mut looked) = (0, 0, 0);
        let mut width = (limit as u64 * 2).clamp(FIRST_WIDTH, STEP.records as u64);
        while !left.is_empty() {
            if page.scanned >= SCAN_MAX || looked >= LOOK_MAX {
                page.next = Some(left);
                break;
            }
            let begin = Seq(left.until.0.saturating_sub(width)).max(left.after);
            width = (width * 2).min(STEP.records as u64);
            looked += left.until.0 - begin.0;
            let room = ReadLimit {
                records: limit - found,
                bytes: PAGE_BYTES_MAX - bytes,
            };
            let (step, is_cut) = self.stretch(Range { after: begin, ..left }, selection, room, &mut page)?;
            found += step.len();
            bytes += step.iter().map(|record| bytes_of(record)).sum::<usize>();
            let is_full = is_cut || found == limit || bytes >= PAGE_BYTES_MAX;
            left.until = match step.front() {
                Some(first) if is_full => Seq(first.seq.0 - 1),
                _ => begin,
            };
            steps.push(step);
            if is_full {
                page.next = (!left.is_empty()).then_some(left);
                break;
            }
        }
        page.records = steps.into_iter().rev().flatten().collect();
        page.gaps.sort_by_key(|gap| gap.seq);
        Ok(page)
    }

    /// The last selected records of a range of at most [`STEP`] records that have room, at least one, and whether there
    /// are more before them.
    fn stretch(
        &self,
        range: Range,
        selection: &Selection,
        room: ReadLimit,
        page: &mut ChangesPage,
    ) -> Result<(VecDeque<Arc<Record>>, bool), QueryError> {
        let (mut found, mut bytes, mut is_cut) = (VecDeque::new(), 0, false);
        let (_, scanned) = self.scan(range, |record| {
            page.gaps.extend(GapMark::of(record));
            if let Some(record) = self.selected(record, selection) {
                bytes += bytes_of(&record);
                found.push_back(record);
            }
            while found.len() > 1 && (found.len() > room.records || bytes > room.bytes) {
                bytes -= found.pop_front().map_or(0, |record| bytes_of(&record));
                is_cut = true;
            }
            ControlFlow::Continue(())
        })?;
        page.scanned += scanned;
        Ok((found, is_cut))
    }

    /// The record as this caller may see it, if it is selected as such: a text is not looked for in a masked value.
    pub fn selected(&self, record: &Arc<Record>, selection: &Selection) -> Option<Arc<Record>> {
        if !selection.selects(record) {
            return None;
        }
        self.shown(record).filter(|shown| selection.finds(shown))
    }

    /// Gives the records that a plan finds in a range to `take`, as [`JournalQuery::scan`].
    pub(crate) fn scan_by(
        &self,
        plan: &ScanPlan,
        range: Range,
        take: impl FnMut(&Arc<Record>) -> ControlFlow<()>,
    ) -> Result<(Range, u64), QueryError> {
        match plan {
            ScanPlan::All => self.scan(range, take),
            ScanPlan::Paths(paths) => self.scan_paths(range, paths, take),
            ScanPlan::Seqs(seqs) => self.scan_seqs(range, seqs, take),
        }
    }

    /// Gives the records of a range that this caller may see to `take`, in order, until it breaks or [`SCAN_MAX`] records
    /// are read. Returns the rest of the range after the last record that was read, and their number, hidden ones
    /// included.
    pub(crate) fn scan(
        &self,
        range: Range,
        mut take: impl FnMut(&Arc<Record>) -> ControlFlow<()>,
    ) -> Result<(Range, u64), QueryError> {
        let (mut left, mut scanned) = (range, 0);
        while !left.is_empty() && scanned < SCAN_MAX {
            let length = usize::try_from(left.until.0 - left.after.0).unwrap_or(usize::MAX);
            let step = ReadLimit {
                records: STEP.records.min(length),
                ..STEP
            };
            let records = self.reader()?.read(left.after, step)?;
            let mut is_end = true;
            for record in records.iter().take_while(|record| record.seq <= left.until) {
                is_end = false;
                left.after = record.seq;
                scanned += 1;
                if !self.is_hidden(record) && take(record).is_break() {
                    return Ok((left, scanned));
                }
            }
            if is_end {
                left.after = left.until;
            }
        }
        Ok((left, scanned))
    }

    /// The doubt of a list whose range begins before the kept records: an empty one does not show that nothing happened.
    /// `begin` is where it begins, or where it ends if it has no begin.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn known_since(&self, begin: Position) -> Result<Option<Doubt>, QueryError> {
        let Some(oldest) = self.oldest()? else {
            return Ok(Some(Doubt::EmptyJournal));
        };
        let is_before = match begin {
            // Records that were removed have a doubt of their own.
            Position::Seq(_) => false,
            Position::Zxid(at) => self.begins_at()?.is_none_or(|begin| at < begin),
            Position::Time(_) => self.cut(begin)?.seq < oldest,
        };
        if !is_before {
            return Ok(None);
        }
        let first = self.reader()?.read(Seq(oldest.0 - 1), ONE_RECORD)?;
        let Some(first) = first.first() else {
            return Ok(None);
        };
        Ok(Some(Doubt::KnownSince {
            seq: first.seq,
            at: self.counted_at(first.seq, first.time.captured)?,
            is_backfilled: self.past.is_some(),
        }))
    }

    /// The doubt of an answer from a range whose first records retention has removed.
    pub(crate) fn removed(&self, range: Range) -> Result<Option<Doubt>, QueryError> {
        let oldest = self.reader()?.oldest()?;
        let is_cut = oldest.is_some_and(|oldest| range.after.next() < oldest);
        Ok(is_cut.then_some(Doubt::Removed))
    }
}
