//! The names of all metrics, with their units and what they mean. No other module writes a metric's name.
//!
//! Conventions are those of Prometheus: base units, `_total` for counters. A queue is never a gauge of its own: two
//! positions tell it.

mod described;

use metrics::{describe_counter, describe_gauge, describe_histogram};

pub use described::ALL;

/// Records durable at the destination. Labels: sink, source.
pub const SINK_DELIVERED_RECORDS: &str = "zkbridge_sink_delivered_records_total";
/// Bytes of znode data in them. Labels: sink, source.
pub const SINK_DELIVERED_BYTES: &str = "zkbridge_sink_delivered_bytes_total";
/// Of them, records that were shrunk to what the destination takes. Labels: sink, source.
pub const SINK_SHRUNK_RECORDS: &str = "zkbridge_sink_shrunk_records_total";
/// Records that the filters of the sink left out. Labels: sink, source.
pub const SINK_FILTERED_RECORDS: &str = "zkbridge_sink_filtered_records_total";
/// Records that went into a later one of their znode. Labels: sink, source.
pub const SINK_MERGED_RECORDS: &str = "zkbridge_sink_merged_records_total";
/// Attempts that failed and are made again. Labels: sink, source, kind.
pub const SINK_RETRIES: &str = "zkbridge_sink_retries_total";
/// Records that became dead letters. Labels: sink, source.
pub const SINK_REJECTED_RECORDS: &str = "zkbridge_sink_rejected_records_total";
/// Records that the destination refused for now, each counted once. Labels: sink, source.
pub const SINK_DEFERRED_RECORDS: &str = "zkbridge_sink_deferred_records_total";
/// Records that wait for their destination while others go on. Labels: sink, source.
pub const SINK_PARKED_RECORDS: &str = "zkbridge_sink_parked_records";
/// Dead letters kept. Labels: sink, source.
pub const SINK_DEAD_LETTERS: &str = "zkbridge_sink_dead_letters";
/// 1 while the sink is disabled. Labels: sink, source.
pub const SINK_DISABLED: &str = "zkbridge_sink_disabled";
/// 1 for a cursor in the journal whose sink is not configured. Labels: sink, source.
pub const UNCONFIGURED_CURSOR: &str = "zkbridge_unconfigured_cursor";
/// The sink's position. Labels: sink, source.
pub const SINK_CURSOR: &str = "zkbridge_sink_cursor";
/// Records from the cursor to the tail. Labels: sink, source.
pub const SINK_LAG_RECORDS: &str = "zkbridge_sink_lag_records";
/// Age of the oldest record that is not delivered. Labels: sink, source.
pub const SINK_LAG_SECONDS: &str = "zkbridge_sink_lag_seconds";
/// Duration of a call of the sink's `deliver`. Labels: sink, source.
pub const SINK_DELIVER_DURATION: &str = "zkbridge_sink_deliver_duration_seconds";
/// From the capture of a record to its being durable at the destination. Labels: sink, source.
pub const SINK_DELIVERY_LATENCY: &str = "zkbridge_sink_delivery_latency_seconds";
/// 1 while the sink is halted. Labels: sink, source.
pub const SINK_HALTED: &str = "zkbridge_sink_halted";

/// Messages in the memory of a Kafka producer. Labels: sink, source.
pub const KAFKA_QUEUED_MESSAGES: &str = "zkbridge_kafka_queued_messages";
/// Bytes of them. Labels: sink, source.
pub const KAFKA_QUEUED_BYTES: &str = "zkbridge_kafka_queued_bytes";
/// Round trip to the slowest broker. Labels: sink, source.
pub const KAFKA_ROUND_TRIP: &str = "zkbridge_kafka_round_trip_seconds";
/// How long brokers hold answers back. Labels: sink, source.
pub const KAFKA_THROTTLE: &str = "zkbridge_kafka_throttle_seconds";
/// Messages sent to brokers. Labels: sink, source.
pub const KAFKA_SENT_MESSAGES: &str = "zkbridge_kafka_sent_messages_total";
/// Requests sent again. Labels: sink, source.
pub const KAFKA_RETRIES: &str = "zkbridge_kafka_retries_total";
/// Requests that failed. Labels: sink, source.
pub const KAFKA_ERRORS: &str = "zkbridge_kafka_errors_total";

/// Runs of the command of a sink. Labels: sink, source, end.
pub const COMMAND_RUNS: &str = "zkbridge_command_runs_total";

/// Lines of the log that were dropped because nobody read them. No labels.
pub const LOG_DROPPED_LINES: &str = "zkbridge_log_dropped_lines_total";

