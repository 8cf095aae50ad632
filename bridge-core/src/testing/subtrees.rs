//! The image of a journal in memory, for sinks that write the present state.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::MemoryJournal;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Op, Record, State};
use crate::subtree::{Subtree, SubtreeCompleteness, SubtreeError, SubtreeLimit, SubtreeReader, SubtreeZnode};

/// Reads subtrees of a [`MemoryJournal`], as the fold of its durable records.
pub struct MemorySubtrees {
    pub(super) journal: MemoryJournal,
}

impl SubtreeReader for MemorySubtrees {
    fn subtree(&mut self, path: &ZnodePath, limit: SubtreeLimit) -> Result<Subtree, SubtreeError> {
        let at = *self.journal.durable().borrow();
        let mut records = self.journal.records();
        records.retain(|record| record.seq <= at);
        let completeness = completeness(&records, path);
        let mut subtree = Subtree::new("main".into(), path.clone(), at, completeness);
        let mut existing: Vec<(ZnodePath, State)> = folded(&records)
            .into_iter()
            .filter(|(existing, _)| path.covers(existing))
            .collect();
        existing.sort_by(|(one, _), (other, _)| parents_first(one, other));
        for (path, state) in existing {
            let State { stat, data } = state;
            subtree.add(SubtreeZnode { path, stat, data }, limit)?;
        }
        Ok(subtree)
    }
}

fn parents_first(one: &ZnodePath, other: &ZnodePath) -> Ordering {
    one.names().cmp(other.names())
}

/// The state of each existing znode after these records.
pub(crate) fn folded(records: &[Arc<Record>]) -> BTreeMap<ZnodePath, State> {
    let mut existing = BTreeMap::new();
    for record in records {
        match (&record.path, record.op, &record.after) {
            (Some(path), Op::Delete, _) => drop(existing.remove(path)),
            (Some(path), Op::Create | Op::Update | Op::Snapshot, Some(after)) => {
                existing.insert(path.clone(), after.clone());
            }
            _ => {}
        }
    }
    existing
}

/// A root without a listing counts as listed.
fn completeness(records: &[Arc<Record>], path: &ZnodePath) -> SubtreeCompleteness {
    let mut found = SubtreeCompleteness::Complete;
    for record in records {
        let Some(root) = record.root.clone().filter(|root| root.covers(path)) else {
            continue;
        };
        let begin: Seq = record.seq;
        match record.op {
            Op::SnapshotBegin => found = SubtreeCompleteness::Listing { root },
            Op::GapBegin => found = SubtreeCompleteness::InGap { root, begin },
            Op::SnapshotEnd | Op::GapEnd => found = SubtreeCompleteness::Complete,
            _ => {}
        }
    }
    found
}
