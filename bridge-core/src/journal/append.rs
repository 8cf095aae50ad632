//! Turns an append into a record: completes it from the image, and moves the image with it.
//!
//! The image of a path decides which appends are valid for it. A capture that breaks these rules would write a history
//! that contradicts itself, so they are asserted, in release builds too:
//!
//! | entry | the path must be | zxid |
//! | --- | --- | --- |
//! | `Created`, `CreatedUnread`, `Listed` | not living | seen: not below the life before |
//! | `Updated` | living, the same czxid | seen: above the last |
//! | `AclChanged`, `Restated` | living, the same czxid; read | |
//! | `Deleted` | anything | seen: above the last |
//!
//! An `AclChanged` with a zxid is of a source that reads transactions.

use std::sync::Arc;

use super::drafts::Draft;
use super::ended::EndedIncarnation;
use super::event_row::EventDetail;
use super::image::{Life, Place};
use super::live;
use super::options::Before;
use super::row::{BeforeColumn, Detail, Stored};
use super::stretches::birth_of;
use crate::append::{Change, ChangeKind, DeletedAt, Read, RecordKind};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{
    Data, Fidelity, Gap, GapReason, Identity, Op, Run, SUPERSEDED_MAX, ServiceEvent, Stat, Timestamp,
    ZxidKind,
};

/// The journal's own part of a record, besides the append and the image.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The position of the record.
    pub(super) seq: Seq,
    /// The name of the source.
    pub(super) cluster: &'a str,
    /// The row of the root.
    pub(super) root: Option<i64>,
    /// The row of mode and server.
    pub(super) origin: i64,
    /// The state that the record has as `before`.
    pub(super) before: Before,
    /// The last record that made an older or other state the new baseline.
    pub(super) rebaselined: Seq,
    /// The last moment at which capture is known to have been live.
    pub(super) live: Option<Timestamp>,
}

impl Context<'_> {
    /// A record without values: only the fields that all kinds have.
    fn blank(self, op: Op, captured: Timestamp) -> Stored {
        Stored {
            root: self.root,
            origin: self.origin,
            ..Stored::blank(self.seq, op, captured)
        }
    }

    /// The id of the value that this record brings.
    fn own_value(self) -> i64 {
        self.seq.0.cast_signed()
    }
}

/// A record about the stream. Changes go to [`draft_change`].
pub(super) fn draft_control(
    ctx: Context<'_>,
    root: Option<&ZnodePath>,
    captured: Timestamp,
    kind: &RecordKind,
) -> Draft {
    let (op, identity, detail) = control_parts(ctx, kind);
    let mut stored = ctx.blank(op, captured);
    stored.id = identity.id(ctx.cluster, root.map_or("", ZnodePath::as_str));
    stored.detail = detail;
    if let RecordKind::RunEnd {
        zxid: Some(zxid),
        is_exact,
        ..
    } = kind
    {
        stored.zxid = Some(*zxid);
        stored.zxid_kind = match is_exact {
            true => ZxidKind::Exact,
            false => ZxidKind::UpperBound,
        };
    }
    if let RecordKind::Heartbeat { zxid: Some(zxid) } = kind {
        (stored.zxid, stored.zxid_kind) = (Some(*zxid), ZxidKind::Exact);
    }
    Draft::bare(stored)
}

fn control_parts<'a>(ctx: Context<'_>, kind: &'a RecordKind) -> (Op, Identity<'a>, Detail) {
    match kind {
        RecordKind::Change(_) => unreachable!("changes have a draft of their own"),
        RecordKind::RunBegin { run } => run_mark(Op::SnapshotBegin, run, 0, None),
        RecordKind::RunEnd {
            run,
            index,
            nodes,
            unreadable,
            zxid: _,
            is_exact: _,
        } => run_mark(Op::SnapshotEnd, run, *index, Some((*nodes, *unreadable))),
        RecordKind::GapBegin {
            epoch,
            from_zxid,
            reason,
        } => gap_mark(
            Op::GapBegin,
            Gap {
                since: live::begin_of_gap(*reason, ctx.live),
                ..gap(*epoch, *from_zxid, *reason)
            },
        ),
        RecordKind::GapEnd {
            epoch,
            from_zxid,
            to_zxid,
            reason,
            differences,
        } => gap_mark(
            Op::GapEnd,
            Gap {
                to_zxid: Some(*to_zxid),
                differences: Some(*differences),
                ..gap(*epoch, *from_zxid, *reason)
            },
        ),
        RecordKind::Heartbeat { .. } => (Op::Heartbeat, Identity::Heartbeat { seq: ctx.seq }, Detail::None),
    }
}

