//! The image: the state of each path after its last record.
//!
//! It changes only together with a record, except that a newer Stat of the same version may replace the stored one. A
//! deleted path keeps its row as long as one of its records is kept, for the history and to check that zxids ascend.

use std::ops::Range;
use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, Row};

use super::code::{StatBytes, StatCode};
use super::paths::Paths;
use super::rows::{Columns, WAITING, Writing};
use super::waypoints::WaypointSteps;
use crate::image_txn::{Children, Node};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::Stat;

/// The image of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The znode does not exist.
    Gone {
        /// The greatest zxid known of the life before; no exact zxid of the next is below it.
        floor: Zxid,
    },
    /// The znode exists and was not read yet.
    Unread {
        /// Names the life.
        czxid: Zxid,
        /// As the record of its create says.
        ephemeral: Option<bool>,
    },
    /// The znode exists, with the state of the last read.
    Read {
        /// Its Stat.
        stat: Stat,
    },
}

impl Life {
    const GONE: i64 = 0;
    const READ: i64 = 1;
    const UNREAD: i64 = 2;
    const UNREAD_PERSISTENT: i64 = 3;
    const UNREAD_EPHEMERAL: i64 = 4;

    /// The row as the capture sees it.
    pub(super) fn node(&self) -> Option<Node> {
        match *self {
            Life::Gone { .. } => None,
            Life::Unread { czxid, .. } => Some(Node { czxid, stat: None }),
            Life::Read { stat } => Some(Node {
                czxid: stat.czxid,
                stat: Some(stat),
            }),
        }
    }

    /// Whether the life is one that ends with a session, as far as it is known.
    pub(super) fn ephemeral(&self) -> Option<bool> {
        match *self {
            Life::Gone { .. } => None,
            Life::Unread { ephemeral, .. } => ephemeral,
            Life::Read { stat } => Some(stat.is_ephemeral()),
        }
    }

    fn columns(&self) -> (i64, Option<i64>, Option<StatBytes>) {
        let column = |zxid: Zxid| Some(zxid.0.cast_signed());
        match *self {
            Life::Gone { floor } => (Life::GONE, column(floor), None),
            Life::Read { stat } => (Life::READ, None, Some(StatBytes::of(stat))),
            Life::Unread { czxid, ephemeral } => {
                let number = match ephemeral {
                    None => Life::UNREAD,
                    Some(false) => Life::UNREAD_PERSISTENT,
                    Some(true) => Life::UNREAD_EPHEMERAL,
                };
                (number, column(czxid), None)
            }
        }
    }

    fn of_columns(life: i64, czxid: Option<i64>, stat: Option<StatCode>) -> Option<Life> {
        let czxid = czxid.map(|zxid| Zxid(zxid.cast_unsigned()));
        let unread = |ephemeral| czxid.map(|czxid| Life::Unread { czxid, ephemeral });
        match life {
            Life::GONE => czxid.map(|floor| Life::Gone { floor }),
            Life::READ => stat.map(|StatCode(stat)| Life::Read { stat }),
            Life::UNREAD => unread(None),
            Life::UNREAD_PERSISTENT => unread(Some(false)),
            Life::UNREAD_EPHEMERAL => unread(Some(true)),
            _ => None,
        }
    }
}

/// A path's number and its row in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The path, as records name it.
    pub(super) id: i64,
    /// The number of its parent.
    pub(super) parent: i64,
    /// Whether the znode or one below it exists.
    pub(super) occupied: bool,
    /// The state of the path.
    pub(super) life: Life,
    /// Its last record, if that is kept.
    pub(super) last: Option<Seq>,
    /// Its data.
    pub(super) value: Option<i64>,
    /// Its facts, where they are known.
    pub(super) facts: Option<i64>,
    /// Its records since its last waypoint.
    pub(super) steps: WaypointSteps,
    /// The create of the znode, if that is certainly its first record ([`super::ended`]).
    pub(super) born: Option<Seq>,
}

const FIND: &str =
    "SELECT path, parent, occupied, life, last, value, czxid, stat, facts, steps, born FROM image
    WHERE parent = ?1 AND occupied = ?2 AND name = ?3";

