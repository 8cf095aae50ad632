//! The log lines of a worker: one when a condition begins, one when it ends. Never data of znodes.

use std::time::{Duration, Instant};

use super::machine::Machine;
use super::replay::NotQueued;
use super::sink_failure::SinkFailure;
use super::sink_log::{Line, SinkLog};
use super::status::SinkStatus;
use super::steps::{OperatorRequest, StepProgress};
use crate::journal::{BacklogChange, RunStep};
use crate::sink::SinkError;

/// Logs a change of the failure.
pub(super) fn moved(
    status: &SinkStatus,
    line: Line,
    before: Option<&SinkFailure>,
    after: Option<&SinkFailure>,
) {
    let (sink, source) = (&*status.sink, &*status.source);
    match (line, before, after) {
        (Line::Again, Some(before), _) => {
            tracing::info!(sink, source, failures = before.failures, "sink delivers again");
        }
        (Line::Halted, _, Some(failure)) => log_halted(sink, source, failure),
        (Line::Failing { left_out }, _, Some(failure)) => log_failing(sink, source, failure, left_out),
        (Line::Detail, _, Some(failure)) => {
            tracing::debug!(
                sink,
                source,
                kind = failure.kind.as_str(),
                failures = failure.failures,
                "sink still fails"
            );
        }
        (_, _, None) | (Line::Again, None, _) => {}
    }
}

fn log_halted(sink: &str, source: &str, failure: &SinkFailure) {
    tracing::error!(
        sink,
        source,
        kind = failure.kind.as_str(),
        error = failure.message,
        remedy = failure.remedy,
        "sink halted, other sinks go on"
    );
}

fn log_failing(sink: &str, source: &str, failure: &SinkFailure, left_out: u64) {
    let (kind, error, remedy) = (failure.kind.as_str(), &failure.message, failure.remedy);
    if failure.calls_operator {
        tracing::error!(
            sink,
            source,
            kind,
            error,
            remedy,
            left_out,
            "sink needs an operator, trying again slowly"
        );
    } else {
        tracing::warn!(
            sink,
            source,
            kind,
            error,
            remedy,
            left_out,
            "sink failed, trying again"
        );
    }
}

/// Logs when the first record is parked, and when none is parked any more.
pub(super) fn parked(status: &SinkStatus, before: usize, machine: &Machine, new_dead_letters: u64) {
    let (sink, source) = (&*status.sink, &*status.source);
    let (records, paths) = machine.parked();
    match (before, records) {
        (0, 1..) => {
            let error = machine.next_queues(1).pop().map(|next| next.reason);
            tracing::warn!(
                sink,
                source,
                records,
                paths,
                error,
                "records wait for their destination, other paths go on"
            );
        }
        (1.., 0) => tracing::info!(sink, source, new_dead_letters, "retry queue empty"),
        _ => {}
    }
}

/// Logs that records became dead letters, at most once a minute: an operator has to act.
pub(super) fn rejected(
    status: &SinkStatus,
    progress: &StepProgress,
    dead_letters: usize,
    sink_log: &mut SinkLog,
    now: Instant,
) {
    let rejected = progress.changes.iter().filter_map(|change| match change {
        BacklogChange::Rejected {
            seq,
            path,
            reason,
            attempts,
        } => Some((seq, path, reason, attempts)),
        _ => None,
    });
    let count = rejected.clone().count() as u64;
    let (Some(records), Some((seq, path, reason, attempts))) =
        (sink_log.rejected(count, now), rejected.clone().next())
    else {
        return;
    };
    let (sink, source) = (&*status.sink, &*status.source);
    tracing::error!(
        sink,
        source,
        seq = seq.0,
        path = path.as_deref().unwrap_or("(control record)"),
        attempts,
        reason,
        records,
        dead_letters,
        help = format!(
            "see 'zkbridge dlq list --sink {sink}', correct the cause, then 'zkbridge dlq retry --sink {sink} --all' or \
             'zkbridge dlq drop'"
        ),
        "the destination rejects records for good, and they are dead letters now"
    );
}

/// Logs that data is truncated, once for each worker; the metric counts.
pub(super) fn shrunk(status: &SinkStatus) {
    tracing::warn!(
        sink = &*status.sink,
        source = &*status.source,
        "records are larger than the destination takes, and their data is cut to what it does"
    );
}

pub(super) fn ordered(status: &SinkStatus, order: &OperatorRequest) {
    let (sink, source) = (&*status.sink, &*status.source);
    let (word, records) = match order {
        OperatorRequest::Enable => ("enable", 0),
        OperatorRequest::Retry(seqs) => ("retry dead letters", seqs.len()),
        OperatorRequest::Drop(seqs) => ("drop dead letters", seqs.len()),
        OperatorRequest::Snapshot(_) => ("send the present state again", 0),
        OperatorRequest::Replay(order) => ("replay records", order.records.len()),
    };
    tracing::info!(sink, source, order = word, records, "an operator gave an order");
}

pub(super) fn replay_failed(status: &SinkStatus, records: u64, problem: &NotQueued) {
    tracing::error!(
        sink = &*status.sink,
        source = &*status.source,
        records,
        error = problem.to_string(),
        "records are not replayed"
    );
}

/// Logs rejected records of a run, at most one a minute, and the end of the run.
pub(super) fn not_restated(
    status: &SinkStatus,
    progress: &StepProgress,
    sink_log: &mut SinkLog,
    now: Instant,
) {
    let (sink, source) = (&*status.sink, &*status.source);
    for rejected in &progress.not_restated {
        let Some(left_out) = sink_log.refused(now) else {
            continue;
        };
        let (seq, reason) = (rejected.seq.0, &rejected.reason);
        tracing::error!(
            sink,
            source,
            seq,
            reason,
            left_out,
            "the destination does not take the present state of a znode; correct it and order the snapshot again"
        );
    }
    if let Some(RunStep::Delivered(_)) = progress.run {
        tracing::info!(sink, source, "the present state was sent again");
    }
}

pub(super) fn drain_bound_reached(status: &SinkStatus, drain: Duration) {
    tracing::warn!(
        sink = &*status.sink,
        source = &*status.source,
        drain_seconds = drain.as_secs_f64(),
        "shutdown did not wait for the rest, which comes again after the start"
    );
}

pub(super) fn writer_gone(status: &SinkStatus) {
    tracing::error!(
        sink = &*status.sink,
        source = &*status.source,
        "delivery ends because the journal's writer has ended"
    );
}

pub(super) fn close_failed(status: &SinkStatus, error: &SinkError) {
    tracing::warn!(
        sink = &*status.sink,
        source = &*status.source,
        kind = error.kind.as_str(),
        error = error.message,
        "sink did not close cleanly"
    );
}

pub(super) fn close_abandoned(status: &SinkStatus, bound: Duration) {
    tracing::warn!(
        sink = &*status.sink,
        source = &*status.source,
        bound_seconds = bound.as_secs_f64(),
        "sink did not close in time and was dropped"
    );
}
