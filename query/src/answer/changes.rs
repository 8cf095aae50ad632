//! The records of a range that pass a filter.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::record::{Record, Timestamp};

use super::{AnswerList, position_of_cursor};
use crate::certainty::Doubt;
use crate::changes::Range;
use crate::cursor::{Cursor, asked, query_hash};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::position::position_text;
use crate::selection::Selection;

/// The end of a range at which a list begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChangesOrder {
    /// The oldest records first.
    #[default]
    Oldest,
    /// The newest records first.
    Newest,
}

/// A question about the records of a range.
#[derive(Clone, Debug)]
pub struct ChangesQuestion<'a> {
    /// Where the range begins; `None` is the oldest kept record.
    pub from: Option<Position>,
    /// Where it ends; `None` is the end of the journal.
    pub to: Option<Position>,
    /// The filter.
    pub selection: &'a Selection,
    /// Names the filter: a cursor of another one is refused.
    pub filter: &'a str,
    /// The order.
    pub order: ChangesOrder,
    /// The `next` of the page before.
    pub cursor: Option<&'a str>,
    /// Items of a page, [`PAGE_MAX`](crate::PAGE_MAX) at most.
    pub limit: usize,
}

impl JournalQuery {
    /// The selected records of a range. From a zxid on means from the first record with this zxid or a later one; a time
    /// is that of a transaction where a record was read as one, and that of the capture otherwise.
    ///
    /// # Errors
    ///
    /// If the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn records_between(
        &self,
        question: &ChangesQuestion<'_>,
        now: Timestamp,
    ) -> Result<AnswerList<Arc<Record>>, QueryError> {
        let asked = (asked(question.from), asked(question.to));
        let hash = query_hash(&("changes", asked, question.filter, question.order));
        let resolved = match question.cursor {
            Some(text) => ResolvedRange::resumed(text, hash)?,
            None => self.resolve(question.from, question.to)?,
        };
        let page = match question.order {
            ChangesOrder::Oldest => self.changes(resolved.left, question.selection, question.limit)?,
            ChangesOrder::Newest => self.newest(resolved.left, question.selection, question.limit)?,
        };
        let mut items = page.records;
        if question.order == ChangesOrder::Newest {
            items.reverse();
        }
        let next = page.next.map(|left| resolved.cursor(left, hash));
        let (from, to) = self.moments(&resolved, now)?;
        let older = self.older_history(resolved.from, resolved.left.after)?;
        let known = self.known_since_begin(resolved.from, resolved.to)?;
        // Where a file has the time before, there is more to know of it.
        let known = known.filter(|known| older.is_none() || !matches!(known, Doubt::KnownSince { .. }));
        let removed = self.removed(resolved.left)?;
        let unreadable = self.unreadable_of_records((resolved.from, resolved.to), question.selection)?;
        let doubts = removed
            .into_iter()
            .chain(known)
            .chain(older)
            .chain(unreadable)
            .collect();
        Ok(AnswerList {
            scanned: page.scanned,
            gaps: page.gaps,
            doubts,
            ..AnswerList::of(from, to, items, next)
        })
    }

    /// The records between two positions, both included.
    pub(crate) fn resolve(
        &self,
        from: Option<Position>,
        to: Option<Position>,
    ) -> Result<ResolvedRange, QueryError> {
        let to = self.position_or_tail(to)?;
        let until = self.cut(to)?;
        let after = match from {
            None => Seq::ZERO,
            Some(from) => {
                let first = self.cut(from)?.first;
                first.map_or(until.tail, |first| Seq(first.0.saturating_sub(1)))
            }
        };
        // What was removed costs no steps.
        let oldest = until.oldest.map_or(Seq::ZERO, |oldest| Seq(oldest.0 - 1));
        let is_removed = from.is_some() && after < oldest;
        let after = if is_removed { after } else { after.max(oldest) };
        Ok(ResolvedRange {
            from,
            to,
            left: Range {
                after,
                until: until.seq,
            },
        })
    }

    /// The doubt of a range that begins before the kept records. One of everything begins with the first record.
    pub(crate) fn known_since_begin(
        &self,
        from: Option<Position>,
        to: Position,
    ) -> Result<Option<Doubt>, QueryError> {
        match (from, to) {
            (Some(from), _) => self.known_since(from),
            (None, Position::Seq(_)) => Ok(None),
            (None, to) => self.known_since(to),
        }
    }

    pub(crate) fn moments(
        &self,
        resolved: &ResolvedRange,
        now: Timestamp,
    ) -> Result<(Option<super::Moment>, super::Moment), QueryError> {
        let from = resolved.from.map(|from| self.moment(Some(from), now));
        Ok((from.transpose()?, self.moment(Some(resolved.to), now)?))
    }
}

/// A range of a list, and the part of it that is not read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResolvedRange {
    pub(crate) from: Option<Position>,
    pub(crate) to: Position,
    pub(crate) left: Range,
}

impl ResolvedRange {
    pub(crate) fn resumed(text: &str, hash: u64) -> Result<ResolvedRange, QueryError> {
        let [from, to, after, until] = Cursor::parts(text, hash)?;
        let bad = || QueryError::BadCursor(text.chars().take(40).collect());
        Ok(ResolvedRange {
            from: position_of_cursor(&from)?,
            to: position_of_cursor(&to)?.ok_or_else(bad)?,
            left: Range {
                after: Seq(after.parse().map_err(|_| bad())?),
                until: Seq(until.parse().map_err(|_| bad())?),
            },
        })
    }

    pub(crate) fn cursor(&self, left: Range, hash: u64) -> String {
        let parts = [
            self.from.map(position_text).unwrap_or_default(),
            position_text(self.to),
            left.after.to_string(),
            left.until.to_string(),
        ];
        Cursor::new(hash, parts).to_text()
    }
}
