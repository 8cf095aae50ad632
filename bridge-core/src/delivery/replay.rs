//! Delivers records once more that were handled before.
//!
//! *Invariants.* A destination that keeps the last record of each path never ends with an older one than before, unless
//! the order asks for that: records of a path that has a newer one, handled since the order was made, are left out.
//! Each record of an order is either queued or counted as left out.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, MachineState};
use super::steps::StepProgress;
use crate::journal::BacklogChange;
use crate::number::Seq;
use crate::path::ZnodePath;

/// Records that a worker reads to find newer ones of the paths of an order. Whoever sends orders looks for them before
/// each, so that these are the records of a moment. After more, the whole order is left out.
pub(super) const NEWER_MAX: usize = 100_000;

/// Records to deliver once more, as far as they were handled before and there is room for parked records. Dead letters
/// among them are left out; see [`OperatorRequest::Retry`](super::OperatorRequest::Retry).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayOrder {
    /// The records, each with its path.
    pub records: Vec<(Seq, Option<ZnodePath>)>,
    /// Up to this record, no path of the order has one that is newer than those that are replayed. Paths with one after
    /// it that the sink has handled are left out. `None`: nothing is left out for its age.
    pub current_to: Option<Seq>,
}

impl ReplayOrder {
    /// The paths of the order.
    pub(super) fn paths(&self) -> HashSet<ZnodePath> {
        self.records.iter().filter_map(|(_, path)| path.clone()).collect()
    }

    /// The order without the records of paths that have newer ones.
    pub(super) fn without(mut self, newer: &HashSet<ZnodePath>) -> ReplayOrder {
        let is_newest = |path: &Option<ZnodePath>| path.as_ref().is_none_or(|path| !newer.contains(path));
        self.records.retain(|(_, path)| is_newest(path));
        self
    }
}

impl Machine {
    /// The paths of records that the present task delivers: one that is queued now would arrive after them.
    pub(super) fn paths_under_way(&self) -> HashSet<ZnodePath> {
        match &self.state {
            MachineState::Delivering { attempt, .. } => {
                let records = attempt.delivery.records.iter();
                records.filter_map(|record| record.path.clone()).collect()
            }
            MachineState::FetchingRetries { seqs, .. } => self.parked.paths_of(seqs),
            MachineState::Opening { .. }
            | MachineState::Idle
            | MachineState::DeliveringSnapshot(_)
            | MachineState::FetchingSnapshot
            | MachineState::BackingOff { .. }
            | MachineState::Halted { .. } => HashSet::new(),
        }
    }

    /// Parks records that were handled before, to be delivered at once and in their order, as far as there is room.
    pub(super) fn replay(&mut self, order: &ReplayOrder) -> Option<StepProgress> {
        let mut progress = self.standing();
        for (seq, path) in &order.records {
            if *seq > self.cursor || self.letters.holds(*seq) {
                continue;
            }
            if self.parked.room() == 0 {
                break;
            }
            self.parked.insert_again(path.clone(), *seq);
            self.replayed += 1;
            progress.changes.push(BacklogChange::Replayed {
                seq: *seq,
                path: path.clone(),
            });
        }
        (!progress.changes.is_empty()).then_some(progress)
    }
}
