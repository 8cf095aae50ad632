//! The state of a sink in the journal: dead letters, records that wait for a retry, and the reason if it is disabled.

use bridge_core::journal::{Disabled, Letter, ParkedRecord, RejectedRecord};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;

use crate::PAGE_MAX;
use crate::answer::AnswerList;
use crate::cursor::{Cursor, query_hash};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::visibility::Access;

/// Entries read in one step, without their records.
const STEP_LETTERS: usize = 1_000;

impl JournalQuery {
    /// All dead letters of a sink, without their records, ascending. The policy of the sink bounds their number.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn dead_letters(&self, sink: &str) -> Result<Vec<Letter>, QueryError> {
        let mut all: Vec<Letter> = Vec::new();
        loop {
            let after = all.last().map_or(Seq::ZERO, |last| last.seq);
            let some = self.reader()?.letters(sink, after, STEP_LETTERS)?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        all.retain(|letter| self.is_visible(letter.path.as_ref()));
        Ok(all)
    }

    /// A page of the dead letters of a sink, ascending, each with whether the caller may see its value, which the reason may
    /// repeat.
    ///
    /// # Errors
    ///
    /// If the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn letters_page(
        &self,
        sink: &str,
        cursor: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<AnswerList<(Letter, bool)>, QueryError> {
        let hash = query_hash(&("letters", sink));
        let after = match cursor {
            Some(text) => {
                let [after] = Cursor::parts(text, hash)?;
                Seq(after.parse().map_err(|_| QueryError::BadCursor(after))?)
            }
            None => Seq::ZERO,
        };
        let limit = limit.clamp(1, PAGE_MAX);
        let read = self.reader()?.letters(sink, after, limit)?;
        let last = read.last().filter(|_| read.len() == limit);
        let next = last.map(|last| Cursor::new(hash, [last.seq.to_string()]).to_text());
        let letters = read.into_iter().filter_map(|letter| {
            let access = self.access_to_letter(letter.path.as_ref());
            (access != Access::Hidden).then_some((letter, access == Access::Full))
        });
        Ok(AnswerList::of(
            None,
            self.moment(None, now)?,
            letters.collect(),
            next,
        ))
    }

    /// One dead letter with its record; `None` if it is gone or hidden.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn dead_letter(&self, sink: &str, seq: Seq) -> Result<Option<RejectedRecord>, QueryError> {
        let found = self.reader()?.rejected(sink, Seq(seq.0.saturating_sub(1)), 1)?;
        let found = found.into_iter().find(|found| found.letter.seq == seq);
        Ok(found.and_then(|found| {
            let record = self.shown(&found.record)?;
            Some(RejectedRecord { record, ..found })
        }))
    }

    /// All records of a sink that wait for a retry, ascending. The engine bounds their number.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn retry_queue(&self, sink: &str) -> Result<Vec<ParkedRecord>, QueryError> {
        let mut all: Vec<ParkedRecord> = Vec::new();
        loop {
            let after = all.last().map_or(Seq::ZERO, |last| last.seq);
            let some = self.reader()?.parked(sink, after, STEP_LETTERS)?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        all.retain(|record| self.is_visible(record.path.as_ref()));
        Ok(all)
    }

    fn is_visible(&self, path: Option<&ZnodePath>) -> bool {
        self.access_to_letter(path) != Access::Hidden
    }

    /// A record without a path, such as a service event, may be of any znode: only a caller who sees all of them sees it.
    fn access_to_letter(&self, path: Option<&ZnodePath>) -> Access {
        path.map_or_else(|| self.access(&ZnodePath::slash()), |path| self.access(path))
    }

    /// Why a sink is disabled; `None` if it is not.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn disabled(&self, sink: &str) -> Result<Option<Disabled>, QueryError> {
        Ok(self.reader()?.disabled(sink)?)
    }
}
