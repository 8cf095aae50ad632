//! Dates the records of a journal, for questions by time.
//!
//! A record that was captured long after its change, such as one of a history that was read from old logs, has the time of
//! its transaction. One that a comparison found, and one that is no change, has only the time of its capture, and its
//! place between the changes beside it.

use rusqlite::{Connection, OptionalExtension, Row};

use super::code::StatCode;
use super::error::JournalError;
use super::read::Reader;
use super::row::{changed_of, mode_number, op_of_number};
use crate::number::Seq;
use crate::record::{Mode, Op, Times, Timestamp};

/// Records that a look back passes.
const LOOK_BACK: i64 = 10_000;

/// The meaning of the times of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateKind {
    /// It was read as a transaction, and has the time of it.
    Committed,
    /// A watch saw the change as it happened.
    Seen,
    /// A comparison found it, or it is no change of a znode.
    Found,
}

/// When a record happened, as far as the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordDate {
    /// The record.
    pub seq: Seq,
    /// The meaning of its times.
    pub kind: DateKind,
    /// Its times. Of a record that was found, only a service event has a `changed`.
    pub time: Times,
}

/// The operations up to 3 are changes.
const COLUMNS: &str =
    "seq, CASE WHEN txn IS NOT NULL THEN 0 WHEN fidelity = 0 AND op <= 3 THEN 1 ELSE 2 END, op, stat,
    changed, captured";

/// Whether a record is a transaction or was seen.
const IS_DATED: &str = "(txn IS NOT NULL OR (fidelity = 0 AND op <= 3))";

impl RecordDate {
    fn of_row(row: &Row<'_>) -> rusqlite::Result<RecordDate> {
        let kind = match row.get(1)? {
            0 => DateKind::Committed,
            1 => DateKind::Seen,
            _ => DateKind::Found,
        };
        let op = op_of_number(row.get(2)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, 0))?;
        let noted = row.get::<_, Option<i64>>(4)?.map(Timestamp);
        let changed = match kind {
            DateKind::Found => noted.filter(|_| op == Op::Service),
            DateKind::Committed | DateKind::Seen => {
                let stat: Option<StatCode> = row.get(3)?;
                changed_of(op, stat.map(|StatCode(stat)| stat), noted)
            }
        };
        let captured = Timestamp(row.get(5)?);
        Ok(RecordDate {
            seq: Seq(row.get::<_, i64>(0)?.cast_unsigned()),
            kind,
            time: Times { changed, captured },
        })
    }
}

impl Reader {
    /// Whether any record of the journal may be one that was read as a transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn has_transactions(&mut self) -> Result<bool, JournalError> {
        self.within("reading how records were captured", |connection| {
            connection
                .prepare_cached("SELECT 1 FROM origin WHERE mode <> ?1")?
                .exists([mode_number(Mode::Watch)])
        })
    }

    /// When the records after the first number, up to and including the second, happened. The range must be short: it is
    /// read in one transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn dates(&mut self, (after, until): (Seq, Seq)) -> Result<Vec<RecordDate>, JournalError> {
        self.within("reading when records happened", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM record WHERE seq > ?1 AND seq <= ?2 ORDER BY seq");
            let mut statement = connection.prepare_cached(&sql)?;
            let range = (after.0.cast_signed(), until.0.cast_signed());
            let found = statement.query_map(range, RecordDate::of_row)?;
            found.collect()
        })
    }

    /// The first record of the range that is a transaction or was seen. The range must be short: it is read in one
    /// transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn dated_between(&mut self, (after, until): (Seq, Seq)) -> Result<Option<RecordDate>, JournalError> {
        let order = "seq > ?1 AND seq <= ?2";
        self.within("looking for the date of a record", |connection| {
            one(
                connection,
                order,
                "ASC",
                (after.0.cast_signed(), until.0.cast_signed()),
            )
        })
    }

    /// The last record before another one that is a transaction or was seen; `None` if none is near.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn dated_before(&mut self, seq: Seq) -> Result<Option<RecordDate>, JournalError> {
        let order = "seq < ?1 AND seq >= ?2";
        let seq = seq.0.cast_signed();
        self.within("looking for the date of a record", |connection| {
            one(connection, order, "DESC", (seq, seq - LOOK_BACK))
        })
    }

    /// Whether each of these records was read as a transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn are_transactions(&mut self, seqs: &[Seq]) -> Result<Vec<bool>, JournalError> {
        self.within("reading how records were captured", |connection| {
            let sql = "SELECT txn IS NOT NULL FROM record WHERE seq = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let is_one = |seq: &Seq| -> rusqlite::Result<bool> {
                let found = statement.query_row([seq.0.cast_signed()], |row| row.get(0));
                Ok(found.optional()?.unwrap_or(false))
            };
            seqs.iter().map(is_one).collect()
        })
    }
}

fn one(
    connection: &Connection,
    range: &str,
    order: &str,
    bounds: (i64, i64),
) -> rusqlite::Result<Option<RecordDate>> {
    let sql =
        format!("SELECT {COLUMNS} FROM record WHERE {range} AND {IS_DATED} ORDER BY seq {order} LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row(bounds, RecordDate::of_row).optional()
}
