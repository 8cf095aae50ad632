//! A model of a ZooKeeper ensemble, faithful where it matters to a bridge: one log, several servers that have applied
//! it up to different places, zxids with the epoch in their upper half and holes, watches that belong to a connection,
//! one event for each operation, events before the replies that reflect them, atomic MultiReads, `sync`.
//!
//! Elections are instantaneous: a server that has lost the leader answers nobody until it knows the new one. All
//! effects that a client can see are there: closed connections, a new epoch, and a deposed leader that answers for a
//! while.

mod tree;
mod truth;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge_core::capture::{AclOutcome, Event, Outcome, ReadRequest};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Stat};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub use tree::{Fired, Op, Tree, Txn, Znode};
pub use truth::{Life, Truth};
pub use wire::{Packet, Reply, Request, Wire};

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Entries of the log that it has applied.
    pub applied: usize,
    /// Its tree.
    pub tree: Tree,
    /// Whether it runs.
    pub is_up: bool,
    /// Cut off from the leader, and not aware of it: it applies nothing and answers `sync` at once.
    pub is_isolated: bool,
}

/// The behaviour of the servers that depends on their version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// From 3.9 on events carry the zxid of their transaction.
    pub sends_zxids: bool,
    /// From 3.8.4 and 3.9.2 on nobody hears of a znode that it may not read.
    pub filters_events: bool,
}

/// The servers, what they have committed, and what really happened.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// All servers.
    pub servers: Vec<Server>,
    /// Their version.
    pub release: Release,
    /// The true history.
    pub truth: Truth,
    /// The true history before each time that the ensemble was set back.
    pub past: Vec<Truth>,
    log: Vec<Txn>,
    /// Of the committed tree.
    head: Tree,
    epoch: u64,
    counter: u64,
}

impl Ensemble {
    /// So many servers with an empty tree.
    pub fn new(servers: usize, release: Release) -> Ensemble {
        let server = Server {
            applied: 0,
            tree: Tree::default(),
            is_up: true,
            is_isolated: false,
        };
        Ensemble {
            servers: vec![server; servers],
            release,
            truth: Truth::default(),
            past: Vec::new(),
            log: Vec::new(),
            head: Tree::default(),
            epoch: 1,
            counter: 0,
        }
    }

    /// The committed tree.
    pub fn head(&self) -> &Tree {
        &self.head
    }

    /// Entries of the log.
    pub fn log_len(&self) -> usize {
        self.log.len()
    }

    /// The transactions after a place in the log.
    pub fn log_behind(&self, entries: usize) -> &[Txn] {
        self.log.get(entries..).unwrap_or_default()
    }

    /// The zxid of the last transaction that was committed.
    pub fn newest(&self) -> Zxid {
        self.log.last().map_or(Zxid::ZERO, |last| last.zxid)
    }

    /// The zxid of the last transaction that a server has applied.
    pub fn zxid_of(&self, server: usize) -> Zxid {
        let applied = self.servers[server].applied;
        applied
            .checked_sub(1)
            .map_or(Zxid::ZERO, |last| self.log[last].zxid)
    }

    /// Commits a transaction: all of it or nothing. A failed one leaves a hole in the zxids.
    pub fn commit(&mut self, ops: Vec<Op>, time: i64) -> Option<Zxid> {
        self.counter += 1;
        let is_allowed = !ops.is_empty() && self.head.allows(&ops);
        let ops = if is_allowed { ops } else { Vec::new() };
        let zxid = Zxid(self.epoch << 32 | self.counter);
        let txn = Txn { zxid, time, ops };
        self.head.apply(&txn);
        self.truth.take(&txn);
        self.log.push(txn);
        is_allowed.then_some(zxid)
    }

    /// A session ends: its ephemerals die in one transaction, in the order of a hash set.
    pub fn close_session(&mut self, session: SessionId, time: i64, random: &mut StdRng) -> usize {
        let is_of = |znode: &Znode| znode.stat.ephemeral_owner == session;
        let owned = self.head.iter().filter(|(_, znode)| is_of(znode));
        let mut ops: Vec<Op> = owned.map(|(path, _)| Op::Delete(path.clone())).collect();
        ops.shuffle(random);
        let count = ops.len();
        self.commit(ops, time);
        count
    }

    /// A server applies the next transaction; its watch events are sent on `wire`.
    pub fn replicate(&mut self, server: usize, wire: Option<&mut Wire>) -> bool {
        let state = &mut self.servers[server];
        if !state.is_up || state.is_isolated || state.applied == self.log.len() {
            return false;
        }
        let txn = &self.log[state.applied];
        state.applied += 1;
        let fired = state.tree.apply(txn);
        let Some(wire) = wire.filter(|wire| wire.server == server) else {
            return true;
        };
        for one in fired {
            let is_watched = wire.watches.iter().any(|root| root.covers(&one.path));
            if is_watched && (one.readable || !self.release.filters_events) {
                let zxid = self.release.sends_zxids.then_some(txn.zxid);
                let (path, kind) = (one.path, one.kind);
                wire.packets.push_back(Packet::Event(Event { path, kind, zxid }));
            }
        }
        true
    }

