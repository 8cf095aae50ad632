//! Short read transactions on a connection of their own.
//!
//! Invariants:
//!
//! * **No transaction of a reader lasts longer than [`SLICE`]** (except the whole-file checks of `inspect`): a long read is
//!   split into several transactions, each of which sees a newer state. A transaction keeps the write-ahead log from being
//!   copied and restarted, so one long transaction makes the log grow.
//! * Every transaction begins after a wait at the gate of the journal ([`super::wal_gate`]).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::JournalError;
use super::open::open_reader;
use super::wal_gate::{Admitted, WalGate};

/// After this time a read ends its transaction and continues in the next one. Leaves 5 ms of the allowed 25 ms for the
/// step that is under way.
pub(super) const SLICE: Duration = Duration::from_millis(20);

/// A connection that only reads.
pub(super) struct ReadConnection {
    /// Before the gate, which has to outlive it.
    connection: Connection,
    gate: Arc<WalGate>,
    slice: Duration,
}

/// The time that one transaction has.
pub(super) struct Slice {
    ends: Instant,
}

impl Slice {
    /// Whether the transaction has to end before its next step.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }
}

impl ReadConnection {
    /// Opens a journal that exists.
    pub(super) fn open(file: &Path) -> Result<ReadConnection, JournalError> {
        let (connection, gate) = open_reader(file)?;
        Ok(ReadConnection {
            connection,
            gate,
            slice: SLICE,
        })
    }

    /// Waits until the log may be read, for a bounded time.
    pub(super) fn admit(&self) -> Admitted {
        self.gate.admit()
    }

    /// Runs a short step in one transaction, which sees one state of the journal.
    pub(super) fn within<T>(
        &mut self,
        step: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let admitted = self.admit();
        self.within_one(&admitted, |connection, _| step(connection))
    }

    /// Runs a step that has waited at the gate in one transaction.
    pub(super) fn within_one<T>(
        &mut self,
        _: &Admitted,
        step: impl FnOnce(&Connection, &Slice) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction = self.connection.transaction()?;
        let slice = Slice {
            ends: Instant::now() + self.slice,
        };
        let read = step(&transaction, &slice)?;
        transaction.commit()?;
        Ok(read)
    }

    /// Runs a step in one transaction after another until it returns a value. The step must make progress in each
    /// transaction, and return `None` soon after its slice is over.
    pub(super) fn in_slices<T>(
        &mut self,
        mut step: impl FnMut(&Connection, &Slice) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<T> {
        loop {
            let admitted = self.admit();
            if let Some(read) = self.within_one(&admitted, &mut step)? {
                return Ok(read);
            }
        }
    }

    /// For the checks of a whole file, which cannot be split: the log grows as long as they take.
    pub(super) fn for_whole_file(&self) -> &Connection {
        &self.connection
    }

    /// Ends each transaction after its first step.
    #[cfg(test)]
    pub(super) fn slice_finely(&mut self) {
        self.slice = Duration::ZERO;
    }
}
