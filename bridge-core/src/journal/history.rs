//! The history of one path, and the position of a zxid or a time in the journal.
//!
//! Every record of a path names the one before it, and the image names the last. So a history is read backwards without
//! reading other records. It ends at the first record of the path, or where retention has removed older ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::cursors;
use super::error::JournalError;
use super::folding;
use super::image_reader::place_of;
use super::read::{Names, Reader};
use super::read_connection::Slice;
use super::row::{kind_number, op_number};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Op, Record, Timestamp, ZxidKind};

/// Rows read between two readings of the clock: 1 to 2 ms.
const ROWS_SCANNED: i64 = 10_000;

/// A place in a journal, as people and other systems name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// A record's own number.
    Seq(Seq),
    /// A transaction of ZooKeeper.
    Zxid(Zxid),
    /// A moment.
    Time(Timestamp),
}

/// A stretch of the records of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The newest first.
    pub records: Vec<Arc<Record>>,
    /// The record before the last of them, if it is kept: where the next stretch begins.
    pub next: Option<Seq>,
    /// How many records a full journal has compacted into each of these, as far as it has.
    pub compacted: BTreeMap<Seq, u64>,
    /// Whether records of the path may have been removed by retention before the last of them. Only set where `next`
    /// is `None`.
    pub is_cut: bool,
}

impl Reader {
    /// The records of a path, the newest first, at most `limit` of them: from its last one, or from `from`, which is
    /// what an earlier stretch gave as `next`. `None`: the journal knows no such path.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn history(
        &mut self,
        path: &ZnodePath,
        from: Option<Seq>,
        limit: usize,
    ) -> Result<Option<History>, JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let mut walk: Option<WalkBack> = None;
        let read = connection.in_slices(|connection, slice| {
            let walk = match &mut walk {
                Some(walk) => walk,
                None => match place_of(connection, path)? {
                    Some(place) => walk.insert(WalkBack::new(from.or(place.last))),
                    None => return Ok(Some(None)),
                },
            };
            let history = walk.go_on(connection, names, limit, slice)?;
            Ok(history.map(Some))
        });
        read.map_err(|error| self.fault("reading the history of a path", error))
    }

    /// The first record that is at a position or after it; `None`: all are before it. Of a zxid: no record before the
    /// one that is found has it or a later one. Of a moment: when records were captured.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn first_at(&mut self, position: Position) -> Result<Option<Seq>, JournalError> {
        let found = match position {
            Position::Seq(seq) => self.connection.within(|connection| first_kept(connection, seq)),
            Position::Zxid(zxid) => self.first_where("zxid >= ?3", zxid.0.cast_signed()),
            Position::Time(time) => self.first_where("captured >= ?3", time.0),
        };
        found.map_err(|error| self.fault("looking for a position", error))
    }

    /// The first record after `after`, up to and including `until`, that is at a position or after it, as in
    /// [`Reader::first_at`]. The range must be short: it is read in one transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn first_between(
        &mut self,
        position: Position,
        after: Seq,
        until: Seq,
    ) -> Result<Option<Seq>, JournalError> {
        let (condition, number) = match position {
            Position::Seq(seq) => ("seq >= ?3", seq.0.cast_signed()),
            Position::Zxid(zxid) => ("zxid >= ?3", zxid.0.cast_signed()),
            Position::Time(time) => ("captured >= ?3", time.0),
        };
        let sql = first_sql(condition);
        let range = (after.0.cast_signed(), until.0.cast_signed(), number);
        let found = self.within("looking for a position", |connection| {
            let found: Option<i64> = connection
                .prepare_cached(&sql)?
                .query_row(range, |row| row.get(0))
                .optional()?;
            Ok(found)
        })?;
        Ok(found.map(|seq| Seq(seq.cast_unsigned())))
    }

    /// The first record of a path after `after`, up to and including `until`. Reads all records between, in parts.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn first_of_path(
        &mut self,
        path: &ZnodePath,
        after: Seq,
        until: Seq,
    ) -> Result<Option<Seq>, JournalError> {
        let place = self.within("looking for a path", |connection| place_of(connection, path))?;
        let Some(place) = place else { return Ok(None) };
        let sql = first_sql("path = ?3");
        let (mut after, until) = (after.0.cast_signed(), until.0.cast_signed());
        let found = self.connection.in_slices(|connection, slice| {
            let mut statement = connection.prepare_cached(&sql)?;
            while after < until {
                let to = until.min(after + ROWS_SCANNED);
                let found: Option<i64> = statement
                    .query_row((after, to, place.id), |row| row.get(0))
                    .optional()?;
                if let Some(seq) = found {
                    return Ok(Some(Some(Seq(seq.cast_unsigned()))));
                }
                after = to;
                if slice.is_over() {
                    return Ok(None);
                }
            }
            Ok(Some(None))
        });
        found.map_err(|error| self.fault("looking for a record of a path", error))
    }

    /// Returns the first record for which a condition holds. Reads all records before it, in parts.
    fn first_where(&mut self, condition: &str, number: i64) -> rusqlite::Result<Option<Seq>> {
        let sql = first_sql(condition);
        let mut after = 0;
        self.connection.in_slices(|connection, slice| {
            let mut statement = connection.prepare_cached(&sql)?;
            let newest = cursors::newest(connection)?.unwrap_or_default().0.cast_signed();
            after =
                after.max(cursors::oldest(connection)?.map_or(newest, |oldest| oldest.0.cast_signed() - 1));
            while after < newest {
                let found: Option<i64> = statement
                    .query_row((after, after + ROWS_SCANNED, number), |row| row.get(0))
                    .optional()?;
                if let Some(seq) = found {
                    return Ok(Some(Some(Seq(seq.cast_unsigned()))));
                }
                after += ROWS_SCANNED;
                if slice.is_over() {
                    return Ok(None);
                }
            }
            Ok(Some(None))
        })
    }
}

