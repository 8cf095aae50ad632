//! The tree that the transactions build, with every number that the server's digest covers. An equal digest proves that
//! every transaction so far was read and applied as the server did.

use std::collections::{BTreeMap, BTreeSet};

use super::checksum::Crc;
use super::log::{CONTAINER, Change, TTL, Transaction};

#[derive(Clone, Copy, Debug)]
struct Znode {
    /// The checksum of path and data, which are not needed otherwise.
    text: Crc,
    czxid: u64,
    mzxid: u64,
    pzxid: u64,
    ctime: i64,
    mtime: i64,
    version: i32,
    cversion: i32,
    aversion: i32,
    owner: u64,
}

/// All znodes, and the sum over them.
#[derive(Clone, Debug)]
pub struct Shadow {
    znodes: BTreeMap<String, Znode>,
    ephemerals: BTreeMap<u64, BTreeSet<String>>,
    digest: u64,
}

/// The name of `/` in the server.
fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

impl Znode {
    fn digest(&self, path: &str) -> u64 {
        // Each server has its own quota znodes and the like.
        if path.starts_with("/zookeeper/") {
            return 0;
        }
        let mut crc = self.text;
        for number in [self.czxid, self.mzxid, self.pzxid] {
            crc = crc.with(&number.to_be_bytes());
        }
        for time in [self.ctime, self.mtime] {
            crc = crc.with(&time.to_be_bytes());
        }
        for number in [self.version, self.cversion, self.aversion] {
            crc = crc.with(&number.to_be_bytes());
        }
        u64::from(crc.with(&self.owner.to_be_bytes()).sum())
    }
}

impl Default for Shadow {
    /// The tree of a new server.
    fn default() -> Self {
        let mut shadow = Shadow {
            znodes: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
            digest: 0,
        };
        for path in ["", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            let znode = Znode {
                text: Crc::new().with(path.as_bytes()),
                czxid: 0,
                mzxid: 0,
                pzxid: 0,
                ctime: 0,
                mtime: 0,
                version: 0,
                cversion: 0,
                aversion: 0,
                owner: 0,
            };
            shadow.insert(path, znode);
        }
        shadow
    }
}

impl Shadow {
    /// The digest, as the server computes it.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn insert(&mut self, path: &str, znode: Znode) {
        self.digest = self.digest.wrapping_add(znode.digest(path));
        self.znodes.insert(path.to_owned(), znode);
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut Znode)) {
        if let Some(znode) = self.znodes.get_mut(path) {
            self.digest = self.digest.wrapping_sub(znode.digest(path));
            change(znode);
            self.digest = self.digest.wrapping_add(znode.digest(path));
        }
    }

    /// Applies one transaction.
    pub fn apply(&mut self, transaction: &Transaction) {
        for change in &transaction.changes {
            self.apply_one(transaction, change);
        }
    }

    fn apply_one(&mut self, transaction: &Transaction, change: &Change) {
        let (zxid, time) = (transaction.zxid, transaction.time_ms);
        match change {
            Change::Create {
                path,
                data,
                owner,
                parent_cversion,
                ..
            } => self.create(transaction, path, data, *owner, *parent_cversion),
            Change::Delete { path } => self.delete(zxid, path),
            Change::Set { path, data, version } => {
                let path = key(path);
                self.change(path, |znode| {
                    znode.text = Crc::new().with(path.as_bytes()).with(data);
                    (znode.mzxid, znode.mtime, znode.version) = (zxid, time, *version);
                });
            }
            Change::SetAcl { path, version, .. } => self.change(key(path), |znode| znode.aversion = *version),
            Change::Close => {
                for path in self.ephemerals.remove(&transaction.session).unwrap_or_default() {
                    self.delete(zxid, &path);
                }
            }
        }
    }

    fn create(
        &mut self,
        transaction: &Transaction,
        path: &str,
        data: &[u8],
        owner: u64,
        parent_cversion: i32,
    ) {
        let (zxid, time) = (transaction.zxid, transaction.time_ms);
        if self.znodes.contains_key(path) {
            return;
        }
        self.change(parent(path), |above| {
            let cversion = match parent_cversion {
                -1 => above.cversion + 1,
                cversion => cversion,
            };
            if cversion > above.cversion {
                (above.cversion, above.pzxid) = (cversion, zxid);
            }
        });
        if is_session(owner) {
            self.ephemerals.entry(owner).or_default().insert(path.to_owned());
        }
        let znode = Znode {
            text: Crc::new().with(path.as_bytes()).with(data),
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            cversion: 0,
            aversion: 0,
            owner,
        };
        self.insert(path, znode);
    }

    fn delete(&mut self, zxid: u64, path: &str) {
        let Some(znode) = self.znodes.remove(path) else {
            return;
        };
        self.digest = self.digest.wrapping_sub(znode.digest(path));
        if let Some(paths) = self.ephemerals.get_mut(&znode.owner) {
            paths.remove(path);
        }
        self.change(parent(path), |above| above.pzxid = above.pzxid.max(zxid));
    }
}

/// Whether the owner is a session and not a mark.
pub fn is_session(owner: u64) -> bool {
    owner != 0 && owner != CONTAINER && owner & TTL != TTL
}
