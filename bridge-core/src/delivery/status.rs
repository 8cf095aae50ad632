//! The status of a sink, for status pages, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::replay::ReplayCounts;
use super::sink_failure::{SinkFailure, SinkFailureKind};
use super::steps::{Phase, StepProgress};
use crate::journal::{BacklogChange, SinkRun};
use crate::metrics as names;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Timestamp;
use crate::sink::SinkErrorKind;

/// The most parked paths named in the status; the counts include all.
const NAMED_MAX: usize = 10;

/// The state of the delivery of one source's records to one sink.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkStatus {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The source's name.
    pub source: Arc<str>,
    /// The present state.
    pub state: Phase,
    /// Everything up to it is durable at the destination, filtered out, or rejected.
    pub cursor: Seq,
    /// The journal's durable tail.
    pub tail: Seq,
    /// From the cursor to the tail.
    pub lag_records: u64,
    /// Age of the oldest record that is not delivered; 0 where there is none.
    pub lag_seconds: f64,
    /// Records delivered since this process started.
    pub delivered: u64,
    /// Of them, records whose data was cut to what the destination takes.
    pub shrunk: u64,
    /// Records rejected since this process started.
    pub rejected: u64,
    /// Records that the filters of the sink left out since this process started.
    pub filtered: u64,
    /// Records of orders to replay since this process started.
    pub replay: ReplayCounts,
    /// Dead letters kept in the journal.
    pub dead_letters: u64,
    /// Records that wait for their destination while others go on.
    pub parked: ParkedStatus,
    /// The present state as it is sent again; null when that is not under way.
    pub run: Option<RunStatus>,
    /// Attempts that failed and were or will be made again, since this process started: those of the whole sink, and for
    /// each path that waits in the retry queue those of its first record.
    pub retries: u64,
    /// The present failure; null if there is none.
    pub error: Option<SinkFailure>,
}

/// Records that wait for their destination while those of other paths go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParkedStatus {
    /// How many.
    pub records: u64,
    /// The number of their paths.
    pub paths: u64,
    /// Those among the records that an operator wants once more.
    pub replaying: u64,
    /// The records that are tried next.
    pub next: Vec<ParkedPath>,
}

/// A path whose records wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParkedPath {
    /// The path; null for control records.
    pub path: Option<ZnodePath>,
    /// The first record that waits.
    pub seq: Seq,
    /// How many wait.
    pub records: u64,
    /// Attempts in a row that failed.
    pub attempts: u32,
    /// Until the next one.
    pub retry_in_seconds: f64,
    /// Why the last one failed.
    pub error: String,
}

/// How far the present state has been sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Of this path and all below it; null: of everything.
    pub path: Option<ZnodePath>,
    /// Znodes delivered of the current root.
    #[serde(rename = "told")]
    pub delivered: u64,
}

impl RunStatus {
    pub(super) fn of(run: &SinkRun) -> RunStatus {
        RunStatus {
            path: run.path.clone(),
            delivered: run.delivered(),
        }
    }
}

impl ParkedStatus {
    pub(super) fn of(machine: &Machine, now: Duration) -> ParkedStatus {
        let (records, paths) = machine.parked();
        let next = machine.next_queues(NAMED_MAX).into_iter().map(|next| ParkedPath {
            path: next.path,
            seq: next.seq,
            records: next.records as u64,
            attempts: next.attempts,
            retry_in_seconds: next.due.saturating_sub(now).as_secs_f64(),
            error: next.reason,
        });
        ParkedStatus {
            records: records as u64,
            paths: paths as u64,
            replaying: machine.replaying() as u64,
            next: next.collect(),
        }
    }
}

/// How many records a step rejected, and how many it deferred for the first time.
pub(super) fn set_aside(progress: &StepProgress) -> (u64, u64) {
    let count =
        |is: fn(&BacklogChange) -> bool| progress.changes.iter().filter(|change| is(change)).count() as u64;
    (
        count(|change| matches!(change, BacklogChange::Rejected { .. })),
        count(|change| matches!(change, BacklogChange::Parked { attempts: 0 | 1, .. })),
    )
}

/// Records that a step took from the retry queue, or kept out of it for good.
pub(super) fn settled(progress: &StepProgress) -> Vec<Seq> {
    let settled = progress.changes.iter().filter(|change| {
        matches!(
            change,
            BacklogChange::Rejected { .. } | BacklogChange::Released(_)
        )
    });
    settled.map(BacklogChange::seq).collect()
}

