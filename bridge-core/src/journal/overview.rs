//! Measures of a journal for readers: sizes, roots, positions.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::cursors;
use super::error::JournalError;
use super::history::Position;
use super::holes::Holes;
use super::progress;
use super::read::Reader;
use super::schema::PAGE_BYTES;
use super::size::{captured_at, pages};
use crate::number::{Epoch, Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::Timestamp;

/// The present measures of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Records kept.
    pub records: u64,
    /// The first of them, and when it was captured.
    pub oldest: Option<(Seq, Timestamp)>,
    /// The last of them, and when it was captured.
    pub newest: Option<(Seq, Timestamp)>,
    /// Records that went into later ones since the journal began.
    pub compacted: u64,
    /// Bytes in use: what counts against the limit.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The last watch epoch.
    pub epoch: Epoch,
    /// The version of the server that the last record came from, where the server reports it.
    pub server: Option<Arc<str>>,
    /// The roots that have records.
    pub roots: Vec<RootProgress>,
}

/// The progress of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootProgress {
    /// Its path.
    pub path: ZnodePath,
    /// Everything up to it is journalled.
    pub reported: Zxid,
    /// Whether its first listing is complete.
    pub is_listed: bool,
}

impl Reader {
    /// Measures the journal, and reads how far it has come.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn overview(&mut self) -> Result<Overview, JournalError> {
        self.within("measuring it", overview)
    }

    /// The roots that have records, with their progress.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn roots(&mut self) -> Result<Vec<RootProgress>, JournalError> {
        self.within("reading the roots", roots)
    }

    /// How many records a full journal has compacted into later ones, ever. As long as it is the same, no record has
    /// changed.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn compacted(&mut self) -> Result<u64, JournalError> {
        Ok(self.within("counting compacted records", Holes::load)?.ever)
    }

    /// When the first record at a position or after it was captured; `None` if there is none. The position itself may
    /// have none that is left.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn captured_from(&mut self, seq: Seq) -> Result<Option<Timestamp>, JournalError> {
        match self.first_at(Position::Seq(seq))? {
            Some(first) => self.within("reading the time of a record", |connection| {
                captured_at(connection, first).optional()
            }),
            None => Ok(None),
        }
    }
}

fn overview(connection: &Connection) -> rusqlite::Result<Overview> {
    let (pages, free_pages) = pages(connection)?;
    let at = |seq: Option<Seq>| -> rusqlite::Result<Option<(Seq, Timestamp)>> {
        let Some(seq) = seq else { return Ok(None) };
        Ok(Some((seq, captured_at(connection, seq)?)))
    };
    let oldest = at(cursors::oldest(connection)?)?;
    let newest = at(cursors::newest(connection)?)?;
    let ends = oldest.zip(newest);
    let holes = Holes::load(connection)?;
    let records = ends.map_or(Ok(0), |((oldest, _), (newest, _))| {
        holes.records(connection, oldest, newest)
    })?;
    Ok(Overview {
        records,
        compacted: holes.ever,
        oldest,
        newest,
        used_bytes: (pages - free_pages) * u64::from(PAGE_BYTES),
        file_bytes: pages * u64::from(PAGE_BYTES),
        epoch: Epoch(progress::number(connection, "epoch")?),
        server: server(connection)?,
        roots: roots(connection)?,
    })
}

fn server(connection: &Connection) -> rusqlite::Result<Option<Arc<str>>> {
    let sql = "SELECT server FROM origin WHERE id = (SELECT origin FROM record ORDER BY seq DESC LIMIT 1)";
    let found: Option<Option<String>> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(found.flatten().map(Into::into))
}

fn roots(connection: &Connection) -> rusqlite::Result<Vec<RootProgress>> {
    let mut statement = connection.prepare_cached("SELECT path, reported, listed FROM root ORDER BY path")?;
    let rows = statement.query_map([], |row| {
        let path: String = row.get(0)?;
        let path = ZnodePath::parse(&path).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
        })?;
        Ok(RootProgress {
            path,
            reported: Zxid(row.get::<_, i64>(1)?.cast_unsigned()),
            is_listed: row.get(2)?,
        })
    })?;
    rows.collect()
}
