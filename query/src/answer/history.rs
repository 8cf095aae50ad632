//! The versions of a znode in a range.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Stat, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::moment::Moment;
use super::position_of_cursor;
use crate::certainty::Doubt;
use crate::cursor::{Cursor, asked, query_hash};
use crate::error::QueryError;
use crate::history::Version;
use crate::journal::JournalQuery;
use crate::position::position_text;

/// A question about the versions of a znode.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuestion<'a> {
    /// The znode.
    pub path: &'a ZnodePath,
    /// Only versions at or after this moment.
    pub from: Option<Position>,
    /// Only versions at or before this moment.
    pub to: Option<Position>,
    /// The `next` of the page before.
    pub cursor: Option<&'a str>,
    /// Items of a page, [`PAGE_MAX`](crate::PAGE_MAX) at most.
    pub limit: usize,
}

/// A page of the versions of a znode.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HistoryAnswer {
    /// Its path.
    pub path: ZnodePath,
    /// The name of the source.
    pub source: Arc<str>,
    /// Where the range begins; null if it is all of the history.
    pub from: Option<Moment>,
    /// Where the range ends.
    pub to: Moment,
    /// The versions, the newest first.
    pub items: Vec<Version>,
    /// The `cursor` of the next page; null on the last one.
    pub next: Option<String>,
    /// Whether this is the last page.
    pub complete: bool,
    /// Whether older records may have been removed; only on the last page.
    pub removed: bool,
    /// The znode as it is, if no record of it is kept: it has not changed since.
    pub unchanged: Option<UnchangedZnode>,
    /// Everything that is open about the list as a whole, in sentences.
    pub doubts: Vec<Doubt>,
}

/// A znode without kept records.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct UnchangedZnode {
    /// Its Stat.
    pub stat: Option<Stat>,
    /// Its data; null if it is not known or masked.
    pub data: Option<Data>,
}

impl JournalQuery {
    /// The versions of a znode in a range. `None`: the journal knows nothing of the path.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn versions(
        &self,
        question: &HistoryQuestion<'_>,
        now: Timestamp,
    ) -> Result<Option<HistoryAnswer>, QueryError> {
        let HistoryQuestion { path, from, to, .. } = *question;
        self.must_be_visible(path)?;
        let asked = (asked(from), asked(to));
        let hash = query_hash(&("history", path.as_str(), asked));
        let (from, to, next) = match question.cursor {
            Some(text) => {
                let [from, to, next] = Cursor::parts(text, hash)?;
                let next = next.parse().map_err(|_| QueryError::BadCursor(next))?;
                (
                    position_of_cursor(&from)?,
                    position_of_cursor(&to)?,
                    Some(Seq(next)),
                )
            }
            None => (from, to, None),
        };
        let to = self.position_or_tail(to)?;
        let Some(page) = self.history_between(path, (from, Some(to)), next, question.limit)? else {
            return Ok(None);
        };
        let resume = page.next.map(|next| {
            let from = from.map(position_text).unwrap_or_default();
            Cursor::new(hash, [from, position_text(to), next.to_string()]).to_text()
        });
        Ok(Some(HistoryAnswer {
            path: path.clone(),
            source: Arc::clone(self.source()),
            from: from.map(|from| self.moment(Some(from), now)).transpose()?,
            to: self.moment(Some(to), now)?,
            items: page.versions,
            complete: resume.is_none(),
            next: resume,
            removed: page.is_cut,
            unchanged: page.unchanged.map(|znode| UnchangedZnode {
                stat: znode.node.stat,
                data: znode.data,
            }),
            doubts: page.is_cut.then_some(Doubt::Removed).into_iter().collect(),
        }))
    }
}
