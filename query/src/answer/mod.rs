//! The answers as documents: what the commands print with `--json` and the HTTP API serves, from the same types.
//!
//! Invariants:
//!
//! * A field may be added, never removed or given another meaning.
//! * Every list says its moments, whether it is complete, and what it leaves open. A page that is short or empty and has a
//!   `next` has used its budget: the caller goes on.
//! * A `next` resumes with the moments of the first page, whatever was appended meanwhile.

mod changes;
mod children;
mod counts;
mod diff;
mod history;
mod moment;
mod node;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::record::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::certainty::Doubt;
use crate::changes::GapMark;
use crate::error::QueryError;
use crate::position::parse_position;
use crate::unreadable::UnreadableItem;

pub use changes::{ChangesOrder, ChangesQuestion};
pub use children::{ChildItem, ChildrenQuestion, ZnodeKind};
pub use counts::{ActivityBucket, ActivityQuestion, BUCKETS_MAX, RangeQuestion};
pub use diff::{DiffItem, DiffKind, DiffQuestion, PREVIEW_BYTES_MAX};
pub use history::{HistoryAnswer, HistoryQuestion, UnchangedZnode};
pub use moment::{Moment, RecordPlace};
pub use node::NodeAnswer;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub struct AnswerList<T> {
    /// Where the range begins, or the first of two moments; null without one.
    pub from: Option<Moment>,
    /// The moment of the answer, the end of its range, or the second of two moments.
    pub to: Moment,
    /// The items of this page.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next: Option<String>,
    /// Whether this is the last page.
    pub complete: bool,
    /// Records or paths that were looked at for this page.
    pub scanned: u64,
    /// Gaps that begin or end among the records that were read.
    pub gaps: Vec<GapMark>,
    /// Znodes that were left out although it is not certain that they did not exist.
    pub unknown: u64,
    /// Everything that is open about the page as a whole, in sentences.
    pub doubts: Vec<Doubt>,
    /// Of a list of gaps: the znodes that could not be read at some moment of the range, by path, with the last page.
    pub unreadable: Vec<UnreadableItem>,
}

impl<T> AnswerList<T> {
    /// The same list of other items.
    pub fn map<U>(self, item: impl FnMut(T) -> U) -> AnswerList<U> {
        AnswerList {
            from: self.from,
            to: self.to,
            items: self.items.into_iter().map(item).collect(),
            next: self.next,
            complete: self.complete,
            scanned: self.scanned,
            gaps: self.gaps,
            unknown: self.unknown,
            doubts: self.doubts,
            unreadable: self.unreadable,
        }
    }

    pub(crate) fn of(from: Option<Moment>, to: Moment, items: Vec<T>, next: Option<String>) -> AnswerList<T> {
        AnswerList {
            from,
            to,
            items,
            complete: next.is_none(),
            next,
            scanned: 0,
            gaps: Vec::new(),
            unknown: 0,
            doubts: Vec::new(),
            unreadable: Vec::new(),
        }
    }
}

/// The position in a cursor. It was written by [`position_text`](crate::position_text).
fn position_of_cursor(text: &str) -> Result<Option<Position>, QueryError> {
    if text.is_empty() {
        return Ok(None);
    }
    // A number of ours is no Unix time that somebody has typed, however large it is.
    if let Ok(seq) = text.parse() {
        return Ok(Some(Position::Seq(Seq(seq))));
    }
    let position = parse_position(text, Timestamp(0));
    position
        .map(Some)
        .map_err(|_| QueryError::BadCursor(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::position_text;

    #[test]
    fn a_cursor_of_a_journal_with_more_than_a_thousand_million_records_is_read_again() {
        for seq in [1, 999_999_999, 1_000_000_000, u64::MAX >> 1] {
            let position = Position::Seq(Seq(seq));
            let read = position_of_cursor(&position_text(position)).unwrap();
            assert_eq!(read, Some(position));
        }
    }
}
