//! Removes expired records, in slices that delay capture only briefly.
//!
//! A record is removed when every sink has handled it and its retention has passed, or, at the size limit, as soon as
//! every sink has handled it. With `retention = "forever"` none is removed. The value that the record superseded is
//! removed with it, because nothing else needs it (see [`super::schema`]). Dead letters and parked records are kept as
//! JSON. The last record always stays, because it marks the end of the journal.

use rusqlite::Connection;

use super::contract::JournalWriter;
use super::cursors;
use super::ended;
use super::error::JournalError;
use super::read::Names;
use super::row::op_number;
use super::size::{captured_at, pages};
use super::unreadable;
use super::waypoints;
use super::writer::{Journal, TxnState};
use crate::amount::Horizon;
use crate::number::Seq;
use crate::record::{Op, Timestamp};

/// Delivered records go before their time above this share of the size limit, so that appending need not wait for it.
pub(super) const CROWDED: (u64, u64) = (9, 10);

/// The result of a call of [`super::JournalWriter::maintain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maintained {
    /// Records removed.
    pub removed: usize,
    /// Whether another call would find more.
    pub more: bool,
}

impl Journal {
    /// As in [`super::JournalWriter::maintain`].
    pub(super) fn remove_old(&mut self, now: Timestamp, budget: usize) -> Result<Maintained, JournalError> {
        assert!(self.state == TxnState::Closed, "retention has a batch of its own");
        let last = self.read("looking for old records", |journal| {
            journal.removable(now, budget)
        })?;
        let Some(last) = last else {
            return Ok(Maintained {
                removed: 0,
                more: false,
            });
        };
        let removed = self.write("removing old records", |journal| {
            journal.remove_until(Some(last), budget)
        });
        let removed = match removed {
            Ok(removed) => removed,
            Err(error) => {
                self.rollback_transaction()?;
                return Err(error);
            }
        };
        self.commit()?;
        let more = self.read("looking for old records", |journal| journal.removable(now, 1))?;
        Ok(Maintained {
            removed,
            more: more.is_some(),
        })
    }

    /// The last of at most `budget` records from the oldest on that may go now.
    fn removable(&mut self, now: Timestamp, budget: usize) -> rusqlite::Result<Option<Seq>> {
        let Horizon::For(span) = self.options.retention else {
            return Ok(None);
        };
        let (Some(oldest), Some(delivered)) =
            (cursors::oldest(&self.connection)?, self.removable_for_room()?)
        else {
            return Ok(None);
        };
        let last = delivered.min(Seq((oldest.0 - 1).saturating_add(budget as u64)));
        if last < oldest {
            return Ok(None);
        }
        if self.is_crowded()? {
            return Ok(Some(last));
        }
        let kept_ms = i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX);
        let horizon = Timestamp(now.0.saturating_sub(kept_ms));
        self.last_captured_before(oldest, last, horizon)
    }

    /// In the order of `seq`, so that a clock that was set back holds records longer, and never makes a hole.
    fn last_captured_before(
        &self,
        oldest: Seq,
        last: Seq,
        horizon: Timestamp,
    ) -> rusqlite::Result<Option<Seq>> {
        if captured_at(&self.connection, oldest)? >= horizon {
            return Ok(None);
        }
        let young: Option<i64> = self
            .connection
            .prepare_cached("SELECT min(seq) FROM record WHERE seq BETWEEN ?1 AND ?2 AND captured >= ?3")?
            .query_row((oldest.0.cast_signed(), last.0.cast_signed(), horizon.0), |row| {
                row.get(0)
            })?;
        Ok(Some(young.map_or(last, |seq| Seq(seq.cast_unsigned() - 1))))
    }

    fn is_crowded(&self) -> rusqlite::Result<bool> {
        let (pages, free) = pages(&self.connection)?;
        let used = (pages - free) * u64::from(super::schema::PAGE_BYTES);
        let (part, whole) = CROWDED;
        Ok(used / part >= self.options.max_size.0 / whole)
    }

    /// The last record that no sink needs any more; `None` where all are kept without a limit.
    pub(super) fn removable_for_room(&mut self) -> rusqlite::Result<Option<Seq>> {
        if self.options.retention == Horizon::Forever {
            return Ok(None);
        }
        let slowest = cursors::cursors(&self.connection)?
            .into_iter()
            .map(|sink| sink.cursor)
            .min();
        let before_last = Seq(self.log.head.0.saturating_sub(1));
        Ok(Some(
            slowest.map_or(before_last, |cursor| cursor.min(before_last)),
        ))
    }

    /// Removes the records up to `last`, at most `budget` of them, from the oldest on.
    pub(super) fn remove_until(&mut self, last: Option<Seq>, budget: usize) -> rusqlite::Result<usize> {
        let (Some(last), Some(oldest)) = (last, cursors::oldest(&self.connection)?) else {
            return Ok(0);
        };
        let last = last.min(Seq((oldest.0 - 1).saturating_add(budget as u64)));
        if last < oldest {
            return Ok(0);
        }
        for table in ["rejected", "parked"] {
            keep_whole(&self.connection, &self.options.cluster, table, last)?;
        }
        let ends = ends_among(&self.connection, last)?;
        let removed = remove_records(&self.connection, last)?;
        self.log.stretch.remove_until(&self.connection, last)?;
        self.log.tail_cache.forget_until(last);
        self.log.holes.forget(&self.connection, last)?;
        if self.image.paths.retire(&self.connection, &ends, last.next())? {
            self.image.paths.keep_next(&self.connection)?;
        }
        self.room.forget();
        Ok(removed)
    }
}

/// Writes the records among those that go as JSON, which needs nothing of the rest, where a sink has set them aside.
fn keep_whole(connection: &Connection, cluster: &str, table: &str, last: Seq) -> rusqlite::Result<()> {
    let sql = format!("SELECT DISTINCT seq FROM {table} WHERE record IS NULL AND seq <= ?1 ORDER BY seq");
    let mut statement = connection.prepare_cached(&sql)?;
    let seqs: Vec<i64> = statement
        .query_map([last.0.cast_signed()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if seqs.is_empty() {
        return Ok(());
    }
    let mut names = Names::new(cluster);
    let sql = format!("UPDATE {table} SET record = ?2 WHERE seq = ?1 AND record IS NULL");
    for seq in seqs {
        let record = names.one(connection, Seq(seq.cast_unsigned()))?;
        let json = String::from_utf8(record.to_json()).expect("JSON is UTF-8");
        connection.prepare_cached(&sql)?.execute((seq, json))?;
    }
    Ok(())
}

/// The paths whose life ends in a record that goes.
fn ends_among(connection: &Connection, last: Seq) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT path FROM record WHERE seq <= ?1 AND op = ?2")?;
    let rows = statement.query_map((last.0.cast_signed(), op_number(Op::Delete)), |row| row.get(0))?;
    rows.collect()
}

fn remove_records(connection: &Connection, until: Seq) -> rusqlite::Result<usize> {
    let last = [until.0.cast_signed()];
    connection
        .prepare_cached(
            "DELETE FROM value WHERE id IN (SELECT retired FROM record WHERE seq <= ?1 AND retired IS NOT NULL)",
        )?
        .execute(last)?;
    connection
        .prepare_cached("DELETE FROM folded WHERE seq <= ?1")?
        .execute(last)?;
    waypoints::remove_until(connection, until)?;
    ended::remove_until(connection, until)?;
    unreadable::remove_until(connection, until)?;
    connection
        .prepare_cached("DELETE FROM record WHERE seq <= ?1")?
        .execute(last)
}
