//! Znodes that the bridge may not read. Servers send no events of them, and no error (ZOOKEEPER-4799), so each is
//! counted and named. The journal keeps since when ([`crate::unreadable_span`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::path::ZnodePath;
use crate::unreadable_span::{SPANS_MAX, UnreadableExtent};

/// The most znodes kept by name, to bound memory; further ones are only counted.
const NAMED_MAX: usize = SPANS_MAX;

/// The unreadable znodes known at present.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    named: BTreeSet<ZnodePath>,
    unnamed: BTreeMap<ZnodePath, u64>,
}

impl Unreadable {
    /// Adds an unreadable znode; returns how it is known if it was not.
    pub(crate) fn add(&mut self, root: &ZnodePath, path: &ZnodePath) -> Option<UnreadableExtent> {
        if self.named.contains(path) {
            return None;
        }
        if self.named.len() < NAMED_MAX {
            self.named.insert(path.clone());
            return Some(UnreadableExtent::Znode);
        }
        *self.unnamed.entry(root.clone()).or_default() += 1;
        Some(UnreadableExtent::Unnamed)
    }

    /// Forgets the znodes below a root, before it is listed again.
    pub(crate) fn forget(&mut self, root: &ZnodePath) {
        self.named.retain(|path| !root.covers(path));
        self.unnamed.remove(root);
    }

    /// The number of unreadable znodes below a root.
    pub(crate) fn count(&self, root: &ZnodePath) -> u64 {
        let named = self.named.iter().filter(|path| root.covers(path)).count() as u64;
        named + self.unnamed.get(root).copied().unwrap_or_default()
    }

    /// Whether a znode is unreadable, or may be one of the unreadable ones that are only counted.
    pub(crate) fn has(&self, path: &ZnodePath) -> bool {
        self.named.contains(path) || self.unnamed.keys().any(|root| root.covers(path))
    }

    /// The unreadable znodes that are known by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &ZnodePath> {
        self.named.iter()
    }

    /// Whether an unreadable znode is known by name.
    pub(crate) fn is_named(&self, path: &ZnodePath) -> bool {
        self.named.contains(path)
    }

    /// Whether a path is below an unreadable znode that is known by name.
    pub(crate) fn covers(&self, path: &ZnodePath) -> bool {
        path.ancestors().any(|above| self.named.contains(&above))
    }

    /// Returns at most `count` of the znodes known by name, from the one after `last`, and from the first again after
    /// the end.
    pub(crate) fn some_after(&self, last: Option<&ZnodePath>, count: usize) -> Vec<ZnodePath> {
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.named.range::<ZnodePath, _>((after, Bound::Unbounded));
        let count = count.min(self.named.len());
        rest.chain(&self.named).take(count).cloned().collect()
    }

    /// The number of all unreadable znodes.
    pub(crate) fn total(&self) -> u64 {
        self.named.len() as u64 + self.unnamed.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    #[test]
    fn those_tried_again_go_round_so_that_each_has_its_turn() {
        let mut unreadable = Unreadable::default();
        for name in ["/a/1", "/a/2", "/a/3"] {
            unreadable.add(&path("/a"), &path(name));
        }
        let check = |last: Option<&str>, count, expected: &[&str]| {
            let found = unreadable.some_after(last.map(path).as_ref(), count);
            let found: Vec<&str> = found.iter().map(ZnodePath::as_str).collect();
            assert_eq!(found, expected, "{last:?}");
        };
        check(None, 2, &["/a/1", "/a/2"]);
        check(Some("/a/2"), 2, &["/a/3", "/a/1"]);
        check(Some("/a/3"), 9, &["/a/1", "/a/2", "/a/3"]);
        check(Some("/b"), 1, &["/a/1"]);
    }
}
