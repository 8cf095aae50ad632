//! Records that are stored for a sink while its cursor moves on: dead letters, which the destination will never accept,
//! and parked records, which wait for it.
//!
//! No record is lost: while the journal holds it, the row only names it; retention writes the record into the row
//! before it removes it ([`super::retention`]).

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row};

use super::cursors;
use super::error::JournalError;
use super::read::{Names, Reader};
use super::sink_progress::{BacklogChange, ProgressError, RangeMismatch, RunStep, SinkProgress, Switch};
use super::sink_snapshot;
use super::writer::Journal;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Record, Timestamp};

/// A dead letter: a record that a sink will never accept.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedRecord {
    /// Its details.
    pub letter: Letter,
    /// The record, equal as JSON to the one that was rejected.
    pub record: Arc<Record>,
}

/// The details of a dead letter besides its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Which.
    pub seq: Seq,
    /// The destination's reason.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was rejected; `None` where an older version of the journal kept it.
    pub at: Option<Timestamp>,
    /// Its path; `None` for a control record, and where an older version of the journal kept it.
    pub path: Option<ZnodePath>,
}

/// A parked record, without the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRecord {
    /// Which.
    pub seq: Seq,
    /// Its path; `None` for a control record.
    pub path: Option<ZnodePath>,
    /// Why it waits.
    pub reason: String,
    /// Attempts in a row that failed; 0 for a record that only waits for another.
    pub attempts: u32,
    /// When the first of them failed.
    pub since: Option<Timestamp>,
    /// When it is to be tried again.
    pub due: Timestamp,
}

/// Why a sink may not deliver, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled {
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

impl Letter {
    /// The attempts of a record that failed `parked` times in the retry queue, and that the sink tried `tried` times.
    /// A sink may know only the last one, and the retry queue does not know those before.
    pub(crate) fn attempts_of(parked: u32, tried: u32) -> u32 {
        parked.saturating_add(u32::from(tried > 0)).max(tried)
    }
}

impl Journal {
    /// As in [`super::SinkState::store_progress`].
    pub(super) fn write_progress(&mut self, progress: &SinkProgress) -> Result<(), ProgressError> {
        let sink = &progress.sink;
        let stored = self.write("storing a cursor", |journal| {
            let connection = &journal.connection;
            let Some(from) = cursors::cursor(connection, sink)? else {
                return Ok(Err(progress.refused(Seq::ZERO, RangeMismatch::UnknownSink)));
            };
            let cursor = match progress.applied_at(from, journal.log.head) {
                Ok(cursor) => cursor,
                Err(refused) => return Ok(Err(refused)),
            };
            connection
                .prepare_cached("UPDATE sink SET cursor = ?2 WHERE name = ?1")?
                .execute((&**sink, cursor.0.cast_signed()))?;
            for change in &progress.changes {
                let desk = OutcomeWriter {
                    connection,
                    sink,
                    at: progress.at,
                    is_new: change.seq() > from,
                };
                desk.take(change)?;
            }
            match &progress.run {
                Some(RunStep::At(run)) => sink_snapshot::store(connection, sink, run)?,
                Some(RunStep::Delivered(id)) => sink_snapshot::store_delivered(connection, sink, *id)?,
                None => {}
            }
            if let Some(switch) = &progress.switch {
                store_switch(connection, sink, switch, progress.at)?;
            }
            Ok(Ok(()))
        })?;
        Ok(stored?)
    }
}

/// Stores what became of one record.
struct OutcomeWriter<'a> {
    connection: &'a Connection,
    sink: &'a str,
    at: Timestamp,
    /// Records before the cursor were stored earlier, and may be gone by now.
    is_new: bool,
}

