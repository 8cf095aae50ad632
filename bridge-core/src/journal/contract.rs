//! The three parts of a journal, and the writer that changes them in one transaction.
//!
//! ```text
//!                       one open transaction
//! capture ── append ──▶ Log         the records, append-only       seal ──▶ append_batch ──▶ durable
//!              └──────▶ ImageTxn    the tree after the last record
//! workers ─ progress ─▶ SinkState   cursors, dead letters, retry queue, runs
//! ```
//!
//! Invariants of every implementation:
//!
//! * The log takes a batch only after its last record, and only from a term that is not older than that of the last
//!   batch
//!   ([`LogEnd::accepts`]). All else in the transaction becomes durable with the batch, or nothing does.
//! * The image has applied exactly the records of the log, in the open transaction and after every commit.
//! * A cursor moves by ranges that follow each other, and never past the end of the log
//!   ([`SinkProgress::applied_at`]).
//!
//! The local journal keeps all three in one SQLite file, so that [`Log::append_batch`] is its COMMIT. A replicated log
//! wraps a local journal: it appends the sealed batch to the replicas first, and then to the local log, or rolls back.

use std::fmt;
use std::sync::Arc;

use super::error::JournalError;
use super::folding::Folded;
use super::retention::Maintained;
use super::sink_progress::{ProgressError, SinkProgress};
use crate::image_txn::ImageTxn;
use crate::number::Seq;
use crate::record::{Mode, Timestamp};

/// Numbers the writers of a log. A process that opens a journal to write it takes the term after the stored one and
/// stores it with its first batch, after which no earlier writer can append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The one after it.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The end of a log: its last durable record, and the term of its writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The last durable record; [`Seq::ZERO`] if there was none yet.
    pub tail: Seq,
    /// The newest term that was taken or has appended.
    pub term: Term,
}

impl LogEnd {
    /// Compare-and-set: whether a log that ends here takes a batch of `term` that starts after `after`.
    ///
    /// ```text
    /// batch after, term     at the end 7, term 3     result
    /// 7, 3 or newer         adjacent                 accepted
    /// 6                     another batch is there   refused
    /// 8                     records are missing      refused
    /// 7, 2                  a newer term has begun   refused
    /// ```
    ///
    /// # Errors
    ///
    /// If the batch is refused.
    pub fn accepts(self, after: Seq, term: Term) -> Result<(), RefusedBatch> {
        if term < self.term {
            return Err(RefusedBatch::OlderTerm {
                term,
                last: self.term,
            });
        }
        if after != self.tail {
            return Err(RefusedBatch::NotAtTail {
                after,
                tail: self.tail,
            });
        }
        Ok(())
    }
}

/// Why a log refuses a batch: another writer has appended to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBatch {
    /// The log ends elsewhere.
    #[error("it starts after record {after}, and the log ends at record {tail}")]
    NotAtTail {
        /// The record before the batch.
        after: Seq,
        /// The last durable record.
        tail: Seq,
    },
    /// A newer term has begun.
    #[error("it is of term {term}, and another writer has begun term {last}")]
    OlderTerm {
        /// The term of the batch.
        term: Term,
        /// The newest term.
        last: Term,
    },
}

/// A transaction that is complete and not durable. It takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// Its last record, or the tail if it only changes the image or the state of sinks.
    pub last: Seq,
}

/// The records of a source, append-only.
pub trait Log {
    /// The end of the log, without the open transaction.
    fn end(&self) -> LogEnd;

    /// The term in which this writer appends.
    fn term(&self) -> Term;

    /// Makes a sealed batch durable and returns the new tail. After an error nothing of it is durable, and the
    /// transaction is rolled back.
    ///
    /// # Errors
    ///
    /// If the log does not accept it ([`LogEnd::accepts`],
    /// [`JournalErrorKind::InUse`](super::JournalErrorKind::InUse)), or if it cannot be written.
    ///
    /// # Panics
    ///
    /// If the batch is of another transaction.
    fn append_batch(&mut self, after: Seq, batch: SealedBatch, term: Term) -> Result<Seq, JournalError>;
}

