//! Measures the journal, and enforces its size limit.
//!
//! The size is that of the pages in use, without those that retention freed for the next records. The file itself never
//! shrinks. Only appends stop at the limit, so that cursors can always move.

use std::fs;

use rusqlite::Connection;

use super::companions::beside;
use super::cursors;
use super::drafts::Draft;
use super::error::{JournalError, JournalErrorKind};
use super::options::WhenFull;
use super::schema::PAGE_BYTES;
use super::writer::{Journal, TxnState};
use crate::amount::Size;
use crate::number::Seq;
use crate::record::Timestamp;

/// Row headers, columns of fixed size, Stats and the path of a record: more than most take. The columns without a bound
/// are counted.
const RECORD_BYTES: u64 = 400;

/// A page of data that does not fit into one page is rounded up.
const VALUE_BYTES: u64 = PAGE_BYTES as u64;

/// Removed at the limit in one go.
const SLICE: usize = 1000;

/// The most slices that one append removes at the limit.
const SLICES_MAX: usize = 20;

/// Measures of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Records kept.
    pub records: u64,
    /// The first of them, and when it was captured.
    pub oldest: Option<(Seq, Timestamp)>,
    /// The last durable record.
    pub tail: Seq,
    /// Positions that some sink has not dealt with.
    pub undelivered: u64,
    /// Records that went into later ones since the journal began ([`JournalWriter::fold`](super::JournalWriter::fold)).
    pub compacted: u64,
    /// Bytes in use: what counts against the limit.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Pages of the file that wait to be used again.
    pub free_pages: u64,
    /// Bytes of the log that are not yet in the file, and space kept for it.
    pub log_bytes: u64,
}

/// An estimate of the size that is never too low, so that it is measured only near the limit.
pub(super) struct Room {
    limit: u64,
    /// Measured; `None` at the beginning of a batch.
    measured: Option<u64>,
    grown: u64,
}

impl Room {
    /// Nothing measured yet.
    pub(super) fn new(limit: Size) -> Room {
        Room {
            limit: limit.0,
            measured: None,
            grown: 0,
        }
    }

    /// Discards the last measurement.
    pub(super) fn forget(&mut self) {
        self.measured = None;
    }

    /// A record was appended.
    pub(super) fn grew(&mut self, draft: &Draft) {
        let value = draft
            .brings
            .as_ref()
            .map_or(0, |data| (data.bytes.len() as u64).next_multiple_of(VALUE_BYTES));
        let detail = draft.detail.as_ref().map_or(0, Vec::len) as u64;
        let long = draft.stored.long_columns_bytes() + detail;
        // A row that does not fit into the rest of a page leaves it empty.
        let columns = long + long.min(u64::from(PAGE_BYTES));
        self.grown += RECORD_BYTES + columns + value;
    }

    /// Something else was written that takes so many bytes.
    pub(super) fn grew_by(&mut self, bytes: u64) {
        self.grown += bytes;
    }

    /// Whether there is some for sure, as far as is known without a look.
    fn has_some_surely(&self) -> bool {
        self.measured
            .is_some_and(|measured| measured + self.grown < self.limit)
    }

    fn has_some(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let measured = match self.measured {
            Some(measured) => measured,
            None => self.measure(connection)?,
        };
        if measured + self.grown < self.limit {
            return Ok(true);
        }
        Ok(self.measure(connection)? < self.limit)
    }

    fn measure(&mut self, connection: &Connection) -> rusqlite::Result<u64> {
        let (pages, free) = pages(connection)?;
        let used = (pages - free) * u64::from(PAGE_BYTES);
        self.measured = Some(used);
        self.grown = 0;
        Ok(used)
    }

    /// The growth since the last measurement, or more.
    pub(super) fn grown(&self) -> u64 {
        self.grown
    }

    /// The last measurement.
    fn used(&self) -> u64 {
        self.measured.unwrap_or_default()
    }
}

