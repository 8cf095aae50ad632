//! Random registrations of some services, by sessions that end, over gaps.

use std::collections::BTreeMap;

use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use bridge_core::number::{Epoch, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, GapReason, Stat, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const ROOT: &str = "/";

pub fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// One step of the world.
#[derive(Clone, Debug)]
pub enum Step {
    Append(Vec<Append>),
    Tick(Timestamp),
}

/// Registrations of some services by some sessions.
pub struct World {
    random: StdRng,
    zxid: u64,
    now: i64,
    living: BTreeMap<String, Stat>,
    in_gap: bool,
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            random: StdRng::seed_from_u64(seed),
            zxid: 0x3_0000_0000,
            now: 1_795_355_000_000,
            living: BTreeMap::new(),
            in_gap: false,
        }
    }

    /// Many steps, and time for all that waits.
    pub fn story(&mut self) -> Vec<Step> {
        let mut steps: Vec<Step> = (0..150).map(|_| self.step()).collect();
        steps.push(self.tick(60_000));
        steps
    }

    fn step(&mut self) -> Step {
        self.now += self.random.random_range(1..4_000);
        match self.random.random_range(0..20) {
            0 => self.tick(1_000),
            1 => Step::Append(vec![self.gap()]),
            2..=3 => Step::Append(self.session_ends()),
            4..=6 => Step::Append(self.delete().into_iter().collect()),
            _ => Step::Append(vec![self.write()]),
        }
    }

    /// Later than any rest of a transaction is waited for.
    fn tick(&mut self, millis: i64) -> Step {
        self.now += millis;
        Step::Tick(Timestamp(self.now))
    }

    fn entry(&self, kind: RecordKind) -> Append {
        Append {
            root: Some(path(ROOT)),
            captured: Timestamp(self.now),
            kind,
        }
    }

    fn gap(&mut self) -> Append {
        self.in_gap = !self.in_gap;
        let (epoch, from_zxid, reason) = (Epoch(1), Zxid(self.zxid), GapReason::Disconnected);
        self.entry(match self.in_gap {
            true => RecordKind::GapBegin {
                epoch,
                from_zxid,
                reason,
            },
            false => RecordKind::GapEnd {
                epoch,
                from_zxid,
                to_zxid: Zxid(self.zxid),
                reason,
                differences: 0,
            },
        })
    }

    pub fn change(&self, path_text: &str, kind: ChangeKind) -> Append {
        let fidelity = if self.in_gap {
            Fidelity::Reconciled
        } else {
            Fidelity::Exact
        };
        self.entry(RecordKind::Change(Change {
            path: path(path_text),
            kind,
            fidelity,
            missed: (fidelity == Fidelity::Exact).then_some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }))
    }

    fn deleted(&mut self, path: &str) -> Append {
        self.living.remove(path);
        let at = match self.in_gap {
            true => DeletedAt::Bound(Zxid(self.zxid)),
            false => DeletedAt::Exact(Zxid(self.zxid)),
        };
        self.change(path, ChangeKind::Deleted { at })
    }

    fn delete(&mut self) -> Option<Append> {
        let at = self.random.random_range(0..self.living.len().max(1));
        let path = self.living.keys().nth(at)?.clone();
        self.zxid += 1;
        Some(self.deleted(&path))
    }

    fn session_ends(&mut self) -> Vec<Append> {
        let owner = SessionId(self.random.random_range(1..6));
        self.zxid += 1;
        let owned = self
            .living
            .iter()
            .filter(|(_, stat)| stat.ephemeral_owner == owner);
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        owned.iter().map(|path| self.deleted(path)).collect()
    }

    pub fn write(&mut self) -> Append {
        self.zxid += 1;
        let owner = self.random.random_range(1..6);
        let (path, bytes) = match self.random.random_range(0..4) {
            0 => {
                let election = self.random.random_range(0..2);
                let uuid = format!("_c_00000000-0000-4000-8000-{owner:012}");
                let name = format!("/latch/e{election}/{uuid}-latch-{:010}", owner);
                (name, format!("node {owner}"))
            }
            _ => self.registration(owner),
        };
        let data = Data::limited(bytes.as_bytes(), DataForm::Auto, 1 << 20);
        let stat = match self.living.get(&path) {
            Some(stat) => Stat {
                mzxid: Zxid(self.zxid),
                version: stat.version + 1,
                ..*stat
            },
            None => Stat {
                czxid: Zxid(self.zxid),
                mzxid: Zxid(self.zxid),
                ephemeral_owner: SessionId(owner),
                ..Stat::default()
            },
        };
        let is_new = self.living.insert(path.clone(), stat).is_none();
        let read = Read {
            stat,
            data: Some(data),
        };
        let kind = if is_new {
            ChangeKind::Created { read }
        } else {
            ChangeKind::Updated { read }
        };
        self.change(&path, kind)
    }

    fn registration(&mut self, owner: u64) -> (String, String) {
        let random = &mut self.random;
        let (service, host, id) = (
            random.random_range(0..3),
            random.random_range(0..3),
            random.random_range(0..4),
        );
        let path = format!("/services/s{service}/i{id}");
        let status = if random.random_bool(0.2) {
            "OUT_OF_SERVICE"
        } else {
            "UP"
        };
        let bytes = match random.random_bool(0.1) {
            true => "{broken".to_owned(),
            false => format!(
                r#"{{"name":"s{service}","id":"i{id}","address":"h{host}","port":1,"registrationTimeUTC":{owner},
                   "payload":{{"metadata":{{"instance_status":"{status}"}}}}}}"#
            ),
        };
        (path, bytes)
    }
}
