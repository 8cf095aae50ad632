//! The true history, kept apart from the servers and in another shape: every incarnation of every path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;

use super::tree::{Op, Txn};

/// A life of a path, from its create to its delete. Lives inside one transaction were never visible and are none.
#[derive(Clone, Debug)]
pub struct Life {
    /// Of the create.
    pub czxid: Zxid,
    /// Whether it was ephemeral.
    pub is_ephemeral: bool,
    /// The last data that each transaction left, by zxid, with the number of writes until then.
    pub versions: BTreeMap<Zxid, (Arc<[u8]>, i32)>,
    /// Of the delete; `None` while it lives.
    pub gone: Option<Zxid>,
}

/// Every life of every path.
#[derive(Clone, Debug)]
pub struct Truth {
    lives: BTreeMap<ZnodePath, Vec<Life>>,
    /// Where lives ended that had begun in the same transaction.
    invisible: BTreeSet<(ZnodePath, Zxid)>,
}

impl Default for Truth {
    /// The znode above all was always there.
    fn default() -> Truth {
        let slash = Life {
            czxid: Zxid::ZERO,
            is_ephemeral: false,
            versions: BTreeMap::from([(Zxid::ZERO, (Arc::from([]), 0))]),
            gone: None,
        };
        Truth {
            lives: BTreeMap::from([(ZnodePath::slash(), vec![slash])]),
            invisible: BTreeSet::new(),
        }
    }
}

impl Truth {
    /// Takes a committed transaction in.
    pub fn take(&mut self, txn: &Txn) {
        for op in &txn.ops {
            match op {
                Op::Create { path, data, owner } => self.begin(path, data, *owner, txn.zxid),
                Op::Set(path, data) => {
                    if let Some(life) = self.lives.get_mut(path).and_then(|lives| lives.last_mut()) {
                        let version = life.versions.values().next_back().map_or(0, |last| last.1) + 1;
                        life.versions.insert(txn.zxid, (Arc::clone(data), version));
                    }
                }
                Op::Delete(path) => self.end(path, txn.zxid),
                Op::SetAcl(..) => {}
            }
        }
    }

    fn begin(&mut self, path: &ZnodePath, data: &Arc<[u8]>, owner: SessionId, zxid: Zxid) {
        let life = Life {
            czxid: zxid,
            is_ephemeral: owner != SessionId::NONE,
            versions: BTreeMap::from([(zxid, (Arc::clone(data), 0))]),
            gone: None,
        };
        self.lives.entry(path.clone()).or_default().push(life);
    }

    fn end(&mut self, path: &ZnodePath, zxid: Zxid) {
        let Some(lives) = self.lives.get_mut(path) else {
            return;
        };
        if lives.last().is_some_and(|life| life.czxid == zxid) {
            lives.pop();
            self.invisible.insert((path.clone(), zxid));
        } else if let Some(life) = lives.last_mut() {
            life.gone = Some(zxid);
        }
    }

    /// A life by its czxid.
    pub fn life(&self, path: &ZnodePath, czxid: Zxid) -> Option<&Life> {
        self.lives.get(path)?.iter().find(|life| life.czxid == czxid)
    }

    /// All lives of a path, oldest first.
    pub fn lives(&self, path: &ZnodePath) -> &[Life] {
        self.lives.get(path).map_or(&[], Vec::as_slice)
    }

    /// Where lives ended that had begun in the same transaction.
    pub fn invisible_ends<'a>(&'a self, path: &'a ZnodePath) -> impl Iterator<Item = Zxid> + 'a {
        let of_path = self.invisible.range((path.clone(), Zxid::ZERO)..);
        let of_path = of_path.take_while(move |(other, _)| other == path);
        of_path.map(|(_, zxid)| *zxid)
    }

    /// All lives under a root.
    pub fn below<'a>(&'a self, root: &'a ZnodePath) -> impl Iterator<Item = (&'a ZnodePath, &'a Life)> {
        let below = self.lives.iter().filter(move |(path, _)| root.covers(path));
        below.flat_map(|(path, lives)| lives.iter().map(move |life| (path, life)))
    }

    /// The lives under a root that existed right after a transaction.
    pub fn at<'a>(
        &'a self,
        root: &'a ZnodePath,
        zxid: Zxid,
    ) -> impl Iterator<Item = (&'a ZnodePath, &'a Life)> {
        let is_then = move |life: &&Life| life.czxid <= zxid && life.gone.is_none_or(|gone| gone > zxid);
        self.lives
            .iter()
            .filter(move |(path, _)| root.covers(path))
            .filter_map(move |(path, lives)| Some((path, lives.iter().rev().find(is_then)?)))
    }
}

impl Life {
    /// The last version that was not younger than a zxid.
    pub fn version_at(&self, zxid: Zxid) -> Option<Zxid> {
        self.versions.range(..=zxid).next_back().map(|(mzxid, _)| *mzxid)
    }
}
