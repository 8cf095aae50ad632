//! The marks of a journal: the control records that say when the records of a root are complete.
//!
//! They are few, and an index of their own finds them without reading other records.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::error::JournalError;
use super::read::{Names, Reader};
use super::row::op_number;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Op, Record};

/// The name of the index in [`super::schema`].
const INDEX: &str = "SELECT 1 FROM main.sqlite_schema WHERE type = 'index' AND name = 'record_mark'";

/// Marks after ?1, at most ?2. The condition is that of the index.
const AFTER: &str = "SELECT seq FROM main.record INDEXED BY record_mark
    WHERE seq > ?1 AND op BETWEEN 5 AND 8 ORDER BY seq LIMIT ?2";

/// The newest begin or end of a gap of root ?1. The condition is that of the index, and more.
const LAST_OF_GAP: &str = "SELECT seq, op FROM main.record INDEXED BY record_mark
    WHERE op BETWEEN 5 AND 8 AND op IN (?2, ?3) AND root = (SELECT id FROM root WHERE path = ?1)
    ORDER BY seq DESC LIMIT 1";

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

/// The record that began the gap of a root that is open; `None` if none is, or if the file is of a format without an index
/// of marks, which no writer leaves.
pub(super) fn open_gap(connection: &Connection, root: &ZnodePath) -> rusqlite::Result<Option<Seq>> {
    if !has_index(connection)? {
        return Ok(None);
    }
    let (begin, end) = (op_number(Op::GapBegin), op_number(Op::GapEnd));
    let last: Option<(i64, i64)> = connection
        .prepare_cached(LAST_OF_GAP)?
        .query_row((root.as_str(), begin, end), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(last
        .filter(|(_, op)| *op == begin)
        .map(|(seq, _)| Seq(seq.cast_unsigned())))
}

fn has_index(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached(INDEX)?.exists([])
}

fn marks(
    connection: &Connection,
    names: &mut Names,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Option<Vec<Arc<Record>>>> {
    if !has_index(connection)? {
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
