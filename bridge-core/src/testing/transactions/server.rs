//! A naive tree of a server: applies transactions as ZooKeeper's `DataTree` does, with raw Stats, and makes them.
//! Shares no code with the machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::committed::{
    CommittedTxn, NodeOperation, RawStat, StagePage, StageRead, StagedNode, TreeDigestValue, TxnContent,
};
use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Acl, Lifetime, LifetimeKind, Stat};

/// A path that a test writes.
pub fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).expect("a test writes valid paths")
}

/// A list that gives everyone these permissions.
pub fn acl(perms: &str) -> Vec<Acl> {
    vec![Acl {
        scheme: "world".into(),
        id: "anyone".into(),
        perms: perms.into(),
    }]
}

/// A znode of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerNode {
    /// Its data.
    pub data: Arc<[u8]>,
    /// Its access control list.
    pub acl: Vec<Acl>,
    /// How long it lasts.
    pub lifetime: Lifetime,
    /// Its Stat as stored.
    pub raw: RawStat,
}

/// All znodes.
#[derive(Clone, Debug)]
pub struct ServerTree {
    /// By path.
    pub nodes: BTreeMap<ZnodePath, ServerNode>,
}

impl Default for ServerTree {
    fn default() -> ServerTree {
        let node = ServerNode {
            data: Arc::from(&[][..]),
            acl: acl("cdrwa"),
            lifetime: Lifetime::PERSISTENT,
            raw: RawStat::default(),
        };
        let nodes = ["/", "/zookeeper"].map(|at| (path(at), node.clone()));
        ServerTree {
            nodes: nodes.into_iter().collect(),
        }
    }
}

/// An operation as a client requests it.
#[derive(Clone, Debug)]
pub enum ClientOperation {
    /// A path, data, and how long it lasts.
    Create(&'static str, &'static str, LifetimeKind),
    /// A path.
    Delete(&'static str),
    /// A path and data.
    Set(&'static str, &'static str),
    /// A path and the permissions of everyone.
    SetAcl(&'static str, &'static str),
    /// Of a version, inside of a multi.
    Check,
}

/// The parent of a znode that is not `/`.
fn above(path: &ZnodePath) -> ZnodePath {
    path.parent().expect("no request changes the slash")
}

impl ServerTree {
    fn node(&mut self, path: &ZnodePath) -> &mut ServerNode {
        self.nodes.get_mut(path).expect("the operation is allowed")
    }

    /// The names of the children, sorted.
    pub fn children(&self, above: &ZnodePath) -> Vec<Box<str>> {
        let is_child = |child: &&ZnodePath| child.parent_str() == Some(above.as_str());
        let mut names: Vec<Box<str>> = self
            .nodes
            .keys()
            .filter(is_child)
            .map(|child| child.name().into())
            .collect();
        names.sort();
        names
    }

    /// The Stat that a client reads.
    pub fn stat(&self, at: &ZnodePath) -> Option<Stat> {
        let node = self.nodes.get(at)?;
        let children = i32::try_from(self.children(at).len()).expect("a small tree");
        let raw = node.raw;
        Some(Stat {
            czxid: raw.czxid,
            mzxid: raw.mzxid,
            pzxid: raw.pzxid,
            ctime: raw.ctime,
            mtime: raw.mtime,
            version: raw.version,
            cversion: raw.cversion * 2 - children,
            aversion: raw.aversion,
            ephemeral_owner: match node.lifetime.kind {
                LifetimeKind::Ephemeral => SessionId(raw.owner.cast_unsigned()),
                _ => SessionId::NONE,
            },
            data_length: i32::try_from(node.data.len()).expect("a small value"),
            num_children: children,
        })
    }

    /// Whether a delete or create of a path is allowed.
    pub fn allows(&self, ask: &NodeOperation) -> bool {
        match ask {
            NodeOperation::Create { path, .. } => {
                let parent = path.parent().and_then(|parent| self.nodes.get(&parent).cloned());
                !self.nodes.contains_key(path)
                    && parent.is_some_and(|parent| parent.lifetime.kind != LifetimeKind::Ephemeral)
            }
            NodeOperation::Delete { path, .. } => {
                !path.is_slash() && self.nodes.contains_key(path) && self.children(path).is_empty()
            }
            NodeOperation::SetData { path, .. } | NodeOperation::SetAcl { path, .. } => {
                self.nodes.contains_key(path)
            }
            NodeOperation::Check => true,
        }
    }

