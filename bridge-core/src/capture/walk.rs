//! Walking a root: listing it in bounded memory, many znodes in one read, and comparing as the answers come.
//!
//! A walk knows of every path under its root whether it is still to be read. Events of paths that are still to be read
//! need not be followed: the walk will see what they told. That is decided by [`RootWalk::fate`] from the few listings that
//! are open, not from a mark at each znode, so millions of znodes cost no memory.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::Zxid;
use crate::path::{Hasher, ZnodePath};

use super::batch::{Length, Limits, Purpose, RequestBudget, SMALL_BYTES};
use super::{Outcome, ReadRequest};

/// Bytes of data expected of a znode that was never read, until the walk has read some.
const UNKNOWN_BYTES: usize = 4 << 10;
/// Bytes of one child's name in an answer, about.
const NAME_BYTES: usize = 32;
/// How often a listing is repeated because a listed child was gone without an event.
const RELISTS_MAX: usize = 1_000;

/// The walk of one root.
#[derive(Debug)]
pub(crate) struct RootWalk {
    limits: Limits,
    pub(crate) root: usize,
    root_path: ZnodePath,
    work: Vec<Work>,
    /// Listings whose names are not all asked for yet.
    open: BTreeMap<ZnodePath, Listing>,
    reading: Reading,
    /// Znodes whose children are to be listed; `true`: asked for.
    listing: BTreeMap<ZnodePath, bool>,
    under_way: usize,
    average_bytes: usize,
    relists: usize,
    has_read_root: bool,
    /// Only to compare while the watch lives: events are followed all the same.
    pub(crate) is_audit: bool,
}

#[derive(Debug)]
enum Work {
    /// Read the next names of an open listing.
    Names(ZnodePath),
    /// Read a znode together with the names of its children.
    List(ZnodePath, usize),
    /// Read the root again together with all above it, to bound its delete.
    Above,
}

#[derive(Debug)]
struct Listing {
    names: Vec<Box<str>>,
    next: usize,
    /// Names that were read, since one of them was not small.
    small: usize,
}

/// Who tells what an event told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The walk: it reads the path later.
    Walk,
    /// Not known before the answers under way have come.
    Open,
    /// The event.
    Event,
}

impl RootWalk {
    pub(crate) fn new(root: usize, root_path: ZnodePath, is_audit: bool, limits: Limits) -> RootWalk {
        RootWalk {
            limits,
            root,
            work: vec![Work::List(root_path.clone(), UNKNOWN_BYTES)],
            listing: BTreeMap::from([(root_path.clone(), false)]),
            root_path,
            open: BTreeMap::new(),
            reading: Reading::default(),
            under_way: 0,
            average_bytes: UNKNOWN_BYTES,
            relists: 0,
            has_read_root: false,
            is_audit,
        }
    }

    /// Whether everything was read and compared.
    pub(crate) fn is_done(&self) -> bool {
        self.work.is_empty() && self.under_way == 0
    }

    /// Who tells what an event of this path tells.
    pub(crate) fn fate(&self, path: &ZnodePath) -> Fate {
        if self.is_audit {
            return Fate::Event;
        }
        let mut above = self.root_path.clone();
        loop {
            let is_path = above == *path;
            if self.reading.contains(&above) {
                return Fate::Open;
            }
            if !is_path || !self.has_read_root {
                match self.listing.get(&above) {
                    Some(true) => return Fate::Open,
                    Some(false) => return Fate::Walk,
                    None => {}
                }
            }
            if is_path {
                return Fate::Event;
            }
            let Some(child) = above.child_towards(path) else {
                return Fate::Event;
            };
            if self
                .open
                .get(&above)
                .is_some_and(|listing| listing.is_still_to_read(child.name()))
            {
                return Fate::Walk;
            }
            above = child;
        }
    }

    /// The next request; `None` if nothing is left to ask for.
    pub(crate) fn next_request(
        &mut self,
        image: &mut dyn ImageTxn,
    ) -> Result<Option<(Purpose, Vec<ReadRequest>)>, JournalError> {
        while let Some(work) = self.work.pop() {
            let (purpose, reads) = match work {
                Work::Above => (Purpose::WalkList, self.reads_above()),
                Work::List(path, _) if !self.listing.contains_key(&path) => continue,
                Work::List(path, bytes) => (Purpose::WalkList, self.lists(path, bytes)),
                Work::Names(path) => (Purpose::WalkRead, self.names(path, image)?),
            };
            if !reads.is_empty() {
                self.under_way += 1;
                return Ok(Some((purpose, reads)));
            }
        }
        Ok(None)
    }

