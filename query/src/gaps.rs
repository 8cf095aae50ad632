//! The gaps of a range: when changes of a root may have been missed, and why.

use std::ops::ControlFlow;
use std::sync::Arc;

use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Gap, GapReason, Op, Record, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::PAGE_MAX;
use crate::certainty::Doubt;
use crate::changes::Range;
use crate::coverage::STEP_MARKS;
use crate::error::QueryError;
use crate::journal::JournalQuery;

/// A place in the journal and the time of its capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Captured {
    /// The record.
    pub seq: Seq,
    /// When it was captured.
    pub at: Timestamp,
}

/// A gap of one root. A root has one open gap at most: a later begin continues it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GapSpan {
    /// The root of which changes may have been missed.
    pub root: ZnodePath,
    /// Its first `gap_begin`; `None` if that is before the range.
    pub begin: Option<Captured>,
    /// The last moment at which capture of the root is known to have been live: changes after it may have been missed.
    /// `None` if that is before the range, or not known.
    pub since: Option<Timestamp>,
    /// Its `gap_end`, or the `snapshot_end` of a root that is watched again; `None` while it is open.
    pub end: Option<Captured>,
    /// The reason of its first record in the range.
    pub reason: GapReason,
    /// Everything up to it was reported before the gap.
    pub from_zxid: Zxid,
    /// Everything up to it was reported before the end; `None` while the gap is open.
    pub to_zxid: Option<Zxid>,
    /// Differences found since the last `gap_begin`; `None` while the gap is open, and in older journals.
    pub differences: Option<u64>,
}

/// The rest of a range, and the gaps that are open at its first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapScan {
    /// The records that are not read yet.
    pub range: Range,
    /// One for each root at most.
    pub open: Vec<GapSpan>,
}

impl From<Range> for GapScan {
    fn from(range: Range) -> GapScan {
        GapScan {
            range,
            open: Vec::new(),
        }
    }
}

/// A page of gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapsPage {
    /// The gaps that end in this page, in the order of their ends.
    pub closed: Vec<GapSpan>,
    /// Where the next page begins. If its range is empty, this is the last page, and its open gaps are open at the end
    /// of the range.
    pub left: GapScan,
    /// The doubts about the answer.
    pub doubts: Vec<Doubt>,
}

impl JournalQuery {
    /// The gaps of a range that end in it, at most `limit` ([`PAGE_MAX`] at most), and those open at its end. Gaps of
    /// hidden roots are left out.
    ///
    /// Reads the marks of the journal. In a file of an older format, which has no index of them, it reads every record of
    /// the range, [`SCAN_MAX`](crate::SCAN_MAX) for each page.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn gaps(&self, from: GapScan, limit: usize) -> Result<GapsPage, QueryError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let GapScan { range, mut open } = from;
        let doubts = self.removed(range)?.into_iter().collect();
        let mut closed = Vec::new();
        let left = self.scan_marks(range, |record| {
            closed.extend(follow_gap(record, &mut open));
            match closed.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        let has_transactions = self.reader()?.has_transactions()?;
        for span in closed.iter_mut().chain(&mut open) {
            let Some(begin) = span.begin else { continue };
            if span.since.is_none() {
                // A journal of an earlier version does not say it.
                span.since = self.reader()?.captured_before(begin.seq)?;
            }
            if has_transactions && let Some(late) = self.late_before(begin.seq)? {
                span.since = Some(late);
            }
        }
        Ok(GapsPage {
            closed,
            left: GapScan { range: left, open },
            doubts,
        })
    }
}

impl JournalQuery {
    /// Gives the marks of a range that this caller may see to `take`, in order, until it breaks or [`MARKS_PAGE`] are
    /// read. Returns the rest of the range.
    fn scan_marks(
        &self,
        range: Range,
        mut take: impl FnMut(&Arc<Record>) -> ControlFlow<()>,
    ) -> Result<Range, QueryError> {
        let (mut left, mut read) = (range, 0);
        while !left.is_empty() && read < MARKS_PAGE {
            let Some(marks) = self.reader()?.marks(left.after, STEP_MARKS)? else {
                return Ok(self.scan(left, take)?.0);
            };
            read += marks.len();
            let is_last = marks.len() < STEP_MARKS;
            for mark in &marks {
                if mark.seq > left.until {
                    break;
                }
                left.after = mark.seq;
                if !self.is_hidden(mark) && take(mark).is_break() {
                    return Ok(left);
                }
            }
            if is_last || marks.last().is_some_and(|last| last.seq > left.until) {
                left.after = left.until;
            }
        }
        Ok(left)
    }
}

/// Marks that one page reads at most: some 30 ms.
const MARKS_PAGE: usize = 2_000;

/// Opens, continues or closes a gap. Returns a closed one.
fn follow_gap(record: &Record, open: &mut Vec<GapSpan>) -> Option<GapSpan> {
    let root = record.root.as_ref()?;
    let here = Captured {
        seq: record.seq,
        at: record.time.captured,
    };
    let known = open.iter().position(|span| span.root == *root);
    // The listing of a root that was not watched for a while ends its gap.
    if record.op == Op::SnapshotEnd {
        let at = known.filter(|at| open[*at].reason == GapReason::Unwatched)?;
        return Some(GapSpan {
            end: Some(here),
            to_zxid: record.zxid,
            ..open.remove(at)
        });
    }
    let gap = record.gap.as_ref()?;
    if record.op == Op::GapEnd {
        let span = known.map_or_else(|| span(root, gap, None), |at| open.remove(at));
        return Some(GapSpan {
            end: Some(here),
            to_zxid: gap.to_zxid,
            differences: gap.differences,
            ..span
        });
    }
    match known {
        None => open.push(span(root, gap, Some(here))),
        Some(at) if gap.reason == GapReason::Unwatched => open[at].reason = gap.reason,
        Some(_) => {}
    }
    None
}

fn span(root: &ZnodePath, gap: &Gap, begin: Option<Captured>) -> GapSpan {
    GapSpan {
        root: root.clone(),
        begin,
        since: gap.since.filter(|_| begin.is_some()),
        end: None,
        reason: gap.reason,
        from_zxid: gap.from_zxid,
        to_zxid: None,
        differences: None,
    }
}
