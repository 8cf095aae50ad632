//! The walk of a root: lists it in bounded memory, many znodes in one read, and compares the answers as they arrive.
//!
//! For every path below its root, a walk can decide whether it still has to read it. Events of such paths are not
//! followed: the walk reads a later state. [`RootWalk::fate`] decides that from the few open listings, not from a mark
//! at each znode, so that millions of znodes need no memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::Zxid;
use crate::path::{Hasher, ZnodePath};

use super::batch::{Length, Limits, Purpose, RequestBudget, SMALL_BYTES, unread_at_once};
use super::{Outcome, ReadRequest};

/// Bytes of data expected of a znode that was never read, until the walk has read some.
const UNKNOWN_BYTES: usize = 4 << 10;
/// Estimated bytes of one child's name in an answer.
const NAME_BYTES: usize = 32;
/// How often listings are repeated because a listed child does not exist and has no delete event.
const RELISTS_MAX: usize = 1_000;

/// The walk of one root.
#[derive(Debug)]
pub(crate) struct RootWalk {
    limits: Limits,
    pub(crate) root: usize,
    root_path: ZnodePath,
    work: Vec<Work>,
    /// Listings with names that are not requested yet.
    open: BTreeMap<ZnodePath, Listing>,
    reading: Reading,
    /// Znodes whose children are to be listed; `true`: requested.
    listing: BTreeMap<ZnodePath, bool>,
    under_way: usize,
    average_bytes: usize,
    relists: usize,
    has_read_root: bool,
    /// An audit only compares while the watch is active: all events are followed.
    pub(crate) is_audit: bool,
}

#[derive(Debug)]
enum Work {
    /// Read the next names of an open listing.
    Names(ZnodePath),
    /// Read a znode together with the names of its children.
    List(ZnodePath, usize),
    /// Read the root again together with all paths above it, to bound its delete.
    Above,
}

#[derive(Debug)]
struct Listing {
    names: Vec<Box<str>>,
    next: usize,
    /// Names read since the last one that was not small.
    small: usize,
}

/// Whether the walk or the event records a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The walk, which reads the path later.
    Walk,
    /// Not known before the answers under way have arrived.
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

    /// Whether the walk or an event of this path records the change.
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

    /// The next request; `None` if nothing is left to read now.
    pub(crate) fn next_request(
        &mut self,
        image: &mut dyn ImageTxn,
    ) -> Result<Option<(Purpose, Vec<ReadRequest>)>, JournalError> {
        while let Some(work) = self.work.pop() {
            let (purpose, reads) = match work {
                Work::Above => (Purpose::WalkList, self.reads_above()),
                Work::List(path, _) if !self.listing.contains_key(&path) => continue,
                Work::List(path, bytes) => (Purpose::WalkList, self.lists(path, bytes)),
                Work::Names(path) if self.must_wait(&path) => {
                    self.work.push(Work::Names(path));
                    return Ok(None);
                }
                Work::Names(path) => (Purpose::WalkRead, self.names(path, image)?),
            };
            if !reads.is_empty() {
                self.under_way += 1;
                return Ok(Some((purpose, reads)));
            }
        }
        Ok(None)
    }

    /// Whether so many znodes of unknown size are under way that another request of them would be small, or too much.
    fn must_wait(&self, path: &ZnodePath) -> bool {
        let under_way = self.reading.unread;
        let next = self
            .open
            .get(path)
            .map_or(0, |listing| unread_at_once(listing.small));
        under_way > 0 && under_way + next.min(self.limits.walk_batch) > self.limits.unread_under_way
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
            self.reading
                .insert(&child, matches!(length, Length::Unread { .. }));
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

    /// Notes that an answer has arrived.
    pub(crate) fn answered(&mut self) {
        self.under_way -= 1;
    }

    /// Notes that the data of a znode was read; its children are listed next if it has some.
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

    /// Notes that the children of a znode were listed; `names` is sorted.
    pub(crate) fn listed(&mut self, path: &ZnodePath, names: Option<Vec<Box<str>>>) {
        self.listing.remove(path);
        self.has_read_root |= *path == self.root_path;
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            let (next, small) = (0, 0);
            self.open.insert(path.clone(), Listing { names, next, small });
            self.work.push(Work::Names(path.clone()));
        }
    }

    /// Notes that a znode was deleted after the walk read it: its list is no longer needed. The znodes below its next
    /// incarnation have events of their own, which apply to the answers under way.
    pub(crate) fn ended(&mut self, path: &ZnodePath) {
        self.open.remove(path);
        if self.has_read_root || *path != self.root_path {
            self.listing.remove(path);
        }
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

    /// Whether the walk still expects an answer for a path.
    pub(crate) fn awaits(&self, path: &ZnodePath) -> bool {
        self.reading.contains(path) || self.listing.get(path) == Some(&true)
    }

    /// Lists the parent of a child again that no longer exists and has no delete event. Returns `false` after
    /// [`RELISTS_MAX`] times.
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

    /// Reads a root that does not exist again, with all paths above it.
    pub(crate) fn read_above(&mut self) {
        self.listing.insert(self.root_path.clone(), false);
        self.work.push(Work::Above);
    }
}

/// The requested znodes.
#[derive(Debug, Default)]
struct Reading {
    /// With whether the size is unknown.
    paths: HashMap<ZnodePath, bool, Hasher>,
    /// How many of them are of unknown size.
    unread: usize,
    /// The number of requested znodes below each parent: few parents, because the znodes of one request have the same
    /// one.
    parents: BTreeMap<ZnodePath, usize>,
}

impl Reading {
    fn insert(&mut self, path: &ZnodePath, is_unread: bool) {
        if self.paths.contains_key(path) {
            return;
        }
        self.paths.insert(path.clone(), is_unread);
        self.unread += usize::from(is_unread);
        let Some(parent) = path.parent_str() else { return };
        match self.parents.get_mut(parent) {
            Some(count) => *count += 1,
            None => {
                self.parents.extend(path.parent().map(|parent| (parent, 1)));
            }
        }
    }

    fn remove(&mut self, path: &ZnodePath) {
        let Some(was_unread) = self.paths.remove(path) else {
            return;
        };
        self.unread -= usize::from(was_unread);
        let parent = path.parent_str().unwrap_or_default();
        if let Some(count) = self.parents.get_mut(parent) {
            *count -= 1;
            if *count == 0 {
                self.parents.remove(parent);
            }
        }
    }

    fn contains(&self, path: &ZnodePath) -> bool {
        self.paths.contains_key(path)
    }

    /// Forgets the znodes below a path; `from` is the path with a trailing slash.
    fn forget_below(&mut self, from: &ZnodePath) {
        let above = from.parent_str().unwrap_or_default();
        let mut parents = self
            .parents
            .range::<str, _>((Bound::Included(above), Bound::Unbounded))
            .map(|(parent, _)| parent);
        // In this order: the path, then possibly others that begin with the same characters, and the paths below it.
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
            .keys()
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

/// The lengths that the image has of the next names, in their order, so that an answer stays within its limit.
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

/// The `pzxid` of the nearest existing path above; the answers are ordered nearest first. If that path is unreadable,
/// there is none: a delete below it does not change the paths above it.
pub(crate) fn nearest_pzxid<'a>(above: impl IntoIterator<Item = &'a Outcome>) -> Option<Zxid> {
    let mut there = above
        .into_iter()
        .skip_while(|outcome| **outcome == Outcome::Missing);
    there.next().and_then(Outcome::stat).map(|stat| stat.pzxid)
}
