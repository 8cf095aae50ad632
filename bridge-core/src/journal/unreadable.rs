//! The spans of znodes that may not be read, in a table of their own ([`crate::unreadable_span`]).
//!
//! Invariants:
//!
//! * A path has at most one span of each extent that has not ended.
//! * There are at most [`SPANS_MAX`] spans, and one more of each root. What does not fit goes into that of the root, which
//!   then goes on from its begin, also if it had ended: too much is uncertain, and never too little.
//! * A span stays as long as a record of its time is kept.

use rusqlite::{Connection, OptionalExtension, Row};

use super::error::JournalError;
use super::read::Reader;
use super::row::op_number;
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Op, Timestamp};
use crate::unreadable_span::{HistoryPoint, SPANS_MAX, UnreadableExtent, UnreadableSpan};

/// The key in `meta` of the last record that an older format has written.
const SINCE: &str = "unreadable_since";

const COLUMNS: &str = "path, extent, since_seq, since_zxid, since_time, found_seq, found_time, until_seq, until_zxid, \
     until_time";

fn extent_number(extent: UnreadableExtent) -> i64 {
    match extent {
        UnreadableExtent::Znode => 0,
        UnreadableExtent::Unnamed => 1,
    }
}

fn point_at(row: &Row<'_>, first: usize) -> rusqlite::Result<HistoryPoint> {
    Ok(HistoryPoint {
        seq: Seq(row.get::<_, i64>(first)?.cast_unsigned()),
        zxid: Zxid(row.get::<_, i64>(first + 1)?.cast_unsigned()),
        time: Timestamp(row.get(first + 2)?),
    })
}

fn span_of(row: &Row<'_>) -> rusqlite::Result<UnreadableSpan> {
    let path: String = row.get(0)?;
    let ended: Option<i64> = row.get(7)?;
    Ok(UnreadableSpan {
        path: ZnodePath::parse(&path).map_err(|_| rusqlite::Error::InvalidQuery)?,
        extent: match row.get::<_, i64>(1)? {
            0 => UnreadableExtent::Znode,
            _ => UnreadableExtent::Unnamed,
        },
        since: point_at(row, 2)?,
        found: (Seq(row.get::<_, i64>(5)?.cast_unsigned()), Timestamp(row.get(6)?)),
        until: ended.map(|_| point_at(row, 7)).transpose()?,
    })
}

/// The last record of a path, if it comes from a read: a snapshot record may repeat the image.
pub(super) fn last_read(connection: &Connection, last: Option<Seq>) -> rusqlite::Result<Seq> {
    let Some(last) = last else { return Ok(Seq::ZERO) };
    let is_read = connection
        .prepare_cached("SELECT 1 FROM record WHERE seq = ?1 AND op <> ?2")?
        .exists((last.0.cast_signed(), op_number(Op::Snapshot)))?;
    Ok(if is_read { last } else { Seq::ZERO })
}

/// Begins a span, or that of the root if there are too many.
pub(super) fn begin(
    connection: &Connection,
    root: &ZnodePath,
    (path, extent): (&ZnodePath, UnreadableExtent),
    since: &HistoryPoint,
    found: (Seq, Timestamp),
) -> rusqlite::Result<()> {
    let mut open = connection
        .prepare_cached("SELECT 1 FROM unreadable WHERE path = ?1 AND extent = ?2 AND until_seq IS NULL")?;
    if open.exists((path.as_str(), extent_number(extent)))? {
        return Ok(());
    }
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM unreadable")?
        .query_row([], |row| row.get(0))?;
    let has_room = count < i64::try_from(SPANS_MAX).unwrap_or(i64::MAX);
    if has_room && extent == UnreadableExtent::Znode {
        return insert(connection, path, extent, since, found);
    }
    // It covers the path: its begin must not be later.
    let unnamed = extent_number(UnreadableExtent::Unnamed);
    let goes_on = connection
        .prepare_cached(
            "UPDATE unreadable SET until_seq = NULL, until_zxid = NULL, until_time = NULL,
                since_seq = min(since_seq, ?3), since_zxid = min(since_zxid, ?4), since_time = min(since_time, ?5)
                WHERE path = ?1 AND extent = ?2",
        )?
        .execute((
            root.as_str(),
            unnamed,
            since.seq.0.cast_signed(),
            since.zxid.0.cast_signed(),
            since.time.0,
        ))?;
    match goes_on {
        0 => insert(connection, root, UnreadableExtent::Unnamed, since, found),
        _ => Ok(()),
    }
}

