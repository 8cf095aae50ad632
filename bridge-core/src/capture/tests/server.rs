//! A model of a ZooKeeper server with one client connection: zxids, one event for each operation of a transaction,
//! events before the replies that reflect them, atomic MultiReads.

use std::collections::{BTreeMap, VecDeque};

use crate::capture::{Event, EventKind, Outcome, ReadRequest, Ticket};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::Stat;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(ZnodePath),
    Set(ZnodePath, Vec<u8>),
    Delete(ZnodePath),
    SetAcl(ZnodePath),
}

#[derive(Clone, Debug)]
pub(super) struct Znode {
    pub(super) stat: Stat,
    pub(super) data: Vec<u8>,
}

/// One message on its way from the server to the machine.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Event(Event),
    Answer(Ticket, Vec<Outcome>),
    Armed,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) tree: BTreeMap<ZnodePath, Znode>,
    pub(super) zxid: u64,
    /// The tree's paths after each transaction that changed them.
    pub(super) history: BTreeMap<Zxid, Vec<ZnodePath>>,
    /// Every version that there ever was: (path, czxid, mzxid) → data.
    pub(super) versions: BTreeMap<(ZnodePath, Zxid, Zxid), Vec<u8>>,
    pub(super) sends_zxids: bool,
    is_armed: bool,
    pub(super) wire: VecDeque<Packet>,
    requests: VecDeque<(Ticket, Vec<ReadRequest>)>,
}

impl Server {
    pub(super) fn new(sends_zxids: bool) -> Server {
        let slash = Znode {
            stat: Stat::default(),
            data: Vec::new(),
        };
        Server {
            tree: BTreeMap::from([(ZnodePath::slash(), slash)]),
            zxid: 0,
            history: BTreeMap::new(),
            versions: BTreeMap::new(),
            sends_zxids,
            is_armed: false,
            wire: VecDeque::new(),
            requests: VecDeque::new(),
        }
    }

    /// One transaction: all of it or nothing. `true` if it was committed.
    pub(super) fn commit(&mut self, writes: &[Write]) -> bool {
        let (tree, versions) = (self.tree.clone(), self.versions.clone());
        let zxid = Zxid(self.zxid + 1);
        let mut events = Vec::new();
        for write in writes {
            let Some(event) = self.apply(write, zxid) else {
                (self.tree, self.versions) = (tree, versions);
                return false;
            };
            events.extend(event);
        }
        self.zxid += 1;
        self.history.insert(zxid, self.tree.keys().cloned().collect());
        if self.is_armed {
            self.wire.extend(events.into_iter().map(Packet::Event));
        }
        true
    }

    fn apply(&mut self, write: &Write, zxid: Zxid) -> Option<Option<Event>> {
        let event = |path: &ZnodePath, kind| {
            let zxid = self.sends_zxids.then_some(zxid);
            Some(Event {
                path: path.clone(),
                kind,
                zxid,
            })
        };
        let time = 1_000 + zxid.0 as i64;
        match write {
            Write::Create(path) => {
                let told = event(path, EventKind::Created);
                let parent = path.parent()?;
                if self.tree.contains_key(path) || !self.tree.contains_key(&parent) {
                    return None;
                }
                let stat = Stat {
                    czxid: zxid,
                    mzxid: zxid,
                    pzxid: zxid,
                    ctime: time,
                    mtime: time,
                    ..Stat::default()
                };
                self.tree.insert(
                    path.clone(),
                    Znode {
                        stat,
                        data: Vec::new(),
                    },
                );
                self.versions.insert((path.clone(), zxid, zxid), Vec::new());
                self.touch_parent(&parent, zxid, 1);
                Some(told)
            }
            Write::Set(path, data) => {
                let told = event(path, EventKind::Changed);
                let znode = self.tree.get_mut(path)?;
                znode.stat.mzxid = zxid;
                znode.stat.mtime = time;
                znode.stat.version += 1;
                znode.stat.data_length = data.len() as i32;
                znode.data = data.clone();
                self.versions
                    .insert((path.clone(), znode.stat.czxid, zxid), data.clone());
                Some(told)
            }
            Write::Delete(path) => {
                let told = event(path, EventKind::Deleted);
                let znode = self.tree.get(path)?;
                if znode.stat.num_children > 0 || path.is_slash() {
                    return None;
                }
                self.tree.remove(path);
                self.touch_parent(&path.parent()?, zxid, -1);
                Some(told)
            }
            Write::SetAcl(path) => {
                self.tree.get_mut(path)?.stat.aversion += 1;
                Some(None)
            }
        }
    }

    fn touch_parent(&mut self, parent: &ZnodePath, zxid: Zxid, children: i32) {
        if let Some(parent) = self.tree.get_mut(parent) {
            parent.stat.pzxid = zxid;
            parent.stat.cversion += 1;
            parent.stat.num_children += children;
        }
    }

    pub(super) fn arm(&mut self) {
        self.is_armed = true;
        self.wire.push_back(Packet::Armed);
    }

    pub(super) fn lose_watches(&mut self) {
        self.is_armed = false;
    }

    pub(super) fn request(&mut self, ticket: Ticket, reads: Vec<ReadRequest>) {
        self.requests.push_back((ticket, reads));
    }

    /// The server works on the oldest request. `false` if there is none.
    pub(super) fn serve(&mut self) -> bool {
        let Some((ticket, reads)) = self.requests.pop_front() else {
            return false;
        };
        let outcomes = reads.iter().map(|read| self.read(read)).collect();
        self.wire.push_back(Packet::Answer(ticket, outcomes));
        true
    }

    fn read(&self, read: &ReadRequest) -> Outcome {
        let Some(znode) = self.tree.get(&read.path) else {
            return Outcome::Missing;
        };
        let names = self
            .tree
            .keys()
            .filter(|path| path.parent_str() == Some(read.path.as_str()));
        // A server lists names in the order of a hash set.
        let children = read
            .children
            .then(|| names.rev().map(|path| path.name().into()).collect());
        Outcome::Found {
            stat: znode.stat,
            data: znode.data.clone().into(),
            children,
        }
    }

    pub(super) fn cut(&mut self) {
        self.is_armed = false;
        self.wire.clear();
        self.requests.clear();
    }
}
