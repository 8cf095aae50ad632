//! A position resolved to a place in one journal.
//!
//! ```text
//! oldest … ≤ seq │ next … ≤ tail
//!              cut
//! ```

use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;

use crate::error::QueryError;
use crate::journal::JournalQuery;

/// The place where a position divides the records of a journal. Holds for the journal as it was when it was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The position.
    pub position: Position,
    /// The last record at or before the position; [`Seq::ZERO`] if none was. Retention may have removed it.
    pub seq: Seq,
    /// The first record at or after the position: where a list "from" it begins. `None` if there is none yet.
    pub first: Option<Seq>,
    /// The first record that is kept; `None` while there is none.
    pub oldest: Option<Seq>,
    /// The last durable record.
    pub tail: Seq,
}

impl Cut {
    /// Whether retention has removed records before the cut.
    pub fn is_removed(&self) -> bool {
        self.oldest.is_some_and(|oldest| oldest > self.seq.next())
    }
}

impl JournalQuery {
    /// Resolves a position. The first question about a zxid or a time learns the bounds of the records before it; later ones
    /// read little. Of a time: when records count (`timeline`).
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn cut(&self, position: Position) -> Result<Cut, QueryError> {
        let tail = self.tail()?;
        let after = match position {
            Position::Seq(seq) => Position::Seq(seq.next()),
            Position::Zxid(zxid) => Position::Zxid(Zxid(zxid.0.saturating_add(1))),
            Position::Time(time) => Position::Time(Timestamp(time.0.saturating_add(1))),
        };
        let seq = match position {
            Position::Seq(seq) => seq,
            _ => self.first_at(after)?.map_or(tail, |first| Seq(first.0 - 1)),
        };
        Ok(Cut {
            position,
            seq: seq.min(tail),
            first: self.first_at(position)?,
            oldest: self.reader()?.oldest()?,
            tail,
        })
    }
}
