//! The names of all metrics, with their units and what they mean. No other module writes a metric's name.
//!
//! Conventions are those of Prometheus: base units, `_total` for counters. A queue is never a gauge of its own: two
//! positions tell it.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

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

/// Every metric: name, kind, unit, help.
pub const ALL: &[(&str, MetricKind, Unit, &str)] = &[
    (
        SINK_DELIVERED_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Records durable at the destination",
    ),
    (
        SINK_DELIVERED_BYTES,
        MetricKind::Counter,
        Unit::Bytes,
        "Bytes of znode data in the delivered records",
    ),
    (
        SINK_SHRUNK_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Delivered records whose data was cut to what the destination takes",
    ),
    (
        SINK_FILTERED_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Records that the filters of the sink left out",
    ),
    (
        SINK_MERGED_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Records that were merged into a later one of their znode and not delivered themselves",
    ),
    (
        SINK_RETRIES,
        MetricKind::Counter,
        Unit::Count,
        "Failed attempts that are made again, by kind of failure",
    ),
    (
        SINK_REJECTED_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Records that the destination can never accept, kept as dead letters",
    ),
    (
        SINK_DEFERRED_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Records that the destination refused for now, set aside with the later ones of their paths",
    ),
    (
        SINK_PARKED_RECORDS,
        MetricKind::Gauge,
        Unit::Count,
        "Records that wait for their destination while those of other paths go on",
    ),
    (
        SINK_DEAD_LETTERS,
        MetricKind::Gauge,
        Unit::Count,
        "Dead letters kept in the journal",
    ),
    (
        SINK_DISABLED,
        MetricKind::Gauge,
        Unit::Count,
        "1 while the sink is disabled until an operator enables it",
    ),
    (
        UNCONFIGURED_CURSOR,
        MetricKind::Gauge,
        Unit::Count,
        "1 for a cursor in the journal whose sink is not configured",
    ),
    (
        SINK_CURSOR,
        MetricKind::Gauge,
        Unit::Count,
        "Position up to which everything is delivered, filtered out or rejected",
    ),
    (
        SINK_LAG_RECORDS,
        MetricKind::Gauge,
        Unit::Count,
        "Records from the sink's cursor to the journal's tail",
    ),
    (
        SINK_LAG_SECONDS,
        MetricKind::Gauge,
        Unit::Seconds,
        "Age of the oldest record that is not delivered",
    ),
    (
        SINK_DELIVER_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        "Duration of the delivery of one batch",
    ),
    (
        SINK_DELIVERY_LATENCY,
        MetricKind::Histogram,
        Unit::Seconds,
        "From the journal to durable at the destination, once for all records of one moment",
    ),
    (
        SINK_HALTED,
        MetricKind::Gauge,
        Unit::Count,
        "1 while the sink is halted and needs an operator",
    ),
    (
        KAFKA_QUEUED_MESSAGES,
        MetricKind::Gauge,
        Unit::Count,
        "Messages that wait in the memory of a Kafka producer or for an acknowledgement",
    ),
    (
        KAFKA_QUEUED_BYTES,
        MetricKind::Gauge,
        Unit::Bytes,
        "Bytes of the messages that wait in the memory of a Kafka producer",
    ),
    (
        KAFKA_ROUND_TRIP,
        MetricKind::Gauge,
        Unit::Seconds,
        "Round trip to the slowest Kafka broker, 99th percentile",
    ),
    (
        KAFKA_THROTTLE,
        MetricKind::Gauge,
        Unit::Seconds,
        "How long Kafka brokers hold their answers back to slow the sink down",
    ),
    (
        KAFKA_SENT_MESSAGES,
        MetricKind::Counter,
        Unit::Count,
        "Messages sent to Kafka brokers, tombstones and repetitions too",
    ),
    (
        KAFKA_RETRIES,
        MetricKind::Counter,
        Unit::Count,
        "Requests to Kafka brokers that were sent again",
    ),
    (
        KAFKA_ERRORS,
        MetricKind::Counter,
        Unit::Count,
        "Requests to Kafka brokers that could not be sent or were not answered in time",
    ),
    (
        COMMAND_RUNS,
        MetricKind::Counter,
        Unit::Count,
        "Runs of the command of a sink, by how they ended",
    ),
    (
        SOURCE_EVENTS,
        MetricKind::Counter,
        Unit::Count,
        "Watch events taken in",
    ),
    (SOURCE_READS, MetricKind::Counter, Unit::Count, "Znodes read"),
    (
        SOURCE_REQUESTS,
        MetricKind::Counter,
        Unit::Count,
        "MultiReads sent",
    ),
    (
        SOURCE_RECORDS,
        MetricKind::Counter,
        Unit::Count,
        "Records written, by op and fidelity",
    ),
    (
        SOURCE_MISSED,
        MetricKind::Counter,
        Unit::Count,
        "Versions of znodes that nobody could read",
    ),
    (
        SOURCE_SUPERSEDED,
        MetricKind::Counter,
        Unit::Count,
        "Versions known by zxid to be overwritten before they could be read",
    ),
    (
        SOURCE_GAPS,
        MetricKind::Counter,
        Unit::Count,
        "Gaps in the watch, by reason",
    ),
    (
        SOURCE_CONNECTIONS,
        MetricKind::Counter,
        Unit::Count,
        "Connections made",
    ),
    (
        SOURCE_TROUBLES,
        MetricKind::Counter,
        Unit::Count,
        "Attempts to connect that failed",
    ),
    (
        SOURCE_LIVENESS_CHECKS,
        MetricKind::Counter,
        Unit::Count,
        "Proofs that the watch lives",
    ),
    (
        SOURCE_UNREAD_ACLS,
        MetricKind::Counter,
        Unit::Count,
        "acl records without the list that was wanted",
    ),
    (
        SOURCE_NOT_JSON,
        MetricKind::Counter,
        Unit::Count,
        "Values that are not JSON and were written as text, although data = \"json\"",
    ),
    (
        SOURCE_WALKS,
        MetricKind::Counter,
        Unit::Count,
        "Walks of a root that came to their end",
    ),
    (
        SOURCE_WALK_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        "Duration of comparing all roots after a connection was made",
    ),
    (
        SOURCE_CAPTURE_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        "From the arrival of watch events until their records are durable in the journal",
    ),
    (
        SOURCE_LIVE,
        MetricKind::Gauge,
        Unit::Count,
        "1 while every watch is armed, every root compared, and every change seen as it happens",
    ),
    (
        SOURCE_HALTED,
        MetricKind::Gauge,
        Unit::Count,
        "1 while the source has stopped and needs an operator",
    ),
    (
        SOURCE_UNREADABLE,
        MetricKind::Gauge,
        Unit::Count,
        "Znodes that may not be read, so that their changes are not seen",
    ),
    (
        SOURCE_WAITING,
        MetricKind::Gauge,
        Unit::Count,
        "Events that wait for the value of their znode",
    ),
    (
        SOURCE_LAST_ZXID,
        MetricKind::Gauge,
        Unit::Count,
        "Zxid up to which everything is reported",
    ),
    (
        SOURCE_LAG_TRANSACTIONS,
        MetricKind::Gauge,
        Unit::Count,
        "Transactions of the leader that the journal has not taken",
    ),
    (
        SOURCE_LAG_SECONDS,
        MetricKind::Gauge,
        Unit::Seconds,
        "For how long the oldest transaction that the journal has not taken has been known",
    ),
    (
        PROOF_CHECKED,
        MetricKind::Counter,
        Unit::Count,
        "Transactions whose digest of the tree was compared and equal",
    ),
    (
        PROOF_UNPROVEN,
        MetricKind::Counter,
        Unit::Count,
        "Transactions that were taken without a comparison of digests",
    ),
    (
        PROOF_MISMATCHES,
        MetricKind::Counter,
        Unit::Count,
        "Digests of the tree that were others than the server's",
    ),
    (
        PROOF_SUSPENDED,
        MetricKind::Gauge,
        Unit::Count,
        "1 while digests of the tree are to be compared and cannot be",
    ),
    (
        SPOOL_USED,
        MetricKind::Gauge,
        Unit::Bytes,
        "Bytes of transactions that wait for the journal",
    ),
    (
        SPOOL_LIMIT,
        MetricKind::Gauge,
        Unit::Bytes,
        "Bytes of transactions that may wait for the journal",
    ),
    (
        TREE_BYTES,
        MetricKind::Gauge,
        Unit::Bytes,
        "Bytes of the tree of a leader that have arrived, while one is taken",
    ),
    (
        TREE_ZNODES,
        MetricKind::Gauge,
        Unit::Count,
        "Znodes of the tree that are staged, while one is taken",
    ),
    (
        TREE_COMPARED,
        MetricKind::Gauge,
        Unit::Count,
        "Captured znodes of the tree that were compared, while one is taken",
    ),
    (
        JOURNAL_TAIL,
        MetricKind::Gauge,
        Unit::Count,
        "Position of the last durable record",
    ),
    (
        SERVICE_INSTANCES,
        MetricKind::Gauge,
        Unit::Count,
        "Registered instances of a service",
    ),
    (
        JOURNAL_RECORDS,
        MetricKind::Gauge,
        Unit::Count,
        "Records kept in the journal",
    ),
    (
        JOURNAL_COMPACTED,
        MetricKind::Counter,
        Unit::Count,
        "Undelivered records that went into later ones because the journal was full",
    ),
    (
        JOURNAL_BYTES,
        MetricKind::Gauge,
        Unit::Bytes,
        "Bytes of the journal that count against its size limit",
    ),
    (
        JOURNAL_LIMIT,
        MetricKind::Gauge,
        Unit::Bytes,
        "Size limit of the journal",
    ),
    (
        JOURNAL_LOG,
        MetricKind::Gauge,
        Unit::Bytes,
        "Length of the journal's write-ahead log",
    ),
    (
        JOURNAL_COMMIT_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        "Duration of making one batch durable",
    ),
    (
        JOURNAL_FSYNC_DURATION,
        MetricKind::Histogram,
        Unit::Seconds,
        "Duration of writing one batch to the disk with fsync",
    ),
    (
        BUILD_INFO,
        MetricKind::Gauge,
        Unit::Count,
        "Always 1; the label has the version of the program",
    ),
    (
        LOG_DROPPED_LINES,
        MetricKind::Counter,
        Unit::Count,
        "Lines of the log that were dropped because nobody read them",
    ),
];

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
