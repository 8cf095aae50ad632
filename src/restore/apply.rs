//! Applies a plan to a tree: reads, writes and notes what is done, request by request, and compares at the end.

use bridge_core::capture::Outcome;
use bridge_core::path::ZnodePath;
use bridge_zookeeper::WriteError;

use super::applier::{Applier, Conflict, OnConflict};
use super::plan_file::{OperationState, PlanFile};
use crate::exit::{Exit, Failure};
use crate::source_type::TreeEditor;
use crate::verify::RateLimit;

/// Znodes of one read: with values of 1 MB an answer of 16 MB.
const READ_AT_ONCE: usize = 16;

/// The choices of an operator.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// The choice for conflicts.
    pub on_conflict: OnConflict,
    /// Operations of one request.
    pub batch_max: usize,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Operations that earlier runs have done.
    pub before: usize,
    /// Operations that this run has done.
    pub done: usize,
    /// Operations whose effect was there already.
    pub found: usize,
    /// Operations that were left out, in this run and in earlier ones.
    pub skipped: Vec<Conflict>,
    /// The conflict at which the run stopped.
    pub stopped: Option<Conflict>,
    /// Znodes that are not as the plan wants them, at the end.
    pub differences: Vec<Conflict>,
}

/// Applies the open operations of a plan.
///
/// # Errors
///
/// If the place is another one than that of the plan, the session is lost, or the progress cannot be written. A later run
/// goes on where this one ended.
pub async fn apply(
    tree: &dyn TreeEditor,
    file: &mut PlanFile,
    options: ApplyOptions,
    rate: &mut RateLimit,
) -> Result<Applied, Failure> {
    tree.sync().await.map_err(unreachable)?;
    check_anchors(tree, file, rate).await?;
    let operations = file.plan.operations.clone();
    let applier = Applier::new(&operations, options.batch_max);
    let is_done = |state: &&OperationState| **state == OperationState::Done;
    let mut applied = Applied {
        before: file.states.iter().filter(is_done).count(),
        ..Applied::default()
    };
    loop {
        let batch = applier.next_batch(&file.states);
        if batch.is_empty() {
            break;
        }
        let paths: Vec<ZnodePath> = batch.iter().map(|at| operations[*at].path().clone()).collect();
        let outcomes = read_all(tree, &paths, rate).await?;
        let sorted = applier.sort(&batch, &outcomes);
        file.note_done(&sorted.done).map_err(unwritten)?;
        applied.found += sorted.done.len();
        if let Some(conflict) = sorted.conflicts.into_iter().next() {
            if settle(file, conflict, options, &mut applied)? {
                return Ok(applied);
            }
            continue;
        }
        if sorted.ready.is_empty() {
            continue;
        }
        let writes = sorted.ready.iter().map(|at| operations[*at].write()).collect();
        let (index, reason) = match tree.write(writes).await {
            Ok(()) => {
                file.note_done(&sorted.ready).map_err(unwritten)?;
                applied.done += sorted.ready.len();
                continue;
            }
            Err(WriteError::Failed(error)) => return Err(unreachable(error)),
            Err(WriteError::Refused { index, refusal }) => (index, refusal.to_string()),
            Err(WriteError::Invalid { index, reason }) => (index, format!("it cannot be sent: {reason}")),
        };
        let conflict = applier.conflict(sorted.ready[index], reason);
        if settle(file, conflict, options, &mut applied)? {
            return Ok(applied);
        }
    }
    compare(tree, file, &applier, rate, &mut applied).await?;
    Ok(applied)
}

/// Whether a conflict ends the run.
fn settle(
    file: &mut PlanFile,
    conflict: Conflict,
    options: ApplyOptions,
    applied: &mut Applied,
) -> Result<bool, Failure> {
    match options.on_conflict {
        OnConflict::Stop => {
            applied.stopped = Some(conflict);
            Ok(true)
        }
        OnConflict::Skip => {
            file.note_skipped(conflict.operation, &conflict.reason)
                .map_err(unwritten)?;
            Ok(false)
        }
    }
}

/// Whether the place and the znodes above it are those of the plan.
async fn check_anchors(tree: &dyn TreeEditor, file: &PlanFile, rate: &mut RateLimit) -> Result<(), Failure> {
    let anchors = &file.plan.header.anchors;
    let paths: Vec<ZnodePath> = anchors.iter().map(|anchor| anchor.path.clone()).collect();
    let outcomes = read_all(tree, &paths, rate).await?;
    let other = anchors.iter().zip(outcomes).find(
        |(anchor, outcome)| !matches!(outcome, Outcome::Found { stat, .. } if stat.czxid == anchor.czxid),
    );
    let Some((anchor, _)) = other else { return Ok(()) };
    let message = format!(
        "{} is not the znode that it was when the plan was made ({}): these are other servers, or it was deleted since\n\
         help: apply the plan to the servers that it was made for, or make a new one",
        anchor.path.brief(),
        anchor.czxid
    );
    Err(Failure::new(Exit::Runtime, message))
}

/// Compares every znode of the plan with the tree.
async fn compare(
    tree: &dyn TreeEditor,
    file: &PlanFile,
    applier: &Applier<'_>,
    rate: &mut RateLimit,
    applied: &mut Applied,
) -> Result<(), Failure> {
    let operations = &file.plan.operations;
    let numbers: Vec<usize> = (0..operations.len()).collect();
    // Not all at once: the values that are there now can be larger than those of the plan.
    for some in numbers.chunks(READ_AT_ONCE) {
        let paths: Vec<ZnodePath> = some.iter().map(|at| operations[*at].path().clone()).collect();
        let outcomes = read_all(tree, &paths, rate).await?;
        for (at, outcome) in some.iter().zip(&outcomes) {
            match &file.states[*at] {
                OperationState::Skipped(reason) => applied.skipped.push(Conflict {
                    operation: *at,
                    path: operations[*at].path().clone(),
                    verb: operations[*at].verb(),
                    reason: reason.clone(),
                }),
                _ => applied.differences.extend(applier.difference(*at, outcome)),
            }
        }
    }
    Ok(())
}

/// Reads znodes in several requests, within a rate.
pub async fn read_all(
    tree: &dyn TreeEditor,
    paths: &[ZnodePath],
    rate: &mut RateLimit,
) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::with_capacity(paths.len());
    for some in paths.chunks(READ_AT_ONCE) {
        rate.wait(some.len()).await;
        outcomes.extend(tree.read(some).await.map_err(unreachable)?);
    }
    Ok(outcomes)
}

fn unreachable(error: bridge_core::source::SourceError) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}

fn unwritten(error: super::plan_file::BadPlan) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}
