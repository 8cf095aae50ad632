//! What the journal still knows of one path, and where in the journal a zxid or a moment is.
//!
//! Every record of a path names the one before it, and the image names the last, so that a history is a walk back that
//! reads nothing else. It ends at the first record of the path, or where retention has removed what was before.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::cursors;
use super::error::JournalError;
use super::folding;
use super::image_reader::place_of;
use super::read::{Names, Reader, within};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Record, Timestamp};

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
    /// Whether records of the path may have been removed by retention before the last of them. Only told where `next`
    /// is `None`.
    pub is_cut: bool,
}

impl Reader {
    /// The records of a path, the newest first, at most `limit` of them: from its last one, or from `from`, which is
    /// what an earlier stretch gave as `next`. `None`: the journal knows no such path.
    pub fn history(
        &mut self,
        path: &ZnodePath,
        from: Option<Seq>,
        limit: usize,
    ) -> Result<Option<History>, JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let read = within(connection, |connection| {
            let Some(place) = place_of(connection, path)? else {
                return Ok(None);
            };
            walk_back(connection, names, from.or(place.last), limit).map(Some)
        });
        read.map_err(|error| self.fault("reading the history of a path", error))
    }

    /// The first record that is at a position or behind it; `None`: all are before it. Of a zxid: no record before the
    /// one that is found has it or a later one. Of a moment: when records were captured.
    pub fn first_at(&mut self, position: Position) -> Result<Option<Seq>, JournalError> {
        let (sql, from) = match position {
            Position::Seq(seq) => (
                "SELECT seq FROM record WHERE seq >= ?1 ORDER BY seq LIMIT 1",
                seq.0.cast_signed(),
            ),
            Position::Zxid(zxid) => (
                "SELECT seq FROM record WHERE zxid >= ?1 ORDER BY seq LIMIT 1",
                zxid.0.cast_signed(),
            ),
            Position::Time(time) => (
                "SELECT seq FROM record WHERE captured >= ?1 ORDER BY seq LIMIT 1",
                time.0,
            ),
        };
        let found = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([from], |row| row.get(0)).optional());
        found
            .map(|seq: Option<i64>| seq.map(|seq| Seq(seq.cast_unsigned())))
            .map_err(|error| self.fault("looking for a position", error))
    }
}

impl Reader {
    /// The last record of the stretch that ends with a position: what follows is behind it.
    pub fn last_at(&mut self, position: Position) -> Result<Seq, JournalError> {
        let behind = match position {
            Position::Seq(seq) => return Ok(seq),
            Position::Zxid(zxid) => Position::Zxid(Zxid(zxid.0.saturating_add(1))),
            Position::Time(time) => Position::Time(Timestamp(time.0.saturating_add(1))),
        };
        match self.first_at(behind)? {
            Some(seq) => Ok(Seq(seq.0 - 1)),
            None => self.tail(),
        }
    }
}

fn walk_back(
    connection: &Connection,
    names: &mut Names,
    from: Option<Seq>,
    limit: usize,
) -> rusqlite::Result<History> {
    let oldest = cursors::oldest(connection)?.unwrap_or(Seq(1));
    let mut next = from;
    let mut records = Vec::new();
    let mut compacted = BTreeMap::new();
    while let Some(seq) = next.filter(|seq| *seq >= oldest && records.len() < limit) {
        records.push(names.one(connection, seq)?);
        compacted.extend(folding::folded_into(connection, seq)?.map(|count| (seq, count)));
        next = previous_of(connection, seq)?;
    }
    let is_removed = next.is_some_and(|seq| seq < oldest);
    let next = next.filter(|seq| *seq >= oldest);
    Ok(History {
        // A path that was forgotten with its records begins anew, without a word of what was before.
        is_cut: next.is_none() && (is_removed || oldest > Seq(1)),
        next,
        compacted,
        records,
    })
}

fn previous_of(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Seq>> {
    let previous: Option<i64> = connection
        .prepare_cached("SELECT previous FROM record WHERE seq = ?1")?
        .query_row([seq.0.cast_signed()], |row| row.get(0))?;
    Ok(previous.map(|seq| Seq(seq.cast_unsigned())))
}
