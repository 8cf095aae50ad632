//! The tree of one server: transactions in, events out, with ZooKeeper's rules for Stats.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge_core::capture::EventKind;
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::Stat;

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Creates a znode; ephemeral with an owner.
    Create {
        /// Which.
        path: ZnodePath,
        /// Its data.
        data: Arc<[u8]>,
        /// The session that it belongs to, or none.
        owner: SessionId,
    },
    /// Writes a znode's data.
    Set(ZnodePath, Arc<[u8]>),
    /// Deletes a znode.
    Delete(ZnodePath),
    /// Changes the access control list: whether the bridge may read it.
    SetAcl(ZnodePath, bool),
}

/// A committed transaction. Without operations it is one that changes nothing: a failed request or a session's begin.
#[derive(Clone, Debug)]
pub struct Txn {
    /// Its zxid.
    pub zxid: Zxid,
    /// ZooKeeper's time.
    pub time: i64,
    /// All of it or nothing.
    pub ops: Vec<Op>,
}

/// A znode on a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Znode {
    /// Its Stat.
    pub stat: Stat,
    /// Its data.
    pub data: Arc<[u8]>,
    /// Whether the bridge may read it.
    pub readable: bool,
}

/// The watch events of one operation.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The znode that changed.
    pub path: ZnodePath,
    /// How.
    pub kind: EventKind,
    /// Whether the bridge may read it: of a deleted znode, whether it might.
    pub readable: bool,
}

/// The tree of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    znodes: BTreeMap<ZnodePath, Znode>,
}

impl Default for Tree {
    fn default() -> Tree {
        let slash = Znode {
            stat: Stat::default(),
            data: Arc::from([]),
            readable: true,
        };
        Tree {
            znodes: BTreeMap::from([(ZnodePath::slash(), slash)]),
        }
    }
}

impl Tree {
    /// A znode.
    pub fn get(&self, path: &ZnodePath) -> Option<&Znode> {
        self.znodes.get(path)
    }

    /// All znodes.
    pub fn iter(&self) -> impl Iterator<Item = (&ZnodePath, &Znode)> {
        self.znodes.iter()
    }

    /// The znodes at and below a path, parents first.
    pub fn covered<'a>(&'a self, top: &'a ZnodePath) -> impl Iterator<Item = (&'a ZnodePath, &'a Znode)> {
        self.znodes.iter().filter(move |(path, _)| top.covers(path))
    }

    /// The names of a znode's children, in an order that means nothing, as of a hash set.
    pub fn children(&self, parent: &ZnodePath) -> Vec<Box<str>> {
        let below = self.znodes.range(parent.clone()..).skip(1);
        let mut names: Vec<Box<str>> = below
            .take_while(|(path, _)| parent.covers(path) || path.as_str() < &*format!("{parent}/"))
            .filter(|(path, _)| path.parent_str() == Some(parent.as_str()))
            .map(|(path, _)| path.name().into())
            .collect();
        names.reverse();
        names
    }

    /// Whether a transaction of these operations would be committed.
    pub fn allows(&self, ops: &[Op]) -> bool {
        let mut trial = self.clone();
        ops.iter().all(|op| trial.apply_op(op, Zxid::ZERO, 0).is_some())
    }

    /// Applies a committed transaction.
    ///
    /// # Panics
    ///
    /// When it was never allowed: the ensemble commits only what is.
    pub fn apply(&mut self, txn: &Txn) -> Vec<Fired> {
        let mut fired = Vec::new();
        for op in &txn.ops {
            let events = self.apply_op(op, txn.zxid, txn.time);
            fired.extend(events.expect("only what the tree allows is committed"));
        }
        fired
    }

    fn apply_op(&mut self, op: &Op, zxid: Zxid, time: i64) -> Option<Option<Fired>> {
        match op {
            Op::Create { path, data, owner } => self.create(path, data, *owner, zxid, time).map(Some),
            Op::Set(path, data) => self.set(path, data, zxid, time).map(Some),
            Op::Delete(path) => self.delete(path, zxid).map(Some),
            Op::SetAcl(path, readable) => {
                let znode = self.znodes.get_mut(path)?;
                znode.stat.aversion += 1;
                znode.readable = *readable;
                Some(None)
            }
        }
    }

    fn create(
        &mut self,
        path: &ZnodePath,
        data: &Arc<[u8]>,
        owner: SessionId,
        zxid: Zxid,
        time: i64,
    ) -> Option<Fired> {
        let parent = path.parent()?;
        if self.znodes.contains_key(path) || self.znodes.get(&parent)?.stat.is_ephemeral() {
            return None;
        }
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner,
            data_length: i32::try_from(data.len()).unwrap_or(i32::MAX),
            ..Stat::default()
        };
        let znode = Znode {
            stat,
            data: Arc::clone(data),
            readable: true,
        };
        self.znodes.insert(path.clone(), znode);
        self.touch_parent(&parent, zxid, 1);
        Some(fired(path, EventKind::Created, true))
    }

    fn set(&mut self, path: &ZnodePath, data: &Arc<[u8]>, zxid: Zxid, time: i64) -> Option<Fired> {
        let znode = self.znodes.get_mut(path)?;
        znode.stat.mzxid = zxid;
        znode.stat.mtime = time;
        znode.stat.version += 1;
        znode.stat.data_length = i32::try_from(data.len()).unwrap_or(i32::MAX);
        znode.data = Arc::clone(data);
        Some(fired(path, EventKind::Changed, znode.readable))
    }

    fn delete(&mut self, path: &ZnodePath, zxid: Zxid) -> Option<Fired> {
        let znode = self.znodes.get(path)?;
        if znode.stat.num_children > 0 || path.is_slash() {
            return None;
        }
        let readable = znode.readable;
        self.znodes.remove(path);
        self.touch_parent(&path.parent()?, zxid, -1);
        Some(fired(path, EventKind::Deleted, readable))
    }

    fn touch_parent(&mut self, parent: &ZnodePath, zxid: Zxid, children: i32) {
        if let Some(parent) = self.znodes.get_mut(parent) {
            parent.stat.pzxid = parent.stat.pzxid.max(zxid);
            parent.stat.cversion += 1;
            parent.stat.num_children += children;
        }
    }
}

fn fired(path: &ZnodePath, kind: EventKind, readable: bool) -> Fired {
    Fired {
        path: path.clone(),
        kind,
        readable,
    }
}
