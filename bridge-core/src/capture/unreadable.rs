//! Znodes that may not be read. They give no events at all, in silence (ZOOKEEPER-4799), so each is counted and named.

use std::collections::{BTreeMap, BTreeSet};

use crate::path::ZnodePath;

/// At most so many are kept by name, to bound memory; beyond that the count says that there are more.
const NAMED_MAX: usize = 10_000;

/// The blind spots known at present.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    named: BTreeSet<ZnodePath>,
    unnamed: BTreeMap<ZnodePath, u64>,
}

impl Unreadable {
    /// Takes one in; `true` if it was not known.
    pub(crate) fn add(&mut self, root: &ZnodePath, path: &ZnodePath) -> bool {
        if self.named.contains(path) {
            return false;
        }
        if self.named.len() < NAMED_MAX {
            return self.named.insert(path.clone());
        }
        *self.unnamed.entry(root.clone()).or_default() += 1;
        true
    }

    /// Forgets what was known below a root, before it is listed anew.
    pub(crate) fn forget(&mut self, root: &ZnodePath) {
        self.named.retain(|path| !root.covers(path));
        self.unnamed.remove(root);
    }

    /// How many there are below a root.
    pub(crate) fn count(&self, root: &ZnodePath) -> u64 {
        let named = self.named.iter().filter(|path| root.covers(path)).count() as u64;
        named + self.unnamed.get(root).copied().unwrap_or_default()
    }

    /// Those known by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &ZnodePath> {
        self.named.iter()
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.named.len() as u64 + self.unnamed.values().sum::<u64>()
    }
}