/// All pages of the file, and those among them that are free. The second number is stored in the file, so that a damaged
/// one can be anything.
pub(super) fn pages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let number = |pragma: &str| -> rusqlite::Result<u64> {
        let pages: i64 = connection
            .prepare_cached(pragma)?
            .query_row([], |row| row.get(0))?;
        Ok(pages.cast_unsigned())
    };
    let (all, free) = (number("PRAGMA page_count")?, number("PRAGMA freelist_count")?);
    Ok((all, free.min(all)))
}

impl Journal {
    /// Measures the journal.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn stats(&mut self) -> Result<Stats, JournalError> {
        let log_bytes = self.log_bytes();
        self.read("measuring it", |journal| {
            let (pages, free_pages) = pages(&journal.connection)?;
            let oldest = cursors::oldest(&journal.connection)?;
            let slowest = cursors::cursors(&journal.connection)?
                .into_iter()
                .map(|sink| sink.cursor)
                .min();
            let captured = oldest
                .map(|seq| captured_at(&journal.connection, seq))
                .transpose()?;
            Ok(Stats {
                records: oldest.map_or(Ok(0), |oldest| {
                    journal
                        .log
                        .holes
                        .records(&journal.connection, oldest, journal.log.head)
                })?,
                oldest: oldest.zip(captured),
                tail: journal.log.end.tail,
                undelivered: slowest.map_or(0, |cursor| journal.log.head.0.saturating_sub(cursor.0)),
                compacted: journal.log.holes.ever,
                used_bytes: (pages - free_pages) * u64::from(PAGE_BYTES),
                file_bytes: pages * u64::from(PAGE_BYTES),
                free_pages,
                log_bytes,
            })
        })
    }

    pub(super) fn log_bytes(&self) -> u64 {
        fs::metadata(beside(&self.file, "-wal")).map_or(0, |metadata| metadata.len())
    }

    /// How large the journal may become.
    pub fn max_size(&self) -> Size {
        self.options.max_size
    }

    /// Makes sure that a record may be appended: at the limit delivered records go before their time, the oldest first.
    pub(super) fn make_room(&mut self) -> Result<(), JournalError> {
        if self.room.has_some_surely() {
            return Ok(());
        }
        for _ in 0..SLICES_MAX {
            let has_some = self.write("measuring it", |journal| {
                journal.room.has_some(&journal.connection)
            })?;
            if has_some {
                return Ok(());
            }
            let removed = self.write("removing old records", |journal| {
                let last = journal.removable_for_room()?;
                journal.remove_until(last, SLICE)
            })?;
            if removed == 0 {
                break;
            }
        }
        self.full_unless_room()
    }

    fn full_unless_room(&mut self) -> Result<(), JournalError> {
        let has_some = self.write("measuring it", |journal| {
            journal.room.has_some(&journal.connection)
        })?;
        if has_some {
            return Ok(());
        }
        self.state = TxnState::Failed;
        self.folding.press();
        let slowest = self.cursors()?.into_iter().min_by_key(|sink| sink.cursor);
        let compacted = match self.options.when_full {
            WhenFull::Hold => "",
            WhenFull::Compact => ", also where only the newest write of each znode is kept",
        };
        let waiting = match slowest {
            Some(sink) if sink.cursor < self.log.head => format!(
                "sink '{}' has not delivered {} of its records{compacted}: bring it back, or give its place up with 'zkbridge run \
                 --forget-sink NAME'",
                sink.sink,
                self.log.head.0 - sink.cursor.0
            ),
            _ => "the image and the records under retention take all of it: keep records for a shorter time"
                .to_owned(),
        };
        Err(JournalError::new(
            JournalErrorKind::Full,
            &self.file,
            format!(
                "{} bytes are in use of a max_size of {}; {waiting}, or raise journal.max_size",
                self.room.used(),
                self.options.max_size
            ),
        ))
    }
}

pub(super) fn captured_at(connection: &Connection, seq: Seq) -> rusqlite::Result<Timestamp> {
    connection
        .prepare_cached("SELECT captured FROM record WHERE seq = ?1")?
        .query_row([seq.0.cast_signed()], |row| row.get(0))
        .map(Timestamp)
}
