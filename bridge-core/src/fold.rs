//! Makes one record of two of a znode: the one fold, which a sink that merges and a journal
//! that is full both make.
//!
//! An `update` goes into the next `update`, or into the `delete`, of the same life. Nothing else is ever folded: each
//! `create` and each `delete` stays, so that no life is hidden and no two are made one. What stays has its own `id`, `seq`
//! and state behind it; its state before is that of the first, `missed` counts the versions that went into it, and
//! `superseded` has their zxids. Who folds decides which records may meet; this module never looks beyond the two.

use crate::number::Zxid;
use crate::record::{Op, Record, SUPERSEDED_MAX, State};

/// What the fold looks at in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoldInput<'a> {
    pub op: Op,
    pub zxid: Option<Zxid>,
    /// The incarnation of the state before, and of the state after.
    pub before: Option<Zxid>,
    pub after: Option<Zxid>,
    pub missed: Option<u64>,
    pub superseded: &'a [Zxid],
}

/// What the later record says of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldedFields {
    pub missed: Option<u64>,
    pub superseded: Vec<Zxid>,
}

impl<'a> FoldInput<'a> {
    pub fn by(record: &'a Record) -> FoldInput<'a> {
        let life = |state: &Option<State>| Some(state.as_ref()?.stat?.czxid);
        FoldInput {
            op: record.op,
            zxid: record.zxid,
            before: life(&record.before),
            after: life(&record.after),
            missed: record.missed,
            superseded: &record.superseded,
        }
    }

    /// Folds this record into the next one of its path; `None` where that does not supersede it.
    pub fn into_next(self, next: FoldInput<'_>) -> Option<FoldedFields> {
        let life = match (self.op, next.op) {
            (Op::Update, Op::Update) => next.after,
            (Op::Update, Op::Delete) => next.before,
            _ => None,
        };
        if life.is_none() || life != self.after {
            return None;
        }
        let mut superseded = [self.superseded, self.zxid.as_slice(), next.superseded].concat();
        superseded.sort_unstable();
        superseded.drain(..superseded.len().saturating_sub(SUPERSEDED_MAX));
        let missed = self.missed.zip(next.missed);
        Some(FoldedFields {
            missed: missed.map(|(first, then)| first + 1 + then),
            superseded,
        })
    }
}