fn insert(
    connection: &Connection,
    path: &ZnodePath,
    extent: UnreadableExtent,
    since: &HistoryPoint,
    found: (Seq, Timestamp),
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO unreadable(path, extent, since_seq, since_zxid, since_time, found_seq, found_time)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            path.as_str(),
            extent_number(extent),
            since.seq.0.cast_signed(),
            since.zxid.0.cast_signed(),
            since.time.0,
            found.0.0.cast_signed(),
            found.1.0,
        ))
        .map(drop)
}

/// The spans at or below a root that have not ended.
pub(super) fn open_below(connection: &Connection, root: &ZnodePath) -> rusqlite::Result<Vec<UnreadableSpan>> {
    let sql = format!("SELECT {COLUMNS} FROM unreadable WHERE until_seq IS NULL ORDER BY path, extent");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], span_of)?;
    let mut spans = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    spans.retain(|span| root.covers(&span.path));
    Ok(spans)
}

/// The earliest begin of the spans of a path and of those above it that have not ended.
pub(super) fn earliest_over(
    connection: &Connection,
    path: &ZnodePath,
) -> rusqlite::Result<Option<HistoryPoint>> {
    let mut statement = connection.prepare_cached(
        "SELECT since_seq, since_zxid, since_time FROM unreadable WHERE path = ?1 AND until_seq IS NULL",
    )?;
    let mut earliest: Option<HistoryPoint> = None;
    for over in path.ancestors().chain([path.clone()]) {
        let mut rows = statement.query([over.as_str()])?;
        while let Some(row) = rows.next()? {
            let since = point_at(row, 0)?;
            earliest = Some(earliest.map_or(since, |known| known.min(since)));
        }
    }
    Ok(earliest)
}

/// Ends a span.
pub(super) fn end(
    connection: &Connection,
    (path, extent): (&ZnodePath, UnreadableExtent),
    until: &HistoryPoint,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE unreadable SET until_seq = ?3, until_zxid = ?4, until_time = ?5
                WHERE path = ?1 AND extent = ?2 AND until_seq IS NULL",
        )?
        .execute((
            path.as_str(),
            extent_number(extent),
            until.seq.0.cast_signed(),
            until.zxid.0.cast_signed(),
            until.time.0,
        ))
        .map(drop)
}

/// Removes the spans that have ended with a record up to `last` or before.
pub(super) fn remove_until(connection: &Connection, last: Seq) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM unreadable WHERE until_seq <= ?1")?
        .execute([last.0.cast_signed()])
        .map(drop)
}

/// Where the last walk of a root that has ended began.
pub(super) fn walked(connection: &Connection, root: &ZnodePath) -> rusqlite::Result<HistoryPoint> {
    let found = connection
        .prepare_cached(
            "SELECT walked_seq, walked_zxid, walked_time FROM root WHERE path = ?1 AND walked_seq IS NOT NULL",
        )?
        .query_row([root.as_str()], |row| point_at(row, 0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Stores it, by the number of the root.
pub(super) fn set_walked(connection: &Connection, root: i64, began: &HistoryPoint) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE root SET walked_seq = ?2, walked_zxid = ?3, walked_time = ?4 WHERE id = ?1")?
        .execute((
            root,
            began.seq.0.cast_signed(),
            began.zxid.0.cast_signed(),
            began.time.0,
        ))
        .map(drop)
}

impl Reader {
    /// The spans of all znodes that may not be read or could not be read at some time, by path and in order of time; some
    /// milliseconds if there are as many as a journal keeps.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn unreadable(&mut self) -> Result<Vec<UnreadableSpan>, JournalError> {
        self.within("reading which znodes may not be read", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM unreadable ORDER BY path, extent, since_seq, id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], span_of)?;
            rows.collect()
        })
    }

    /// The last record of the time of which the journal does not say which znodes could not be read, because a version
    /// with an older format has written it; 0 if there is none, `None` if that is all of the file.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn unreadable_unknown_until(&mut self) -> Result<Option<Seq>, JournalError> {
        self.within("reading since when unreadable znodes are known", |connection| {
            let since: Option<i64> = connection
                .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([SINCE], |row| row.get(0))
                .optional()?;
            Ok(since.map(|seq| Seq(seq.cast_unsigned())))
        })
    }
}
