//! The numbers of paths, and their rows in the image: finds the row of a path, and the path of a row.
//!
//! A path gets a number with its first record, and so do its ancestors. `occupied` is true if a path exists or
//! something below it does; this module keeps it correct up to `/`. No number is used twice, because readers cache its
//! meaning.

use std::collections::HashSet;

use hashlink::LruCache;
use rusqlite::Connection;

use super::ended;
use super::image::{self, Place, Unwritten};
use super::progress;
use super::schema::SLASH;
use crate::number::Seq;
use crate::path::ZnodePath;

/// Rows held in memory: parents, and what the capture has looked at and will append to. A few MB.
const RECENT: usize = 8192;

/// Parents of which the greatest name below them is known.
const GREATEST: usize = 1024;

/// The paths, as the one writer sees them.
pub(super) struct Paths {
    recent: LruCache<Box<str>, KnownRow>,
    /// By the number of a parent: no row below it has a greater name. A listing enters names in their order, so that
    /// each is known to be new without a look.
    greatest: LruCache<i64, Box<str>>,
    /// The path that was last found to have no row: a walk looks three times for each znode that is new.
    absent: Option<Box<str>>,
    unwritten: Unwritten,
    next: i64,
}

/// A row held in memory.
#[derive(Clone, Copy)]
struct KnownRow {
    place: Place,
    below: BelowState,
}

/// The known state of the rows below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BelowState {
    Unknown,
    /// None is occupied.
    NoneLiving,
    /// There is none.
    NoRow,
}

/// A path's row, for a record of it.
#[derive(Clone, Copy)]
pub(super) struct Entered {
    pub(super) place: Place,
    /// It is not written yet.
    pub(super) is_new: bool,
}