const COLUMNS: &str =
    "image(parent, occupied, name, path, life, last, value, czxid, stat, facts, steps, born)";

static PATHS: LazyLock<Writing> = LazyLock::new(|| Writing::new("INSERT INTO path(id, parent, name)", 3));

static ENTERED: LazyLock<Writing> = LazyLock::new(|| Writing::new(&format!("INSERT INTO {COLUMNS}"), 12));

/// In a table without other indexes SQLite replaces a row in one step, where `UPDATE` takes several.
static CHANGED: LazyLock<Writing> = LazyLock::new(|| Writing::new(&format!("REPLACE INTO {COLUMNS}"), 12));

impl Place {
    /// A path that has no record yet.
    pub(super) fn unseen(id: i64, parent: i64) -> Place {
        Place {
            id,
            parent,
            occupied: false,
            life: Life::Gone { floor: Zxid::ZERO },
            last: None,
            value: None,
            facts: None,
            steps: WaypointSteps::default(),
            born: None,
        }
    }

    /// Whether the znode itself exists.
    pub(super) fn is_living(&self) -> bool {
        !matches!(self.life, Life::Gone { .. })
    }

    /// From the columns of [`FIND`].
    fn of_row(row: &Row<'_>) -> rusqlite::Result<Place> {
        let life: i64 = row.get(3)?;
        let last: Option<i64> = row.get(4)?;
        Ok(Place {
            id: row.get(0)?,
            parent: row.get(1)?,
            occupied: row.get(2)?,
            life: Life::of_columns(life, row.get(6)?, row.get(7)?)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(3, life))?,
            last: last.map(|seq| Seq(seq.cast_unsigned())),
            value: row.get(5)?,
            facts: row.get(8)?,
            steps: WaypointSteps::of_column(row.get(9)?),
            born: row.get::<_, Option<i64>>(10)?.map(|seq| Seq(seq.cast_unsigned())),
        })
    }

    fn last_column(&self) -> Option<i64> {
        self.last.map(|seq| seq.0.cast_signed())
    }

    fn bind(&self, name: &str, to: &mut Columns<'_, '_>) -> rusqlite::Result<()> {
        let (life, czxid, stat) = self.life.columns();
        to.put(self.parent)?;
        to.put(self.occupied)?;
        to.put(name)?;
        to.put(self.id)?;
        to.put(life)?;
        to.put(self.last_column())?;
        to.put(self.value)?;
        to.put(czxid)?;
        to.put(stat)?;
        to.put(self.facts)?;
        to.put(self.steps.column())?;
        to.put(self.born.map(|seq| seq.0.cast_signed()))
    }
}

/// Rows of the open batch that wait to be written together.
#[derive(Default)]
pub(super) struct Unwritten {
    /// With the numbers of paths.
    entered: Vec<(Place, Box<str>)>,
    changed: Vec<(Place, Box<str>)>,
}

impl Unwritten {
    /// Enters a path and its row.
    pub(super) fn enter(
        &mut self,
        connection: &Connection,
        place: Place,
        name: &str,
    ) -> rusqlite::Result<()> {
        self.entered.push((place, name.into()));
        self.write_if_full(connection)
    }

    /// Stores a row, which was in the table of occupied paths or in the other one.
    pub(super) fn change(
        &mut self,
        connection: &Connection,
        place: Place,
        name: &str,
        was_occupied: bool,
    ) -> rusqlite::Result<()> {
        if place.occupied != was_occupied {
            self.write(connection)?;
            remove(connection, place.parent, was_occupied, name)?;
        }
        self.changed.push((place, name.into()));
        self.write_if_full(connection)
    }

    /// The row of a name below a parent, if it waits.
    pub(super) fn find(&self, parent: i64, name: &str) -> Option<Place> {
        let newest_first = self.changed.iter().rev().chain(&self.entered);
        let is_wanted = |(place, of): &&(Place, Box<str>)| place.parent == parent && **of == *name;
        newest_first.clone().find(is_wanted).map(|(place, _)| *place)
    }

    /// The greatest name of the rows below a parent that wait.
    pub(super) fn greatest_below(&self, parent: i64) -> Option<&str> {
        let rows = self.entered.iter().chain(&self.changed);
        let names = rows.filter(|(place, _)| place.parent == parent);
        names.map(|(_, name)| &**name).max()
    }