impl OutcomeWriter<'_> {
    fn take(&self, change: &BacklogChange) -> rusqlite::Result<()> {
        match change {
            BacklogChange::Rejected {
                seq,
                path,
                reason,
                attempts,
            } => self.reject(*seq, path.as_ref(), (reason, *attempts)),
            BacklogChange::Parked {
                seq,
                path,
                reason,
                attempts,
                wait,
            } => {
                if self.is_new {
                    self.park(*seq, path.as_ref())?;
                }
                self.postpone(*seq, reason, *attempts, *wait)
            }
            BacklogChange::Released(seq) => {
                self.delete("DELETE FROM parked WHERE sink = ?1 AND seq = ?2", *seq)
            }
            BacklogChange::Retried(seq) => self.retry(*seq),
            BacklogChange::Dropped(seq) => {
                self.delete("DELETE FROM rejected WHERE sink = ?1 AND seq = ?2", *seq)
            }
            BacklogChange::Replayed { seq, path } => self.replay(*seq, path.as_ref()),
        }
    }

    fn delete(&self, sql: &str, seq: Seq) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached(sql)?;
        delete.execute((self.sink, seq.0.cast_signed())).map(drop)
    }

    fn park(&self, seq: Seq, path: Option<&ZnodePath>) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO parked(sink, seq, path, reason, attempts, due) VALUES (?1, ?2, ?3, '', 0, 0)";
        self.connection
            .prepare_cached(sql)?
            .execute((self.sink, seq.0.cast_signed(), path.map(ZnodePath::as_str)))
            .map(drop)
    }

    /// A record that was removed meanwhile is not parked: its row would name nothing.
    fn replay(&self, seq: Seq, path: Option<&ZnodePath>) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO parked(sink, seq, path, reason, attempts, due)
            SELECT ?1, ?2, ?3, '', 0, ?4 WHERE EXISTS (SELECT 1 FROM record WHERE seq = ?2)";
        let path = path.map(ZnodePath::as_str);
        self.connection
            .prepare_cached(sql)?
            .execute((self.sink, seq.0.cast_signed(), path, self.at.0))
            .map(drop)
    }

    fn postpone(&self, seq: Seq, reason: &str, attempts: u32, wait: Duration) -> rusqlite::Result<()> {
        let since = (attempts > 0).then_some(self.at.0);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let sql = "UPDATE parked SET reason = ?3, attempts = ?4, since = coalesce(since, ?5), due = ?6
            WHERE sink = ?1 AND seq = ?2";
        let due = self.at.0.saturating_add(wait_ms);
        self.connection
            .prepare_cached(sql)?
            .execute((self.sink, seq.0.cast_signed(), reason, attempts, since, due))
            .map(drop)
    }

    fn reject(
        &self,
        seq: Seq,
        path: Option<&ZnodePath>,
        (reason, tried): (&str, u32),
    ) -> rusqlite::Result<()> {
        let key = (self.sink, seq.0.cast_signed());
        let sql = "DELETE FROM parked WHERE sink = ?1 AND seq = ?2 RETURNING attempts, record";
        let parked = self.connection.prepare_cached(sql)?.query_row(key, |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, Option<String>>(1)?))
        });
        let (attempts, record) = match parked.optional()? {
            Some(parked) => parked,
            None if self.is_new => (0, None),
            None => return Ok(()),
        };
        let sql = "INSERT OR IGNORE INTO rejected(sink, seq, reason, record, attempts, at, path)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let path = path.map(ZnodePath::as_str);
        let attempts = Letter::attempts_of(attempts, tried);
        self.connection
            .prepare_cached(sql)?
            .execute((key.0, key.1, reason, record, attempts, self.at.0, path))
            .map(drop)
    }

    /// The attempts before stay counted when it is rejected again.
    fn retry(&self, seq: Seq) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO parked(sink, seq, path, reason, attempts, due, record)
            SELECT sink, seq, path, reason, attempts, ?3, record FROM rejected WHERE sink = ?1 AND seq = ?2";
        self.connection
            .prepare_cached(sql)?
            .execute((self.sink, seq.0.cast_signed(), self.at.0))?;
        self.delete("DELETE FROM rejected WHERE sink = ?1 AND seq = ?2", seq)
    }
}

fn store_switch(connection: &Connection, sink: &str, switch: &Switch, at: Timestamp) -> rusqlite::Result<()> {
    let (reason, at) = match switch {
        Switch::Disabled { reason } => (Some(reason.as_str()), Some(at.0)),
        Switch::Enabled => (None, None),
    };
    connection
        .prepare_cached("UPDATE sink SET disabled = ?2, disabled_at = ?3 WHERE name = ?1")?
        .execute((sink, reason, at))
        .map(drop)
}