    fn reads_above(&mut self) -> Vec<ReadRequest> {
        self.listing.insert(self.root_path.clone(), true);
        let root = ReadRequest {
            path: self.root_path.clone(),
            children: true,
        };
        let above = self.root_path.ancestors().map(|path| ReadRequest {
            path,
            children: false,
        });
        std::iter::once(root).chain(above).collect()
    }

    fn lists(&mut self, path: ZnodePath, bytes: usize) -> Vec<ReadRequest> {
        let mut budget = RequestBudget::new(self.limits.walk_batch, &self.limits);
        let mut reads = Vec::new();
        let mut next = Some((path, bytes));
        while let Some((path, bytes)) = next {
            if !budget.take(&path, Length::Known(bytes)) {
                self.work.push(Work::List(path, bytes));
                break;
            }
            self.listing.insert(path.clone(), true);
            reads.push(ReadRequest { path, children: true });
            next = match self.work.pop() {
                Some(Work::List(path, bytes)) if self.listing.contains_key(&path) => Some((path, bytes)),
                Some(Work::List(..)) => None,
                Some(other) => {
                    self.work.push(other);
                    None
                }
                None => None,
            };
        }
        reads
    }

    fn names(&mut self, path: ZnodePath, image: &mut dyn ImageTxn) -> Result<Vec<ReadRequest>, JournalError> {
        let Some(mut listing) = self.open.remove(&path) else {
            return Ok(Vec::new());
        };
        let mut known = known_lengths(image, &path, &listing, self.limits.walk_batch)?
            .into_iter()
            .peekable();
        let mut budget = RequestBudget::new(self.limits.walk_batch, &self.limits);
        let mut reads = Vec::new();
        while let Some(name) = listing.names.get(listing.next) {
            let child = path.child(name);
            // Both are in the order of names.
            while known.next_if(|(other, _)| other < name).is_some() {}
            let length = match known.next_if(|(other, _)| other == name) {
                Some((_, bytes)) => Length::Known(bytes),
                None => Length::Unread {
                    bytes: self.average_bytes,
                    small: listing.small,
                },
            };
            if !budget.take(&child, length) {
                break;
            }
            self.reading.insert(&child);
            reads.push(ReadRequest {
                path: child,
                children: false,
            });
            listing.next += 1;
        }
        if listing.next < listing.names.len() {
            self.open.insert(path.clone(), listing);
            self.work.push(Work::Names(path));
        }
        Ok(reads)
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self) {
        self.under_way -= 1;
    }

    /// A znode's data has been read; its children are listed next if it has some.
    pub(crate) fn read(&mut self, path: &ZnodePath, found: Option<(usize, i32)>) {
        self.reading.remove(path);
        let Some((bytes, children)) = found else {
            return;
        };
        self.average_bytes = (self.average_bytes * 7 + bytes * 2) / 8 + 64;
        if let Some(siblings) = path.parent_str().and_then(|parent| self.open.get_mut(parent)) {
            siblings.small = if bytes > SMALL_BYTES {
                0
            } else {
                siblings.small + 1
            };
        }
        if children > 0 && !self.listing.contains_key(path) {
            let names = usize::try_from(children).unwrap_or_default() * NAME_BYTES;
            self.listing.insert(path.clone(), false);
            self.work.push(Work::List(path.clone(), bytes + names));
        }
    }

