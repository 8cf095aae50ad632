//! Visits the paths that the journal knows, parents first, in the order of their names, without holding anything between
//! two steps.

use std::collections::VecDeque;

use bridge_core::journal::{KnownChild, PathNumber};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;

use crate::error::QueryError;
use crate::journal::JournalQuery;

/// Siblings read in one step.
const STEP_SIBLINGS: usize = 500;

/// A path that the journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPath {
    pub(crate) path: ZnodePath,
    /// Its number; `None` of a path at the top that the journal does not know.
    pub(crate) number: Option<PathNumber>,
    /// Its last record, if that is kept.
    pub(crate) last: Option<Seq>,
}

impl KnownPath {
    /// A child of a path.
    pub(crate) fn of(parent: &ZnodePath, child: &KnownChild) -> KnownPath {
        KnownPath {
            path: parent.child(&child.name),
            number: Some(child.number),
            last: child.last,
        }
    }
}

/// The paths of one step of a visit.
pub(crate) struct PathStep {
    /// Those that were wanted.
    pub(crate) wanted: Vec<KnownPath>,
    /// The last path that was visited, wanted or not.
    pub(crate) last: Option<ZnodePath>,
    /// How many were visited.
    pub(crate) visits: u64,
    /// Whether there are no more.
    pub(crate) is_end: bool,
}

/// The siblings of one level that are not visited yet.
struct Siblings {
    parent: ZnodePath,
    read: VecDeque<KnownChild>,
    /// The name from which on more are read; `None` if all are.
    from: Option<String>,
}

/// A visit of a path and everything below it. Memory is bounded by the depth.
pub(crate) struct KnownPaths<'a> {
    journal: &'a JournalQuery,
    /// The top, until it is visited.
    top: Option<ZnodePath>,
    levels: Vec<Siblings>,
}

/// The first name after another one: no name holds this character.
pub(crate) fn name_after(name: &str) -> String {
    format!("{name}\0")
}

impl<'a> KnownPaths<'a> {
    /// Visits a path and everything below it; after `visited` if an earlier visit ended there.
    pub(crate) fn below(
        journal: &'a JournalQuery,
        top: &ZnodePath,
        visited: Option<&ZnodePath>,
    ) -> KnownPaths<'a> {
        let mut levels = Vec::new();
        if let Some(visited) = visited.filter(|visited| top.covers(visited)) {
            let mut parent = top.clone();
            while let Some(child) = parent.child_towards(visited) {
                levels.push(Siblings::new(parent, name_after(child.name())));
                parent = child;
            }
            levels.push(Siblings::new(parent, String::new()));
        }
        KnownPaths {
            journal,
            top: visited.is_none().then(|| top.clone()),
            levels,
        }
    }

    /// The next paths, until `wanted` of them are wanted or `visits` are visited.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub(crate) fn step(
        &mut self,
        wanted: usize,
        visits: u64,
        is_wanted: impl Fn(&KnownPath) -> bool,
    ) -> Result<PathStep, QueryError> {
        let mut step = PathStep {
            wanted: Vec::new(),
            last: None,
            visits: 0,
            is_end: false,
        };
        while step.wanted.len() < wanted && step.visits < visits {
            let Some(known) = self.next()? else {
                step.is_end = true;
                break;
            };
            step.visits += 1;
            step.last = Some(known.path.clone());
            if is_wanted(&known) {
                step.wanted.push(known);
            }
        }
        Ok(step)
    }

    /// The next path; `None` after the last.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub(crate) fn next(&mut self) -> Result<Option<KnownPath>, QueryError> {
        if let Some(path) = self.top.take() {
            let known = self.journal.reader()?.known(&path)?;
            self.levels.push(Siblings::new(path.clone(), String::new()));
            return Ok(Some(KnownPath {
                path,
                number: known.as_ref().map(|known| known.number),
                last: known.and_then(|known| known.last),
            }));
        }
        while let Some(siblings) = self.levels.last_mut() {
            let Some(child) = siblings.next(self.journal)? else {
                self.levels.pop();
                continue;
            };
            let known = KnownPath::of(&siblings.parent, &child);
            if child.has_children {
                self.levels.push(Siblings::new(known.path.clone(), String::new()));
            }
            return Ok(Some(known));
        }
        Ok(None)
    }
}

impl Siblings {
    fn new(parent: ZnodePath, from: String) -> Siblings {
        Siblings {
            parent,
            read: VecDeque::new(),
            from: Some(from),
        }
    }

    fn next(&mut self, journal: &JournalQuery) -> Result<Option<KnownChild>, QueryError> {
        if self.read.is_empty()
            && let Some(from) = self.from.take()
        {
            let read = journal
                .reader()?
                .known_children(&self.parent, &from, STEP_SIBLINGS)?;
            let last = read.last().filter(|_| read.len() == STEP_SIBLINGS);
            self.from = last.map(|last| name_after(&last.name));
            self.read = read.into();
        }
        Ok(self.read.pop_front())
    }
}
