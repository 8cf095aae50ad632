//! Decides the next step of applying a plan. Sends nothing and writes nothing.
//!
//! Invariants:
//!
//! * A request has operations in the order of the plan, and no operation is sent that is done or skipped.
//! * An operation is sent only if a read right before shows the znode as the plan expects it; the server compares the
//!   version once more. One whose effect is there already counts as done: so a run that ended anywhere is repeated.
//! * Data that another client wrote since the plan was made is never overwritten and never deleted.

use bridge_core::capture::Outcome;
use bridge_core::path::ZnodePath;
use bridge_core::record::Stat;

use super::operation::Operation;
use super::plan_file::OperationState;

/// The most operations of one request.
pub const BATCH_MAX: usize = 100;

/// Bytes of one request, half of what servers take by default. An operation with more goes alone.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// The operator's choice for a znode that has changed since the plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnConflict {
    /// End before the request of the operation.
    Stop,
    /// Leave the operation out.
    Skip,
}

/// An operation that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The number of the operation.
    pub operation: usize,
    /// Its znode.
    pub path: ZnodePath,
    /// Its verb.
    pub verb: &'static str,
    /// Why.
    pub reason: String,
}

/// The operations of a request, by the state of their znodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SortedBatch {
    /// Their effect is there.
    pub done: Vec<usize>,
    /// They can be sent.
    pub ready: Vec<usize>,
    /// They cannot.
    pub conflicts: Vec<Conflict>,
}

/// The place of an operation relative to the tree.
enum OperationView {
    Done,
    Ready,
    Conflict(String),
}

/// Decides over the operations of one plan.
#[derive(Clone, Copy, Debug)]
pub struct Applier<'a> {
    operations: &'a [Operation],
    batch_max: usize,
}

impl<'a> Applier<'a> {
    /// For these operations, at most `batch_max` in one request.
    pub fn new(operations: &'a [Operation], batch_max: usize) -> Applier<'a> {
        Applier {
            operations,
            batch_max: batch_max.clamp(1, BATCH_MAX),
        }
    }

    /// The operations of the next request; empty at the end.
    pub fn next_batch(&self, states: &[OperationState]) -> Vec<usize> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let open = states.iter().enumerate();
        let open = open.filter(|(_, state)| **state == OperationState::Open);
        for (at, _) in open {
            bytes += self.operations[at].request_bytes();
            let is_full = batch.len() == self.batch_max || bytes > BATCH_BYTES_MAX;
            if is_full && !batch.is_empty() {
                break;
            }
            batch.push(at);
        }
        batch
    }

    /// Sorts the operations of a request by the state of their znodes, one outcome for each.
    pub fn sort(&self, batch: &[usize], outcomes: &[Outcome]) -> SortedBatch {
        let mut sorted = SortedBatch::default();
        for (at, outcome) in batch.iter().zip(outcomes) {
            match view(&self.operations[*at], outcome) {
                OperationView::Done => sorted.done.push(*at),
                OperationView::Ready => sorted.ready.push(*at),
                OperationView::Conflict(reason) => sorted.conflicts.push(self.conflict(*at, reason)),
            }
        }
        sorted
    }

    /// Whether a znode is as an operation leaves it; otherwise, how it differs.
    pub fn difference(&self, at: usize, outcome: &Outcome) -> Option<Conflict> {
        let operation = &self.operations[at];
        let reason = match (operation.data(), outcome) {
            (None, Outcome::Missing) => return None,
            (None, _) => "it exists",
            (Some(data), Outcome::Found { data: live, .. }) if live[..] == data[..] => return None,
            (Some(_), Outcome::Found { .. }) => "it has other data",
            (Some(_), Outcome::Missing) => "it does not exist",
            (Some(_), Outcome::Denied) => "it may not be read",
        };
        Some(self.conflict(at, reason.to_owned()))
    }

    /// The conflict of an operation that is not carried out.
    pub fn conflict(&self, at: usize, reason: String) -> Conflict {
        let operation = &self.operations[at];
        Conflict {
            operation: at,
            path: operation.path().clone(),
            verb: operation.verb(),
            reason,
        }
    }
}

fn view(operation: &Operation, outcome: &Outcome) -> OperationView {
    let conflict = |reason: &str| OperationView::Conflict(reason.to_owned());
    match (operation, outcome) {
        (_, Outcome::Denied) => conflict("the credentials do not have the permission to read it"),
        (Operation::Create { .. }, Outcome::Missing) => OperationView::Ready,
        (Operation::Delete { .. }, Outcome::Missing) => OperationView::Done,
        (Operation::Set { .. }, Outcome::Missing) => conflict("it was deleted since the plan was made"),
        (Operation::Create { data, .. }, Outcome::Found { stat, data: live, .. }) => {
            match live[..] == data.0[..] && !stat.is_ephemeral() {
                true => OperationView::Done,
                false => conflict("it was created since the plan was made"),
            }
        }
        (
            Operation::Set {
                data, version, czxid, ..
            },
            Outcome::Found { stat, data: live, .. },
        ) => match live[..] == data.0[..] && !stat.is_ephemeral() {
            true => OperationView::Done,
            false => expected(stat, *czxid, *version),
        },
        (Operation::Delete { version, czxid, .. }, Outcome::Found { stat, .. }) => {
            expected(stat, *czxid, *version)
        }
    }
}

/// Whether a znode is still the version of the plan.
fn expected(stat: &Stat, czxid: bridge_core::number::Zxid, version: i32) -> OperationView {
    if stat.czxid != czxid {
        return OperationView::Conflict(
            "it was deleted and created again since the plan was made".to_owned(),
        );
    }
    if stat.version != version {
        return OperationView::Conflict(format!(
            "it was written since the plan was made: it has version {}, and the plan is of version {version}",
            stat.version
        ));
    }
    OperationView::Ready
}