    /// The operation that a leader makes of a request, which must be allowed.
    pub fn operation(&self, ask: &ClientOperation) -> NodeOperation {
        match *ask {
            ClientOperation::Create(at, data, kind) => NodeOperation::Create {
                path: path(at),
                data: data.as_bytes().into(),
                acl: acl("cdrwa"),
                lifetime: Lifetime {
                    kind,
                    ttl: (kind == LifetimeKind::Ttl).then_some(5_000),
                },
                parent_cversion: Some(self.nodes[&above(&path(at))].raw.cversion + 1),
            },
            ClientOperation::Delete(at) => NodeOperation::Delete {
                path: path(at),
                is_of_container: false,
            },
            ClientOperation::Set(at, data) => NodeOperation::SetData {
                path: path(at),
                data: data.as_bytes().into(),
                version: self.nodes[&path(at)].raw.version + 1,
            },
            ClientOperation::SetAcl(at, perms) => NodeOperation::SetAcl {
                path: path(at),
                acl: acl(perms),
                version: self.nodes[&path(at)].raw.aversion + 1,
            },
            ClientOperation::Check => NodeOperation::Check,
        }
    }

    /// Applies one operation, which must be allowed.
    pub fn apply_operation(&mut self, txn: &CommittedTxn, operation: &NodeOperation) {
        assert!(self.allows(operation), "{operation:?}");
        match operation {
            NodeOperation::Create {
                path,
                data,
                acl,
                lifetime,
                parent_cversion,
            } => {
                let parent = self.node(&above(path));
                parent.raw.cversion = parent_cversion.unwrap_or(parent.raw.cversion + 1);
                parent.raw.pzxid = txn.zxid;
                let raw = RawStat {
                    czxid: txn.zxid,
                    mzxid: txn.zxid,
                    pzxid: txn.zxid,
                    ctime: txn.time,
                    mtime: txn.time,
                    owner: match lifetime.kind {
                        LifetimeKind::Persistent => 0,
                        LifetimeKind::Ephemeral => txn.session.0.cast_signed(),
                        LifetimeKind::Container => i64::MIN,
                        LifetimeKind::Ttl => {
                            0xff00_0000_0000_0000_u64.cast_signed() | lifetime.ttl.unwrap_or_default()
                        }
                    },
                    ..RawStat::default()
                };
                let node = ServerNode {
                    data: data.clone(),
                    acl: acl.clone(),
                    lifetime: *lifetime,
                    raw,
                };
                self.nodes.insert(path.clone(), node);
            }
            NodeOperation::Delete { path, .. } => {
                self.nodes.remove(path);
                self.node(&above(path)).raw.pzxid = txn.zxid;
            }
            NodeOperation::SetData { path, data, version } => {
                let node = self.node(path);
                node.data = data.clone();
                node.raw.version = *version;
                node.raw.mzxid = txn.zxid;
                node.raw.mtime = txn.time;
            }
            NodeOperation::SetAcl { path, acl, version } => {
                let node = self.node(path);
                node.acl = acl.clone();
                node.raw.aversion = *version;
            }
            NodeOperation::Check => {}
        }
    }

    /// Applies a transaction, all of whose operations must be allowed.
    pub fn apply(&mut self, txn: &CommittedTxn) {
        match &txn.content {
            TxnContent::Nothing => {}
            TxnContent::Single(operation) => self.apply_operation(txn, operation),
            TxnContent::Multi(operations) => {
                for operation in operations {
                    self.apply_operation(txn, operation);
                }
            }
            TxnContent::CloseSession { paths } => {
                for path in paths.iter().flatten() {
                    let operation = NodeOperation::Delete {
                        path: path.clone(),
                        is_of_container: false,
                    };
                    self.apply_operation(txn, &operation);
                }
            }
        }
    }