impl SinkStatus {
    /// A sink before its first step.
    pub(super) fn new(sink: Arc<str>, source: Arc<str>, cursor: Seq) -> SinkStatus {
        SinkStatus {
            sink,
            source,
            state: Phase::Opening,
            cursor,
            tail: cursor,
            lag_records: 0,
            lag_seconds: 0.0,
            delivered: 0,
            shrunk: 0,
            rejected: 0,
            filtered: 0,
            replay: ReplayCounts::default(),
            dead_letters: 0,
            parked: ParkedStatus::default(),
            run: None,
            retries: 0,
            error: None,
        }
    }

    pub(super) fn count(&mut self, progress: &StepProgress) {
        self.delivered += progress.delivered;
        self.rejected += set_aside(progress).0 + progress.not_restated.len() as u64;
    }
}

/// The metrics of one sink and source.
pub(super) struct Meters {
    sink: Arc<str>,
    source: Arc<str>,
    records: Counter,
    bytes: Counter,
    pub shrunk: Counter,
    pub filtered: Counter,
    merged: Counter,
    rejected: Counter,
    deferred: Counter,
    letters: Gauge,
    parked: Gauge,
    disabled: Gauge,
    cursor: Gauge,
    lag_records: Gauge,
    lag_seconds: Gauge,
    halted: Gauge,
    pub deliver_duration: Histogram,
    latency: Histogram,
}

impl Meters {
    pub fn new(sink: &Arc<str>, source: &Arc<str>) -> Meters {
        let labels = [
            ("sink", metrics::SharedString::from(Arc::clone(sink))),
            ("source", metrics::SharedString::from(Arc::clone(source))),
        ];
        Meters {
            sink: Arc::clone(sink),
            source: Arc::clone(source),
            records: counter!(names::SINK_DELIVERED_RECORDS, &labels),
            bytes: counter!(names::SINK_DELIVERED_BYTES, &labels),
            shrunk: counter!(names::SINK_SHRUNK_RECORDS, &labels),
            filtered: counter!(names::SINK_FILTERED_RECORDS, &labels),
            merged: counter!(names::SINK_MERGED_RECORDS, &labels),
            rejected: counter!(names::SINK_REJECTED_RECORDS, &labels),
            deferred: counter!(names::SINK_DEFERRED_RECORDS, &labels),
            letters: gauge!(names::SINK_DEAD_LETTERS, &labels),
            parked: gauge!(names::SINK_PARKED_RECORDS, &labels),
            disabled: gauge!(names::SINK_DISABLED, &labels),
            cursor: gauge!(names::SINK_CURSOR, &labels),
            lag_records: gauge!(names::SINK_LAG_RECORDS, &labels),
            lag_seconds: gauge!(names::SINK_LAG_SECONDS, &labels),
            halted: gauge!(names::SINK_HALTED, &labels),
            deliver_duration: histogram!(names::SINK_DELIVER_DURATION, &labels),
            latency: histogram!(names::SINK_DELIVERY_LATENCY, &labels),
        }
    }

    pub fn count(&self, progress: &StepProgress, now: Timestamp) {
        for captured in &progress.captured {
            self.latency.record(captured.age_seconds(now));
        }
        self.records.increment(progress.delivered);
        self.bytes.increment(progress.delivered_bytes);
        self.merged.increment(progress.merged);
        let (rejected, deferred) = set_aside(progress);
        self.rejected
            .increment(rejected + progress.not_restated.len() as u64);
        self.deferred.increment(deferred);
    }

    pub fn retried(&self, kind: SinkFailureKind) {
        let labels = [
            ("sink", metrics::SharedString::from(Arc::clone(&self.sink))),
            ("source", metrics::SharedString::from(Arc::clone(&self.source))),
            ("kind", metrics::SharedString::const_str(kind.as_str())),
        ];
        counter!(names::SINK_RETRIES, &labels).increment(1);
    }

    // A gauge is a float; a position keeps every digit up to 2^53.
    #[allow(clippy::cast_precision_loss)]
    pub fn show(&self, status: &SinkStatus) {
        self.cursor.set(status.cursor.0 as f64);
        self.lag_records.set(status.lag_records as f64);
        self.lag_seconds.set(status.lag_seconds);
        self.letters.set(status.dead_letters as f64);
        self.parked.set(status.parked.records as f64);
        let is_disabled = status.state == Phase::Halted
            && matches!(&status.error, Some(failure) if failure.kind == SinkFailureKind::Sink(SinkErrorKind::Disabled));
        self.disabled.set(f64::from(u8::from(is_disabled)));
        self.halted
            .set(f64::from(u8::from(status.state == Phase::Halted)));
    }
}
