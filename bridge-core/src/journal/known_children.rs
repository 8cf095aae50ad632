//! The children of a path that the journal knows, existing or not: the names that a question about an earlier moment has
//! to look at.
//!
//! A path keeps its row in the image as long as one of its records, or one below it, is kept. So every child that a kept
//! record speaks of is listed.

use rusqlite::Connection;

use super::error::JournalError;
use super::image::Leaves;
use super::image_reader::place_of;
use super::read::Reader;
use crate::number::Seq;
use crate::path::ZnodePath;

/// A child that the journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownChild {
    /// Its name.
    pub name: Box<str>,
    /// Its last record, if that is kept.
    pub last: Option<Seq>,
    /// Whether it exists now, or something below it does.
    pub is_occupied: bool,
    /// Whether the journal knows a znode below it.
    pub has_children: bool,
}

/// The rows of one kind, in the order of the names.
const KNOWN: &str = "SELECT name, last, path FROM image
    WHERE parent = ?1 AND occupied = ?2 AND name >= ?3 ORDER BY name LIMIT ?4";

impl Reader {
    /// The known children of a path with this name or a greater one, by the bytes of their names, at most `limit`. Empty
    /// for a path that the journal does not know.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn known_children(
        &mut self,
        path: &ZnodePath,
        from: &str,
        limit: usize,
    ) -> Result<Vec<KnownChild>, JournalError> {
        self.within(
            "listing the known children of a path",
            |connection| match place_of(connection, path)? {
                Some(place) => known_children(connection, place.id, from, limit),
                None => Ok(Vec::new()),
            },
        )
    }

    /// The last record of a path, if it is kept.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn last_of(&mut self, path: &ZnodePath) -> Result<Option<Seq>, JournalError> {
        let place = self.within("looking for the last record of a path", |connection| {
            place_of(connection, path)
        })?;
        Ok(place.and_then(|place| place.last))
    }
}

fn known_children(
    connection: &Connection,
    parent: i64,
    from: &str,
    limit: usize,
) -> rusqlite::Result<Vec<KnownChild>> {
    let mut found = rows_of(connection, parent, true, from, limit)?;
    found.extend(rows_of(connection, parent, false, from, limit)?);
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found.truncate(limit);
    Ok(found)
}

fn rows_of(
    connection: &Connection,
    parent: i64,
    is_occupied: bool,
    from: &str,
    limit: usize,
) -> rusqlite::Result<Vec<KnownChild>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(KNOWN)?;
    let mut rows = statement.query((parent, is_occupied, from, limit))?;
    let mut leaves = Leaves::default();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(KnownChild {
            name: row.get(0)?,
            last: row.get::<_, Option<i64>>(1)?.map(|seq| Seq(seq.cast_unsigned())),
            is_occupied,
            has_children: !leaves.has(connection, row.get(2)?)?,
        });
    }
    Ok(found)
}