/// The state of each sink: its cursor, dead letters, retry queue, and the run that is made for it.
pub trait SinkState {
    /// Registers a sink that is new, with everything up to `start` taken as delivered; [`Seq::ZERO`] is the earliest
    /// record that is kept. A sink that is known keeps its cursor. Returns the cursor.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    ///
    /// # Panics
    ///
    /// If `start` is after the last record.
    fn register_sink(&mut self, name: &str, start: Seq) -> Result<Seq, JournalError>;

    /// The cursor of a sink; `None` if it was never registered.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or the cursor is after the last record
    /// ([`JournalErrorKind::Damaged`](super::JournalErrorKind::Damaged)).
    fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError>;

    /// Stores the progress of a sink in the open transaction.
    ///
    /// # Errors
    ///
    /// If it does not follow the cursor of its sink ([`ProgressError::Refused`]): nothing of it is stored, and the
    /// transaction continues. Or if the journal cannot be written, or its content is not valid.
    fn store_progress(&mut self, progress: &SinkProgress) -> Result<(), ProgressError>;
}

/// The one writer of a journal: the three parts in one transaction, which the first call that writes begins.
pub trait JournalWriter: Log + ImageTxn + SinkState {
    /// The server's version that the next records name.
    fn set_server(&mut self, server: Option<Arc<str>>);

    /// How the next records say that they were captured; `None`: as the options of the journal say.
    fn set_mode(&mut self, mode: Option<Mode>);

    /// Capture is live now: every change is being reported. A gap that begins later begins here.
    fn set_live(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Makes the moment of [`JournalWriter::set_live`] durable, in a transaction of its own.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written. The next call tries it again.
    fn store_live(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Completes the open transaction for [`Log::append_batch`]. After an error it is rolled back.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or something in the transaction has failed before.
    fn seal(&mut self) -> Result<SealedBatch, JournalError>;

    /// Seals the open transaction and appends it at the end of the log. Returns the tail.
    ///
    /// # Errors
    ///
    /// As of [`JournalWriter::seal`] and [`Log::append_batch`]: nothing of the transaction is durable.
    fn commit(&mut self) -> Result<Seq, JournalError> {
        let (after, term) = (self.end().tail, self.term());
        let batch = self.seal()?;
        self.append_batch(after, batch, term)
    }

    /// Undoes the open transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn rollback(&mut self) -> Result<(), JournalError>;

    /// Removes at most `budget` records whose time is over, in a transaction of its own.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    ///
    /// # Panics
    ///
    /// If a transaction is open.
    fn maintain(&mut self, now: Timestamp, budget: usize) -> Result<Maintained, JournalError>;

    /// About a second has passed, or less while changes wait for the rest of their transaction: appends the events that
    /// were held back until now, in the open transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn tick(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let _ = now;
        Ok(())
    }

    /// Compacts undelivered records if the journal is configured to and needs it, looking at `budget` of them at most,
    /// in a transaction of its own.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn fold(&mut self, budget: usize) -> Result<Folded, JournalError> {
        let _ = budget;
        Ok(Folded::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_takes_a_batch_only_at_its_tail_and_of_no_older_term() {
        let end = LogEnd {
            tail: Seq(7),
            term: Term(3),
        };
        assert_eq!(end.accepts(Seq(7), Term(3)), Ok(()));
        assert_eq!(end.accepts(Seq(7), Term(9)), Ok(()));
        for after in [Seq(6), Seq(8)] {
            let tail = Seq(7);
            assert_eq!(
                end.accepts(after, Term(3)),
                Err(RefusedBatch::NotAtTail { after, tail })
            );
        }
        let (term, last) = (Term(2), Term(3));
        let older = Err(RefusedBatch::OlderTerm { term, last });
        assert_eq!(end.accepts(Seq(7), term), older);
        assert_eq!(end.accepts(Seq(6), term), older, "the term is named first");
    }
}
