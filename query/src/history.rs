//! The versions of one znode, the newest first.

use std::sync::Arc;

use bridge_core::journal::{Imaged, Position, Side};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::PAGE_MAX;
use crate::as_of::AsOfQuery;
use crate::changes::{PAGE_BYTES_MAX, SCAN_MAX, bytes_of};
use crate::entry::EntrySearch;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::visibility::Access;

/// The first and the last position of a range; `None`: without such an end.
pub(crate) type PositionRange = (Option<Position>, Option<Position>);

/// Records of one path read in one step. Each costs a look-up of its own and may bring two values.
pub(crate) const STEP_VERSIONS: usize = 100;

/// Records read in the first step of a page, while the size of the path's values is unknown.
const FIRST_STEP_VERSIONS: usize = 4;

/// One record of a znode.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Version {
    /// The record.
    pub record: Arc<Record>,
    /// How many older records were merged into it because the journal was full; `None` if none was.
    pub compacted: Option<u64>,
}

/// A page of the versions of one znode.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// The newest first.
    pub versions: Vec<Version>,
    /// Where the next page begins; `None` at the oldest kept record.
    pub next: Option<Seq>,
    /// Whether retention may have removed older records. Only set on the last page.
    pub is_cut: bool,
    /// The znode as the image has it, if no record of it is kept: it has not changed since.
    pub unchanged: Option<Imaged>,
}

impl JournalQuery {
    /// The versions of a znode from `from` on (the `next` of an earlier page) or from the newest, at most `limit`
    /// ([`PAGE_MAX`] at most). A page whose values have `PAGE_BYTES_MAX` or more ends early, with its `next`. `None`:
    /// the journal knows nothing of the path.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn history(
        &self,
        path: &ZnodePath,
        from: Option<Seq>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, QueryError> {
        self.must_be_visible(path)?;
        let limit = limit.clamp(1, PAGE_MAX);
        let mut page = HistoryPage {
            versions: Vec::new(),
            next: from,
            is_cut: false,
            unchanged: None,
        };
        let (mut bytes, mut step) = (0, FIRST_STEP_VERSIONS);
        loop {
            let step_limit = step.min(limit - page.versions.len());
            let Some(read) = self.reader()?.history(path, page.next, step_limit)? else {
                return Ok(None);
            };
            let sizes = read.records.iter().map(|record| bytes_of(record));
            let largest = sizes.clone().max().unwrap_or_default();
            bytes += sizes.sum::<usize>();
            page.versions.extend(read.records.iter().filter_map(|record| {
                Some(Version {
                    compacted: read.compacted.get(&record.seq).copied(),
                    record: self.shown(record)?,
                })
            }));
            page.next = read.next;
            page.is_cut = read.is_cut;
            if page.next.is_none() || page.versions.len() >= limit || bytes >= PAGE_BYTES_MAX {
                break;
            }
            step = ((PAGE_BYTES_MAX - bytes) / largest.max(1)).clamp(1, STEP_VERSIONS);
        }
        if page.versions.is_empty() {
            page.unchanged = self.unchanged(path)?;
            if page.unchanged.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(page))
    }

    /// The versions of a znode in a range, the newest first: those that may be at or after `from` and at or before `to`.
    /// Otherwise as [`JournalQuery::history`]; a page that reads [`SCAN_MAX`] records ends there.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn history_between(
        &self,
        path: &ZnodePath,
        range: PositionRange,
        next: Option<Seq>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, QueryError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let before = range.0.map(|from| AsOfQuery::new(just_before(from)));
        let until = range.1.map(AsOfQuery::new);
        let (mut versions, mut next) = (Vec::new(), next);
        let (mut read, mut bytes) = (0, 0);
        let mut search = EntrySearch::default();
        loop {
            let Some(page) = self.history(path, next, STEP_VERSIONS.min(limit))? else {
                return Ok(None);
            };
            let walked = page.versions.len();
            read += walked as u64;
            for version in page.versions {
                let record = &version.record;
                if before
                    .as_ref()
                    .is_some_and(|at| at.side_of(record) == Side::Before)
                {
                    return Ok(Some(HistoryPage {
                        versions,
                        next: None,
                        is_cut: false,
                        unchanged: None,
                    }));
                }
                if versions.len() == limit || bytes >= PAGE_BYTES_MAX {
                    return Ok(Some(HistoryPage {
                        versions,
                        next: Some(record.seq),
                        is_cut: false,
                        unchanged: None,
                    }));
                }
                if until.as_ref().is_none_or(|at| at.side_of(record) != Side::After) {
                    bytes += bytes_of(record);
                    versions.push(version);
                }
            }
            next = page.next;
            // Until the first version is found, all are after the end of the range.
            if let (Some(older), Some(until), true) = (next, &until, versions.is_empty()) {
                next = Some(search.go_on(self, path, until, walked, older)?);
            }
            if next.is_none() || read >= SCAN_MAX {
                return Ok(Some(HistoryPage {
                    versions,
                    next,
                    is_cut: page.is_cut,
                    unchanged: page.unchanged,
                }));
            }
        }
    }

    fn unchanged(&self, path: &ZnodePath) -> Result<Option<Imaged>, QueryError> {
        let access = self.access(path);
        let found = self.reader()?.imaged(path)?;
        let is_read = |znode: &Imaged| znode.node.stat.is_some();
        Ok(found.filter(is_read).map(|znode| Imaged {
            data: znode.data.filter(|_| access == Access::Full),
            ..znode
        }))
    }
}

/// The last position before this one.
pub(crate) fn just_before(position: Position) -> Position {
    match position {
        Position::Seq(seq) => Position::Seq(Seq(seq.0.saturating_sub(1))),
        Position::Zxid(zxid) => Position::Zxid(Zxid(zxid.0.saturating_sub(1))),
        Position::Time(time) => Position::Time(Timestamp(time.0.saturating_sub(1))),
    }
}
