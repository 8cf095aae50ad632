//! Records for the tests, built from what a client knows.

use bridge_core::number::{Epoch, Seq, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Gap, GapReason, Op, Record, Stat, State, ZxidKind};
use bridge_core::testing::a_record;
use uuid::Uuid;

use crate::expectation::{ExpectedRecord, Version};

/// A version of a persistent znode.
pub(crate) fn version(czxid: u64, mzxid: u64, data: &str) -> Version {
    Version {
        data: data.into(),
        czxid: Zxid(czxid),
        mzxid: Zxid(mzxid),
        version: i32::from(czxid != mzxid),
        owner: SessionId::NONE,
    }
}

/// The record that the expectation describes.
pub(crate) fn record_of(wanted: &ExpectedRecord, seq: u64) -> Record {
    let (op, fidelity, [before, after]) = wanted.parts();
    let zxid = after
        .or(before)
        .map(|version| Zxid(version.mzxid.0 + u64::from(op == Op::Delete)));
    let is_bound = op == Op::Delete && fidelity == Fidelity::Reconciled;
    let mut record = blank(wanted.path(), op, seq);
    record.fidelity = fidelity;
    record.zxid = zxid;
    record.zxid_kind = if is_bound {
        ZxidKind::UpperBound
    } else {
        ZxidKind::Exact
    };
    record.missed = (op != Op::Snapshot && !is_bound).then_some(0);
    record.ephemeral = after.or(before).map(|version| version.owner != SessionId::NONE);
    record.before = before.map(state);
    record.after = after.map(state);
    record
}

/// A delete by an event.
pub(crate) fn delete_of(path: &str, before: Version, seq: u64) -> Record {
    record_of(&ExpectedRecord::delete(path, before), seq)
}

/// A marker record of a root.
pub(crate) fn mark(root: &str, op: Op, seq: u64, differences: Option<u64>) -> Record {
    let mut record = blank(root, op, seq);
    record.path = None;
    record.before = None;
    record.after = None;
    record.gap = matches!(op, Op::GapBegin | Op::GapEnd).then(|| Gap {
        epoch: Epoch(2),
        from_zxid: Zxid(1),
        to_zxid: None,
        reason: GapReason::Started,
        since: None,
        differences,
    });
    record
}

fn blank(path: &str, op: Op, seq: u64) -> Record {
    let mut record = a_record().path(path).build();
    record.id = Uuid::from_u128(seq.into());
    record.seq = Seq(seq);
    record.op = op;
    let root = path.split('/').nth(1).unwrap_or_default();
    record.root = ZnodePath::parse(&format!("/{root}")).ok();
    record
}

fn state(version: &Version) -> State {
    State {
        data: Some(Data::limited(&version.data, DataForm::Auto, usize::MAX)),
        stat: Some(Stat {
            czxid: version.czxid,
            mzxid: version.mzxid,
            version: version.version,
            ephemeral_owner: version.owner,
            ..Stat::default()
        }),
    }
}