    /// Whether a row below a parent waits.
    pub(super) fn is_below(&self, parent: i64) -> bool {
        let mut rows = self.entered.iter().chain(&self.changed);
        rows.any(|(place, _)| place.parent == parent)
    }

    fn write_if_full(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        match self.entered.len() >= WAITING || self.changed.len() >= WAITING {
            true => self.write(connection),
            false => Ok(()),
        }
    }

    /// Writes all that waits.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        PATHS.write(connection, &self.entered, |(place, name), to| {
            to.put(place.id)?;
            to.put(place.parent)?;
            to.put(&**name)
        })?;
        ENTERED.write(connection, &self.entered, |(place, name), to| {
            place.bind(name, to)
        })?;
        self.entered.clear();
        // After those, as a row may have been changed since it was entered.
        CHANGED.write(connection, &self.changed, |(place, name), to| {
            place.bind(name, to)
        })?;
        self.changed.clear();
        Ok(())
    }
}

/// Removes a row.
pub(super) fn remove(
    connection: &Connection,
    parent: i64,
    occupied: bool,
    name: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM image WHERE parent = ?1 AND occupied = ?2 AND name = ?3")?
        .execute((parent, occupied, name))?;
    Ok(())
}

/// The row of a name below a parent.
pub(super) fn find(connection: &Connection, parent: i64, name: &str) -> rusqlite::Result<Option<Place>> {
    let mut statement = connection.prepare_cached(FIND)?;
    for occupied in [true, false] {
        let found = statement
            .query_row((parent, occupied, name), Place::of_row)
            .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The greatest name below a path.
pub(super) fn greatest_below(connection: &Connection, parent: i64) -> rusqlite::Result<Option<Box<str>>> {
    let mut statement =
        connection.prepare_cached("SELECT max(name) FROM image WHERE parent = ?1 AND occupied = ?2")?;
    let mut greatest = None;
    for occupied in [true, false] {
        greatest =
            greatest.max(statement.query_row((parent, occupied), |row| row.get::<_, Option<Box<str>>>(0))?);
    }
    Ok(greatest)
}

/// Whether there is something below a path, among the occupied or the rest.
pub(super) fn has_child(connection: &Connection, parent: i64, occupied: bool) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM image WHERE parent = ?1 AND occupied = ?2 LIMIT 1")?
        .exists((parent, occupied))
}

/// The columns of [`FIND`], and the name.
const CHILDREN: &str =
    "SELECT path, parent, occupied, life, last, value, czxid, stat, facts, steps, born, name FROM image
    WHERE parent = ?1 AND occupied = 1 AND name > ?2 ORDER BY name";

/// The existing children of a path, as in [`crate::image_txn::ImageTxn::children`].
pub(super) fn children(
    connection: &Connection,
    parent: i64,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<(Box<str>, Node)>> {
    select_children(connection, parent, after, limit, |node| node)
}

/// Rows below a path after a name, at most `limit`, with those below which something exists.
pub(super) fn places_after(
    connection: &Connection,
    parent: i64,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<(Box<str>, Place)>> {
    let mut statement = connection.prepare_cached(CHILDREN)?;
    let mut rows = statement.query((parent, after))?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(row) = rows.next()? else { break };
        found.push((row.get("name")?, Place::of_row(row)?));
    }
    Ok(found)
}

/// As in [`crate::image_txn::ImageTxn::occupied_children`].
pub(super) fn occupied_children(
    connection: &Connection,
    parent: i64,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Children<Option<Node>>> {
    select_children(connection, parent, after, limit, Some)
}

/// The values that `pick` makes of the occupied children of a path.
fn select_children<T>(
    connection: &Connection,
    parent: i64,
    after: Option<&str>,
    limit: usize,
    pick: impl Fn(Option<Node>) -> Option<T>,
) -> rusqlite::Result<Children<T>> {
    // No name is empty, so that the empty text is before all of them.
    let mut statement = connection.prepare_cached(CHILDREN)?;
    let mut rows = statement.query((parent, after.unwrap_or("")))?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(row) = rows.next()? else { break };
        if let Some(picked) = pick(Place::of_row(row)?.life.node()) {
            found.push((row.get("name")?, picked));
        }
    }
    Ok(found)
}

/// The parent and name of each znode that was read and lives, after a row: at most `limit`, in the order of the table.
pub(super) fn living_after(
    connection: &Connection,
    (parent, name): &(i64, String),
    limit: usize,
) -> rusqlite::Result<Vec<(i64, String)>> {
    let sql = "SELECT parent, name FROM image
        WHERE (parent, occupied, name) > (?1, 1, ?2) AND occupied = 1 AND life = ?3
        ORDER BY parent, occupied, name LIMIT ?4";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(sql)?
        .query_map((parent, name, Life::READ, limit), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect()
}

/// The next number that is a parent's.
const NEXT_PARENT: &str = "SELECT parent FROM image WHERE parent >= ?1 ORDER BY parent LIMIT 1";

/// Which numbers have no row below them, learned by few looks: siblings mostly got theirs one after the other, and most
/// have no children.
#[derive(Default)]
pub(super) struct Leaves(Range<i64>);

impl Leaves {
    pub(super) fn has(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<bool> {
        if !self.0.contains(&id) {
            let mut statement = connection.prepare_cached(NEXT_PARENT)?;
            let next: Option<i64> = statement.query_row([id], |row| row.get(0)).optional()?;
            self.0 = id..next.unwrap_or(i64::MAX);
        }
        Ok(self.0.contains(&id))
    }
}

/// Rows below a path, at most `limit` of them living, each with whether it is known that nothing is below it.
pub(super) fn children_and_leaves(
    connection: &Connection,
    parent: i64,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<(Box<str>, Place, bool)>> {
    let mut statement = connection.prepare_cached(CHILDREN)?;
    let mut rows = statement.query((parent, after.unwrap_or("")))?;
    let (mut found, mut living) = (Vec::new(), 0);
    let mut leaves = Leaves::default();
    while living < limit {
        let Some(row) = rows.next()? else { break };
        let place = Place::of_row(row)?;
        living += usize::from(place.is_living());
        found.push((row.get("name")?, place, leaves.has(connection, place.id)?));
    }
    Ok(found)
}

/// The first child of a path whose name is greater, if it or something below it is living.
pub(super) fn child_after(
    connection: &Connection,
    parent: i64,
    name: &str,
) -> rusqlite::Result<Option<(Box<str>, Place)>> {
    connection
        .prepare_cached(CHILDREN)?
        .query_row((parent, name), |row| Ok((row.get("name")?, Place::of_row(row)?)))
        .optional()
}

/// A znode on the way down, with the last of its children that was visited.
struct Step {
    id: i64,
    path: ZnodePath,
    node: Option<Node>,
    visited: Box<str>,
}

/// The living below a path, children first, as in [`crate::image_txn::ImageTxn::deepest_below`]. Memory is bounded by depth
/// and limit.
pub(super) fn deepest_below(
    connection: &Connection,
    paths: &mut Paths,
    top: &ZnodePath,
    limit: usize,
) -> rusqlite::Result<Vec<(ZnodePath, Node)>> {
    let mut found = Vec::new();
    let Some(place) = paths.find(connection, top)?.filter(|_| !paths.is_barren(top)) else {
        return Ok(found);
    };
    paths.write(connection)?;
    let mut way = vec![Step {
        id: place.id,
        path: top.clone(),
        node: None,
        visited: "".into(),
    }];
    let mut next_child = connection.prepare_cached(CHILDREN)?;
    while found.len() < limit {
        let Some(step) = way.last_mut() else { break };
        let mut rows = next_child.query((step.id, &*step.visited))?;
        if let Some(row) = rows.next()? {
            let child = Place::of_row(row)?;
            step.visited = row.get("name")?;
            let below = Step {
                id: child.id,
                path: step.path.child(&step.visited),
                node: child.life.node(),
                visited: "".into(),
            };
            way.push(below);
        } else if let Some(Step {
            path,
            node: Some(node),
            ..
        }) = way.pop()
        {
            found.push((path, node));
        }
    }
    Ok(found)
}
