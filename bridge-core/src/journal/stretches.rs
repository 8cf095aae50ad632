//! Stretches: a summary of each 256 records, so that a position is found and records are counted without reading them.
//!
//! ```text
//! 1 … 256 │ 257 … 512 │ 513 … 768 │ 769 … tail
//!   row        row         row       in the memory of the writer
//! ```
//!
//! Invariants:
//!
//! * A row is written with the last record of its stretch, in the same transaction. Its maxima are never below those of the
//!   kept records, its minima never above, and its counts are exactly theirs: a fold ([`super::folding`]) counts again
//!   the stretches that it touched, and retention removes the row of a stretch with its first record.
//! * A row has no meaning beyond that: an answer is the same without any.
//! * The records that an older format has written have no rows. Nothing adds them later.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row};

use super::code::{put, take};
use super::cursors;
use super::error::JournalError;
use super::inspect::FINDINGS_MAX;
use super::progress;
use super::read::Reader;
use super::row::{Stored, op_number, op_of_number};
use crate::number::{Seq, Zxid};
use crate::record::{Fidelity, Op, Timestamp, ZxidKind};

/// The key of the records of a stretch in `meta`: a power of two from 1 to [`LENGTH_MAX`].
const LENGTH: &str = "stretch";

/// The key of the last record in `meta` that an older format may have written: no stretch up to it has a row.
const UNSUMMARISED: &str = "unsummarised";

/// The longest stretch of a valid file.
const LENGTH_MAX: u64 = 1 << 16;

/// Records of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpCount {
    /// How many.
    pub records: u64,
    /// Changes before them that have no record, where their number is known.
    pub missed: u64,
    /// Records of znodes before which an unknown number of changes was missed.
    pub missed_unknown: u64,
}

/// The earliest creates of some records, of those that were seen exactly and are certainly the first record of a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Births {
    /// The least of their zxids.
    pub zxid: Zxid,
    /// The least of their times, by ZooKeeper's clock.
    pub changed: Timestamp,
}

/// The summary of some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StretchSummary {
    /// The greatest zxid, exact or a bound.
    pub zxid: Option<Zxid>,
    /// The earliest and the latest capture.
    pub captured: Option<(Timestamp, Timestamp)>,
    /// The latest time of a change, by ZooKeeper's clock.
    pub changed: Option<Timestamp>,
    /// The earliest creates.
    pub births: Option<Births>,
    counts: [OpCount; Op::ALL.len()],
}

/// The greatest zxid and the latest capture of some records.
pub type Maxima = (Option<Zxid>, Option<Timestamp>);

/// The part of a record that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordCount {
    /// The operation.
    pub op: Op,
    /// When it was captured.
    pub captured: Timestamp,
    /// Changes before it that have no record, if their number is known.
    pub missed: Option<u64>,
    /// Whether the record names a znode.
    pub has_path: bool,
}

impl OpCount {
    fn count(&mut self, missed: Option<u64>, has_path: bool) {
        self.records += 1;
        match missed {
            Some(missed) => self.missed = self.missed.saturating_add(missed),
            None => self.missed_unknown += u64::from(has_path),
        }
    }
}

/// The zxid and the time of a create that is certainly the first record of a znode: a question about an earlier moment finds
/// nothing of it.
pub(super) fn birth_of(record: &Stored) -> Option<(Zxid, Timestamp)> {
    let is_seen = record.op == Op::Create
        && record.fidelity == Fidelity::Exact
        && record.zxid_kind == ZxidKind::Exact
        && record.missed == Some(0)
        && record.superseded.is_empty();
    let (zxid, changed) = (record.zxid.filter(|_| is_seen)?, record.times().changed?);
    let is_first = record
        .stat
        .is_none_or(|stat| stat.czxid == zxid && stat.ctime == changed.0);
    is_first.then_some((zxid, changed))
}

impl StretchSummary {
    /// The records of an operation.
    pub fn of(&self, op: Op) -> OpCount {
        self.counts[place_of_op(op)]
    }

