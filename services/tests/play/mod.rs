//! Plays changes to a machine whose rows are in memory.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "helpers of several tests may panic, and not all use each"
)]

use std::collections::BTreeMap;

use bridge_core::derive::{Derivation, DerivationMark, ObservedChange, RestOfTransaction};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Op, ServiceEvent, ServiceEventType, Timestamp, TxnKind};
use bridge_services::{MemoryState, ServiceConfig, ServiceMachine};
use uuid::Uuid;

pub fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// A registration of Curator below `/{root}/services`.
pub fn curator(service: &str, host: &str) -> String {
    format!(r#"{{"name":"{service}","id":"i","address":"{host}","port":1}}"#)
}

/// A machine, its rows, and all that it has said.
pub struct Play {
    pub machine: ServiceMachine,
    pub state: MemoryState,
    pub events: Vec<ServiceEvent>,
    /// The most events of one batch.
    pub batch_max: usize,
    pub now: i64,
    /// When changes are captured, of a history that is read late; `None`: as they happen, by a watch.
    pub captured: Option<i64>,
    /// The type of the transactions, of a source that reads them.
    pub txn: Option<TxnKind>,
    zxid: u64,
    /// When each znode was created.
    born: BTreeMap<String, u64>,
}

impl Play {
    pub fn new(sections: &[ServiceConfig]) -> Play {
        let mut play = Play {
            machine: ServiceMachine::new("main", sections).unwrap(),
            state: MemoryState::default(),
            events: Vec::new(),
            batch_max: 0,
            now: 1_795_355_000_000,
            captured: None,
            txn: None,
            zxid: 0x10,
            born: BTreeMap::new(),
        };
        play.machine.begin(&mut play.state).unwrap();
        play.machine.filled();
        play
    }

    /// A start with these sections. Returns whether it lists the tree, which is empty unless `living` has znodes.
    pub fn restart(&mut self, sections: &[ServiceConfig], living: &[(&str, u64, String)]) -> bool {
        self.machine = ServiceMachine::new("main", sections).unwrap();
        let begun = self.machine.begin(&mut self.state).unwrap();
        let must_fill = begun.must_fill;
        self.take(begun.events);
        if must_fill {
            for (name, owner, text) in living {
                self.change(name, Op::Snapshot, *owner, text);
            }
            self.complete();
        }
        self.machine.filled();
        must_fill
    }

    /// The root of a path is its first name.
    pub fn change(&mut self, name: &str, op: Op, owner: u64, text: &str) {
        self.zxid += 1;
        self.change_at(self.zxid, name, op, owner, text);
    }

    /// The same as a part of the last transaction.
    pub fn change_too(&mut self, name: &str, op: Op, owner: u64, text: &str) {
        self.change_at(self.zxid, name, op, owner, text);
    }

    fn change_at(&mut self, zxid: u64, name: &str, op: Op, owner: u64, text: &str) {
        let zxid = Zxid(zxid);
        if self.machine.is_ended_by(Some(zxid)) {
            self.complete();
        }
        let znode = path(name);
        let root = path(&format!("/{}", name.split('/').nth(1).unwrap()));
        let data = Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20);
        if op != Op::Update {
            self.born.insert(name.to_owned(), zxid.0);
        }
        let change = ObservedChange {
            root: Some(&root),
            path: &znode,
            op,
            id: Uuid::from_u128(u128::from(zxid.0) << 64 | u128::from(fnv(name))),
            zxid: Some(zxid),
            is_exact: true,
            czxid: Zxid(self.born.get(name).copied().unwrap_or(zxid.0)),
            owner: SessionId(owner),
            fidelity: Fidelity::Exact,
            missed: Some(0),
            changed: self.captured.map(|_| Timestamp(self.now)),
            captured: Timestamp(self.captured.unwrap_or(self.now)),
            data: (op != Op::Delete).then_some(&data),
            txn: self.txn,
        };
        if self.machine.covers(&znode) {
            self.machine.change(&change, &mut self.state).unwrap();
        }
    }

    /// The last transaction is over.
    pub fn complete(&mut self) {
        self.end(RestOfTransaction::None);
    }

    /// A batch ends, and perhaps within a transaction.
    pub fn commit(&mut self) {
        self.end(RestOfTransaction::MayCome);
    }

    fn end(&mut self, rest: RestOfTransaction) {
        let events = self.machine.complete(rest, &mut self.state).unwrap();
        self.take(events);
    }

    /// Some milliseconds of silence.
    pub fn wait(&mut self, millis: i64) {
        self.now += millis;
        if self.machine.has_waited(Timestamp(self.now)) {
            self.complete();
        }
    }

    pub fn mark(&mut self, mark: DerivationMark, root: &str) {
        self.end(RestOfTransaction::Lost);
        let events = self
            .machine
            .mark(mark, Some(&path(root)), &mut self.state)
            .unwrap();
        self.take(events);
    }

    fn take(&mut self, mut events: Vec<bridge_core::derive::DerivedEvent>) {
        loop {
            self.batch_max = self.batch_max.max(events.len());
            self.events
                .extend(events.into_iter().map(|derived| derived.event));
            if !self.machine.has_more() {
                return;
            }
            events = self.machine.more(&mut self.state).unwrap();
        }
    }

    /// Some seconds later. Returns the events of the tick.
    pub fn tick(&mut self, seconds: i64) -> Vec<ServiceEvent> {
        self.complete();
        self.now += seconds * 1_000;
        let before = self.events.len();
        if self.machine.has_due(Timestamp(self.now)) {
            let events = self.machine.due(Timestamp(self.now), &mut self.state).unwrap();
            self.take(events);
        }
        self.events[before..].to_vec()
    }

    pub fn texts(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.text.as_str()).collect()
    }

    pub fn count(&self, kind: ServiceEventType) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
