//! Ended incarnations: which children of a path existed around a moment, without a look at all that ever existed.
//!
//! ```text
//! records     ├────┤ a            born … died
//!                     ├─┤ b
//!       ├────────────────────┤ c
//!                 │ a moment: a and c are looked up, b is not
//! ```
//!
//! Incarnations are found by the magnitude of their length, their *rank*: those of a rank that existed at a moment were
//! born within the longest length of the rank before it. So names that were deleted long ago cost nothing.
//!
//! Invariants:
//!
//! * Each delete of a path that this format has written has a row, as long as its record is kept. `born` is the create, if
//!   that is certainly the first record of the incarnation ([`super::stretches::birth_of`]) and no later time is before
//!   its own; otherwise 0, so that the path is looked up at any earlier moment.
//! * A path that does not exist, and of which no kept record says when it did, is in `unclear`, and is always looked up:
//!   one that was only entered for its children, whose records retention has removed, or whose delete has no zxid.
//! * The rows have no meaning beyond that: an answer is the same without any. A reader uses them only if they are complete
//!   for all kept records.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension};

use super::cursors;
use super::error::JournalError;
use super::image::{self, Leaves};
use super::image_reader::place_of;
use super::known_children::{KnownChild, PathNumber, rows_of};
use super::read::Reader;
use super::rows::Writing;
use crate::number::Seq;
use crate::path::ZnodePath;

/// The key in `meta` of the last record that an older format has written.
const SINCE: &str = "ended_since";

/// Rows that are looked at for one answer. With more of them the names are looked at one by one.
const ROWS_MAX: usize = 20_000;

/// Names that a parent may have had around a moment, besides those that exist: each costs some look-ups.
const NAMES_MAX: usize = 2_000;

/// An incarnation that ends with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedIncarnation {
    pub(super) parent: i64,
    pub(super) path: i64,
    /// Its create, if that is certainly its first record.
    pub(super) born: Option<Seq>,
    /// The zxid of its delete is not known, not even a bound.
    pub(super) is_undated: bool,
}

static ENDED: LazyLock<Writing> =
    LazyLock::new(|| Writing::new("INSERT INTO ended(died, parent, rank, born, path)", 5));

/// Stores incarnations with their delete records.
pub(super) fn insert(connection: &Connection, ended: &[(Seq, EndedIncarnation)]) -> rusqlite::Result<()> {
    ENDED.write(connection, ended, |(died, incarnation), to| {
        let born = incarnation.born.unwrap_or_default();
        to.put(died.0.cast_signed())?;
        to.put(incarnation.parent)?;
        to.put((died.0 - born.0).ilog2())?;
        to.put(born.0.cast_signed())?;
        to.put(incarnation.path)
    })?;
    for (_, incarnation) in ended.iter().filter(|(_, incarnation)| incarnation.is_undated) {
        mark_unclear(connection, incarnation.parent, incarnation.path)?;
    }
    Ok(())
}

/// Lets a path be looked up at each moment.
pub(super) fn mark_unclear(connection: &Connection, parent: i64, path: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO unclear(parent, path) VALUES (?1, ?2)")?
        .execute((parent, path))
        .map(drop)
}

/// A path is removed.
pub(super) fn forget(connection: &Connection, parent: i64, path: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM unclear WHERE parent = ?1 AND path = ?2")?
        .execute((parent, path))
        .map(drop)
}

/// Removes the rows of deletes up to a record.
pub(super) fn remove_until(connection: &Connection, last: Seq) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM ended WHERE died <= ?1")?
        .execute([last.0.cast_signed()])
        .map(drop)
}

/// Whether there are rows for all deletes that are kept.
fn is_complete(connection: &Connection) -> rusqlite::Result<bool> {
    let since: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([SINCE], |row| row.get(0))
        .optional()?;
    let oldest = cursors::oldest(connection)?;
    Ok(since
        .zip(oldest)
        .is_some_and(|(since, oldest)| oldest.0 > since.cast_unsigned()))
}

/// Incarnations of a rank that were born in a range, with their ends: the index has all columns.
const OF_RANK: &str = "SELECT path, died FROM ended INDEXED BY ended_parent
    WHERE parent = ?1 AND rank = ?2 AND born BETWEEN ?3 AND ?4";

/// The numbers of children that do not exist now, and may have existed after a record and before the one after another;
/// `None` if there are too many rows.
fn around(
    connection: &Connection,
    parent: i64,
    (after, until): (Seq, Seq),
) -> rusqlite::Result<Option<Vec<i64>>> {
    let mut found: Vec<i64> = connection
        .prepare_cached("SELECT path FROM unclear WHERE parent = ?1 LIMIT ?2")?
        .query_map((parent, ROWS_MAX as i64), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut looked = found.len();
    let tail = cursors::newest(connection)?.unwrap_or_default();
    let mut statement = connection.prepare_cached(OF_RANK)?;
    for rank in 0..=tail.0.max(1).ilog2() {
        let longest = (2_u64 << rank) - 1;
        // It died after `after`, and so at the next record or later.
        let first = (after.0 + 1).saturating_sub(longest);
        let mut rows = statement.query((parent, rank, first.cast_signed(), until.0.cast_signed()))?;
        while let Some(row) = rows.next()? {
            looked += 1;
            if looked >= ROWS_MAX {
                return Ok(None);
            }
            let died = Seq(row.get::<_, i64>(1)?.cast_unsigned());
            if died > after {
                found.push(row.get(0)?);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok((found.len() <= NAMES_MAX).then_some(found))
}

/// A child that does not exist now, if its name is this one or a greater one.
fn gone_child(
    connection: &Connection,
    (parent, id): (i64, i64),
    from: &str,
    leaves: &mut Leaves,
) -> rusqlite::Result<Option<KnownChild>> {
    let name: Option<Box<str>> = connection
        .prepare_cached("SELECT name FROM path WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(name) = name.filter(|name| **name >= *from) else {
        return Ok(None);
    };
    let place = image::find(connection, parent, &name)?;
    let Some(place) = place.filter(|place| !place.occupied && place.id == id) else {
        return Ok(None);
    };
    Ok(Some(KnownChild {
        name,
        number: PathNumber::of(id),
        last: place.last,
        is_occupied: false,
        has_children: !leaves.has(connection, id)?,
    }))
}

impl Reader {
    /// The children of a path with this name or a greater one, at most `limit`, as [`Reader::known_children`], but without
    /// those that certainly did not exist around a moment. Of those, each incarnation was deleted up to the first
    /// record of the range, or created exactly after the last one. `None`: they cannot be distinguished, because
    /// an older format has written some of the records, or there are too many.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn children_around(
        &mut self,
        path: &ZnodePath,
        range: (Seq, Seq),
        from: &str,
        limit: usize,
    ) -> Result<Option<Vec<KnownChild>>, JournalError> {
        self.within("listing the children of a path around a moment", |connection| {
            if !is_complete(connection)? {
                return Ok(None);
            }
            let Some(place) = place_of(connection, path)? else {
                return Ok(Some(Vec::new()));
            };
            let Some(gone) = around(connection, place.id, range)? else {
                return Ok(None);
            };
            let mut found = rows_of(connection, place.id, true, from, limit)?;
            let mut leaves = Leaves::default();
            for id in gone {
                found.extend(gone_child(connection, (place.id, id), from, &mut leaves)?);
            }
            found.sort_by(|one, other| one.name.cmp(&other.name));
            found.truncate(limit);
            Ok(Some(found))
        })
    }
}