    fn take(&mut self, record: &Stored) {
        self.zxid = self.zxid.max(record.zxid);
        let captured = record.captured;
        self.captured = Some(self.captured.map_or((captured, captured), |(earliest, latest)| {
            (earliest.min(captured), latest.max(captured))
        }));
        self.changed = self.changed.max(record.times().changed);
        if let Some((zxid, changed)) = birth_of(record) {
            let births = self.births.get_or_insert(Births { zxid, changed });
            births.zxid = births.zxid.min(zxid);
            births.changed = births.changed.min(changed);
        }
        let has_path = record.path.is_some() || record.op == Op::Service;
        self.counts[place_of_op(record.op)].count(record.missed, has_path);
    }

    /// That of the records after `after`, up to and including `until`.
    pub(super) fn read(connection: &Connection, after: Seq, until: Seq) -> rusqlite::Result<StretchSummary> {
        let mut summary = StretchSummary::default();
        Stored::each_between(connection, after, until, |record| summary.take(record))?;
        Ok(summary)
    }

    /// From the columns of [`COLUMNS`].
    fn of_row(row: &Row<'_>) -> rusqlite::Result<StretchSummary> {
        let zxid = |at: usize| -> rusqlite::Result<Option<Zxid>> {
            let number: Option<i64> = row.get(at)?;
            Ok(number.map(|zxid| Zxid(zxid.cast_unsigned())))
        };
        let time = |at: usize| -> rusqlite::Result<Option<Timestamp>> {
            Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp))
        };
        let births = zxid(5)?.zip(time(6)?);
        let counts: &[u8] = row.get_ref(7)?.as_blob()?;
        Ok(StretchSummary {
            zxid: zxid(1)?,
            captured: time(2)?.zip(time(3)?),
            changed: time(4)?,
            births: births.map(|(zxid, changed)| Births { zxid, changed }),
            counts: decode_counts(counts).ok_or(rusqlite::Error::IntegralValueOutOfRange(7, 0))?,
        })
    }

    fn store(&self, connection: &Connection, last: Seq) -> rusqlite::Result<()> {
        let zxid = |zxid: Zxid| zxid.0.cast_signed();
        connection
            .prepare_cached(
                "INSERT INTO stretch(last, zxid, earliest, latest, changed, born_zxid, born_changed, counts)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                last.0.cast_signed(),
                self.zxid.map(zxid),
                self.captured.map(|(earliest, _)| earliest.0),
                self.captured.map(|(_, latest)| latest.0),
                self.changed.map(|changed| changed.0),
                self.births.map(|births| zxid(births.zxid)),
                self.births.map(|births| births.changed.0),
                encode_counts(&self.counts),
            ))
            .map(drop)
    }

    /// Whether the summary is one of these records: maxima and minima may be of records that a fold has taken away.
    fn covers(&self, records: &StretchSummary) -> bool {
        let captured = match (self.captured, records.captured) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(theirs)) => own.0 <= theirs.0 && own.1 >= theirs.1,
        };
        let births = match (self.births, records.births) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(theirs)) => own.zxid <= theirs.zxid && own.changed <= theirs.changed,
        };
        captured
            && births
            && self.zxid >= records.zxid
            && self.changed >= records.changed
            && self.counts == records.counts
    }
}

fn place_of_op(op: Op) -> usize {
    usize::try_from(op_number(op)).expect("the numbers of operations are small")
}

/// The three numbers of each operation up to the last that has records.
fn encode_counts(counts: &[OpCount; Op::ALL.len()]) -> Vec<u8> {
    let used = counts.iter().rposition(|count| count.records > 0);
    let mut out = Vec::new();
    for count in &counts[..used.map_or(0, |last| last + 1)] {
        put(&mut out, count.records);
        put(&mut out, count.missed);
        put(&mut out, count.missed_unknown);
    }
    out
}

fn decode_counts(mut bytes: &[u8]) -> Option<[OpCount; Op::ALL.len()]> {
    let mut counts = [OpCount::default(); Op::ALL.len()];
    let mut places = counts.iter_mut();
    while !bytes.is_empty() {
        *places.next()? = OpCount {
            records: take(&mut bytes)?,
            missed: take(&mut bytes)?,
            missed_unknown: take(&mut bytes)?,
        };
    }
    Some(counts)
}

/// The stretch that the writer is in.
pub(super) struct OpenStretch {
    length: u64,
    /// The record before its first.
    after: Seq,
    /// Whether it gets no row: an older format has written some of its records, or retention has removed some.
    is_partial: bool,
    summary: StretchSummary,
}

