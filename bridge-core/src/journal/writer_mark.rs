//! The mark of the present writer, in the journal itself.
//!
//! The lock file keeps a second writer out as long as nobody removes it. The mark holds without it: whoever opens a journal
//! for writing replaces the mark, and a writer whose mark is gone gets no further batch. As batches and the mark are
//! transactions of one database, no two writers can add records in turns.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use rusqlite::Connection;

/// Distinguishes one opening of a journal from every other.
#[derive(Debug)]
pub(super) struct WriterMark(i64);

impl WriterMark {
    /// Takes the place of every earlier writer.
    pub(super) fn set(connection: &Connection) -> rusqlite::Result<WriterMark> {
        // The state is random for each process.
        let mark = RandomState::new().hash_one((std::process::id(), SystemTime::now()));
        let mark = mark.cast_signed();
        connection.execute(
            "INSERT INTO meta(key, value) VALUES ('writer', ?1)
             ON CONFLICT(key) DO UPDATE SET value = excluded.value",
            [mark],
        )?;
        Ok(WriterMark(mark))
    }

    /// Whether nobody has opened the journal since; inside a transaction, nobody can until its end.
    pub(super) fn is_in(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let mut found = connection.prepare_cached("SELECT value FROM meta WHERE key = 'writer'")?;
        found.query_row([], |row| Ok(row.get::<_, i64>(0)? == self.0))
    }
}
