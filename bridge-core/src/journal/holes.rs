//! Records the positions whose record was merged into a later one, so that such a hole is never mistaken for a lost
//! record, nor a lost record for a hole.

use rusqlite::{Connection, OptionalExtension};

use super::{cursors, progress};
use crate::number::Seq;

/// The keys in `meta`: positions without a record that retention has not removed yet, and how many there ever were.
const HOLES: &str = "holes";
const COMPACTED: &str = "compacted";

/// How many positions have no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holes {
    /// Of those from the first position on that retention has not removed.
    pub(super) kept: u64,
    /// Since the journal began.
    pub(super) ever: u64,
}

impl Holes {
    /// As the file has it; nothing in a file of an older format.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Holes> {
        let number = |key| progress::number(connection, key).optional();
        Ok(Holes {
            kept: number(HOLES)?.unwrap_or_default(),
            ever: number(COMPACTED)?.unwrap_or_default(),
        })
    }

    pub(super) fn store(self, connection: &Connection) -> rusqlite::Result<()> {
        progress::set_number(connection, HOLES, self.kept)?;
        progress::set_number(connection, COMPACTED, self.ever)
    }

    /// The record of a position has gone into a later one.
    pub(super) fn add(&mut self, connection: &Connection, at: Seq) -> rusqlite::Result<()> {
        self.kept += 1;
        self.ever += 1;
        let at = at.0.cast_signed();
        let next: Option<i64> = connection
            .prepare_cached("DELETE FROM hole WHERE first = ?1 + 1 RETURNING last")?
            .query_row([at], |row| row.get(0))
            .optional()?;
        let last = next.unwrap_or(at);
        let joined = connection
            .prepare_cached(
                "UPDATE hole SET last = ?2 WHERE first = (SELECT max(first) FROM hole WHERE first < ?1) AND last = ?1 - 1",
            )?
            .execute((at, last))?;
        if joined == 0 {
            connection
                .prepare_cached("INSERT INTO hole(first, last) VALUES (?1, ?2)")?
                .execute((at, last))?;
        }
        Ok(())
    }

    /// Everything up to a position goes.
    pub(super) fn forget(&mut self, connection: &Connection, last: Seq) -> rusqlite::Result<()> {
        if self.kept == 0 {
            return Ok(());
        }
        let last = [last.0.cast_signed()];
        let gone: i64 = connection
            .prepare_cached("SELECT ifnull(sum(min(last, ?1) - first + 1), 0) FROM hole WHERE first <= ?1")?
            .query_row(last, |row| row.get(0))?;
        for sql in [
            "DELETE FROM hole WHERE last <= ?1",
            "UPDATE hole SET first = ?1 + 1 WHERE first <= ?1",
        ] {
            connection.prepare_cached(sql)?.execute(last)?;
        }
        self.kept -= gone.cast_unsigned().min(self.kept);
        self.store(connection)
    }

    /// How many records there are from the oldest up to the newest.
    pub(super) fn records(self, connection: &Connection, oldest: Seq, newest: Seq) -> rusqlite::Result<u64> {
        if self.kept == 0 {
            return Ok(newest.0 + 1 - oldest.0);
        }
        let first = begin(connection)?.map_or(oldest, |first| first.min(oldest));
        Ok((newest.0 + 1 - first.0).saturating_sub(self.kept))
    }
}

/// The first position that has no record.
/// The first positions between two that have no record although neither retention nor a fold removed it. `before` is the
/// next position after `after` that has a record.
pub(super) fn lost_between(
    connection: &Connection,
    after: Seq,
    before: Seq,
) -> rusqlite::Result<Option<(Seq, Seq)>> {
    let (first, last) = (after.next(), Seq(before.0 - 1));
    if first > last || cursors::oldest(connection)? == Some(before) {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(
        "SELECT first, last FROM hole WHERE first <= ?2
            AND first >= ifnull((SELECT max(first) FROM hole WHERE first <= ?1), 0) ORDER BY first",
    )?;
    let mut holes = statement.query((first.0.cast_signed(), last.0.cast_signed()))?;
    let mut next = first;
    while let Some(row) = holes.next()? {
        let (begin, end): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (begin, end) = (Seq(begin.cast_unsigned()), Seq(end.cast_unsigned()));
        if begin > next {
            return Ok(Some((next, Seq(begin.0 - 1))));
        }
        next = next.max(end.next());
    }
    Ok((next <= last).then_some((next, last)))
}

fn begin(connection: &Connection) -> rusqlite::Result<Option<Seq>> {
    let first: Option<i64> = connection
        .prepare_cached("SELECT min(first) FROM hole")?
        .query_row([], |row| row.get(0))?;
    Ok(first.map(|seq| Seq(seq.cast_unsigned())))
}