fn run_mark(op: Op, run: &uuid::Uuid, index: u64, counts: Option<(u64, u64)>) -> (Op, Identity<'_>, Detail) {
    let detail = Run {
        id: *run,
        index,
        nodes: counts.map(|both| both.0),
        unreadable: counts.map(|both| both.1),
    };
    (op, Identity::RunMark { op, run }, Detail::Run(detail))
}

fn gap(epoch: crate::number::Epoch, from_zxid: Zxid, reason: GapReason) -> Gap {
    Gap {
        epoch,
        from_zxid,
        to_zxid: None,
        reason,
        since: None,
        differences: None,
    }
}

fn gap_mark(op: Op, gap: Gap) -> (Op, Identity<'static>, Detail) {
    let identity = Identity::GapMark {
        op,
        from_zxid: gap.from_zxid,
        epoch: gap.epoch,
    };
    (op, identity, Detail::Gap(gap))
}

/// A service event. Its row names no path: it has no part in the history of a znode.
pub(super) fn draft_event(
    ctx: Context<'_>,
    captured: Timestamp,
    home: ZnodePath,
    event: ServiceEvent,
) -> Draft {
    let mut stored = ctx.blank(Op::Service, captured);
    stored.id = event.id;
    stored.zxid = event.zxid;
    stored.zxid_kind = match event.zxid {
        Some(_) => ZxidKind::Exact,
        None => ZxidKind::Unknown,
    };
    stored.fidelity = event.fidelity;
    stored.missed = event.missed;
    stored.changed = event.time.changed;
    let event = Arc::new(ServiceEvent {
        seq: ctx.seq,
        ..event
    });
    stored.detail = Detail::Event(Box::new(EventDetail { home, event }));
    Draft::bare(stored)
}

/// A record about a znode, and the path's row of the image after it.
pub(super) fn draft_change(
    ctx: Context<'_>,
    captured: Timestamp,
    change: Change,
    place: Place,
) -> (Draft, Place) {
    let Change {
        path,
        kind,
        fidelity,
        missed,
        superseded,
        txn,
        facts,
    } = change;
    let may_have_facts = matches!(
        kind,
        ChangeKind::Created { .. } | ChangeKind::Listed { .. } | ChangeKind::Restated { .. }
    );
    assert!(
        facts.is_none() || may_have_facts,
        "a change of {path} that is no create has its facts: {kind:?}"
    );
    assert!(
        txn.is_none() || fidelity == Fidelity::Exact,
        "a change of {path} that was found by comparing has a transaction: {txn:?}"
    );
    assert!(
        superseded.len() <= SUPERSEDED_MAX && superseded.is_sorted(),
        "superseded zxids of {path} must ascend and be at most {SUPERSEDED_MAX}: {superseded:?}"
    );
    // The Stat of any other change has it.
    let is_timeless = matches!(kind, ChangeKind::Deleted { .. } | ChangeKind::AclChanged { .. });
    let changed = txn.as_ref().filter(|_| is_timeless);
    let changed = changed.and_then(|txn| Timestamp::of_stat(txn.time));
    let mut drafting = Drafting {
        ctx,
        path: &path,
        fidelity,
        place,
        stored: Stored {
            path: Some(place.id),
            previous: place.last,
            fidelity,
            missed,
            superseded,
            changed,
            txn,
            facts,
            ..ctx.blank(kind.op(), captured)
        },
        brings: None,
    };
    drafting.take(kind);
    drafting.place.last = Some(ctx.seq);
    let is_waypoint = drafting.place.steps.count();
    let ended = (drafting.stored.op == Op::Delete).then_some(EndedIncarnation {
        parent: place.parent,
        path: place.id,
        born: place.born,
        is_undated: drafting.stored.zxid.is_none(),
    });
    drafting.place.born = born_of(&drafting.stored, place.born);
    let draft = Draft {
        brings: drafting.brings,
        is_waypoint,
        ended,
        ..Draft::bare(drafting.stored)
    };
    (draft, drafting.place)
}