    /// The digest as a server computes it, with a checksum of its own.
    pub fn digest(&self) -> u64 {
        let covered = self.nodes.iter().filter(|(at, _)| !at.starts_with("/zookeeper/"));
        let terms = covered.map(|(at, node)| {
            let raw = node.raw;
            let mut bytes = if at.is_slash() {
                Vec::new()
            } else {
                at.as_bytes().to_vec()
            };
            bytes.extend_from_slice(&node.data);
            for long in [raw.czxid.0, raw.mzxid.0, raw.pzxid.0] {
                bytes.extend(long.to_be_bytes());
            }
            for time in [raw.ctime, raw.mtime] {
                bytes.extend(time.to_be_bytes());
            }
            for count in [raw.version, raw.cversion, raw.aversion] {
                bytes.extend(count.to_be_bytes());
            }
            bytes.extend(raw.owner.to_be_bytes());
            u64::from(naive_crc(&bytes))
        });
        terms.fold(0, u64::wrapping_add)
    }

    /// The znodes below a path, as a stage sends them.
    pub fn page(&self, read: &StageRead) -> StagePage {
        let below: Vec<(&ZnodePath, &ServerNode)> = self
            .nodes
            .iter()
            .filter(|(at, _)| read.below.covers(at) && read.after.as_ref().is_none_or(|after| *at > after))
            .collect();
        let nodes = below.iter().take(read.nodes).map(|(at, node)| StagedNode {
            path: (*at).clone(),
            raw: node.raw,
            lifetime: node.lifetime,
            data: node.data.clone(),
            acl: Some(node.acl.clone()),
            children: self.children(at),
        });
        let is_there = self.nodes.contains_key(&read.below);
        let mut above = read.below.ancestors().filter_map(|above| self.nodes.get(&above));
        StagePage {
            nodes: nodes.collect(),
            is_last: below.len() <= read.nodes,
            above: above.next().filter(|_| !is_there).map(|node| node.raw.pzxid),
        }
    }
}

/// CRC-32 bit by bit.
fn naive_crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            crc >> 1 ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    let all = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    });
    !all
}

/// A server that commits.
#[derive(Clone, Debug, Default)]
pub struct CommittingServer {
    /// After the whole history.
    pub tree: ServerTree,
    /// All committed transactions.
    pub history: Vec<CommittedTxn>,
    /// Of the leader.
    pub epoch: u32,
    /// Of the last transaction of the epoch.
    pub counter: u32,
}

impl CommittingServer {
    /// The next transaction with some content.
    pub fn txn(&mut self, session: u64, content: TxnContent) -> CommittedTxn {
        self.counter += 1;
        let zxid = Zxid(u64::from(self.epoch) << 32 | u64::from(self.counter));
        let number = u32::try_from(self.history.len()).expect("a short history");
        CommittedTxn {
            zxid,
            session: SessionId(session),
            cxid: i32::try_from(number).expect("a short history") + 1,
            time: 1_000_000 + i64::from(number) * 10,
            content,
            digest: None,
            payload_crc: number.wrapping_mul(2_654_435_761),
        }
    }

    /// Commits a transaction, with the digest of the tree after it.
    pub fn commit(&mut self, mut txn: CommittedTxn) -> CommittedTxn {
        self.tree.apply(&txn);
        let value = self.tree.digest();
        txn.digest = Some(TreeDigestValue { version: 2, value });
        self.history.push(txn.clone());
        txn
    }

    /// Commits one request.
    pub fn one(&mut self, ask: &ClientOperation) -> CommittedTxn {
        let operation = self.tree.operation(ask);
        let txn = self.txn(7, TxnContent::Single(operation));
        self.commit(txn)
    }

    /// Commits several in one transaction.
    pub fn multi(&mut self, asks: &[ClientOperation]) -> CommittedTxn {
        let mut tree = self.tree.clone();
        let mut operations = Vec::new();
        let draft = self.txn(7, TxnContent::Nothing);
        for ask in asks {
            let operation = tree.operation(ask);
            tree.apply_operation(&draft, &operation);
            operations.push(operation);
        }
        self.commit(CommittedTxn {
            content: TxnContent::Multi(operations),
            ..draft
        })
    }

    /// A new leader.
    pub fn elect(&mut self) {
        self.epoch += 1;
        self.counter = 0;
    }

    /// The tree after a transaction.
    pub fn tree_at(&self, zxid: Zxid) -> ServerTree {
        let mut tree = ServerTree::default();
        for txn in self.history.iter().take_while(|txn| txn.zxid <= zxid) {
            tree.apply(txn);
        }
        tree
    }

    /// The last committed transaction.
    pub fn last(&self) -> Zxid {
        self.history.last().map_or(Zxid::ZERO, |txn| txn.zxid)
    }
}