impl Paths {
    /// Reads how far the numbers have come.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Paths> {
        let highest: i64 = connection.query_row("SELECT max(id) FROM path", [], |row| row.get(0))?;
        let kept = progress::number(connection, "next_path")?.cast_signed();
        Ok(Paths {
            recent: LruCache::new(RECENT),
            greatest: LruCache::new(GREATEST),
            absent: None,
            unwritten: Unwritten::default(),
            next: kept.max(highest + 1),
        })
    }

    /// A path's row; `None` if no kept record is of it or of a path below it.
    pub(super) fn find(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Option<Place>> {
        if self.absent.as_deref() == Some(path) {
            return Ok(None);
        }
        if let Some(known) = self.recent.get(path) {
            return Ok(Some(known.place));
        }
        let found = match split(path) {
            None => self.row(connection, 0, "")?,
            Some((above, name)) => match self.find(connection, above)? {
                Some(parent) if !self.is_new_below(above, parent.id, name) => {
                    let found = self.row(connection, parent.id, name)?;
                    if found.is_none() {
                        self.learn_greatest(connection, parent.id)?;
                    }
                    found
                }
                _ => None,
            },
        };
        match found {
            Some(place) => self.keep(path, place, BelowState::Unknown),
            None => self.absent = Some(path.into()),
        }
        Ok(found)
    }

    /// A row, which may wait to be written.
    fn row(&self, connection: &Connection, parent: i64, name: &str) -> rusqlite::Result<Option<Place>> {
        match self.unwritten.find(parent, name) {
            None => image::find(connection, parent, name),
            waiting => Ok(waiting),
        }
    }

    /// A path's row for a record of it, with those of its ancestors entered where they are not there.
    /// [`Paths::store`] is to follow.
    pub(super) fn find_or_enter(&mut self, connection: &Connection, path: &str) -> rusqlite::Result<Entered> {
        if let Some(place) = self.find(connection, path)? {
            return Ok(Entered { place, is_new: false });
        }
        let (above, _) = split(path).expect("'/' is there from the beginning");
        let parent = self.find_or_enter(connection, above)?;
        if parent.is_new {
            self.enter(connection, above, parent.place)?;
            ended::mark_unclear(connection, parent.place.parent, parent.place.id)?;
        }
        let place = Place::unseen(self.next, parent.place.id);
        self.next += 1;
        Ok(Entered { place, is_new: true })
    }

    /// Stores where a record leads, and whether the path and its ancestors are occupied now.
    pub(super) fn store(
        &mut self,
        connection: &Connection,
        path: &ZnodePath,
        entered: Entered,
    ) -> rusqlite::Result<()> {
        let Entered { mut place, is_new } = entered;
        let was = place.occupied;
        if is_new {
            place.occupied = place.is_living();
            self.enter(connection, path, place)?;
        } else {
            place.occupied = place.is_living() || self.has_living_below(connection, path, place.id)?;
            self.put(connection, path, place, was)?;
        }
        match (was, place.occupied) {
            (false, true) => self.occupy_above(connection, path),
            (true, false) => self.vacate_above(connection, path),
            _ => Ok(()),
        }
    }

    /// Whether it is known, without a query, that no znode below a path exists.
    pub(super) fn is_barren(&self, path: &str) -> bool {
        self.recent
            .peek(path)
            .is_some_and(|known| known.below != BelowState::Unknown)
    }

    /// Whether it is known, without a look, that nothing below a path has a name after this one.
    pub(super) fn is_last_below(&self, path: &str, id: i64, name: Option<&str>) -> bool {
        let greatest = self.greatest.peek(&id).zip(name);
        self.is_barren(path) || greatest.is_some_and(|(greatest, name)| **greatest <= *name)
    }

    /// Holds rows that were read together below a parent, each with whether it is known that nothing is below it.
    pub(super) fn foresee<'a>(
        &mut self,
        parent: &ZnodePath,
        children: impl Iterator<Item = (&'a str, Place, bool)>,
    ) {
        for (name, place, is_leaf) in children {
            let below = match is_leaf {
                true => BelowState::NoRow,
                false => BelowState::Unknown,
            };
            self.keep(&parent.child(name), place, below);
        }
    }

    fn keep(&mut self, path: &str, place: Place, below: BelowState) {
        match self.recent.get_mut(path) {
            // The writers of the rows below it keep this correct.
            Some(known) => known.place = place,
            None => {
                self.recent.insert(path.into(), KnownRow { place, below });
            }
        }
    }

    /// Whether it is known, without a look, that a parent has no row of this name.
    fn is_new_below(&mut self, above: &str, parent: i64, name: &str) -> bool {
        let has_none = |known: &KnownRow| known.below == BelowState::NoRow;
        self.recent.peek(above).is_some_and(has_none)
            || self
                .greatest
                .get(&parent)
                .is_some_and(|greatest| name > &**greatest)
    }

    /// Looks up the greatest name below a parent where it is not known: the parent has a new name, and more may follow. A
    /// listing comes back to parents whose rows memory has no more, and would look for each of their children.
    fn learn_greatest(&mut self, connection: &Connection, parent: i64) -> rusqlite::Result<()> {
        if self.greatest.contains_key(&parent) {
            return Ok(());
        }
        let stored = image::greatest_below(connection, parent)?;
        let waiting = self.unwritten.greatest_below(parent).map(Box::from);
        self.greatest
            .insert(parent, stored.max(waiting).unwrap_or_default());
        Ok(())
    }

    fn has_living_below(&mut self, connection: &Connection, path: &str, id: i64) -> rusqlite::Result<bool> {
        if self.is_barren(path) {
            return Ok(false);
        }
        if self.unwritten.is_below(id) {
            self.write(connection)?;
        }
        image::has_child(connection, id, true)
    }

    /// Writes the buffered rows. Must be called before anything but [`Paths::find`] reads them, and at the end of a
    /// batch.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.unwritten.write(connection)
    }

    /// Writes a row that is not there yet.
    fn enter(&mut self, connection: &Connection, path: &str, place: Place) -> rusqlite::Result<()> {
        let (above, name) = split(path).expect("'/' is there from the beginning");
        self.unwritten.enter(connection, place, name)?;
        self.absent = None;
        self.came_below(above, place.parent, name, place.occupied);
        self.keep(path, place, BelowState::NoRow);
        Ok(())
    }

    /// A row came to be below a parent.
    fn came_below(&mut self, above: &str, parent: i64, name: &str, is_occupied: bool) {
        let known = self.recent.get_mut(above);
        let was_first = known
            .as_ref()
            .is_some_and(|known| known.below == BelowState::NoRow);
        if let Some(known) = known {
            known.below = match known.below {
                BelowState::NoRow | BelowState::NoneLiving if !is_occupied => BelowState::NoneLiving,
                _ => BelowState::Unknown,
            };
        }
        match self.greatest.get_mut(&parent) {
            Some(greatest) if name > &**greatest => *greatest = name.into(),
            Some(_) => {}
            None if was_first => {
                self.greatest.insert(parent, name.into());
            }
            None => {}
        }
    }

    fn put(
        &mut self,
        connection: &Connection,
        path: &str,
        place: Place,
        was_occupied: bool,
    ) -> rusqlite::Result<()> {
        let (above, name) = split(path).unwrap_or(("", ""));
        self.unwritten.change(connection, place, name, was_occupied)?;
        if place.occupied
            && !was_occupied
            && let Some(known) = self.recent.get_mut(above)
        {
            known.below = BelowState::Unknown;
        }
        self.keep(path, place, BelowState::Unknown);
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
            if place.is_living() || self.has_living_below(connection, above, place.id)? {
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
            self.recent.retain(|_, known| !removed.contains(&known.place.id));
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
    // A path may have been removed with a child, or at an earlier delete.
    while id != SLASH && !removed.contains(&id) {
        let (parent, name): (i64, String) = connection
            .prepare_cached("SELECT parent, name FROM path WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        match remains(connection, parent, &name, oldest)? {
            Remains::KnownRow => return Ok(()),
            Remains::Name => return ended::mark_unclear(connection, parent, id),
            Remains::Nothing => ended::forget(connection, parent, id)?,
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

/// The rest of a path after its records up to one are removed.
enum Remains {
    /// It exists, or a record of it is kept.
    KnownRow,
    /// A name above paths that exist, or of which records are kept.
    Name,
    Nothing,
}

fn remains(connection: &Connection, parent: i64, name: &str, oldest: Seq) -> rusqlite::Result<Remains> {
    let Some(place) = image::find(connection, parent, name)? else {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    };
    let is_kept = place.last.is_some_and(|last| last >= oldest);
    if place.is_living() || is_kept {
        return Ok(Remains::KnownRow);
    }
    match place.occupied || image::has_child(connection, place.id, false)? {
        true => Ok(Remains::Name),
        false => Ok(Remains::Nothing),
    }
}
