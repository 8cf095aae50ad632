//! The znodes of a tree without their paths: 80 bytes each, and 6 to 12 for the index.
//!
//! A path is replaced by 128 bits of a hash with a random key, so that nobody can choose two paths with the same ones; that
//! two of a billion have them by chance is about as likely as one in 10²⁰.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::TreeZnode;
use crate::digest::{ContentCrc, PersistedStat};

/// Znodes of one block, 320 KiB. A vector that grows by doubling would leave up to a half of its memory unused.
const BLOCK: usize = 4_096;

/// The hash of a path.
type Name = [u64; 2];

/// A znode in 80 bytes.
#[derive(Clone, Copy)]
struct PackedZnode {
    name: Name,
    /// czxid, mzxid, ctime, mtime, the owner of an ephemeral, and pzxid.
    longs: [i64; 6],
    /// version, cversion, aversion.
    counts: [i32; 3],
    /// The sum of path and value in UTF-8.
    content: u32,
}

/// The znodes.
#[derive(Clone, Default)]
pub(super) struct Znodes {
    keys: [RandomState; 2],
    /// The places of the znodes, by their names.
    index: HashTable<u32>,
    /// All full but the last one.
    blocks: Vec<Vec<PackedZnode>>,
    /// The sums in the other charsets, where they are others: of paths outside of ASCII.
    others: HashMap<Name, [u32; 2]>,
}

impl fmt::Debug for Znodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Znodes")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl PackedZnode {
    fn new(name: Name, znode: &TreeZnode) -> PackedZnode {
        let PersistedStat {
            czxid,
            mzxid,
            ctime,
            mtime,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            pzxid,
        } = znode.stat;
        PackedZnode {
            name,
            longs: [czxid, mzxid, ctime, mtime, ephemeral_owner, pzxid],
            counts: [version, cversion, aversion],
            content: znode.content.sums()[0],
        }
    }

    fn stat(&self) -> PersistedStat {
        let [czxid, mzxid, ctime, mtime, ephemeral_owner, pzxid] = self.longs;
        let [version, cversion, aversion] = self.counts;
        PersistedStat {
            czxid,
            mzxid,
            ctime,
            mtime,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            pzxid,
        }
    }
}

fn at(blocks: &[Vec<PackedZnode>], place: u32) -> &PackedZnode {
    let place = place as usize;
    &blocks[place / BLOCK][place % BLOCK]
}

