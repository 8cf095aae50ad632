//! The image: znodes that exist now, as the journal last knew them.

use std::sync::Arc;

use bridge_core::journal::Imaged;
use bridge_core::path::ZnodePath;

use crate::PAGE_MAX;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::visibility::Access;

/// A page of the children of a znode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildrenPage {
    /// Their names, by their bytes.
    pub names: Vec<Arc<str>>,
    /// The `after` of the next page, if there may be one.
    pub next: Option<Arc<str>>,
}

impl JournalQuery {
    /// A znode of the image; `None` if it does not exist there. A masked znode comes without its data.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn znode(&self, path: &ZnodePath) -> Result<Option<Imaged>, QueryError> {
        let access = self.must_be_visible(path)?;
        let found = self.reader()?.imaged(path)?;
        Ok(found.map(|znode| Imaged {
            data: znode.data.filter(|_| access == Access::Full),
            ..znode
        }))
    }

    /// The names of the children that exist in the image, by their bytes: names greater than `after`, at most `limit`
    /// ([`PAGE_MAX`] at most), without hidden ones.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn children(
        &self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ChildrenPage, QueryError> {
        self.must_be_visible(path)?;
        let limit = limit.clamp(1, PAGE_MAX);
        let mut names = self.reader()?.living_children(path, after, limit)?;
        let next = names.last().filter(|_| names.len() == limit).cloned();
        names.retain(|name| self.access(&path.child(name)) != Access::Hidden);
        Ok(ChildrenPage { names, next })
    }
}
