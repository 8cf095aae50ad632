//! Reads a subtree of the image for a sink that writes the present state.
//!
//! *Invariants.* A subtree that one transaction can read is the state after one record. A larger one is read again if the
//! journal has grown meanwhile; under a constant load the last attempt is taken as it is, and the records of what changed
//! during it come after its position. Znodes outside of the watched scope are left out, as in a snapshot for one sink.

use std::sync::Arc;

use rusqlite::Connection;

use super::cursors;
use super::image::{self, Life, Place};
use super::image_reader::place_of;
use super::marks::open_gap;
use super::progress;
use super::read::Reader;
use super::read_connection::Slice;
use super::row::data_of_value;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::scope::Scope;
use crate::subtree::{Subtree, SubtreeCompleteness, SubtreeError, SubtreeLimit, SubtreeReader, SubtreeZnode};

/// How often a subtree that changes while it is read is read again.
const ATTEMPTS: usize = 3;

impl SubtreeReader for Reader {
    fn subtree(&mut self, path: &ZnodePath, limit: SubtreeLimit) -> Result<Subtree, SubtreeError> {
        for _ in 1..ATTEMPTS {
            let (subtree, tail) = self.read_subtree(path, limit)?;
            if subtree.at == tail {
                return Ok(subtree);
            }
        }
        Ok(self.read_subtree(path, limit)?.0)
    }
}

impl Reader {
    /// The subtree, and the tail at the end of the read.
    fn read_subtree(
        &mut self,
        path: &ZnodePath,
        limit: SubtreeLimit,
    ) -> Result<(Subtree, Seq), SubtreeError> {
        let Reader {
            connection,
            names,
            scope,
            ..
        } = self;
        let (cluster, scope) = (names.cluster(), scope.as_deref());
        let mut walk: Option<SubtreeWalk> = None;
        let read = connection.in_slices(|connection, slice| {
            if walk.is_none() {
                walk = Some(SubtreeWalk::begin(connection, cluster, scope, path)?);
            }
            let walk = walk.as_mut().expect("it was just begun");
            let outcome = walk.go_on(connection, scope, limit, slice)?;
            let tail = cursors::newest(connection)?.unwrap_or_default();
            Ok(outcome.map(|outcome| (outcome, tail)))
        });
        let (outcome, tail) = read.map_err(|error| self.fault("reading a subtree of the image", error))?;
        outcome?;
        let walk = walk.expect("a read that has ended has begun");
        Ok((walk.subtree, tail))
    }
}

/// A walk over a subtree, which goes on in the next transaction.
struct SubtreeWalk {
    subtree: Subtree,
    /// The top, before it is looked at.
    top: Option<Place>,
    /// The znodes on the way down, with the last of their children that was looked at.
    levels: Vec<(i64, ZnodePath, Box<str>)>,
}

impl SubtreeWalk {
    fn begin(
        connection: &Connection,
        cluster: &Arc<str>,
        scope: Option<&Scope>,
        path: &ZnodePath,
    ) -> rusqlite::Result<SubtreeWalk> {
        let at = cursors::newest(connection)?.unwrap_or_default();
        let completeness = completeness(connection, scope, path)?;
        let is_walked = completeness != SubtreeCompleteness::NotWatched && !is_excluded(scope, path);
        let top = match is_walked {
            true => place_of(connection, path)?,
            false => None,
        };
        Ok(SubtreeWalk {
            subtree: Subtree::new(Arc::clone(cluster), path.clone(), at, completeness),
            top,
            levels: Vec::new(),
        })
    }

    /// Reads on until all is read or the limit is exceeded, or `None` when the slice is over.
    fn go_on(
        &mut self,
        connection: &Connection,
        scope: Option<&Scope>,
        limit: SubtreeLimit,
        slice: &Slice,
    ) -> rusqlite::Result<Option<Result<(), SubtreeError>>> {
        if let Some(top) = self.top.take() {
            let path = self.subtree.path.clone();
            if let Err(error) = self.visit(connection, path, &top, limit)? {
                return Ok(Some(Err(error)));
            }
        }
        while let Some((id, path, visited)) = self.levels.last_mut() {
            let Some((name, place)) = image::child_after(connection, *id, visited)? else {
                self.levels.pop();
                continue;
            };
            let path = path.child(&name);
            *visited = name;
            if !is_excluded(scope, &path)
                && let Err(error) = self.visit(connection, path, &place, limit)?
            {
                return Ok(Some(Err(error)));
            }
            if slice.is_over() {
                return Ok(None);
            }
        }
        Ok(Some(Ok(())))
    }

    /// Adds a znode that exists, and looks at those below it next.
    fn visit(
        &mut self,
        connection: &Connection,
        path: ZnodePath,
        place: &Place,
        limit: SubtreeLimit,
    ) -> rusqlite::Result<Result<(), SubtreeError>> {
        let stat = match place.life {
            // The records below it are older than its delete.
            Life::Gone { .. } => return Ok(Ok(())),
            Life::Unread { .. } => None,
            Life::Read { stat } => Some(stat),
        };
        let data = place.value.map(|id| data_of_value(connection, id)).transpose()?;
        self.levels.push((place.id, path.clone(), "".into()));
        Ok(self.subtree.add(SubtreeZnode { path, stat, data }, limit))
    }
}

fn is_excluded(scope: Option<&Scope>, path: &ZnodePath) -> bool {
    scope.is_some_and(|scope| scope.is_excluded(path))
}

fn completeness(
    connection: &Connection,
    scope: Option<&Scope>,
    path: &ZnodePath,
) -> rusqlite::Result<SubtreeCompleteness> {
    let root = match scope {
        Some(scope) => scope.roots().iter().find(|root| root.covers(path)).cloned(),
        None => progress::root_above(connection, path)?,
    };
    let Some(root) = root else {
        return Ok(SubtreeCompleteness::NotWatched);
    };
    if !progress::progress(connection, &root)?.listed {
        return Ok(SubtreeCompleteness::Listing { root });
    }
    Ok(match open_gap(connection, &root)? {
        Some(begin) => SubtreeCompleteness::InGap { root, begin },
        None => SubtreeCompleteness::Complete,
    })
}
