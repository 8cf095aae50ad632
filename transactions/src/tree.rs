//! The tree that transactions build: paths, Stats and the CRC-32 of each value, without the values.
//!
//! It applies transactions as a server does, so that after each of them [`Tree::digest`] is the digest that the server
//! wrote. It is kept in memory, at most 100 bytes for each znode, and the paths of ephemeral ones.

mod znodes;

use std::collections::{BTreeSet, HashMap, HashSet};

use znodes::Znodes;

use crate::digest::{ContentCrc, DigestSum, PathCharset, PersistedStat};
use crate::transaction::{Lifetime, Operation, Transaction};

/// A znode without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeZnode {
    /// The sum of path and value.
    pub content: ContentCrc,
    /// The Stat, as it is persisted.
    pub stat: PersistedStat,
}

/// All znodes, and their digest.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    znodes: Znodes,
    /// The ephemeral znodes of each session.
    ephemerals: HashMap<i64, BTreeSet<String>>,
    /// Sessions of a snapshot. From server id 255 on their ids look like the owner of a TTL.
    sessions: HashSet<i64>,
    sum: DigestSum,
}

/// The parent of a path; `None` for the root.
fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        at => Some(&path[..at]),
    }
}

/// The root's path in the form of this module; transactions write it in two forms.
fn key(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

impl Tree {
    /// The tree of a server without a snapshot.
    pub fn of_new_server() -> Tree {
        let mut tree = Tree::default();
        for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            tree.insert(path, None, PersistedStat::default());
        }
        tree
    }

    /// Adds a session of a snapshot; before its znodes.
    pub fn insert_session(&mut self, session: i64) {
        self.sessions.insert(session);
    }

    /// Adds or replaces a znode.
    pub fn insert(&mut self, path: &str, data: Option<&[u8]>, stat: PersistedStat) {
        self.remove(path);
        let content = ContentCrc::new(path, data);
        self.sum.add(path, content, &stat);
        if self.is_session(stat.ephemeral_owner) {
            let paths = self.ephemerals.entry(stat.ephemeral_owner).or_default();
            paths.insert(path.to_owned());
        }
        self.znodes.insert(path, &TreeZnode { content, stat });
    }

    /// The digest of the tree, as servers compute it that encode paths in UTF-8. To compare it with one that a server
    /// wrote, use [`Tree::has_digest`].
    pub fn digest(&self) -> u64 {
        self.digest_in(PathCharset::Utf8)
    }

    /// The digest of the tree, as servers compute it that encode paths in this charset.
    pub fn digest_in(&self, charset: PathCharset) -> u64 {
        self.sum.value(charset)
    }

    /// The number of znodes.
    pub fn len(&self) -> usize {
        self.znodes.len()
    }

    /// Whether there is no znode, not even the root.
    pub fn is_empty(&self) -> bool {
        self.znodes.len() == 0
    }

    /// A znode.
    pub fn get(&self, path: &str) -> Option<TreeZnode> {
        self.znodes.get(key(path))
    }

    /// Whether a server that has this digest has this tree, in whatever charset its JVM encodes the paths.
    pub fn has_digest(&self, digest: u64) -> bool {
        self.sum.charset_of(digest).is_some()
    }

    /// Applies a transaction. Changes that a snapshot that was written meanwhile already has are passed over, as by a
    /// server that replays its log: a create of an existing znode, and changes of a missing one. Access control lists
    /// are not kept here; a reader that keeps them has to give an existing znode the list of a create that is replayed,
    /// as a server does, because the snapshot may lack it ([`crate::snapshot::AclId`]).
    pub fn apply(&mut self, transaction: &Transaction) {
        self.apply_operation(transaction, &transaction.operation);
    }

    fn apply_operation(&mut self, transaction: &Transaction, operation: &Operation) {
        let (zxid, time) = (transaction.zxid, transaction.time);
        match operation {
            Operation::Create {
                path,
                data,
                lifetime,
                parent_cversion,
                ..
            } => {
                self.raise_parent(path, *parent_cversion, zxid);
                if !self.znodes.contains(path) {
                    self.create(transaction, path, data.as_deref(), *lifetime);
                }
            }
            Operation::Delete { path } | Operation::DeleteContainer { path } => self.delete(path, zxid),
            Operation::SetData { path, data, version } | Operation::Reconfigure { path, data, version } => {
                let path = key(path);
                let content = ContentCrc::new(path, data.as_deref());
                self.change(path, |znode| {
                    znode.content = content;
                    (znode.stat.mzxid, znode.stat.mtime, znode.stat.version) = (zxid, time, *version);
                });
            }
            Operation::SetAcl { path, version, .. } => {
                self.change(key(path), |znode| znode.stat.aversion = *version);
            }
            Operation::Multi(parts) => {
                for part in parts {
                    self.apply_operation(transaction, part);
                }
            }
            Operation::CloseSession { paths } => {
                self.close(transaction, paths.as_deref().unwrap_or_default())
            }
            Operation::CreateSession { .. } => {
                self.sessions.insert(transaction.session);
            }
            Operation::Check { .. } | Operation::FailedMulti { .. } | Operation::Error { .. } => {}
        }
    }

    fn create(&mut self, transaction: &Transaction, path: &str, data: Option<&[u8]>, lifetime: Lifetime) {
        let (zxid, time) = (transaction.zxid, transaction.time);
        if lifetime == Lifetime::Ephemeral {
            // A local session that writes has no transaction of its own.
            self.sessions.insert(transaction.session);
        }
        let stat = PersistedStat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: lifetime.owner(transaction.session),
            ..PersistedStat::default()
        };
        self.insert(path, data, stat);
    }

    /// Counts the create of a child, unless it is counted already.
    ///
    /// Only logs of 3.3, which have no digests, have a create without the parent's cversion. A server that replays such a
    /// create over a znode that exists counts it a second time, and so has another cversion than before its restart; here
    /// it is counted once.
    fn raise_parent(&mut self, path: &str, parent_cversion: i32, zxid: i64) {
        let exists = self.znodes.contains(path);
        let Some(parent) = parent(path) else { return };
        self.change(parent, |znode| {
            let stat = &mut znode.stat;
            let cversion = match parent_cversion {
                -1 if exists => return,
                -1 => stat.cversion.wrapping_add(1),
                cversion => cversion,
            };
            if cversion > stat.cversion {
                (stat.cversion, stat.pzxid) = (cversion, zxid);
            }
        });
    }

    fn delete(&mut self, path: &str, zxid: i64) {
        self.remove(path);
        if let Some(parent) = parent(path) {
            self.change(parent, |znode| znode.stat.pzxid = znode.stat.pzxid.max(zxid));
        }
    }

    /// Deletes the listed znodes, and then whatever the session still owns: logs up to 3.5 have no list.
    fn close(&mut self, transaction: &Transaction, listed: &[String]) {
        let (session, zxid) = (transaction.session, transaction.zxid);
        for path in listed {
            self.delete(path, zxid);
        }
        for path in self.ephemerals.remove(&session).unwrap_or_default() {
            self.delete(&path, zxid);
        }
        self.sessions.remove(&session);
    }

    fn remove(&mut self, path: &str) {
        let Some(znode) = self.znodes.remove(path) else {
            return;
        };
        self.sum.remove(path, znode.content, &znode.stat);
        if let Some(paths) = self.ephemerals.get_mut(&znode.stat.ephemeral_owner) {
            paths.remove(path);
        }
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut TreeZnode)) {
        let sum = &mut self.sum;
        self.znodes.update(path, |znode| {
            sum.remove(path, znode.content, &znode.stat);
            change(znode);
            sum.add(path, znode.content, &znode.stat);
        });
    }

    fn is_session(&self, owner: i64) -> bool {
        let is_known = |session| self.sessions.contains(&session);
        Lifetime::of_owner(owner, is_known) == Lifetime::Ephemeral
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn create(zxid: i64, path: &str, lifetime: Lifetime, parent_cversion: i32) -> Transaction {
        let operation = Operation::Create {
            path: path.to_owned(),
            data: Some(b"1".to_vec()),
            acl: vec![testing::anyone()],
            lifetime,
            parent_cversion,
        };
        testing::transaction(zxid, operation, None)
    }

    fn delete(zxid: i64, path: &str) -> Transaction {
        let path = path.to_owned();
        testing::transaction(zxid, Operation::Delete { path }, None)
    }

    fn cversion_and_pzxid(tree: &Tree, path: &str) -> (i32, i64) {
        let stat = tree.get(path).expect("the znode exists").stat;
        (stat.cversion, stat.pzxid)
    }

    #[test]
    fn a_replay_over_a_snapshot_that_already_has_the_changes_ends_with_the_same_tree() {
        let history = [
            create(1, "/a", Lifetime::Persistent, 1),
            create(2, "/a/b", Lifetime::Ephemeral, 1),
            create(3, "/a/c", Lifetime::Container, 2),
            delete(4, "/a/b"),
            create(5, "/a/b", Lifetime::Persistent, 3),
            delete(6, "/a/c"),
        ];
        let mut whole = Tree::of_new_server();
        history.iter().for_each(|transaction| whole.apply(transaction));
        assert_eq!(cversion_and_pzxid(&whole, "/a"), (3, 6));
        assert_eq!(cversion_and_pzxid(&whole, ""), (1, 1));
        // Written after the fifth, and replayed from the third on, as over a snapshot that took long.
        let mut fuzzy = Tree::of_new_server();
        history[..5]
            .iter()
            .for_each(|transaction| fuzzy.apply(transaction));
        history[2..]
            .iter()
            .for_each(|transaction| fuzzy.apply(transaction));
        assert_eq!(fuzzy.znodes.len(), whole.znodes.len());
        assert_eq!(cversion_and_pzxid(&fuzzy, "/a"), (3, 6));
    }

    #[test]
    fn the_end_of_a_session_deletes_what_is_listed_and_what_the_session_owns() {
        for paths in [None, Some(vec!["/a".to_owned()]), Some(Vec::new())] {
            let mut tree = Tree::of_new_server();
            let before = tree.digest();
            tree.apply(&create(1, "/a", Lifetime::Ephemeral, 1));
            tree.apply(&create(2, "/b", Lifetime::Ephemeral, 2));
            tree.apply(&create(3, "/c", Lifetime::Ttl { ms: 9 }, 3));
            tree.apply(&testing::transaction(4, Operation::CloseSession { paths }, None));
            assert!(tree.get("/a").is_none() && tree.get("/b").is_none() && tree.get("/c").is_some());
            assert_eq!(cversion_and_pzxid(&tree, "/"), (3, 4));
            assert_ne!(tree.digest(), before);
        }
    }

    #[test]
    fn an_owner_that_looks_like_a_ttl_is_a_session_if_the_snapshot_lists_it() {
        let session = Lifetime::Ttl { ms: 5 }.owner(0);
        let stat = PersistedStat {
            ephemeral_owner: session,
            ..PersistedStat::default()
        };
        let end = Transaction {
            session,
            ..testing::transaction(9, Operation::CloseSession { paths: None }, None)
        };
        let mut tree = Tree::of_new_server();
        tree.insert("/ttl", None, stat);
        tree.apply(&end);
        assert!(tree.get("/ttl").is_some());
        tree.insert_session(session);
        tree.insert("/owned", None, stat);
        tree.apply(&end);
        assert!(tree.get("/owned").is_none());
    }

    #[test]
    fn the_root_has_two_names_and_one_znode() {
        let mut tree = Tree::of_new_server();
        let set = |path: &str| Operation::SetData {
            path: path.to_owned(),
            data: Some(b"x".to_vec()),
            version: 1,
        };
        tree.apply(&testing::transaction(1, set("/"), None));
        let digest = tree.digest();
        let mut other = Tree::of_new_server();
        other.apply(&testing::transaction(1, set(""), None));
        assert_eq!((other.digest(), other.len()), (digest, 4));
    }
}
