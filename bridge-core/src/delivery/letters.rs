//! The dead letters of a sink as something to deliver: a retry is a worker that reads them instead of the journal's
//! tail, with all its order, patience and reports.
//!
//! ```text
//! tail = DeadLetters   cursor = 0   durable = the last letter   each note ──▶ DeadLetters::accepted ──▶ drop_rejected
//! ```
//!
//! Letters that are rejected again, or wait behind one that is, stay.

use std::sync::Arc;

use super::feed::Tail;
use crate::journal::{JournalError, Note, ReadLimit, Reader};
use crate::number::Seq;
use crate::record::Record;

/// Letters are read whole: at 1 MB before and after each, this is 64 MB at most.
pub const LETTERS_AT_ONCE: usize = 32;

/// Reads the dead letters of one sink.
pub struct DeadLetters {
    reader: Reader,
    sink: Arc<str>,
}

impl DeadLetters {
    /// The dead letters of this sink.
    pub fn new(reader: Reader, sink: Arc<str>) -> DeadLetters {
        DeadLetters { reader, sink }
    }

    /// All their seqs, ascending; the last is the tail of the worker that retries them. Empty: there is nothing to do.
    pub fn seqs(&mut self) -> Result<Vec<Seq>, JournalError> {
        let mut seqs = Vec::new();
        loop {
            let after = seqs.last().copied().unwrap_or_default();
            let letters = self.reader.rejected(&self.sink, after, LETTERS_AT_ONCE)?;
            if letters.is_empty() {
                return Ok(seqs);
            }
            seqs.extend(letters.iter().map(|letter| letter.seq));
        }
    }

    /// The letters that a note of the retrying worker tells to be accepted by now: they can be dropped. `letters` are
    /// those behind the note before.
    pub fn accepted(letters: &[Seq], note: &Note) -> Vec<Seq> {
        let stays = |seq: &Seq| note.rejected.iter().any(|rejected| rejected.seq == *seq);
        let passed = letters.iter().filter(|seq| **seq <= note.cursor);
        passed.filter(|seq| !stays(seq)).copied().collect()
    }
}

impl Tail for DeadLetters {
    fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        let count = limit.records.min(LETTERS_AT_ONCE);
        let letters = self.reader.rejected(&self.sink, after, count)?;
        Ok(letters.into_iter().map(|letter| letter.record).collect())
    }
}
