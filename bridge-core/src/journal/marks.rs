//! The marks of a journal: the control records that say when the records of a root are complete.
//!
//! They are few, and an index of their own finds them without reading other records.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::error::JournalError;
use super::read::{Names, Reader};
use crate::number::Seq;
use crate::record::Record;

/// The name of the index in [`super::schema`].
const INDEX: &str = "SELECT 1 FROM main.sqlite_schema WHERE type = 'index' AND name = 'record_mark'";

/// Marks after ?1, at most ?2. The condition is that of the index.
const AFTER: &str = "SELECT seq FROM main.record INDEXED BY record_mark
    WHERE seq > ?1 AND op BETWEEN 5 AND 8 ORDER BY seq LIMIT ?2";

impl Reader {
    /// The `snapshot_begin`, `snapshot_end`, `gap_begin` and `gap_end` records after a record, in order, at most `limit`.
    /// `None`: the file is of a format without an index of them.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn marks(&mut self, after: Seq, limit: usize) -> Result<Option<Vec<Arc<Record>>>, JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let found = connection.within(|connection| marks(connection, names, after, limit));
        found.map_err(|error| self.fault("reading gaps and snapshots", error))
    }
}

fn marks(
    connection: &Connection,
    names: &mut Names,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Option<Vec<Arc<Record>>>> {
    let has_index: Option<i64> = connection
        .prepare_cached(INDEX)?
        .query_row([], |row| row.get(0))
        .optional()?;
    if has_index.is_none() {
        return Ok(None);
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let seqs: Vec<i64> = connection
        .prepare_cached(AFTER)?
        .query_map((after.0.cast_signed(), limit), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::with_capacity(seqs.len());
    for seq in seqs {
        found.push(names.one(connection, Seq(seq.cast_unsigned()))?);
    }
    Ok(Some(found))
}
