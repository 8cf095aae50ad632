//! The dictionary of paths: each path is a number, with its parent's number and its own name.
//!
//! `occupied` says that a path is living or has something living below it. It is part of the index, so that walks over
//! the living never touch the dead. Only this module writes the table.

use hashlink::LruCache;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::image::{Life, Place};
use super::schema::SLASH;
use crate::path::ZnodePath;

/// Parents held in memory: changes come in clusters below few of them. About 1 MB.
const PARENTS: usize = 8192;

/// The dictionary, as its writer uses it.
pub(super) struct Paths {
    parents: LruCache<Box<str>, Parent>,
    next: i64,
}

#[derive(Clone, Copy)]
struct Parent {
    id: i64,
    occupied: bool,
}

const FIND: &str = "SELECT p.id, i.life, i.last, i.value, i.czxid, i.stat
    FROM path p LEFT JOIN image i ON i.path = p.id
    WHERE p.parent = ?1 AND p.occupied = ?2 AND p.name = ?3";

impl Paths {
    /// Reads how far the numbers have come. No number is used twice, as readers remember what they stand for.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Paths> {
        let next = connection.query_row(
            "SELECT max((SELECT value FROM meta WHERE key = 'next_path'), (SELECT max(id) + 1 FROM path))",
            [],
            |row| row.get(0),
        )?;
        Ok(Paths {
            parents: LruCache::new(PARENTS),
            next,
        })
    }

    /// A path and what the image says of it; `None` if no record that is kept speaks of it or of what is below it.
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        path: &ZnodePath,
    ) -> rusqlite::Result<Option<Place>> {
        let Some(parent) = path.parent_str() else {
            return find_named(connection, 0, "");
        };
        match self.parent(connection, parent)? {
            None => Ok(None),
            Some(parent) => find_named(connection, parent.id, path.name()),
        }
    }

    /// A path, entered into the dictionary if it is not there.
    pub(super) fn find_or_enter(
        &mut self,
        connection: &Connection,
        path: &ZnodePath,
    ) -> rusqlite::Result<Place> {
        if let Some(place) = self.find(connection, path)? {
            return Ok(place);
        }
        let parent = path.parent_str().expect("the dictionary always has '/'");
        let parent = self.enter_parent(connection, parent)?;
        let id = self.enter(connection, parent.id, path.name())?;
        Ok(Place::never_seen(id))
    }

    fn enter(&mut self, connection: &Connection, parent: i64, name: &str) -> rusqlite::Result<i64> {
        let id = self.next;
        connection
            .prepare_cached("INSERT INTO path(id, parent, name, occupied) VALUES (?1, ?2, ?3, 0)")?
            .execute((id, parent, name))?;
        self.next += 1;
        Ok(id)
    }

    fn enter_parent(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Parent> {
        if let Some(parent) = self.parent(connection, path)? {
            return Ok(parent);
        }
        let (above, name) = split(path).expect("the dictionary always has '/'");
        let above = self.enter_parent(connection, above)?;
        let parent = Parent {
            id: self.enter(connection, above.id, name)?,
            occupied: false,
        };
        self.parents.insert(path.into(), parent);
        Ok(parent)
    }

    fn parent(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Option<Parent>> {
        if let Some(parent) = self.parents.get(path) {
            return Ok(Some(*parent));
        }
        let found = match split(path) {
            None => parent_named(connection, 0, "")?,
            Some((above, name)) => match self.parent(connection, above)? {
                None => None,
                Some(above) => parent_named(connection, above.id, name)?,
            },
        };
        if let Some(parent) = found {
            self.parents.insert(path.into(), parent);
        }
        Ok(found)
    }

    /// Marks a path that came to life, and what is above it as far as needed.
    pub(super) fn occupy(&mut self, connection: &Connection, path: &str, id: i64) -> rusqlite::Result<()> {
        self.mark(connection, path, id, true)?;
        let Some((above, _)) = split(path) else {
            return Ok(());
        };
        let parent = self.parent(connection, above)?;
        match parent.expect("a path in the dictionary has its parent there") {
            Parent { occupied: true, .. } => Ok(()),
            Parent { id, occupied: false } => self.occupy(connection, above, id),
        }
    }

    /// Unmarks a path that is not living, unless something below it is, and what is above it likewise.
    pub(super) fn vacate(&mut self, connection: &Connection, path: &str, id: i64) -> rusqlite::Result<()> {
        if has_child(connection, id, true)? {
            return Ok(());
        }
        self.mark(connection, path, id, false)?;
        let Some((above, _)) = split(path) else {
            return Ok(());
        };
        let parent = self.parent(connection, above)?;
        let parent = parent.expect("a path in the dictionary has its parent there");
        if !parent.occupied || is_living(connection, parent.id)? {
            return Ok(());
        }
        self.vacate(connection, above, parent.id)
    }

    fn mark(&mut self, connection: &Connection, path: &str, id: i64, occupied: bool) -> rusqlite::Result<()> {
        connection
            .prepare_cached("UPDATE path SET occupied = ?2 WHERE id = ?1")?
            .execute((id, occupied))?;
        if let Some(cached) = self.parents.get_mut(path) {
            cached.occupied = occupied;
        }
        Ok(())
    }

    /// Removes paths that no record speaks of any more: `id`, if it is not living, has nothing below it and its last
    /// record is before `oldest`, and then its parents likewise. True if something was removed.
    pub(super) fn retire(&mut self, connection: &Connection, id: i64, oldest: i64) -> rusqlite::Result<bool> {
        let (mut id, mut removed) = (id, Vec::new());
        while id != SLASH && is_forgotten(connection, id, oldest)? {
            let parent = connection
                .prepare_cached("DELETE FROM path WHERE id = ?1 RETURNING parent")?
                .query_row([id], |row| row.get(0))?;
            connection
                .prepare_cached("DELETE FROM image WHERE path = ?1")?
                .execute([id])?;
            removed.push(id);
            id = parent;
        }
        self.parents.retain(|_, parent| !removed.contains(&parent.id));
        Ok(!removed.is_empty())
    }

    /// Keeps the numbers from being used again after the highest ones were removed.
    pub(super) fn keep_next(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'next_path'")?
            .execute([self.next])?;
        Ok(())
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

fn find_named(connection: &Connection, parent: i64, name: &str) -> rusqlite::Result<Option<Place>> {
    let mut statement = connection.prepare_cached(FIND)?;
    if let Some(place) = find_among(&mut statement, parent, true, name)? {
        return Ok(Some(place));
    }
    find_among(&mut statement, parent, false, name)
}

fn find_among(
    statement: &mut CachedStatement<'_>,
    parent: i64,
    occupied: bool,
    name: &str,
) -> rusqlite::Result<Option<Place>> {
    statement
        .query_row((parent, occupied, name), Place::of_row)
        .optional()
}

fn parent_named(connection: &Connection, parent: i64, name: &str) -> rusqlite::Result<Option<Parent>> {
    connection
        .prepare_cached(
            "SELECT id, occupied FROM path WHERE parent = ?1 AND occupied IN (0, 1) AND name = ?2",
        )?
        .query_row((parent, name), |row| {
            Ok(Parent {
                id: row.get(0)?,
                occupied: row.get(1)?,
            })
        })
        .optional()
}

fn has_child(connection: &Connection, id: i64, occupied: bool) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM path WHERE parent = ?1 AND occupied = ?2 LIMIT 1")?
        .exists((id, occupied))
}

fn is_living(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM image WHERE path = ?1 AND life != ?2")?
        .exists((id, Life::GONE))
}

fn is_forgotten(connection: &Connection, id: i64, oldest: i64) -> rusqlite::Result<bool> {
    let kept = connection
        .prepare_cached("SELECT 1 FROM image WHERE path = ?1 AND (life != ?2 OR last >= ?3)")?
        .exists((id, Life::GONE, oldest))?;
    Ok(!kept && !has_child(connection, id, true)? && !has_child(connection, id, false)?)
}
