//! A position resolved to a place in one journal.
//!
//! ```text
//! oldest … ≤ seq │ next … ≤ tail
//!              cut
//! ```

use bridge_core::journal::Position;
use bridge_core::number::Seq;

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
    /// Resolves a position. A zxid or a time costs a scan of the records before it; a time is that of the capture.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn cut(&self, position: Position) -> Result<Cut, QueryError> {
        let mut reader = self.reader()?;
        let tail = reader.tail()?;
        Ok(Cut {
            position,
            seq: reader.last_at(position)?.min(tail),
            first: reader.first_at(position)?,
            oldest: reader.oldest()?,
            tail,
        })
    }
}