    /// A znode's children have been listed; `names` is sorted.
    pub(crate) fn listed(&mut self, path: &ZnodePath, names: Option<Vec<Box<str>>>) {
        self.listing.remove(path);
        self.has_read_root |= *path == self.root_path;
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            let (next, small) = (0, 0);
            self.open.insert(path.clone(), Listing { names, next, small });
            self.work.push(Work::Names(path.clone()));
        }
    }

    /// The life of a znode ended behind its listing: what is below it in its next life has events of its own, and what
    /// answers that are under way show of it belongs to them.
    pub(crate) fn ended(&mut self, path: &ZnodePath) {
        self.open.remove(path);
        let from = path.child("");
        let is_below = |other: &ZnodePath| other.starts_with(from.as_str());
        let below = |keys: &mut dyn Iterator<Item = &ZnodePath>| -> Vec<ZnodePath> {
            keys.take_while(|other| is_below(other)).cloned().collect()
        };
        for gone in below(&mut self.open.range(from.clone()..).map(|(path, _)| path)) {
            self.open.remove(&gone);
        }
        for gone in below(&mut self.listing.range(from.clone()..).map(|(path, _)| path)) {
            self.listing.remove(&gone);
        }
        self.reading.forget_below(&from);
    }

    /// Whether the answer for a path is still the walk's.
    pub(crate) fn awaits(&self, path: &ZnodePath) -> bool {
        self.reading.contains(path) || self.listing.get(path) == Some(&true)
    }

    /// A listed child is gone and no event told it: its parent is listed again. `false`: this went on for too long.
    #[must_use]
    pub(crate) fn list_again(&mut self, child: &ZnodePath) -> bool {
        let Some(parent) = child.parent().filter(|parent| self.root_path.covers(parent)) else {
            return true;
        };
        self.relists += 1;
        if !self.listing.contains_key(&parent) {
            self.listing.insert(parent.clone(), false);
            self.work.push(Work::List(parent, UNKNOWN_BYTES));
        }
        self.relists <= RELISTS_MAX
    }

    /// The root is not there: read again, with all above it.
    pub(crate) fn read_above(&mut self) {
        self.listing.insert(self.root_path.clone(), false);
        self.work.push(Work::Above);
    }
}

/// Znodes asked for.
#[derive(Debug, Default)]
struct Reading {
    paths: HashSet<ZnodePath, Hasher>,
    /// How many of them each parent has: few, as those of a request have one.
    parents: BTreeMap<ZnodePath, usize>,
}

impl Reading {
    fn insert(&mut self, path: &ZnodePath) {
        if !self.paths.insert(path.clone()) {
            return;
        }
        let Some(parent) = path.parent_str() else { return };
        match self.parents.get_mut(parent) {
            Some(count) => *count += 1,
            None => {
                self.parents.extend(path.parent().map(|parent| (parent, 1)));
            }
        }
    }

    fn remove(&mut self, path: &ZnodePath) {
        if !self.paths.remove(path) {
            return;
        }
        let parent = path.parent_str().unwrap_or_default();
        if let Some(count) = self.parents.get_mut(parent) {
            *count -= 1;
            if *count == 0 {
                self.parents.remove(parent);
            }
        }
    }

    fn contains(&self, path: &ZnodePath) -> bool {
        self.paths.contains(path)
    }

    /// Forgets those whose path begins so: a path and what parts it from what is below it.
    fn forget_below(&mut self, from: &ZnodePath) {
        let above = from.parent_str().unwrap_or_default();
        let mut parents = self
            .parents
            .range::<str, _>((Bound::Included(above), Bound::Unbounded))
            .map(|(parent, _)| parent);
        // A path comes first, then perhaps others that begin with its letters, and what is below it.
        let is_near = |parent: &&ZnodePath| parent.starts_with(above);
        if !parents
            .by_ref()
            .take_while(is_near)
            .any(|parent| **parent == *above || parent.starts_with(from.as_str()))
        {
            return;
        }
        let gone: Vec<ZnodePath> = self
            .paths
            .iter()
            .filter(|path| path.starts_with(from.as_str()))
            .cloned()
            .collect();
        for path in gone {
            self.remove(&path);
        }
    }
}

impl Listing {
    fn is_still_to_read(&self, name: &str) -> bool {
        self.names[self.next..]
            .binary_search_by(|other| other.as_ref().cmp(name))
            .is_ok()
    }
}

/// Lengths that the image knows of the next names, in their order, so that an answer stays within its limit.
fn known_lengths(
    image: &mut dyn ImageTxn,
    path: &ZnodePath,
    listing: &Listing,
    limit: usize,
) -> Result<Vec<(Box<str>, usize)>, JournalError> {
    let before = listing.next.checked_sub(1).map(|at| listing.names[at].as_ref());
    let rows = image.children_to_compare(path, before, limit)?;
    let length = |stat: crate::record::Stat| usize::try_from(stat.data_length).unwrap_or_default();
    Ok(rows
        .into_iter()
        .filter_map(|(name, node)| Some((name, length(node.stat?))))
        .collect())
}

/// `pzxid` of the nearest path above that is there; the answers are ordered nearest first. If it may not be read, there
/// is none: what died below it has not touched the paths above it.
pub(crate) fn nearest_pzxid<'a>(above: impl IntoIterator<Item = &'a Outcome>) -> Option<Zxid> {
    let mut there = above
        .into_iter()
        .skip_while(|outcome| **outcome == Outcome::Missing);
    there.next().and_then(Outcome::stat).map(|stat| stat.pzxid)
}
