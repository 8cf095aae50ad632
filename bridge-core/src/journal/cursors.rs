//! The cursors of the sinks.
//!
//! Invariant: a cursor never goes back, skips no record and is never past the tail. Progress that would break this is
//! refused ([`super::SeqRange::after`]).

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::contract::SinkState;
use super::error::{JournalError, JournalErrorKind};
use super::sink_progress::{ProgressError, SinkProgress};
use super::sink_snapshot;
use super::writer::Journal;
use crate::number::Seq;

/// The cursor of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkCursor {
    /// Its name.
    pub sink: Arc<str>,
    /// Everything up to it is dealt with.
    pub cursor: Seq,
}

impl Journal {
    /// A cursor after the last record is one of a journal that had more records.
    fn check_cursor(&self, name: &str, cursor: Seq) -> Result<Seq, JournalError> {
        if cursor <= self.log.head {
            return Ok(cursor);
        }
        Err(JournalError::new(
            JournalErrorKind::Damaged,
            &self.file,
            format!(
                "the cursor of sink '{name}': {cursor}: the last record is {}, so records are missing; restore a copy \
                 of the data directory, or let the sink begin anew with 'zkbridge run --forget-sink {name}'",
                self.log.head
            ),
        ))
    }

    /// Removes a sink with its dead letters and parked records, so that it no longer holds back retention. Returns
    /// `true` if it was known.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn remove_sink(&mut self, name: &str) -> Result<bool, JournalError> {
        self.write("removing a sink", |journal| {
            for table in ["rejected", "parked"] {
                let sql = format!("DELETE FROM {table} WHERE sink = ?1");
                journal.connection.execute(&sql, [name])?;
            }
            sink_snapshot::forget(&journal.connection, name)?;
            let removed = journal
                .connection
                .execute("DELETE FROM sink WHERE name = ?1", [name])?;
            Ok(removed > 0)
        })
    }

    /// Gives a sink another name, with its cursor, the records that it set aside and its run. False if there is no sink
    /// of the old name, or one of the new name exists.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn rename_sink(&mut self, old: &str, new: &str) -> Result<bool, JournalError> {
        self.write("renaming a sink", |journal| {
            let connection = &journal.connection;
            if cursor(connection, old)?.is_none() || cursor(connection, new)?.is_some() {
                return Ok(false);
            }
            connection.execute("UPDATE sink SET name = ?2 WHERE name = ?1", [old, new])?;
            for table in ["rejected", "parked"] {
                let sql = format!("UPDATE {table} SET sink = ?2 WHERE sink = ?1");
                connection.execute(&sql, [old, new])?;
            }
            sink_snapshot::rename(connection, old, new)?;
            Ok(true)
        })
    }

    /// The cursors of all sinks, by name.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn cursors(&mut self) -> Result<Vec<SinkCursor>, JournalError> {
        self.read("reading the cursors", |journal| cursors(&journal.connection))
    }

    /// The first record that is kept; `None` while there is none.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn oldest(&mut self) -> Result<Option<Seq>, JournalError> {
        self.read("reading the oldest record", |journal| oldest(&journal.connection))
    }
}

impl SinkState for Journal {
    fn register_sink(&mut self, name: &str, start: Seq) -> Result<Seq, JournalError> {
        assert!(
            start <= self.log.head,
            "sink '{name}' cannot start at {start}, after the tail {}",
            self.log.head
        );
        // A known sink costs no write, so that a full disk keeps no source from starting.
        if let Some(known) = SinkState::cursor(self, name)? {
            return Ok(known);
        }
        self.write("entering a sink", |journal| {
            let before_oldest = oldest(&journal.connection)?.map_or(journal.log.head, |seq| Seq(seq.0 - 1));
            let start = start.max(before_oldest);
            journal.connection.execute(
                "INSERT INTO sink(name, cursor) VALUES (?1, ?2)",
                (name, start.0.cast_signed()),
            )?;
            Ok(start)
        })
        .and_then(|cursor| self.check_cursor(name, cursor))
    }

    fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        let cursor = self.read("reading a cursor", |journal| cursor(&journal.connection, sink))?;
        cursor.map(|cursor| self.check_cursor(sink, cursor)).transpose()
    }

    fn store_progress(&mut self, progress: &SinkProgress) -> Result<(), ProgressError> {
        self.write_progress(progress)
    }
}

pub(super) fn cursor(connection: &Connection, sink: &str) -> rusqlite::Result<Option<Seq>> {
    connection
        .prepare_cached("SELECT cursor FROM sink WHERE name = ?1")?
        .query_row([sink], |row| row.get::<_, i64>(0))
        .optional()
        .map(|cursor| cursor.map(|seq| Seq(seq.cast_unsigned())))
}

pub(super) fn cursors(connection: &Connection) -> rusqlite::Result<Vec<SinkCursor>> {
    let mut statement = connection.prepare_cached("SELECT name, cursor FROM sink ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(SinkCursor {
            sink: row.get::<_, String>(0)?.into(),
            cursor: Seq(row.get::<_, i64>(1)?.cast_unsigned()),
        })
    })?;
    rows.collect()
}

pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Seq>> {
    end(connection, "SELECT min(seq) FROM record")
}

pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<Seq>> {
    end(connection, "SELECT max(seq) FROM record")
}

fn end(connection: &Connection, query: &str) -> rusqlite::Result<Option<Seq>> {
    let seq: Option<i64> = connection
        .prepare_cached(query)?
        .query_row([], |row| row.get(0))?;
    Ok(seq.map(|seq| Seq(seq.cast_unsigned())))
}
