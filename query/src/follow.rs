//! Follows a journal: every selected record after a position, as it becomes durable.

use bridge_core::number::Seq;

use crate::PAGE_MAX;
use crate::changes::{ChangesPage, Range};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::selection::Selection;

/// The position of one subscriber in one journal. It holds nothing in the journal back: if retention removes records
/// before they are read, they are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    after: Seq,
}

impl Follower {
    /// Follows the records after a record.
    pub fn new(after: Seq) -> Follower {
        Follower { after }
    }

    /// The last record that was read.
    pub fn after(&self) -> Seq {
        self.after
    }

    /// The next page, which may hold no selected record; `None` at the end of the journal.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy; the position stays.
    pub fn next(
        &mut self,
        journal: &JournalQuery,
        selection: &Selection,
    ) -> Result<Option<ChangesPage>, QueryError> {
        self.next_within(journal, selection, PAGE_MAX)
    }

    /// The same with at most `limit` records ([`PAGE_MAX`] at most).
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy; the position stays.
    pub fn next_within(
        &mut self,
        journal: &JournalQuery,
        selection: &Selection,
        limit: usize,
    ) -> Result<Option<ChangesPage>, QueryError> {
        let range = Range {
            after: self.after,
            until: journal.tail()?,
        };
        if range.is_empty() {
            return Ok(None);
        }
        let page = journal.changes(range, selection, limit)?;
        self.after = page.next.map_or(range.until, |next| next.after);
        Ok(Some(page))
    }
}
