//! Merges two records of a znode into one, for a sink that merges and for a full journal that compacts.
//!
//! An `update` is merged into the next `update`, or into the `delete`, of the same incarnation. No other records are
//! merged: each `create` and each `delete` stays, so that no incarnation is hidden and no two become one. The result
//! has the `id`, `seq` and `after` of the later record and the `before` of the earlier one; `missed` counts the merged
//! versions, and `superseded` has their zxids. The callers decide which records may be merged; this module only looks
//! at the two.

use crate::number::Zxid;
use crate::record::{Op, Record, SUPERSEDED_MAX, State};

/// The fields of a record that the merge reads.
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

/// The fields of the later record that change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldedFields {
    pub missed: Option<u64>,
    pub superseded: Vec<Zxid>,
}

impl<'a> FoldInput<'a> {
    pub fn by(record: &'a Record) -> FoldInput<'a> {
        let incarnation = |state: &Option<State>| Some(state.as_ref()?.stat?.czxid);
        FoldInput {
            op: record.op,
            zxid: record.zxid,
            before: incarnation(&record.before),
            after: incarnation(&record.after),
            missed: record.missed,
            superseded: &record.superseded,
        }
    }

    /// Merges this record into the next one of its path; `None` if that does not supersede it.
    pub fn into_next(self, next: FoldInput<'_>) -> Option<FoldedFields> {
        let incarnation = match (self.op, next.op) {
            (Op::Update, Op::Update) => next.after,
            (Op::Update, Op::Delete) => next.before,
            _ => None,
        };
        if incarnation.is_none() || incarnation != self.after {
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