impl OpenStretch {
    /// The stretch of a journal that ends with this record.
    pub(super) fn load(connection: &Connection, tail: Seq) -> rusqlite::Result<OpenStretch> {
        let length = length_of(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let unsummarised = progress::number(connection, UNSUMMARISED)?;
        let after = Seq(tail.0 - tail.0 % length);
        let oldest = cursors::oldest(connection)?.unwrap_or(Seq(1));
        Ok(OpenStretch {
            length,
            after,
            is_partial: unsummarised > after.0 || oldest > after.next(),
            summary: StretchSummary::read(connection, after, tail)?,
        })
    }

    /// Takes the next record, and stores the stretch if it is the last one of it.
    pub(super) fn take(&mut self, connection: &Connection, record: &Stored) -> rusqlite::Result<()> {
        self.summary.take(record);
        if record.seq.0 < self.after.0 + self.length {
            return Ok(());
        }
        if !self.is_partial {
            self.summary.store(connection, record.seq)?;
        }
        self.after = record.seq;
        self.is_partial = false;
        self.summary = StretchSummary::default();
        Ok(())
    }

    /// Records up to this one are removed: with them go the rows of all stretches that had one of them.
    pub(super) fn remove_until(&mut self, connection: &Connection, last: Seq) -> rusqlite::Result<()> {
        self.is_partial |= last > self.after;
        connection
            .prepare_cached("DELETE FROM stretch WHERE last < ?1")?
            .execute([(last.0 + self.length).cast_signed()])
            .map(drop)
    }

    /// Counts again the stretches of records that a fold has changed.
    pub(super) fn recount(
        &mut self,
        connection: &Connection,
        changed: &BTreeSet<Seq>,
        tail: Seq,
    ) -> rusqlite::Result<()> {
        let stretches: BTreeSet<u64> = changed.iter().map(|seq| (seq.0 - 1) / self.length).collect();
        for stretch in stretches {
            let after = Seq(stretch * self.length);
            if after >= self.after {
                let is_partial = self.is_partial;
                *self = OpenStretch::load(connection, tail)?;
                self.is_partial |= is_partial;
                continue;
            }
            let until = Seq(after.0 + self.length);
            let mut counts = [OpCount::default(); Op::ALL.len()];
            counts_between(connection, (after, until), usize::MAX, |_, record| {
                counts[place_of_op(record.op)].count(record.missed, record.has_path);
            })?;
            connection
                .prepare_cached("UPDATE stretch SET counts = ?2 WHERE last = ?1")?
                .execute((until.0.cast_signed(), encode_counts(&counts)))?;
        }
        Ok(())
    }
}

/// The records of a stretch; `None` in a file of an older format.
fn length_of(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let stored: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([LENGTH], |row| row.get(0))
        .optional()?;
    let Some(stored) = stored else { return Ok(None) };
    let length = stored.cast_unsigned();
    match length.is_power_of_two() && length <= LENGTH_MAX {
        true => Ok(Some(length)),
        false => Err(rusqlite::Error::IntegralValueOutOfRange(0, stored)),
    }
}

const COLUMNS: &str = "last, zxid, earliest, latest, changed, born_zxid, born_changed, counts";

const COUNTED: &str = "SELECT seq, op, captured, missed, path IS NOT NULL FROM record
    WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";

fn counts_between(
    connection: &Connection,
    (after, until): (Seq, Seq),
    limit: usize,
    mut take: impl FnMut(Seq, RecordCount),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(COUNTED)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query((after.0.cast_signed(), until.0.cast_signed(), limit))?;
    while let Some(row) = rows.next()? {
        let op = op_of_number(row.get(1)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, 0))?;
        let record = RecordCount {
            op,
            captured: Timestamp(row.get(2)?),
            missed: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
            has_path: row.get::<_, bool>(4)? || op == Op::Service,
        };
        take(Seq(row.get::<_, i64>(0)?.cast_unsigned()), record);
    }
    Ok(())
}