/// The create of a znode after a record, if it is certainly its first record, and no later time is before its own.
fn born_of(record: &Stored, born: Option<Seq>) -> Option<Seq> {
    match record.op {
        Op::Create => birth_of(record).map(|_| record.seq),
        Op::Delete => None,
        _ => born.filter(|_| record.stat.is_none_or(|stat| stat.mtime >= stat.ctime)),
    }
}

struct Drafting<'a> {
    ctx: Context<'a>,
    path: &'a ZnodePath,
    fidelity: Fidelity,
    /// As the image has it; moves on with the record.
    place: Place,
    stored: Stored,
    brings: Option<Data>,
}

impl Drafting<'_> {
    fn take(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Created { read } => self.created(read),
            ChangeKind::CreatedUnread {
                czxid,
                ephemeral,
                ctime,
            } => self.created_unread(czxid, ephemeral, ctime),
            ChangeKind::Updated { read } => self.updated(read),
            ChangeKind::Deleted { at } => self.deleted(at),
            ChangeKind::AclChanged { zxid, stat, acl } => {
                if let Some(zxid) = zxid {
                    self.exact(zxid);
                }
                self.stored.detail = acl.map_or(Detail::None, Detail::Acl);
                self.acl_changed(stat);
            }
            ChangeKind::Listed { read, run, index } => {
                self.assert_absent(read.stat.mzxid);
                self.holds(read);
                self.listed(&run, index);
            }
            ChangeKind::Restated { run, index } => self.restated(&run, index),
        }
    }

    fn created(&mut self, read: Read) {
        self.assert_absent(read.stat.mzxid);
        let czxid = read.stat.czxid;
        let version = match self.fidelity {
            Fidelity::Exact => 0,
            Fidelity::Reconciled => read.stat.version,
        };
        self.exact(read.stat.mzxid);
        self.named(Identity::Create { czxid, version });
        self.holds(read);
    }

    fn created_unread(&mut self, czxid: Zxid, ephemeral: Option<bool>, ctime: Option<Timestamp>) {
        self.assert_absent(czxid);
        self.exact(czxid);
        self.named(Identity::Create { czxid, version: 0 });
        self.stored.ephemeral = ephemeral;
        self.stored.changed = ctime;
        self.place.life = Life::Unread { czxid, ephemeral };
        self.place.value = None;
    }

    fn updated(&mut self, read: Read) {
        let Stat {
            czxid,
            mzxid,
            version,
            ..
        } = read.stat;
        self.assert_same_life(czxid);
        self.assert_above(mzxid);
        self.exact(mzxid);
        self.named(Identity::Update { czxid, version });
        self.before(BeforeColumn::Retired);
        self.stored.retired = self.place.value;
        self.holds(read);
    }

    fn deleted(&mut self, at: DeletedAt) {
        let (zxid, kind) = match at {
            DeletedAt::Exact(zxid) => (Some(zxid), ZxidKind::Exact),
            DeletedAt::Bound(zxid) => (Some(zxid), ZxidKind::UpperBound),
            DeletedAt::Unknown | DeletedAt::Unwatched => (None, ZxidKind::Unknown),
        };
        if let DeletedAt::Exact(zxid) = at {
            self.assert_above(zxid);
        }
        self.stored.zxid = zxid;
        self.stored.zxid_kind = kind;
        self.stored.ephemeral = self.place.life.ephemeral();
        match self.place.life.node() {
            Some(node) if at == DeletedAt::Unwatched => self.named(Identity::DeleteUnwatched {
                czxid: node.czxid,
                seq: self.ctx.seq,
            }),
            Some(node) => self.named(Identity::Delete { czxid: node.czxid }),
            None => self.named(Identity::DeleteUnseen {
                bound: zxid,
                seq: self.ctx.seq,
            }),
        }
        // A life of which no value was reported has no state before its end.
        if matches!(self.place.life, Life::Read { .. }) {
            self.before(BeforeColumn::Retired);
        }
        self.stored.retired = self.place.value;
        let exact = zxid.filter(|_| kind == ZxidKind::Exact);
        let floor = match at {
            // The same incarnation may be listed again.
            DeletedAt::Unwatched => Zxid::ZERO,
            _ => exact.map_or(self.newest_known(), |zxid| zxid.max(self.newest_known())),
        };
        self.place.life = Life::Gone { floor };
        self.place.value = None;
    }

    fn acl_changed(&mut self, stat: Stat) {
        self.assert_same_life(stat.czxid);
        self.named(Identity::Acl {
            czxid: stat.czxid,
            aversion: stat.aversion,
        });
        self.before(BeforeColumn::Kept);
        self.stored.value = self.place.value;
        self.shows(stat);
    }

    fn restated(&mut self, run: &uuid::Uuid, index: u64) {
        let Life::Read { stat } = self.place.life else {
            panic!(
                "{} is listed again as the image has it, and the image has {:?}",
                self.path, self.place.life
            );
        };
        self.stored.value = self.place.value;
        self.shows(stat);
        self.listed(run, index);
    }

    /// The run of a record that has its Stat.
    fn listed(&mut self, run: &uuid::Uuid, index: u64) {
        let stat = self.stored.stat.expect("what was listed was read");
        self.exact(stat.mzxid);
        self.named(Identity::Snapshot {
            czxid: stat.czxid,
            version: stat.version,
            aversion: stat.aversion,
            run,
        });
        self.stored.detail = Detail::Run(Run {
            id: *run,
            index,
            nodes: None,
            unreadable: None,
        });
    }

    /// Record and image hold what was read.
    fn holds(&mut self, read: Read) {
        let value = read.data.is_some().then(|| self.ctx.own_value());
        self.brings = read.data;
        self.stored.value = value;
        self.place.value = value;
        self.shows(read.stat);
    }

    /// Record and image have this Stat.
    fn shows(&mut self, stat: Stat) {
        self.stored.stat = Some(stat);
        self.stored.ephemeral = Some(stat.is_ephemeral());
        self.place.life = Life::Read { stat };
    }

    fn exact(&mut self, zxid: Zxid) {
        self.stored.zxid = Some(zxid);
        self.stored.zxid_kind = ZxidKind::Exact;
    }

    fn named(&mut self, identity: Identity<'_>) {
        self.stored.id = identity.id(self.ctx.cluster, self.path);
    }

    /// Sets `before` from the image, as far as the source is configured to.
    fn before(&mut self, data: BeforeColumn) {
        let (column, stat) = match (self.ctx.before, self.place.life) {
            (Before::None, _) => (BeforeColumn::Null, None),
            (Before::Stat, Life::Read { stat }) => (BeforeColumn::Stat, Some(stat)),
            (Before::Full, Life::Read { stat }) => (data, Some(stat)),
            (Before::Stat | Before::Full, _) => (BeforeColumn::Stat, None),
        };
        self.stored.before = column;
        self.stored.before_stat = stat;
    }

    /// The greatest zxid of a record of this path.
    fn newest_known(&self) -> Zxid {
        match self.place.life {
            Life::Gone { floor } => floor,
            Life::Unread { czxid, .. } => czxid,
            Life::Read { stat } => stat.mzxid,
        }
    }

    /// Only observed changes are checked against the image: the comparison after a gap may find an older state that an
    /// operator accepted, and the records before that say nothing about those after it.
    fn is_ordered(&self) -> bool {
        self.fidelity == Fidelity::Exact && self.place.last.is_some_and(|last| last > self.ctx.rebaselined)
    }

    fn assert_absent(&self, zxid: Zxid) {
        let Life::Gone { floor } = self.place.life else {
            panic!(
                "{} is created or listed as new at {zxid} while the image has it: {:?}",
                self.path, self.place.life
            );
        };
        // Equal in a multi that deletes and creates.
        assert!(
            !self.is_ordered() || zxid >= floor,
            "{} is created at {zxid}, before the end {floor} of its last life",
            self.path
        );
    }

    fn assert_same_life(&self, czxid: Zxid) {
        let node = self.place.life.node();
        assert!(
            node.is_some_and(|node| node.czxid == czxid),
            "{} changed in its life {czxid} while the image has {:?}",
            self.path,
            self.place.life
        );
    }

    fn assert_above(&self, zxid: Zxid) {
        assert!(
            !self.is_ordered() || zxid > self.newest_known(),
            "{} changed at {zxid}, and its last record is as new as {}",
            self.path,
            self.newest_known()
        );
    }
}
