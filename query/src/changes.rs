//! Records of a range of the journal, in order, page by page.

use std::sync::Arc;

use bridge_core::journal::ReadLimit;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Gap, Op, Record};

use crate::PAGE_MAX;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::selection::Selection;

/// What one step reads: a transaction of a few milliseconds.
pub const STEP: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 8 << 20,
};

/// Records that one page reads at most, selected or not: some 100 ms.
pub const SCAN_MAX: u64 = 20_000;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapMark {
    /// The control record.
    pub seq: Seq,
    /// Whether the gap ends here; otherwise it begins.
    pub is_end: bool,
    /// The root of which changes may have been missed.
    pub root: Option<ZnodePath>,
    /// What the record says of it.
    pub gap: Gap,
}

/// A page of selected records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangesPage {
    /// Ascending by seq.
    pub records: Vec<Arc<Record>>,
    /// What is left of the range; `None` at its end.
    pub next: Option<Range>,
    /// Records read, selected or not.
    pub scanned: u64,
    /// The gaps among the records read, selected or not.
    pub gaps: Vec<GapMark>,
}

impl ChangesPage {
    fn scan(&mut self, record: &Record) {
        self.scanned += 1;
        if let Some(gap) = record.gap.as_ref() {
            self.gaps.push(GapMark {
                seq: record.seq,
                is_end: record.op == Op::GapEnd,
                root: record.root.clone(),
                gap: gap.clone(),
            });
        }
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
        let mut page = ChangesPage::default();
        let mut left = range;
        while !left.is_empty() {
            if page.records.len() == limit || page.scanned >= SCAN_MAX {
                page.next = Some(left);
                break;
            }
            let records = self.reader()?.read(left.after, STEP)?;
            let records: Vec<_> = records
                .into_iter()
                .take_while(|record| record.seq <= left.until)
                .collect();
            if records.is_empty() {
                break;
            }
            for record in records {
                if page.records.len() == limit {
                    break;
                }
                left.after = record.seq;
                page.scan(&record);
                if selection.selects(&record) {
                    page.records.extend(self.shown(&record));
                }
            }
        }
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
        // What retention has removed costs no steps.
        let mut left = Range {
            after: range.after.max(Seq(oldest.0 - 1)),
            ..range
        };
        // Each step is put before the ones that were read earlier.
        let mut steps: Vec<Vec<Arc<Record>>> = Vec::new();
        let mut found = 0;
        while !left.is_empty() {
            if page.scanned >= SCAN_MAX {
                page.next = Some(left);
                break;
            }
            let begin = Seq(left.until.0.saturating_sub(STEP.records as u64)).max(left.after);
            let mut step = self.stretch(Range { after: begin, ..left }, selection, &mut page)?;
            let surplus = step.len().saturating_sub(limit - found);
            step.drain(..surplus);
            found += step.len();
            left.until = match step.first() {
                Some(first) if found == limit => Seq(first.seq.0 - 1),
                _ => begin,
            };
            steps.push(step);
            if found == limit {
                page.next = (!left.is_empty()).then_some(left);
                break;
            }
        }
        page.records = steps.into_iter().rev().flatten().collect();
        page.gaps.sort_by_key(|gap| gap.seq);
        Ok(page)
    }

    /// All selected records of a short range.
    fn stretch(
        &self,
        range: Range,
        selection: &Selection,
        page: &mut ChangesPage,
    ) -> Result<Vec<Arc<Record>>, QueryError> {
        let mut found = Vec::new();
        let mut after = range.after;
        while after < range.until {
            let records = self.reader()?.read(after, STEP)?;
            let Some(last) = records.last() else { break };
            after = last.seq;
            for record in records.iter().filter(|record| record.seq <= range.until) {
                page.scan(record);
                if selection.selects(record) {
                    found.extend(self.shown(record));
                }
            }
        }
        Ok(found)
    }
}