impl Znodes {
    /// The number of znodes.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.place(&self.name(path)).is_some()
    }

    pub(super) fn get(&self, path: &str) -> Option<TreeZnode> {
        let name = self.name(path);
        let place = self.place(&name)?;
        Some(self.unpacked(at(&self.blocks, place)))
    }

    /// Adds or replaces a znode.
    pub(super) fn insert(&mut self, path: &str, znode: &TreeZnode) {
        let name = self.name(path);
        self.keep_others(name, znode);
        let packed = PackedZnode::new(name, znode);
        if let Some(place) = self.place(&name) {
            *self.at_mut(place) = packed;
            return;
        }
        let place = u32::try_from(self.len()).expect("a server has fewer than 2^32 znodes");
        match self.blocks.last_mut().filter(|last| last.len() < BLOCK) {
            Some(last) => last.push(packed),
            None => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(packed);
                self.blocks.push(block);
            }
        }
        let blocks = &self.blocks;
        self.index
            .insert_unique(name[0], place, |place| at(blocks, *place).name[0]);
    }

    /// Changes a znode, if there is one.
    pub(super) fn update(&mut self, path: &str, change: impl FnOnce(&mut TreeZnode)) {
        let name = self.name(path);
        let Some(place) = self.place(&name) else { return };
        let mut znode = self.unpacked(at(&self.blocks, place));
        change(&mut znode);
        self.keep_others(name, &znode);
        *self.at_mut(place) = PackedZnode::new(name, &znode);
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<TreeZnode> {
        let name = self.name(path);
        let blocks = &self.blocks;
        let found = self
            .index
            .find_entry(name[0], |place| at(blocks, *place).name == name);
        let (place, _) = found.ok()?.remove();
        let znode = self.unpacked(at(&self.blocks, place));
        if !self.others.is_empty() {
            self.others.remove(&name);
        }
        self.fill(place);
        Some(znode)
    }

    /// Moves the last znode to a place that has become free.
    fn fill(&mut self, free: u32) {
        let block = self.blocks.last_mut().expect("a znode was removed");
        let moved = block.pop().expect("no block is empty");
        if block.is_empty() {
            self.blocks.pop();
        }
        // Its place is the number of znodes that are left.
        let from = u32::try_from(self.index.len()).expect("a server has fewer than 2^32 znodes");
        if from == free {
            return;
        }
        *self.at_mut(free) = moved;
        let place = self.index.find_mut(moved.name[0], |place| *place == from);
        *place.expect("each znode has a place") = free;
    }

    fn name(&self, path: &str) -> Name {
        self.keys.each_ref().map(|key| key.hash_one(path))
    }

    fn place(&self, name: &Name) -> Option<u32> {
        let is_named = |place: &u32| at(&self.blocks, *place).name == *name;
        self.index.find(name[0], is_named).copied()
    }

    fn at_mut(&mut self, place: u32) -> &mut PackedZnode {
        let place = place as usize;
        &mut self.blocks[place / BLOCK][place % BLOCK]
    }

    fn keep_others(&mut self, name: Name, znode: &TreeZnode) {
        let [utf8, ascii, latin1] = znode.content.sums();
        if utf8 != ascii || utf8 != latin1 {
            self.others.insert(name, [ascii, latin1]);
        } else if !self.others.is_empty() {
            self.others.remove(&name);
        }
    }

    fn unpacked(&self, packed: &PackedZnode) -> TreeZnode {
        let utf8 = packed.content;
        let others = match self.others.is_empty() {
            true => None,
            false => self.others.get(&packed.name),
        };
        let [ascii, latin1] = others.copied().unwrap_or([utf8; 2]);
        TreeZnode {
            content: ContentCrc::of_sums([utf8, ascii, latin1]),
            stat: packed.stat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_znode_takes_80_bytes() {
        assert_eq!(size_of::<PackedZnode>(), 80);
    }

    fn znode(path: &str, version: i32) -> TreeZnode {
        let stat = PersistedStat {
            czxid: 1,
            mzxid: 2,
            ctime: 3,
            mtime: 4,
            version,
            cversion: 5,
            aversion: 6,
            ephemeral_owner: i64::MIN,
            pzxid: 7,
        };
        let content = ContentCrc::new(path, Some(&version.to_be_bytes()));
        TreeZnode { content, stat }
    }

    proptest! {
        /// Few paths, some outside of ASCII, so that most steps meet a znode that is there.
        #[test]
        fn any_inserts_changes_and_removes_give_what_a_plain_map_gives(
            steps in proptest::collection::vec((0..3_u8, 0..40_u8, any::<i32>()), 0..400)
        ) {
            let mut znodes = Znodes::default();
            let mut model: HashMap<String, TreeZnode> = HashMap::new();
            for (step, path, version) in steps {
                let path = if path % 3 == 0 { format!("/ë{path}") } else { format!("/{path}") };
                match step {
                    0 => {
                        let znode = znode(&path, version);
                        znodes.insert(&path, &znode);
                        model.insert(path, znode);
                    }
                    1 => {
                        znodes.update(&path, |znode| znode.stat.version = version);
                        model.entry(path).and_modify(|znode| znode.stat.version = version);
                    }
                    _ => prop_assert_eq!(znodes.remove(&path), model.remove(&path)),
                }
                prop_assert_eq!(znodes.len(), model.len());
                prop_assert!(model.iter().all(|(path, znode)| znodes.get(path) == Some(*znode)));
                let others = model.keys().filter(|path| !path.is_ascii()).count();
                prop_assert_eq!(znodes.others.len(), others);
            }
        }
    }

    #[test]
    fn znodes_of_several_blocks_are_found_and_leave_no_block_when_they_are_gone() {
        let mut znodes = Znodes::default();
        let path = |number: usize| format!("/znode-{number}");
        let count = 2 * BLOCK + 3;
        for number in 0..count {
            znodes.insert(&path(number), &znode(&path(number), 1));
        }
        assert_eq!((znodes.len(), znodes.blocks.len()), (count, 3));
        for number in 0..count {
            assert_eq!(znodes.remove(&path(number)), Some(znode(&path(number), 1)));
            assert!(!znodes.contains(&path(number)));
            assert!(number + 1 == count || znodes.contains(&path(count - 1)));
        }
        assert_eq!((znodes.len(), znodes.blocks.len()), (0, 0));
    }
}
