//! The numbers of paths, and what the image says of each: the way from a path to its row and back to its ancestors.
//!
//! A path gets a number with its first record, and so do its ancestors. `occupied` says that a path is living or has
//! something living below it; this module keeps it true up to `/`. No number is ever used twice, as readers remember
//! what it stands for.

use std::collections::HashSet;

use hashlink::LruCache;
use rusqlite::Connection;

use super::image::{self, Place};
use super::progress;
use super::schema::SLASH;
use crate::number::Seq;
use crate::path::ZnodePath;

/// Rows held in memory: parents, and what the capture has looked at and will append to. A few MB.
const RECENT: usize = 8192;

/// The paths, as the one writer sees them.
pub(super) struct Paths {
    recent: LruCache<Box<str>, Place>,
    next: i64,
}

impl Paths {
    /// Reads how far the numbers have come.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Paths> {
        let highest: i64 = connection.query_row("SELECT max(id) FROM path", [], |row| row.get(0))?;
        let kept = progress::number(connection, "next_path")?.cast_signed();
        Ok(Paths {
            recent: LruCache::new(RECENT),
            next: kept.max(highest + 1),
        })
    }

    /// A path's row; `None` if no record that is kept speaks of it or of what is below it.
    pub(super) fn find(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Option<Place>> {
        if let Some(place) = self.recent.get(path) {
            return Ok(Some(*place));
        }
        let found = match split(path) {
            None => image::find(connection, 0, "")?,
            Some((above, name)) => match self.find(connection, above)? {
                None => None,
                Some(above) => image::find(connection, above.id, name)?,
            },
        };
        if let Some(place) = found {
            self.recent.insert(path.into(), place);
        }
        Ok(found)
    }

    /// A path's row, entered with those of its ancestors where they are not there.
    pub(super) fn find_or_enter(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Place> {
        if let Some(place) = self.find(connection, path)? {
            return Ok(place);
        }
        let (above, name) = split(path).expect("'/' is there from the beginning");
        let parent = self.find_or_enter(connection, above)?.id;
        let place = Place::unseen(self.next, parent);
        connection
            .prepare_cached("INSERT INTO path(id, parent, name) VALUES (?1, ?2, ?3)")?
            .execute((place.id, parent, name))?;
        place.insert(connection, name)?;
        self.next += 1;
        self.recent.insert(path.into(), place);
        Ok(place)
    }

    /// Stores where a record leads, and whether the path and its ancestors are occupied now.
    pub(super) fn store(
        &mut self,
        connection: &Connection,
        path: &ZnodePath,
        mut place: Place,
    ) -> rusqlite::Result<()> {
        let was = place.occupied;
        place.occupied = place.is_living() || image::has_child(connection, place.id, true)?;
        self.put(connection, path, place, was)?;
        match (was, place.occupied) {
            (false, true) => self.occupy_above(connection, path),
            (true, false) => self.vacate_above(connection, path),
            _ => Ok(()),
        }
    }

    fn put(
        &mut self,
        connection: &Connection,
        path: &str,
        place: Place,
        was_occupied: bool,
    ) -> rusqlite::Result<()> {
        let name = split(path).map_or("", |(_, name)| name);
        place.update(connection, name, was_occupied)?;
        self.recent.insert(path.into(), place);
        Ok(())
    }

    fn above(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Place> {
        let place = self.find(connection, path)?;
        Ok(place.expect("a path that has a number has ancestors with numbers"))
    }

    fn occupy_above(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<()> {
        let mut path = path;
        while let Some((above, _)) = split(path) {
            let mut place = self.above(connection, above)?;
            if place.occupied {
                return Ok(());
            }
            place.occupied = true;
            self.put(connection, above, place, false)?;
            path = above;
        }
        Ok(())
    }

    fn vacate_above(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<()> {
        let mut path = path;
        while let Some((above, _)) = split(path) {
            let mut place = self.above(connection, above)?;
            if place.is_living() || image::has_child(connection, place.id, true)? {
                return Ok(());
            }
            place.occupied = false;
            self.put(connection, above, place, true)?;
            path = above;
        }
        Ok(())
    }

    /// Removes what no record speaks of any more: of these paths those whose last record is before `oldest`, that are
    /// not living and have nothing below them, and then their parents likewise. True if something was removed.
    pub(super) fn retire(
        &mut self,
        connection: &Connection,
        ids: &[i64],
        oldest: Seq,
    ) -> rusqlite::Result<bool> {
        let mut removed = HashSet::new();
        for id in ids {
            retire_upwards(connection, *id, oldest, &mut removed)?;
        }
        if !removed.is_empty() {
            self.recent.retain(|_, place| !removed.contains(&place.id));
        }
        Ok(!removed.is_empty())
    }

    /// Keeps the numbers from being used again after the highest ones were removed.
    pub(super) fn keep_next(&self, connection: &Connection) -> rusqlite::Result<()> {
        progress::set_number(connection, "next_path", self.next.cast_unsigned())
    }
}

/// The parent's path and the last name; `None` for `/`.
fn split(path: &str) -> Option<(&str, &str)> {
    if path == "/" {
        return None;
    }
    let (above, name) = path.rsplit_once('/')?;
    Some((if above.is_empty() { "/" } else { above }, name))
}

fn retire_upwards(
    connection: &Connection,
    mut id: i64,
    oldest: Seq,
    removed: &mut HashSet<i64>,
) -> rusqlite::Result<()> {
    // A path may have gone with a child, or at an earlier of its ends.
    while id != SLASH && !removed.contains(&id) {
        let (parent, name): (i64, String) = connection
            .prepare_cached("SELECT parent, name FROM path WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if !is_forgotten(connection, parent, &name, oldest)? {
            return Ok(());
        }
        image::remove(connection, parent, false, &name)?;
        connection
            .prepare_cached("DELETE FROM path WHERE id = ?1")?
            .execute([id])?;
        removed.insert(id);
        id = parent;
    }
    Ok(())
}

fn is_forgotten(connection: &Connection, parent: i64, name: &str, oldest: Seq) -> rusqlite::Result<bool> {
    let Some(place) = image::find(connection, parent, name)? else {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    };
    let is_kept = place.last.is_some_and(|last| last >= oldest);
    Ok(!place.occupied && !is_kept && !image::has_child(connection, place.id, false)?)
}
