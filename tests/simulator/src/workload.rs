//! The writers: seeded transactions of several sessions, from single writes to whole subtrees that are replaced.

use std::sync::Arc;

use bridge_core::number::SessionId;
use bridge_core::path::ZnodePath;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::coverage::{Coverage, Seen};
use crate::ensemble::{Ensemble, Op};
use crate::plan::Plan;

const NAMES: [&str; 6] = ["x", "y", "z", "x-", "ü", "x.y"];

/// Sessions of writers, by number; 0 is none.
const SESSIONS: u64 = 3;

/// The writers.
pub struct Workload {
    random: StdRng,
    names: usize,
    depth: usize,
    with_replacements: bool,
    with_floods: bool,
    sessions: Vec<SessionId>,
    next_session: u64,
    writes: u64,
    /// The path that was written last from below, and may be deleted next.
    withering: Option<ZnodePath>,
}

impl Workload {
    /// As the plan says.
    pub fn new(plan: &Plan, random: StdRng) -> Workload {
        Workload {
            random,
            names: plan.names,
            depth: plan.depth,
            with_replacements: plan.faults.replacements,
            with_floods: plan.faults.floods,
            sessions: (1..=SESSIONS).map(SessionId).collect(),
            next_session: SESSIONS + 1,
            writes: 0,
            withering: None,
        }
    }

    /// One or more transactions.
    pub fn write(&mut self, ensemble: &mut Ensemble, time: i64, seen: &mut Coverage) {
        let ops = match self.random.random_range(0..100) {
            0..49 => vec![self.any_op(ensemble)],
            49..52 => return self.write_line(ensemble, time, seen),
            52..55 => self.wither(ensemble, seen),
            55..70 => {
                let count = self.random.random_range(2..6);
                (0..count).map(|_| self.any_op(ensemble)).collect()
            }
            70..82 => self.recreate_storm(),
            82..86 => return self.end_session(ensemble, time, seen),
            86..90 if self.with_replacements => self.replace(ensemble, seen),
            90..93 if self.with_replacements => self.root(ensemble, seen),
            93..96 if self.with_floods => return self.flood(ensemble, time, seen),
            96 => Vec::new(),
            _ => vec![self.set_of_existing(ensemble)],
        };
        self.commit(ensemble, ops, time, seen);
    }

    /// Makes the first znodes.
    pub fn prepare(&mut self, ensemble: &mut Ensemble, count: usize, time: i64, seen: &mut Coverage) {
        for top in ["/a", "/b", "/b/c", "/d"] {
            if self.random.random_bool(0.8) {
                let op = self.create(path(top));
                self.commit(ensemble, vec![op], time, seen);
            }
        }
        for _ in 0..count {
            let at = self.any_path();
            let op = self.create(at);
            self.commit(ensemble, vec![op], time, seen);
        }
    }

    fn commit(&mut self, ensemble: &mut Ensemble, ops: Vec<Op>, time: i64, seen: &mut Coverage) {
        let (count, recreates) = (ops.len(), recreates(&ops));
        match ensemble.commit(ops, time) {
            None => seen.see(Seen::Hole),
            Some(_) => {
                seen.see(Seen::Committed);
                if count > 1 {
                    seen.see(Seen::Multi);
                }
                if recreates {
                    seen.see(Seen::Recreated);
                }
            }
        }
    }

    fn any_path(&mut self) -> ZnodePath {
        let tops = ["/a", "/a", "/b", "/b/c", "/b/c", "/d"];
        let mut found = path(tops.choose(&mut self.random).unwrap_or(&"/a"));
        while self.random.random_bool(0.65) && found.names().count() < self.depth {
            found = found.child(NAMES[self.random.random_range(0..self.names)]);
        }
        found
    }

    fn data(&mut self) -> Arc<[u8]> {
        self.writes += 1;
        let long = self.random.random_range(0..12);
        format!("{}{}", self.writes, "v".repeat(long)).into_bytes().into()
    }

    fn create(&mut self, path: ZnodePath) -> Op {
        let owner = match self.random.random_bool(0.2) && path.names().count() > 1 {
            true => *self.sessions.choose(&mut self.random).unwrap_or(&SessionId::NONE),
            false => SessionId::NONE,
        };
        let data = self.data();
        Op::Create { path, data, owner }
    }

    fn any_op(&mut self, ensemble: &Ensemble) -> Op {
        let path = self.any_path();
        match (self.random.random_range(0..10), ensemble.head().get(&path)) {
            (_, None) => self.create(path),
            (0..6, _) => Op::Set(path, self.data()),
            (6..9, _) => Op::Delete(path),
            (_, Some(znode)) => Op::SetAcl(path, znode.readable),
        }
    }

    fn set_of_existing(&mut self, ensemble: &Ensemble) -> Op {
        let paths: Vec<&ZnodePath> = ensemble.head().iter().map(|(path, _)| path).collect();
        let path = (*paths.choose(&mut self.random).expect("the root of all is there")).clone();
        Op::Set(path, self.data())
    }

