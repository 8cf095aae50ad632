//! What can be known of a sink at any moment, for status pages, readiness and metrics.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::Serialize;

use super::steps::{Phase, Progress};
use super::trouble::Trouble;
use crate::metrics as names;
use crate::number::Seq;

/// The delivery of one source's records to one sink, as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SinkStatus {
    /// The sink's name.
    pub sink: Arc<str>,
    /// The source's name.
    pub source: Arc<str>,
    /// What it is doing.
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
    /// Records rejected since this process started.
    pub rejected: u64,
    /// Attempts that failed and were or will be made again, since this process started.
    pub retries: u64,
    /// What stands in the way; null when nothing does.
    pub error: Option<Trouble>,
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
            rejected: 0,
            retries: 0,
            error: None,
        }
    }

    pub(super) fn count(&mut self, progress: &Progress) {
        self.delivered += progress.delivered;
        self.rejected += progress.rejected.len() as u64;
    }
}

/// The metrics of one sink and source.
pub(super) struct Meters {
    sink: Arc<str>,
    source: Arc<str>,
    records: Counter,
    bytes: Counter,
    rejected: Counter,
    cursor: Gauge,
    lag_records: Gauge,
    lag_seconds: Gauge,
    halted: Gauge,
    pub deliver_duration: Histogram,
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
            rejected: counter!(names::SINK_REJECTED_RECORDS, &labels),
            cursor: gauge!(names::SINK_CURSOR, &labels),
            lag_records: gauge!(names::SINK_LAG_RECORDS, &labels),
            lag_seconds: gauge!(names::SINK_LAG_SECONDS, &labels),
            halted: gauge!(names::SINK_HALTED, &labels),
            deliver_duration: histogram!(names::SINK_DELIVER_DURATION, &labels),
        }
    }

    pub fn count(&self, progress: &Progress) {
        self.records.increment(progress.delivered);
        self.bytes.increment(progress.delivered_bytes);
        self.rejected.increment(progress.rejected.len() as u64);
    }

    pub fn retried(&self, trouble: &Trouble) {
        let labels = [
            ("sink", metrics::SharedString::from(Arc::clone(&self.sink))),
            ("source", metrics::SharedString::from(Arc::clone(&self.source))),
            ("kind", metrics::SharedString::const_str(trouble.kind.as_str())),
        ];
        counter!(names::SINK_RETRIES, &labels).increment(1);
    }

    // A gauge is a float; a position keeps every digit up to 2^53.
    #[allow(clippy::cast_precision_loss)]
    pub fn show(&self, status: &SinkStatus) {
        self.cursor.set(status.cursor.0 as f64);
        self.lag_records.set(status.lag_records as f64);
        self.lag_seconds.set(status.lag_seconds);
        self.halted
            .set(f64::from(u8::from(status.state == Phase::Halted)));
    }
}