    /// A server works on the oldest request of a connection. `false`: there is none, or it has to wait.
    pub fn serve(&mut self, wire: &mut Wire) -> bool {
        let server = &self.servers[wire.server];
        if wire.is_half_open || !server.is_up {
            return false;
        }
        let reply = match wire.requests.front_mut() {
            None => return false,
            Some(Request::AddWatch(root)) => {
                wire.watches.push(root.clone());
                Reply::Watching
            }
            Some(Request::Sync { target }) => {
                let known = if server.is_isolated {
                    server.applied
                } else {
                    self.log.len()
                };
                let target = *target.get_or_insert(known);
                if server.applied < target && !server.is_isolated {
                    return false;
                }
                Reply::Synced
            }
            Some(Request::Read(ticket, reads)) => {
                let outcomes = reads.iter().map(|one| read(&server.tree, one)).collect();
                Reply::Read(*ticket, outcomes)
            }
            Some(Request::Acls(ticket, paths)) => {
                let outcomes = paths.iter().map(|path| read_acl(&server.tree, path)).collect();
                Reply::Acls(*ticket, outcomes)
            }
        };
        wire.requests.pop_front();
        let zxid = self.zxid_of(wire.server);
        wire.packets.push_back(Packet::Reply(zxid, reply));
        true
    }

    /// A new leader: a new epoch, and every server that takes part has what was committed.
    pub fn elect(&mut self) {
        self.epoch += 1;
        self.counter = 0;
    }

    /// A server starts again, or learns of the leader again: it catches up before it serves anybody.
    pub fn rejoin(&mut self, server: usize) {
        self.servers[server].is_up = true;
        self.servers[server].is_isolated = false;
        while self.replicate(server, None) {}
    }

    /// Every server is set back to a copy of the past. `keeps_epoch`: as when only logs and snapshots were copied.
    pub fn restore(&mut self, entries: usize, keeps_epoch: bool) {
        self.past.push(self.truth.clone());
        self.log.truncate(entries);
        self.truth = Truth::default();
        self.head = Tree::default();
        for txn in &self.log {
            self.truth.take(txn);
            self.head.apply(txn);
        }
        for server in &mut self.servers {
            *server = Server {
                applied: entries,
                tree: self.head.clone(),
                is_up: true,
                is_isolated: false,
            };
        }
        if !keeps_epoch {
            self.epoch = self.log.last().map_or(1, |last| last.zxid.0 >> 32);
        }
        self.elect();
    }

    /// A server that a client reaches: where one is cut off, the client often is on its side.
    pub fn any_reached(&self, random: &mut StdRng) -> Option<usize> {
        let cut_off = self
            .servers
            .iter()
            .position(|server| server.is_isolated && server.is_up);
        if let Some(server) = cut_off.filter(|_| random.random_bool(0.6)) {
            return Some(server);
        }
        let up: Vec<usize> = (0..self.servers.len())
            .filter(|at| self.servers[*at].is_up)
            .collect();
        (!up.is_empty()).then(|| up[random.random_range(0..up.len())])
    }

    /// The tree at rest for a reader with all permissions: path → (czxid, mzxid).
    pub fn readable(&self, roots: &[ZnodePath]) -> BTreeMap<ZnodePath, (Zxid, Zxid)> {
        let covered = |path: &ZnodePath| roots.iter().any(|root| root.covers(path));
        let znodes = self
            .head
            .iter()
            .filter(|(path, znode)| znode.readable && covered(path));
        znodes
            .map(|(path, znode)| (path.clone(), (znode.stat.czxid, znode.stat.mzxid)))
            .collect()
    }

    /// Znodes under the roots that may not be read.
    pub fn unreadable(&self, roots: &[ZnodePath]) -> Vec<ZnodePath> {
        let covered = |path: &ZnodePath| roots.iter().any(|root| root.covers(path));
        let znodes = self
            .head
            .iter()
            .filter(|(path, znode)| !znode.readable && covered(path));
        znodes.map(|(path, _)| path.clone()).collect()
    }

    /// Of the znodes that may not be read, those that a reader can find: all above them may be read.
    pub fn topmost_unreadable(&self, roots: &[ZnodePath]) -> Vec<ZnodePath> {
        let hidden = self.unreadable(roots);
        let is_topmost = |path: &ZnodePath| !hidden.iter().any(|above| above != path && above.covers(path));
        hidden.iter().filter(|path| is_topmost(path)).cloned().collect()
    }

    /// The data of a version in any history that there ever was.
    pub fn data_of(&self, path: &ZnodePath, czxid: Zxid, mzxid: Zxid) -> Vec<Arc<[u8]>> {
        let truths = std::iter::once(&self.truth).chain(&self.past);
        let versions = truths.filter_map(|truth| truth.life(path, czxid)?.versions.get(&mzxid));
        versions.map(|(data, _)| Arc::clone(data)).collect()
    }
}

/// The list that a znode has after each of its changes: no two are alike.
pub fn acl_of(stat: &Stat) -> Vec<Acl> {
    vec![Acl {
        scheme: "world".to_owned(),
        id: format!("{}/{}", stat.czxid, stat.aversion),
        perms: "r".to_owned(),
    }]
}

fn read_acl(tree: &Tree, path: &ZnodePath) -> AclOutcome {
    match tree.get(path) {
        None => AclOutcome::Missing,
        Some(znode) if !znode.readable => AclOutcome::Denied,
        Some(znode) => AclOutcome::Found {
            stat: znode.stat,
            acl: acl_of(&znode.stat),
        },
    }
}

fn read(tree: &Tree, one: &ReadRequest) -> Outcome {
    match tree.get(&one.path) {
        None => Outcome::Missing,
        Some(znode) if !znode.readable => Outcome::Denied,
        Some(znode) => Outcome::Found {
            stat: znode.stat,
            data: Arc::clone(&znode.data),
            children: one.children.then(|| tree.children(&one.path)),
        },
    }
}
