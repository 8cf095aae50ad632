//! A model of the journal in its simplest form: a map and a list. The journal's own tests and the simulator compare the
//! real journal with it; it must not share code with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::append::{Append, Change, ChangeKind, DeletedAt, NodeFacts, RecordKind};
use crate::image_txn::{Children, Node};
use crate::journal::Before;
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{
    Data, Fidelity, Gap, GapReason, Identity, Mode, Op, Origin, Record, Run, SchemaName, Stat, State, Times,
    Timestamp, ZxidKind,
};

/// A living znode.
#[derive(Clone, Debug, PartialEq)]
pub struct Znode {
    /// Names the incarnation.
    pub czxid: Zxid,
    /// As last read.
    pub stat: Option<Stat>,
    /// As last read.
    pub data: Option<Data>,
    /// Whether it is known to be ephemeral, or not to be.
    pub ephemeral: Option<bool>,
    /// Facts beside the Stat, where they are known.
    pub facts: Option<NodeFacts>,
}

impl Znode {
    /// As the book shows it.
    pub fn node(&self) -> Node {
        Node {
            czxid: self.czxid,
            stat: self.stat,
        }
    }

    fn state(&self) -> State {
        State {
            data: self.data.clone(),
            stat: self.stat,
        }
    }
}

/// The image and every record ever appended.
#[derive(Clone, Default)]
pub struct Model {
    /// The living znodes.
    pub image: BTreeMap<ZnodePath, Znode>,
    /// All records; their seqs are their places, from 1.
    pub records: Vec<Arc<Record>>,
    /// The version that the next records name.
    pub server: Option<Arc<str>>,
    /// How the next records were captured; `None`: with a watch.
    pub mode: Option<Mode>,
    /// The last moment at which capture was live, for the next gaps.
    pub live: Option<Timestamp>,
    /// The configured content of `before`.
    pub before: Before,
}

impl Model {
    /// Completes the record of an entry and moves the image with it.
    ///
    /// # Panics
    ///
    /// If the entry contradicts the image: it creates a znode that lives, changes one that does not, or restates one that
    /// was never read.
    pub fn append(&mut self, entry: Append) -> Seq {
        let seq = Seq(self.records.len() as u64 + 1);
        let mut record = Record {
            schema: SchemaName::V1,
            id: uuid::Uuid::nil(),
            seq,
            cluster: "main".into(),
            root: entry.root.clone(),
            path: None,
            op: Op::Heartbeat,
            zxid: None,
            zxid_kind: ZxidKind::Unknown,
            fidelity: Fidelity::Exact,
            missed: None,
            superseded: Vec::new(),
            ephemeral: None,
            before: None,
            after: None,
            txn: None,
            time: Times {
                changed: None,
                captured: entry.captured,
            },
            source: Origin {
                mode: self.mode.unwrap_or(Mode::Watch),
                server: self.server.clone(),
            },
            acl: None,
            lifetime: None,
            gap: None,
            run: None,
            event: None,
        };
        match entry.kind {
            RecordKind::Change(change) => self.change(&mut record, change),
            kind => control(&mut record, kind, self.live),
        }
        self.records.push(Arc::new(record));
        seq
    }