impl Reader {
    /// The records of a stretch, a power of two; `None` in a file of an older format, which has no stretches.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn stretch_length(&mut self) -> Result<Option<u64>, JournalError> {
        self.within("reading the length of a stretch", length_of)
    }

    /// The summaries of stretches that end after `after`, in order, at most `limit`, each with its last record. There are
    /// none of records that an older format has written, and of the newest ones.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn summaries(
        &mut self,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, StretchSummary)>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM stretch WHERE last > ?1 ORDER BY last LIMIT ?2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.within("reading stretches", |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let found = statement.query_map((after.0.cast_signed(), limit), |row| {
                let last: i64 = row.get(0)?;
                Ok((Seq(last.cast_unsigned()), StretchSummary::of_row(row)?))
            })?;
            found.collect()
        })
    }

    /// The earliest creates among the records after the first number, up to and including the second. The range must be
    /// short: it is read in one transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn births(&mut self, (after, until): (Seq, Seq)) -> Result<Option<Births>, JournalError> {
        self.within("reading creates", |connection| {
            Ok(StretchSummary::read(connection, after, until)?.births)
        })
    }

    /// The greatest zxid and the latest capture of records, by parts of `length` records, for each part after `after`, a
    /// multiple of `length`, up to `until`. The range must be short: it is read in one transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn maxima(&mut self, (after, until): (Seq, Seq), length: u64) -> Result<Vec<Maxima>, JournalError> {
        let parts = (until.0 - after.0).div_ceil(length);
        let mut found = vec![(None, None); usize::try_from(parts).unwrap_or(usize::MAX)];
        let range = (after.0.cast_signed(), until.0.cast_signed(), length.cast_signed());
        self.within("measuring records", |connection| {
            let sql = "SELECT (seq - 1 - ?1) / ?3 AS part, max(zxid), max(captured) FROM record
                WHERE seq > ?1 AND seq <= ?2 GROUP BY part";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(range)?;
            while let Some(row) = rows.next()? {
                let part = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX);
                let zxid: Option<i64> = row.get(1)?;
                let captured: Option<i64> = row.get(2)?;
                if let Some(maxima) = found.get_mut(part) {
                    *maxima = (
                        zxid.map(|zxid| Zxid(zxid.cast_unsigned())),
                        captured.map(Timestamp),
                    );
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Counts the records after the first number, up to and including the second, at most `limit`. The limit
    /// must be small: they are read in one transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn counts(
        &mut self,
        range: (Seq, Seq),
        limit: usize,
    ) -> Result<Vec<(Seq, RecordCount)>, JournalError> {
        self.within("counting records", |connection| {
            let mut found = Vec::new();
            counts_between(connection, range, limit, |seq, record| found.push((seq, record)))?;
            Ok(found)
        })
    }
}

/// A stretch that is not as its records say, with what is wrong.
pub(super) type WrongStretch = (Seq, &'static str);

/// Compares the rows with the records. `found` is called with each that is wrong.
pub(super) fn compare(connection: &Connection, mut found: impl FnMut(WrongStretch)) -> rusqlite::Result<()> {
    let Some(length) = length_of(connection)? else {
        return Ok(());
    };
    let (Some(oldest), Some(tail)) = (cursors::oldest(connection)?, cursors::newest(connection)?) else {
        return Ok(());
    };
    let unsummarised = Seq(progress::number(connection, UNSUMMARISED)?);
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM stretch ORDER BY last"))?;
    let mut rows = statement.query([])?;
    // The first stretch of which all records are kept.
    let mut expected =
        Seq((oldest.0 - 1).next_multiple_of(length) + length).max(Seq(unsummarised.0 + length));
    while let Some(row) = rows.next()? {
        let last = Seq(row.get::<_, i64>(0)?.cast_unsigned());
        let is_place = last.0.is_multiple_of(length) && last <= tail && last > unsummarised;
        if !is_place {
            found((last, "no stretch of records ends here"));
            continue;
        }
        missing(expected, last, length, &mut found);
        expected = Seq(last.0 + length).max(expected);
        let records = StretchSummary::read(connection, Seq(last.0 - length), last)?;
        let is_right = StretchSummary::of_row(row).is_ok_and(|summary| summary.covers(&records));
        if !is_right {
            found((
                last,
                "the summary of the stretch that ends here is not that of its records",
            ));
        }
    }
    missing(expected, tail.next(), length, &mut found);
    Ok(())
}

/// The stretches that end from `expected` on and before `end` are missing. Only so many are reported as anybody reads: the
/// number of a damaged record can be any.
fn missing(expected: Seq, end: Seq, length: u64, found: &mut impl FnMut(WrongStretch)) {
    let mut last = expected;
    for _ in 0..FINDINGS_MAX {
        if last >= end {
            return;
        }
        found((last, "the summary of the stretch that ends here is missing"));
        last.0 += length;
    }
}