    /// Some of: create, write, delete, create, write, write, of one znode and at once.
    fn recreate_storm(&mut self) -> Vec<Op> {
        let path = self.any_path();
        let storm = [
            self.create(path.clone()),
            Op::Set(path.clone(), self.data()),
            Op::Delete(path.clone()),
            self.create(path.clone()),
            Op::Set(path.clone(), self.data()),
            Op::Set(path, self.data()),
        ];
        let from = self.random.random_range(0..storm.len());
        let upto = self.random.random_range(from..storm.len()) + 1;
        storm[from..upto].to_vec()
    }

    fn end_session(&mut self, ensemble: &mut Ensemble, time: i64, seen: &mut Coverage) {
        let at = self.random.random_range(0..self.sessions.len());
        let session = std::mem::replace(&mut self.sessions[at], SessionId(self.next_session));
        self.next_session += 1;
        let died = ensemble.close_session(session, time, &mut self.random);
        if died > 0 {
            seen.see(Seen::EphemeralsDied);
        }
        // The begin of the next one is a transaction as well.
        ensemble.commit(Vec::new(), time);
    }

    /// A subtree goes and comes again at once, with other znodes below it.
    fn replace(&mut self, ensemble: &Ensemble, seen: &mut Coverage) -> Vec<Op> {
        let top = self.any_path();
        let mut ops = deletes_of(ensemble, &top);
        if ops.is_empty() {
            return ops;
        }
        seen.see(Seen::Replaced);
        ops.push(self.persistent(top.clone()));
        for _ in 0..self.random.random_range(0..4) {
            let child = top.child(NAMES[self.random.random_range(0..self.names)]);
            let is_new = !ops
                .iter()
                .any(|op| matches!(op, Op::Create { path, .. } if *path == child));
            if is_new && child.names().count() <= self.depth {
                ops.push(self.create(child));
            }
        }
        ops
    }

    /// A znode is written, and then the one above it, and something begins elsewhere: what is above them has no part in
    /// it, and what comes next may be the end of both.
    fn write_line(&mut self, ensemble: &mut Ensemble, time: i64, seen: &mut Coverage) {
        let Op::Set(low, _) = self.set_of_existing(ensemble) else {
            return;
        };
        if low.names().count() == 0 {
            return;
        }
        let above = low.parent().filter(|above| above.names().count() > 1);
        self.withering = Some(above.clone().unwrap_or_else(|| low.clone()));
        for path in std::iter::once(low).chain(above) {
            let write = Op::Set(path, self.data());
            self.commit(ensemble, vec![write], time, seen);
        }
        let elsewhere = self.any_path();
        let begin = self.create(elsewhere);
        self.commit(ensemble, vec![begin], time, seen);
    }

    /// It ends with all below it, and does not come again.
    fn wither(&mut self, ensemble: &Ensemble, seen: &mut Coverage) -> Vec<Op> {
        let Some(top) = self.withering.take() else {
            return vec![self.any_op(ensemble)];
        };
        seen.see(Seen::Withered);
        deletes_of(ensemble, &top)
    }

    fn root(&mut self, ensemble: &Ensemble, seen: &mut Coverage) -> Vec<Op> {
        let top = path(["/a", "/b/c", "/d"].choose(&mut self.random).unwrap_or(&"/a"));
        if ensemble.head().get(&top).is_none() {
            seen.see(Seen::RootRecreated);
            return vec![self.persistent(top)];
        }
        seen.see(Seen::RootDeleted);
        deletes_of(ensemble, &top)
    }

    fn persistent(&mut self, path: ZnodePath) -> Op {
        let owner = SessionId::NONE;
        let data = self.data();
        Op::Create { path, data, owner }
    }

    fn flood(&mut self, ensemble: &mut Ensemble, time: i64, seen: &mut Coverage) {
        let Op::Set(path, _) = self.set_of_existing(ensemble) else {
            return;
        };
        seen.see(Seen::Flood);
        for _ in 0..self.random.random_range(20..200) {
            let op = Op::Set(path.clone(), self.data());
            self.commit(ensemble, vec![op], time, seen);
        }
    }
}

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).expect("it is one")
}

/// Deletes of a subtree, children first.
fn deletes_of(ensemble: &Ensemble, top: &ZnodePath) -> Vec<Op> {
    let mut paths: Vec<&ZnodePath> = ensemble.head().covered(top).map(|(path, _)| path).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.names().count()));
    paths.into_iter().map(|path| Op::Delete(path.clone())).collect()
}

fn recreates(ops: &[Op]) -> bool {
    let is_created = |gone: &ZnodePath| {
        ops.iter()
            .any(|op| matches!(op, Op::Create { path, .. } if path == gone))
    };
    ops.iter()
        .any(|op| matches!(op, Op::Delete(path) if is_created(path)))
}