impl Reader {
    /// The zxid with which the kept records begin: every later change is in the journal. While no record was removed, that
    /// of the first listing that ended; otherwise that of the first exact record of a change, and where retention has left
    /// none, the zxid up to which the journal is complete. `None` before the end of the first listing.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn begins_at(&mut self) -> Result<Option<Zxid>, JournalError> {
        let doing = "looking for its begin";
        let found = match self.oldest()? {
            None => Ok(None),
            Some(Seq(1)) => self.first_where("op = ?3 AND zxid IS NOT NULL", op_number(Op::SnapshotEnd)),
            // A row of a listing has the zxid of an earlier change, however old that is.
            Some(_) => self.first_where(
                &format!(
                    "zxid_kind = ?3 AND zxid IS NOT NULL AND op <> {}",
                    op_number(Op::Snapshot)
                ),
                kind_number(ZxidKind::Exact),
            ),
        };
        let Some(seq) = found.map_err(|error| self.fault(doing, error))? else {
            let listed = self.roots()?.into_iter().filter(|root| root.is_listed);
            return Ok(listed.map(|root| root.reported).max());
        };
        self.within(doing, |connection| {
            let zxid: Option<i64> = connection
                .prepare_cached("SELECT zxid FROM record WHERE seq = ?1")?
                .query_row([seq.0.cast_signed()], |row| row.get(0))
                .optional()?;
            Ok(zxid.map(|zxid| Zxid(zxid.cast_unsigned())))
        })
    }
}

fn first_sql(condition: &str) -> String {
    format!("SELECT seq FROM record WHERE seq > ?1 AND seq <= ?2 AND {condition} ORDER BY seq LIMIT 1")
}

fn first_kept(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Seq>> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT seq FROM record WHERE seq >= ?1 ORDER BY seq LIMIT 1")?
        .query_row([seq.0.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(found.map(|seq| Seq(seq.cast_unsigned())))
}

impl Reader {
    /// The last record of the stretch that ends with a position: what follows is after it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn last_at(&mut self, position: Position) -> Result<Seq, JournalError> {
        let after = match position {
            Position::Seq(seq) => return Ok(seq),
            Position::Zxid(zxid) => Position::Zxid(Zxid(zxid.0.saturating_add(1))),
            Position::Time(time) => Position::Time(Timestamp(time.0.saturating_add(1))),
        };
        match self.first_at(after)? {
            Some(seq) => Ok(Seq(seq.0 - 1)),
            None => self.tail(),
        }
    }
}

/// A walk from record to record of one path, the newest first.
struct WalkBack {
    next: Option<Seq>,
    records: Vec<Arc<Record>>,
    compacted: BTreeMap<Seq, u64>,
}

impl WalkBack {
    fn new(next: Option<Seq>) -> WalkBack {
        WalkBack {
            next,
            records: Vec::new(),
            compacted: BTreeMap::new(),
        }
    }

    /// Reads on. `None`: the slice is over before the end.
    fn go_on(
        &mut self,
        connection: &Connection,
        names: &mut Names,
        limit: usize,
        slice: &Slice,
    ) -> rusqlite::Result<Option<History>> {
        let oldest = cursors::oldest(connection)?.unwrap_or(Seq(1));
        while let Some(seq) = self
            .next
            .filter(|seq| *seq >= oldest && self.records.len() < limit)
        {
            let Some(record) = names.one(connection, seq).optional()? else {
                self.next = self.around_fold(connection, seq)?;
                continue;
            };
            self.records.push(record);
            let folded = folding::folded_into(connection, seq)?;
            self.compacted.extend(folded.map(|count| (seq, count)));
            self.next = previous_of(connection, seq)?;
            if slice.is_over() {
                return Ok(None);
            }
        }
        let is_removed = self.next.is_some_and(|seq| seq < oldest);
        let next = self.next.filter(|seq| *seq >= oldest);
        Ok(Some(History {
            // The history of a path that was removed with its records starts again without a link to them.
            is_cut: next.is_none() && (is_removed || oldest > Seq(1)),
            next,
            compacted: std::mem::take(&mut self.compacted),
            records: std::mem::take(&mut self.records),
        }))
    }

    /// Where the walk continues if the next record went into a later one between two transactions: that one, or one after
    /// it, was read already and names what is before it now.
    fn around_fold(&self, connection: &Connection, gone: Seq) -> rusqlite::Result<Option<Seq>> {
        for record in self.records.iter().rev() {
            if let Some(previous) = previous_of(connection, record.seq).optional()? {
                return match previous {
                    Some(seq) if seq >= gone => Err(rusqlite::Error::QueryReturnedNoRows),
                    before => Ok(before),
                };
            }
        }
        Err(rusqlite::Error::QueryReturnedNoRows)
    }
}

fn previous_of(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Seq>> {
    let previous: Option<i64> = connection
        .prepare_cached("SELECT previous FROM record WHERE seq = ?1")?
        .query_row([seq.0.cast_signed()], |row| row.get(0))?;
    Ok(previous.map(|seq| Seq(seq.cast_unsigned())))
}
