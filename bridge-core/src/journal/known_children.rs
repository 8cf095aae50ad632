//! The children of a path that the journal knows, existing or not: the names that a question about an earlier moment has
//! to look at.
//!
//! A path keeps its row in the image as long as one of its records, or one below it, is kept. So every child that a kept
//! record speaks of is listed.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::Connection;

use super::error::JournalError;
use super::image::Leaves;
use super::image_reader::place_of;
use super::read::{Filling, ReadLimit, Reader};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;

/// The number of a path in one journal. It is never used for another path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathNumber(i64);

impl PathNumber {
    /// The number in the file.
    pub(super) fn of(id: i64) -> PathNumber {
        PathNumber(id)
    }

    pub(super) fn number(self) -> i64 {
        self.0
    }
}

/// A child that the journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownChild {
    /// Its name.
    pub name: Box<str>,
    /// The number of its path.
    pub number: PathNumber,
    /// Its last record, if that is kept.
    pub last: Option<Seq>,
    /// Whether it exists now, or something below it does.
    pub is_occupied: bool,
    /// Whether the journal knows a znode below it.
    pub has_children: bool,
}

/// A path with its newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathEnd {
    /// Its number.
    pub number: PathNumber,
    /// Its last record, if that is kept.
    pub last: Option<Seq>,
}

/// All rows below a path.
const BELOW: &str = "SELECT path, last FROM image WHERE parent = ?1 LIMIT ?2";

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

    /// A path, if the journal knows it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn known(&mut self, path: &ZnodePath) -> Result<Option<KnownChild>, JournalError> {
        let place = self.within("looking for a path", |connection| place_of(connection, path))?;
        Ok(place.map(|place| KnownChild {
            name: path.name().into(),
            number: PathNumber(place.id),
            last: place.last,
            is_occupied: place.occupied,
            has_children: true,
        }))
    }

    /// A path that the journal knows and all that it knows below it, each with its last record if that is kept, in no order.
    /// `None`: they are more than `max`.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn paths_below(&mut self, top: &ZnodePath, max: usize) -> Result<Option<Vec<PathEnd>>, JournalError> {
        let place = self.within("looking for a path", |connection| place_of(connection, top))?;
        let Some(place) = place else {
            return Ok(Some(Vec::new()));
        };
        let mut found = vec![PathEnd {
            number: PathNumber(place.id),
            last: place.last,
        }];
        // Those before it have been asked for their children.
        let mut asked = 0;
        let walked = self.connection.in_slices(|connection, slice| {
            let mut statement = connection.prepare_cached(BELOW)?;
            let mut leaves = Leaves::default();
            while let Some(parent) = found.get(asked).map(|end: &PathEnd| end.number.0) {
                asked += 1;
                if leaves.has(connection, parent)? {
                    continue;
                }
                let room = i64::try_from(max.saturating_sub(found.len())).unwrap_or(i64::MAX - 1) + 1;
                let mut rows = statement.query((parent, room))?;
                while let Some(row) = rows.next()? {
                    let last: Option<i64> = row.get(1)?;
                    found.push(PathEnd {
                        number: PathNumber(row.get(0)?),
                        last: last.map(|seq| Seq(seq.cast_unsigned())),
                    });
                }
                if found.len() > max {
                    return Ok(Some(false));
                }
                if slice.is_over() {
                    return Ok(None);
                }
            }
            Ok(Some(true))
        });
        let is_all = walked.map_err(|error| self.fault("listing the paths below a path", error))?;
        Ok(is_all.then_some(found))
    }

    /// The records of some paths after `after`, up to and including `until`, within a limit; and how far it has looked:
    /// the next read begins after that record, or, the newest first, ends before it. It looks at all records on the way,
    /// and reads the values of these paths alone.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn read_paths(
        &mut self,
        paths: &HashSet<PathNumber>,
        (after, until): (Seq, Seq),
        order: ReadOrder,
        limit: ReadLimit,
    ) -> Result<(Vec<Arc<Record>>, Seq), JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let (mut after, mut until) = (after, until);
        let mut records = Vec::new();
        let mut filling = Filling::new(limit);
        let read = connection.in_slices(|connection, slice| {
            let mut statement = connection.prepare_cached(match order {
                ReadOrder::Oldest => PATHS_AFTER,
                ReadOrder::Newest => PATHS_BEFORE,
            })?;
            let mut rows = statement.query((after.0.cast_signed(), until.0.cast_signed()))?;
            let mut looked = 0_u64;
            while let Some(row) = rows.next()? {
                let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
                let path: Option<i64> = row.get(1)?;
                if path.is_some_and(|path| paths.contains(&PathNumber(path))) {
                    let record = names.one(connection, seq)?;
                    if !filling.takes(&record) {
                        return Ok(Some(()));
                    }
                    records.push(record);
                }
                match order {
                    ReadOrder::Oldest => after = seq,
                    ReadOrder::Newest => until = Seq(seq.0 - 1),
                }
                looked += 1;
                // The clock costs more than a row.
                if looked.is_multiple_of(ROWS_A_LOOK) && slice.is_over() {
                    return Ok(None);
                }
            }
            match order {
                ReadOrder::Oldest => after = until,
                ReadOrder::Newest => until = after,
            }
            Ok(Some(()))
        });
        read.map_err(|error| self.fault("reading the records of some paths", error))?;
        Ok(match order {
            ReadOrder::Oldest => (records, after),
            ReadOrder::Newest => (records, until.next()),
        })
    }
}

/// The records that a read begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOrder {
    /// The oldest.
    Oldest,
    /// The newest.
    Newest,
}

/// Rows between two readings of the clock.
const ROWS_A_LOOK: u64 = 256;

/// The paths of records after ?1, up to ?2.
const PATHS_AFTER: &str = "SELECT seq, path FROM record WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";

/// The same, the newest first.
const PATHS_BEFORE: &str = "SELECT seq, path FROM record WHERE seq > ?1 AND seq <= ?2 ORDER BY seq DESC";

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

/// The rows of one kind with this name or a greater one.
pub(super) fn rows_of(
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
            number: PathNumber(row.get(2)?),
            last: row.get::<_, Option<i64>>(1)?.map(|seq| Seq(seq.cast_unsigned())),
            is_occupied,
            has_children: !leaves.has(connection, row.get(2)?)?,
        });
    }
    Ok(found)
}
