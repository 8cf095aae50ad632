//! Shrinks the file by writing it anew. This needs the writer, without an open batch.

use super::error::JournalError;
use super::schema::PAGE_BYTES;
use super::size::pages;
use super::writer::{Journal, TxnState};
use crate::record::Timestamp;

/// The most records that one slice removes.
const SLICE: usize = 10_000;

/// The result of compacting a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Records that retention removed.
    pub removed: u64,
    /// Bytes of the file and its log before.
    pub bytes_before: u64,
    /// Bytes of the file and its log afterwards.
    pub bytes_after: u64,
}

impl Journal {
    /// Removes every expired record, then writes the file anew without the space that they left. Needs as much room on
    /// the file system as the journal has in use. A crash at any moment leaves the old file or the new one.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    ///
    /// # Panics
    ///
    /// If a batch is open.
    pub fn compact(&mut self, now: Timestamp) -> Result<Compacted, JournalError> {
        assert!(
            self.state == TxnState::Closed,
            "a journal is compacted between two batches"
        );
        let bytes_before = self.bytes()?;
        let mut removed = 0;
        loop {
            let round = self.remove_old(now, SLICE)?;
            removed += round.removed as u64;
            if !round.more {
                break;
            }
        }
        let written = self.connection.execute_batch("VACUUM").and_then(|()| {
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
        written.map_err(|error| self.fault("writing it anew", error))?;
        self.room.forget();
        self.was_vacuumed();
        Ok(Compacted {
            removed,
            bytes_before,
            bytes_after: self.bytes()?,
        })
    }

    fn bytes(&mut self) -> Result<u64, JournalError> {
        let log = self.log_bytes();
        let (pages, _) = self.read("measuring it", |journal| pages(&journal.connection))?;
        Ok(pages * u64::from(PAGE_BYTES) + log)
    }
}
