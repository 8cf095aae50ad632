//! The versions of one znode, the newest first.

use std::sync::Arc;

use bridge_core::journal::Imaged;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;

use crate::PAGE_MAX;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::visibility::Access;

/// Records of one path read in one step. Each costs a look-up of its own and may bring two values.
pub(crate) const STEP_VERSIONS: usize = 100;

/// One record of a znode.
#[derive(Clone, Debug, PartialEq)]
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
    /// ([`PAGE_MAX`] at most). `None`: the journal knows nothing of the path.
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
        loop {
            let step = STEP_VERSIONS.min(limit - page.versions.len());
            let Some(read) = self.reader()?.history(path, page.next, step)? else {
                return Ok(None);
            };
            page.versions.extend(read.records.iter().filter_map(|record| {
                Some(Version {
                    compacted: read.compacted.get(&record.seq).copied(),
                    record: self.shown(record)?,
                })
            }));
            page.next = read.next;
            page.is_cut = read.is_cut;
            if page.next.is_none() || page.versions.len() >= limit {
                break;
            }
        }
        if page.versions.is_empty() {
            page.unchanged = self.unchanged(path)?;
            if page.unchanged.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(page))
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
