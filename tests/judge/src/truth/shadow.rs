//! The tree that the transactions build, with every number that the server's digest covers. An equal digest proves that
//! every transaction so far was read and applied as the server did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checksum::Crc;
use super::log::{Access, CONTAINER, Change, TTL, Transaction};

/// A znode with all that a server stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// The checksum of path and data.
    text: Crc,
    pub data: Arc<[u8]>,
    pub acl: Arc<[Access]>,
    pub czxid: u64,
    pub mzxid: u64,
    pub pzxid: u64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Creates of children; a client reads another number.
    pub cversion: i32,
    pub aversion: i32,
    /// The session, or the mark of a container or a TTL.
    pub owner: u64,
    /// How many children it has.
    pub children: i32,
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
        // The data are in it; neither the list nor the number of children is covered.
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
        let first = [
            ("", 1),
            ("/zookeeper", 2),
            ("/zookeeper/quota", 0),
            ("/zookeeper/config", 0),
        ];
        for (path, children) in first {
            let znode = Znode {
                text: Crc::new().with(path.as_bytes()),
                data: Arc::default(),
                acl: Arc::default(),
                children,
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
    /// A znode, by its path as clients name it.
    pub fn znode(&self, path: &str) -> Option<&Znode> {
        self.znodes.get(key(path))
    }

    /// All znodes but `/`, in the order of their paths.
    pub fn znodes(&self) -> impl Iterator<Item = (&String, &Znode)> {
        self.znodes.iter().filter(|(path, _)| !path.is_empty())
    }

    /// The ephemeral znodes of a session, in the order of their paths.
    pub fn owned_by(&self, session: u64) -> Vec<String> {
        self.ephemerals
            .get(&session)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

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
                acl,
                owner,
                parent_cversion,
                ..
            } => self.create(transaction, path, (data, acl), *owner, *parent_cversion),
            Change::Delete { path } => self.delete(zxid, path),
            Change::Set { path, data, version } => {
                let path = key(path);
                self.change(path, |znode| {
                    znode.text = Crc::new().with(path.as_bytes()).with(data);
                    znode.data = data.as_slice().into();
                    (znode.mzxid, znode.mtime, znode.version) = (zxid, time, *version);
                });
            }
            Change::SetAcl {
                path, acl, version, ..
            } => self.change(key(path), |znode| {
                znode.acl = acl.as_slice().into();
                znode.aversion = *version;
            }),
            Change::Check => {}
            Change::Close { .. } => {
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
        (data, acl): (&[u8], &[Access]),
        owner: u64,
        parent_cversion: i32,
    ) {
        let (zxid, time) = (transaction.zxid, transaction.time_ms);
        if self.znodes.contains_key(path) {
            return;
        }
        self.change(parent(path), |above| {
            above.children += 1;
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
            data: data.into(),
            acl: acl.into(),
            children: 0,
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
        self.change(parent(path), |above| {
            above.children -= 1;
            above.pzxid = above.pzxid.max(zxid);
        });
    }
}

/// Whether the owner is a session and not a mark.
pub fn is_session(owner: u64) -> bool {
    owner != 0 && owner != CONTAINER && owner & TTL != TTL
}