/// Watch events taken in. Labels: source.
pub const SOURCE_EVENTS: &str = "zkbridge_source_events_total";
/// Znodes read. Labels: source.
pub const SOURCE_READS: &str = "zkbridge_source_reads_total";
/// MultiReads sent. Labels: source.
pub const SOURCE_REQUESTS: &str = "zkbridge_source_requests_total";
/// Records written. Labels: source, op, fidelity.
pub const SOURCE_RECORDS: &str = "zkbridge_source_records_total";
/// Versions that were never read. Labels: source.
pub const SOURCE_MISSED: &str = "zkbridge_source_missed_versions_total";
/// Versions overwritten before they could be read. Labels: source.
pub const SOURCE_SUPERSEDED: &str = "zkbridge_source_superseded_versions_total";
/// Gaps begun. Labels: source, reason.
pub const SOURCE_GAPS: &str = "zkbridge_source_gaps_total";
/// Connections made. Labels: source.
pub const SOURCE_CONNECTIONS: &str = "zkbridge_source_connections_total";
/// Attempts to connect that failed. Labels: source.
pub const SOURCE_TROUBLES: &str = "zkbridge_source_connection_failures_total";
/// Samples read. Labels: source.
pub const SOURCE_LIVENESS_CHECKS: &str = "zkbridge_source_liveness_checks_total";
/// Access control lists that were wanted and not read. Labels: source.
pub const SOURCE_UNREAD_ACLS: &str = "zkbridge_source_unread_acls_total";
/// Values that are not JSON, although it is wanted. Labels: source.
pub const SOURCE_NOT_JSON: &str = "zkbridge_source_not_json_values_total";
/// Walks ended. Labels: source.
pub const SOURCE_WALKS: &str = "zkbridge_source_walks_total";
/// Duration of comparing the whole tree. Labels: source.
pub const SOURCE_WALK_DURATION: &str = "zkbridge_source_walk_duration_seconds";
/// From the arrival of an event to its durable record. Labels: source.
pub const SOURCE_CAPTURE_DURATION: &str = "zkbridge_source_capture_duration_seconds";
/// 1 while live. Labels: source.
pub const SOURCE_LIVE: &str = "zkbridge_source_live";
/// 1 while halted. Labels: source.
pub const SOURCE_HALTED: &str = "zkbridge_source_halted";
/// Blind spots. Labels: source.
pub const SOURCE_UNREADABLE: &str = "zkbridge_source_unreadable_znodes";
/// Registered instances. Labels: source, service, status.
pub const SERVICE_INSTANCES: &str = "zkbridge_service_instances";
/// Events that wait. Labels: source.
pub const SOURCE_WAITING: &str = "zkbridge_source_waiting_events";
/// The zxid reported. Labels: source.
pub const SOURCE_LAST_ZXID: &str = "zkbridge_source_reported_zxid";
/// Transactions that are not taken. Labels: source.
pub const SOURCE_LAG_TRANSACTIONS: &str = "zkbridge_source_lag_transactions";
/// For how long the oldest of them has been known. Labels: source.
pub const SOURCE_LAG_SECONDS: &str = "zkbridge_source_lag_seconds";
/// Transactions that a digest has proved. Labels: source.
pub const PROOF_CHECKED: &str = "zkbridge_source_proof_checked_transactions_total";
/// Transactions that no digest has proved. Labels: source.
pub const PROOF_UNPROVEN: &str = "zkbridge_source_proof_unproven_transactions_total";
/// Digests that were others than the server's. Labels: source.
pub const PROOF_MISMATCHES: &str = "zkbridge_source_proof_mismatches_total";
/// 1 while no digest can be compared. Labels: source.
pub const PROOF_SUSPENDED: &str = "zkbridge_source_proof_suspended";
/// Bytes that wait for the journal. Labels: source.
pub const SPOOL_USED: &str = "zkbridge_source_spool_used_bytes";
/// Bytes that may wait. Labels: source.
pub const SPOOL_LIMIT: &str = "zkbridge_source_spool_limit_bytes";
/// Bytes of a tree that have arrived. Labels: source.
pub const TREE_BYTES: &str = "zkbridge_source_tree_bytes";
/// Znodes of it that are staged. Labels: source.
pub const TREE_ZNODES: &str = "zkbridge_source_tree_znodes";
/// Captured znodes of it that were compared. Labels: source.
pub const TREE_COMPARED: &str = "zkbridge_source_tree_compared_znodes";
/// The journal's tail. Labels: source.
pub const JOURNAL_TAIL: &str = "zkbridge_journal_tail";
/// Records kept. Labels: source.
pub const JOURNAL_RECORDS: &str = "zkbridge_journal_records";
/// Records compacted. Labels: source.
pub const JOURNAL_COMPACTED: &str = "zkbridge_journal_compacted_records_total";
/// Bytes used. Labels: source.
pub const JOURNAL_BYTES: &str = "zkbridge_journal_used_bytes";
/// Bytes that may be used. Labels: source.
pub const JOURNAL_LIMIT: &str = "zkbridge_journal_limit_bytes";
/// Bytes of the write-ahead log. Labels: source.
pub const JOURNAL_LOG: &str = "zkbridge_journal_log_bytes";
/// Duration of a commit. Labels: source.
pub const JOURNAL_COMMIT_DURATION: &str = "zkbridge_journal_commit_duration_seconds";

/// The part of a commit that waits for the disk. Labels: source.
pub const JOURNAL_FSYNC_DURATION: &str = "zkbridge_journal_fsync_duration_seconds";

/// Always 1. Labels: version.
pub const BUILD_INFO: &str = "zkbridge_build_info";

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Spread over buckets.
    Histogram,
}

/// Buckets for every histogram of durations: from a local file to a webhook's timeout.
pub const DURATION_BUCKETS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Buckets for how long records take to a destination, which may be down for hours.
pub const LATENCY_BUCKETS: [f64; 13] = [
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0, 86_400.0,
];

/// Describes every metric to the installed recorder, with its unit.
pub fn describe() {
    for (name, kind, unit, help) in ALL {
        match kind {
            MetricKind::Counter => describe_counter!(*name, *unit, *help),
            MetricKind::Gauge => describe_gauge!(*name, *unit, *help),
            MetricKind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use metrics::Unit;

    use super::*;

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        let mut seen = HashSet::new();
        for (name, kind, unit, _) in ALL {
            assert!(seen.insert(name), "{name} occurs twice");
            assert!(name.starts_with("zkbridge_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
        }
    }
}
