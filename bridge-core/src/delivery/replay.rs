//! Delivers records once more that were handled before.
//!
//! *Invariants.* A destination that keeps the last record of each path never ends with an older one than before, unless
//! the order asks for that: records of a path that has a newer one, handled since the order was made, are left out.
//! Each record of an order is queued, counted as left out, or counted as not queued with a reason.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, MachineState};
use super::retry_queue::PARKED_MAX;
use super::steps::StepProgress;
use crate::journal::{BacklogChange, JournalError};
use crate::number::Seq;
use crate::path::ZnodePath;

/// Records that a worker reads to find newer ones of the paths of an order. The sender of orders looks for them before
/// each, so that these are the records of a moment. After more, the whole order is left out.
pub(super) const NEWER_MAX: usize = 100_000;

/// Records to deliver once more, as far as they were handled before and the retry queue has room. Dead letters among them
/// are left out; see [`OperatorRequest::Retry`](super::OperatorRequest::Retry).
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

/// Why records of an order were not queued, although the operator wants them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotQueued {
    /// It is shared with the records that failed.
    #[error("the retry queue is full: {PARKED_MAX} records wait")]
    QueueFull,
    /// See [`NEWER_MAX`].
    #[error(
        "more than {NEWER_MAX} records were handled since the order was made, too many to look through for newer ones"
    )]
    TooManyNewer,
    /// Newer records could not be looked for.
    #[error("the journal could not be read: {0}")]
    Journal(String),
}

impl NotQueued {
    pub(super) fn of(error: &JournalError) -> NotQueued {
        NotQueued::Journal(error.to_string())
    }
}

/// Records of orders to replay, since the worker began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Records that the orders have named.
    pub named: u64,
    /// Of them, records that were left out: their path has a newer record that was handled since the order was made, or
    /// they are dead letters or not handled yet.
    pub left_out: u64,
    /// Of them, records that were not queued; see `problem`.
    pub not_queued: u64,
    /// Why the last of these were not queued.
    pub problem: Option<String>,
}

impl ReplayCounts {
    /// Counts an order that named so many records.
    pub(super) fn count(&mut self, named: u64, queued: u64, not_queued: u64, problem: Option<NotQueued>) {
        self.named += named;
        self.not_queued += not_queued;
        self.left_out += named - queued - not_queued;
        if let Some(problem) = problem.filter(|_| not_queued > 0) {
            self.problem = Some(problem.to_string());
        }
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
            if self.parked.room() == 0 && !self.parked.holds(path, *seq) {
                self.not_replayed += 1;
                continue;
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