impl Reader {
    /// The dead letters of a sink after `after` with their records, at most `limit`.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn rejected(
        &mut self,
        sink: &str,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<RejectedRecord>, JournalError> {
        self.look("reading dead letters", |connection, names| {
            let mut found = Vec::new();
            for letter in letters(connection, sink, after, limit)? {
                let record = record_of(connection, names, "rejected", letter.seq)?
                    .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                found.push(RejectedRecord { letter, record });
            }
            Ok(found)
        })
    }

    /// The same without the records.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn letters(&mut self, sink: &str, after: Seq, limit: usize) -> Result<Vec<Letter>, JournalError> {
        self.look("reading dead letters", |connection, _| {
            letters(connection, sink, after, limit)
        })
    }

    /// The parked records of a sink after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn parked(
        &mut self,
        sink: &str,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError> {
        self.look("reading parked records", |connection, _| {
            let sql = "SELECT seq, path, reason, attempts, since, due FROM parked
                WHERE sink = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map((sink, after.0.cast_signed(), count(limit)), parked_of_row)?;
            rows.collect()
        })
    }

    /// These records, as far as they are kept: in the journal or with what is set aside. A dead letter that is retried is
    /// asked for before its row has moved to those that are parked.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn recall(&mut self, seqs: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError> {
        self.look("reading parked records", |connection, names| {
            let mut found = Vec::with_capacity(seqs.len());
            for seq in seqs {
                let parked = record_of(connection, names, "parked", *seq)?;
                found.extend(match parked {
                    Some(record) => Some(record),
                    None => record_of(connection, names, "rejected", *seq)?,
                });
            }
            Ok(found)
        })
    }

    /// Why a sink may not deliver; `None` if it may.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn disabled(&mut self, sink: &str) -> Result<Option<Disabled>, JournalError> {
        self.look("reading whether a sink is disabled", |connection, _| {
            let sql = "SELECT disabled, disabled_at FROM sink WHERE name = ?1 AND disabled IS NOT NULL";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row([sink], |row| {
                Ok(Disabled {
                    reason: row.get(0)?,
                    at: Timestamp(row.get::<_, Option<i64>>(1)?.unwrap_or_default()),
                })
            });
            found.optional()
        })
    }

    fn look<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&Connection, &mut Names) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let read = connection.within(|connection| step(connection, names));
        read.map_err(|error| self.fault(doing, error))
    }
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn letters(connection: &Connection, sink: &str, after: Seq, limit: usize) -> rusqlite::Result<Vec<Letter>> {
    let sql = "SELECT seq, reason, attempts, at, path FROM rejected
        WHERE sink = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((sink, after.0.cast_signed(), count(limit)), |row| {
        Ok(Letter {
            seq: seq_at(row, 0)?,
            reason: row.get(1)?,
            attempts: row.get(2)?,
            at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
            path: path_at(row, 4)?,
        })
    })?;
    rows.collect()
}

fn parked_of_row(row: &Row<'_>) -> rusqlite::Result<ParkedRecord> {
    Ok(ParkedRecord {
        seq: seq_at(row, 0)?,
        path: path_at(row, 1)?,
        reason: row.get(2)?,
        attempts: row.get(3)?,
        since: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        due: Timestamp(row.get(5)?),
    })
}

fn seq_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Seq> {
    Ok(Seq(row.get::<_, i64>(at)?.cast_unsigned()))
}

fn path_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<ZnodePath>> {
    let path: Option<String> = row.get(at)?;
    let parsed = path.map(|path| ZnodePath::parse(&path)).transpose();
    parsed.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// A dead letter or parked record, from the journal or from the table's own copy; the same for every sink.
fn record_of(
    connection: &Connection,
    names: &mut Names,
    table: &str,
    seq: Seq,
) -> rusqlite::Result<Option<Arc<Record>>> {
    let sql = format!("SELECT record FROM {table} WHERE seq = ?1 AND record IS NOT NULL LIMIT 1");
    let kept: Option<String> = connection
        .prepare_cached(&sql)?
        .query_row([seq.0.cast_signed()], |row| row.get(0))
        .optional()?;
    match kept {
        Some(json) => parse(&json).map(|record| Some(Arc::new(record))),
        None => names.one(connection, seq).optional(),
    }
}

fn parse(json: &str) -> rusqlite::Result<Record> {
    serde_json::from_str(json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
    })
}