    /// As in [`ImageTxn::occupied_children`](crate::image_txn::ImageTxn::occupied_children).
    pub(super) fn occupied_children(
        &self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Children<Option<Node>> {
        let below = self.image.range(path.clone()..);
        let names: BTreeSet<Box<str>> = below
            .filter_map(|(below, _)| path.child_towards(below))
            .map(|child| Box::<str>::from(child.name()))
            .filter(|name| after.is_none_or(|after| **name > *after))
            .collect();
        let rows = names.into_iter().take(limit).map(|name| {
            let node = self.image.get(&path.child(&name)).map(Znode::node);
            (name, node)
        });
        rows.collect()
    }

    /// As in [`ImageTxn::deepest_below`](crate::image_txn::ImageTxn::deepest_below).
    pub(super) fn deepest_below(&self, path: &ZnodePath, limit: usize) -> Vec<(ZnodePath, Node)> {
        let image = self.image.range(path.clone()..);
        let mut found: Vec<(ZnodePath, Node)> = image
            .filter(|(other, _)| *other != path && path.covers(other))
            .map(|(other, znode)| (other.clone(), znode.node()))
            .collect();
        found.sort_by(|one, other| after_those_below(&one.0, &other.0));
        found.truncate(limit);
        found
    }

    fn change(&mut self, record: &mut Record, change: Change) {
        record.path = Some(change.path.clone());
        record.fidelity = change.fidelity;
        record.missed = change.missed;
        record.superseded = change.superseded;
        record.txn = change.txn;
        let old = self.image.get(&change.path).cloned();
        assert_fits(&change.path, &change.kind, old.as_ref());
        let known = old.as_ref().and_then(|old| old.facts.clone());
        let facts = match (change.facts, &change.kind) {
            (Some(facts), _) => Some(*facts),
            (None, ChangeKind::Updated { .. } | ChangeKind::Restated { .. }) => known,
            (None, ChangeKind::AclChanged { acl, .. }) => known.map(|known| NodeFacts {
                acl: acl.clone(),
                ..known
            }),
            (None, _) => None,
        };
        let (mut new, identity) = outcome(record, change.kind, old.as_ref());
        if let (Op::Create | Op::Snapshot, Some(facts)) = (record.op, &facts) {
            record.lifetime = facts.lifetime;
            record.acl.clone_from(&facts.acl);
        }
        if let Some(new) = &mut new {
            new.facts = facts;
        }
        record.id = identity.id("main", &change.path);
        if let (Op::Delete | Op::Acl, Some(txn)) = (record.op, &record.txn) {
            record.time.changed = Timestamp::of_stat(txn.time);
        }
        record.before = match (record.op, &old) {
            (Op::Update | Op::Acl, Some(old)) => self.seen_before(old),
            (Op::Delete, Some(old)) if old.stat.is_some() => self.seen_before(old),
            _ => None,
        };
        match new {
            Some(new) => {
                record.after = Some(new.state());
                record.ephemeral = new.ephemeral;
                self.image.insert(change.path, new);
            }
            None => {
                record.ephemeral = old.and_then(|old| old.ephemeral);
                self.image.remove(&change.path);
            }
        }
    }

    fn seen_before(&self, old: &Znode) -> Option<State> {
        match self.before {
            Before::Full => Some(old.state()),
            Before::Stat => Some(State {
                data: None,
                stat: old.stat,
            }),
            Before::None => None,
        }
    }
}

/// A create needs a path that is free, a change the incarnation that is there.
fn assert_fits(path: &ZnodePath, kind: &ChangeKind, old: Option<&Znode>) {
    let same = |stat: &Stat| old.is_some_and(|old| old.czxid == stat.czxid);
    let fits = match kind {
        ChangeKind::Created { .. } | ChangeKind::CreatedUnread { .. } | ChangeKind::Listed { .. } => {
            old.is_none()
        }
        ChangeKind::Updated { read } => same(&read.stat),
        ChangeKind::AclChanged { stat, .. } => same(stat),
        ChangeKind::Deleted { .. } | ChangeKind::Restated { .. } => true,
    };
    assert!(fits, "{path}: {kind:?} does not fit {old:?}");
}

/// The znode after the change, and the name of the change.
fn outcome(record: &mut Record, kind: ChangeKind, old: Option<&Znode>) -> (Option<Znode>, Name) {
    let exact = |record: &mut Record, zxid| {
        record.zxid = Some(zxid);
        record.zxid_kind = ZxidKind::Exact;
    };
    let read_as = |stat: Stat, data| {
        Some(Znode {
            czxid: stat.czxid,
            stat: Some(stat),
            data,
            ephemeral: Some(stat.is_ephemeral()),
            facts: None,
        })
    };
    match kind {
        ChangeKind::Created { read } => {
            record.op = Op::Create;
            exact(record, read.stat.mzxid);
            record.time.changed = Timestamp::of_stat(read.stat.mtime);
            let version = match record.fidelity {
                Fidelity::Exact => 0,
                Fidelity::Reconciled => read.stat.version,
            };
            let czxid = read.stat.czxid;
            (
                read_as(read.stat, read.data),
                Name::Plain(Identity::Create { czxid, version }),
            )
        }
        ChangeKind::CreatedUnread {
            czxid,
            ephemeral,
            ctime,
        } => {
            record.op = Op::Create;
            exact(record, czxid);
            record.time.changed = ctime;
            let unread = Znode {
                czxid,
                stat: None,
                data: None,
                ephemeral,
                facts: None,
            };
            (Some(unread), Name::Plain(Identity::Create { czxid, version: 0 }))
        }
        ChangeKind::Updated { read } => {
            record.op = Op::Update;
            exact(record, read.stat.mzxid);
            record.time.changed = Timestamp::of_stat(read.stat.mtime);
            let (czxid, version) = (read.stat.czxid, read.stat.version);
            (
                read_as(read.stat, read.data),
                Name::Plain(Identity::Update { czxid, version }),
            )
        }
        ChangeKind::Deleted { at } => {
            record.op = Op::Delete;
            (record.zxid, record.zxid_kind) = match at {
                DeletedAt::Exact(zxid) => (Some(zxid), ZxidKind::Exact),
                DeletedAt::Bound(zxid) => (Some(zxid), ZxidKind::UpperBound),
                DeletedAt::Unknown | DeletedAt::Unwatched => (None, ZxidKind::Unknown),
            };
            let identity = match old {
                Some(old) if at == DeletedAt::Unwatched => Identity::DeleteUnwatched {
                    czxid: old.czxid,
                    seq: record.seq,
                },
                Some(old) => Identity::Delete { czxid: old.czxid },
                None => Identity::DeleteUnseen {
                    bound: record.zxid,
                    seq: record.seq,
                },
            };
            (None, Name::Plain(identity))
        }
        ChangeKind::AclChanged { zxid, stat, acl } => {
            record.op = Op::Acl;
            if let Some(zxid) = zxid {
                exact(record, zxid);
            }
            record.acl = acl;
            let data = old.and_then(|old| old.data.clone());
            let (czxid, aversion) = (stat.czxid, stat.aversion);
            (
                read_as(stat, data),
                Name::Plain(Identity::Acl { czxid, aversion }),
            )
        }
        ChangeKind::Listed { read, run, index } => {
            record.time.changed = Timestamp::of_stat(read.stat.mtime);
            exact(record, read.stat.mzxid);
            listed(record, run, index);
            let identity = snapshot_identity(&read.stat, run);
            (read_as(read.stat, read.data), identity)
        }
        ChangeKind::Restated { run, index } => {
            let old = old.expect("only a living znode is restated");
            let stat = old.stat.expect("only a znode that was read is restated");
            record.time.changed = Timestamp::of_stat(stat.mtime);
            exact(record, stat.mzxid);
            listed(record, run, index);
            (Some(old.clone()), snapshot_identity(&stat, run))
        }
    }
}

fn listed(record: &mut Record, run: uuid::Uuid, index: u64) {
    record.op = Op::Snapshot;
    record.run = Some(Run {
        id: run,
        index,
        nodes: None,
        unreadable: None,
    });
}

/// Holds its own run, so that it can leave the function that made it.
enum Name {
    Plain(Identity<'static>),
    Snapshot {
        czxid: Zxid,
        version: i32,
        aversion: i32,
        run: uuid::Uuid,
    },
}

impl Name {
    fn id(&self, cluster: &str, path: &str) -> uuid::Uuid {
        match self {
            Name::Plain(identity) => identity.id(cluster, path),
            Name::Snapshot {
                czxid,
                version,
                aversion,
                run,
            } => Identity::Snapshot {
                czxid: *czxid,
                version: *version,
                aversion: *aversion,
                run,
            }
            .id(cluster, path),
        }
    }
}

fn snapshot_identity(stat: &Stat, run: uuid::Uuid) -> Name {
    Name::Snapshot {
        czxid: stat.czxid,
        version: stat.version,
        aversion: stat.aversion,
        run,
    }
}

fn control(record: &mut Record, kind: RecordKind, live: Option<Timestamp>) {
    let root = record.root.clone().map_or(String::new(), |root| root.to_string());
    let identity = match &kind {
        RecordKind::Change(_) => unreachable!("changes are handled before"),
        RecordKind::RunBegin { run } => {
            record.op = Op::SnapshotBegin;
            record.run = Some(Run {
                id: *run,
                index: 0,
                nodes: None,
                unreadable: None,
            });
            Identity::RunMark { op: record.op, run }
        }
        RecordKind::RunEnd {
            run,
            index,
            nodes,
            unreadable,
            zxid,
            is_exact,
        } => {
            record.op = Op::SnapshotEnd;
            record.run = Some(Run {
                id: *run,
                index: *index,
                nodes: Some(*nodes),
                unreadable: Some(*unreadable),
            });
            record.zxid = *zxid;
            if zxid.is_some() {
                record.zxid_kind = match is_exact {
                    true => ZxidKind::Exact,
                    false => ZxidKind::UpperBound,
                };
            }
            Identity::RunMark { op: record.op, run }
        }
        RecordKind::GapBegin {
            epoch,
            from_zxid,
            reason,
        } => {
            record.op = Op::GapBegin;
            record.gap = Some(Gap {
                epoch: *epoch,
                from_zxid: *from_zxid,
                to_zxid: None,
                reason: *reason,
                since: match reason {
                    GapReason::Started
                    | GapReason::Disconnected
                    | GapReason::Expired
                    | GapReason::Overflow
                    | GapReason::Mode
                    | GapReason::Unwatched => live,
                    // When such a gap began is not known.
                    GapReason::Liveness
                    | GapReason::Rebaselined
                    | GapReason::Permission
                    | GapReason::Unproved => None,
                },
                differences: None,
            });
            Identity::GapMark {
                op: record.op,
                from_zxid: *from_zxid,
                epoch: *epoch,
            }
        }
        RecordKind::GapEnd {
            epoch,
            from_zxid,
            to_zxid,
            reason,
            differences,
        } => {
            record.op = Op::GapEnd;
            record.gap = Some(Gap {
                epoch: *epoch,
                from_zxid: *from_zxid,
                to_zxid: Some(*to_zxid),
                reason: *reason,
                since: None,
                differences: Some(*differences),
            });
            Identity::GapMark {
                op: record.op,
                from_zxid: *from_zxid,
                epoch: *epoch,
            }
        }
        RecordKind::Heartbeat { zxid } => {
            if zxid.is_some() {
                (record.zxid, record.zxid_kind) = (*zxid, ZxidKind::Exact);
            }
            Identity::Heartbeat { seq: record.seq }
        }
    };
    record.id = identity.id("main", &root);
}

/// Children in the order of their names, each before its parent.
fn after_those_below(one: &ZnodePath, other: &ZnodePath) -> std::cmp::Ordering {
    let (mut left, mut right) = (one.names(), other.names());
    loop {
        match (left.next(), right.next()) {
            (Some(left), Some(right)) if left == right => {}
            (Some(left), Some(right)) => return left.cmp(right),
            (left, right) => return right.is_some().cmp(&left.is_some()),
        }
    }
}
