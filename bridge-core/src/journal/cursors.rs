//! How far each sink has come, and the records that a sink will never accept.
//!
//! Invariant: a cursor never goes back and is never past the tail.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::error::JournalError;
use super::note::Note;
use super::writer::Journal;
use crate::number::Seq;

/// Where a sink stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkCursor {
    /// Its name.
    pub sink: Arc<str>,
    /// Everything up to it is dealt with.
    pub cursor: Seq,
}

impl Journal {
    /// Enters a sink that is new, with everything up to `start` taken as dealt with; [`Seq::ZERO`] is the earliest record
    /// that is kept. A sink that is known stays where it is. Returns where it stands.
    pub fn register_sink(&mut self, name: &str, start: Seq) -> Result<Seq, JournalError> {
        assert!(
            start <= self.head,
            "sink '{name}' cannot start at {start}, behind the tail {}",
            self.head
        );
        self.write("entering a sink", |journal| {
            if let Some(cursor) = cursor(&journal.connection, name)? {
                return Ok(cursor);
            }
            let before_oldest = oldest(&journal.connection)?.map_or(journal.head, |seq| Seq(seq.0 - 1));
            let start = start.max(before_oldest);
            journal.connection.execute(
                "INSERT INTO sink(name, cursor) VALUES (?1, ?2)",
                (name, start.0.cast_signed()),
            )?;
            Ok(start)
        })
    }

    /// Forgets a sink with its rejected records, so that it holds back no retention. True if it was known.
    pub fn remove_sink(&mut self, name: &str) -> Result<bool, JournalError> {
        self.write("removing a sink", |journal| {
            journal
                .connection
                .execute("DELETE FROM rejected WHERE sink = ?1", [name])?;
            let removed = journal
                .connection
                .execute("DELETE FROM sink WHERE name = ?1", [name])?;
            Ok(removed > 0)
        })
    }

    /// Where a sink stands; `None` if it was never entered.
    pub fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        self.read("reading a cursor", |journal| cursor(&journal.connection, sink))
    }

    /// Where all sinks stand, by name.
    pub fn cursors(&mut self) -> Result<Vec<SinkCursor>, JournalError> {
        self.read("reading the cursors", |journal| cursors(&journal.connection))
    }

    /// Takes in what the worker of a sink says. A note that repeats what is known changes nothing.
    pub fn note(&mut self, note: &Note) -> Result<(), JournalError> {
        let Note {
            sink,
            cursor: to,
            rejected,
        } = note;
        assert!(
            *to <= self.head,
            "sink '{sink}' has a cursor {to} past the tail {}",
            self.head
        );
        for one in rejected {
            assert!(
                one.seq <= *to,
                "sink '{sink}' rejected {} behind its cursor {to}",
                one.seq
            );
        }
        self.write("storing a cursor", |journal| {
            let Some(from) = cursor(&journal.connection, sink)? else {
                panic!("sink '{sink}' moves to {to} and was never entered");
            };
            journal
                .connection
                .prepare_cached("UPDATE sink SET cursor = max(cursor, ?2) WHERE name = ?1")?
                .execute((&**sink, to.0.cast_signed()))?;
            let mut reject = journal
                .connection
                .prepare_cached("INSERT INTO rejected(sink, seq, reason) VALUES (?1, ?2, ?3)")?;
            // What stands before the cursor was noted before, and its record may be gone by now.
            for one in rejected.iter().filter(|one| one.seq > from) {
                reject.execute((&**sink, one.seq.0.cast_signed(), &one.reason))?;
            }
            Ok(())
        })
    }

    /// Drops rejected records of a sink. Returns how many there were.
    pub fn drop_rejected(&mut self, sink: &str, seqs: &[Seq]) -> Result<usize, JournalError> {
        self.write("dropping rejected records", |journal| {
            let mut delete = journal
                .connection
                .prepare_cached("DELETE FROM rejected WHERE sink = ?1 AND seq = ?2")?;
            let mut dropped = 0;
            for seq in seqs {
                dropped += delete.execute((sink, seq.0.cast_signed()))?;
            }
            Ok(dropped)
        })
    }

    /// The first record that is kept; `None` while there is none.
    pub fn oldest(&mut self) -> Result<Option<Seq>, JournalError> {
        self.read("reading the oldest record", |journal| oldest(&journal.connection))
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
