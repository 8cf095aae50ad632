//! The image: what each path looked like at its last record.
//!
//! It moves only together with a record, except that a newer Stat of the same version may be taken in. A path that is
//! gone keeps its row as long as one of its records is kept, for the history and to check that zxids ascend.

use rusqlite::{Connection, Row};

use super::code::StatCode;
use super::paths::Paths;
use crate::book::Node;
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::Stat;

/// What the image says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Not living.
    Gone {
        /// The greatest zxid known of the life before; no exact zxid of the next is below it.
        floor: Zxid,
    },
    /// Living, and nobody has read it.
    Unread {
        /// Names the life.
        czxid: Zxid,
        /// As the record of its create says.
        ephemeral: Option<bool>,
    },
    /// Living, as last read.
    Read {
        /// Its Stat.
        stat: Stat,
    },
}

impl Life {
    /// The column's number of a path that is not living.
    pub(super) const GONE: i64 = 0;
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

    fn columns(&self) -> (i64, Option<i64>, Option<StatCode>) {
        let column = |zxid: Zxid| Some(zxid.0.cast_signed());
        match *self {
            Life::Gone { floor } => (Life::GONE, column(floor), None),
            Life::Read { stat } => (Life::READ, None, Some(StatCode(stat))),
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// In the dictionary.
    pub(super) id: i64,
    /// What it looks like.
    pub(super) life: Life,
    /// Its last record, if that is kept.
    pub(super) last: Option<Seq>,
    /// Its data.
    pub(super) value: Option<i64>,
}

impl Place {
    /// A path that was just entered.
    pub(super) fn never_seen(id: i64) -> Place {
        Place {
            id,
            life: Life::Gone { floor: Zxid::ZERO },
            last: None,
            value: None,
        }
    }

    /// From the columns id, life, last, value, czxid, stat; the last five null where there is no row.
    pub(super) fn of_row(row: &Row<'_>) -> rusqlite::Result<Place> {
        let Some(life) = row.get::<_, Option<i64>>(1)? else {
            return Ok(Place::never_seen(row.get(0)?));
        };
        let life = Life::of_columns(life, row.get(4)?, row.get(5)?)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(1, life))?;
        let last: i64 = row.get(2)?;
        Ok(Place {
            id: row.get(0)?,
            life,
            last: Some(Seq(last.cast_unsigned())),
            value: row.get(3)?,
        })
    }

    /// Stores the row.
    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let last = self.last.expect("the image moves only with a record");
        let (life, czxid, stat) = self.life.columns();
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO image(path, life, last, value, czxid, stat) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((self.id, life, last.0.cast_signed(), self.value, czxid, stat))?;
        Ok(())
    }
}

const CHILDREN: &str = "SELECT p.id, i.life, i.last, i.value, i.czxid, i.stat, p.name
    FROM path p JOIN image i ON i.path = p.id
    WHERE p.parent = ?1 AND p.occupied = 1 AND p.name > ?2 AND i.life != 0
    ORDER BY p.name LIMIT ?3";

/// The living children of a path, as in [`crate::book::Book::children`].
pub(super) fn children(
    connection: &Connection,
    parent: i64,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<(Box<str>, Node)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // No name is empty, so that the empty text is before all of them.
    let mut statement = connection.prepare_cached(CHILDREN)?;
    let rows = statement.query_map((parent, after.unwrap_or(""), limit), |row| {
        let node = Place::of_row(row)?.life.node();
        Ok(((row.get(6)?), node.expect("the query asks for the living")))
    })?;
    rows.collect()
}

const NEXT_CHILD: &str = "SELECT p.id, i.life, i.last, i.value, i.czxid, i.stat, p.name
    FROM path p LEFT JOIN image i ON i.path = p.id
    WHERE p.parent = ?1 AND p.occupied = 1 AND p.name > ?2 ORDER BY p.name LIMIT 1";

/// A znode on the way down, with the last of its children that was visited.
struct Step {
    id: i64,
    path: ZnodePath,
    node: Option<Node>,
    visited: Box<str>,
}

/// The living below a path, children first, as in [`crate::book::Book::deepest_below`]. Memory is bounded by depth
/// and limit.
pub(super) fn deepest_below(
    connection: &Connection,
    paths: &mut Paths,
    top: &ZnodePath,
    limit: usize,
) -> rusqlite::Result<Vec<(ZnodePath, Node)>> {
    let mut found = Vec::new();
    let Some(place) = paths.find(connection, top)? else {
        return Ok(found);
    };
    let mut way = vec![Step {
        id: place.id,
        path: top.clone(),
        node: None,
        visited: "".into(),
    }];
    let mut next_child = connection.prepare_cached(NEXT_CHILD)?;
    while found.len() < limit {
        let Some(step) = way.last_mut() else { break };
        let mut rows = next_child.query((step.id, &*step.visited))?;
        if let Some(row) = rows.next()? {
            let child = Place::of_row(row)?;
            step.visited = row.get(6)?;
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
