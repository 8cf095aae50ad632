//! The harness itself on real servers, with small counts: that it counts what is there, finds what is wrong, and ends.
//! No time is judged. The program in Java has no part in it: `make bench` builds it. `ZKBRIDGE_TESTS=offline` leaves
//! this out, and says so.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_bench::{
    Figures, Scenario, Settings, Sizes, Subject, cut, idle, large, latency, lossless, network, reconnect,
    run, services, start, sustained, table,
};
use bridge_servers::real_servers;

fn sizes() -> Sizes {
    Sizes {
        repetitions: 1,
        written_znodes: 100,
        sustained_writes: 1_000,
        warming_writes: 200,
        paced_rate: 100,
        paced_writes: 50,
        viewed_rate: 500,
        viewed_writes: 1_000,
        start_trees: vec![1_500],
        reconnect_tree: 1_500,
        missed_writes: 100,
        large_writes: 700,
        idle_tree: 500,
        network_tree: 500,
        idle: Duration::from_millis(500),
        settle: Duration::from_millis(100),
        quiet: Duration::from_millis(400),
        value_bytes: 100,
    }
}

/// The bridge that was built with this test, beside it.
fn bridge(harness: &Path) -> PathBuf {
    let bridge = harness.with_file_name("zkbridge");
    assert!(
        bridge.is_file(),
        "{} is missing: build it with cargo build, or run all tests",
        bridge.display()
    );
    bridge
}

async fn figures(scenarios: &[Scenario]) -> (Figures, String) {
    let harness = PathBuf::from(env!("CARGO_BIN_EXE_bench"));
    let folder = tempfile::Builder::new().prefix("zkbridge-bench-").tempdir();
    let folder = folder.unwrap();
    let settings = Settings {
        bridge: bridge(&harness),
        harness,
        folder: folder.path().join("rounds"),
        scenarios: scenarios.to_vec(),
        sizes: sizes(),
        journal: None,
        peer: None,
    };
    let figures = Box::pin(run(&settings, folder.path())).await.unwrap();
    let written = std::fs::read_to_string(folder.path().join("bench.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        written["rounds"].as_array().map(Vec::len),
        Some(figures.rounds().len())
    );
    let left = std::fs::read_dir(&settings.folder).unwrap().count();
    assert_eq!(left, 0, "nothing of a round is left");
    (figures.clone(), table(&figures, &settings))
}

fn value(figures: &Figures, scenario: &str, subject: Subject, measure: &str) -> f64 {
    let summary = figures.summary(scenario, subject, measure);
    summary
        .unwrap_or_else(|| panic!("{scenario}: {subject} has no {measure}"))
        .median
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_and_missing_versions_are_counted() {
    real_servers!("the benchmark's count of writes");
    let (figures, table) = figures(&[Scenario::Sustained, Scenario::Latency]).await;
    let of = |subject, measure| value(&figures, sustained::NAME, subject, measure);
    assert_eq!(
        of(Subject::Watcher, sustained::DELIVERED),
        100.0,
        "each write is an event"
    );
    for subject in [Subject::Bridge, Subject::BridgeUnsynced, Subject::Pipeline] {
        assert_eq!(of(subject, sustained::WRONG), 0.0, "{subject}: {table}");
        let delivered = of(subject, sustained::DELIVERED);
        assert!(delivered > 0.0 && delivered <= 100.0, "{subject}: {table}");
        let (p50, p99) = (of(subject, sustained::AGE_P50), of(subject, sustained::AGE_P99));
        assert!(p50 >= 0.0 && p50 <= p99 && p99 > 0.0, "{subject}: {table}");
    }
    assert_eq!(of(Subject::Bridge, sustained::SILENT), 0.0, "{table}");
    let p50 = value(&figures, latency::OWN_LINGER, Subject::Bridge, latency::P50);
    assert!(p50 > 0.0, "{table}");
    assert!(table.contains("| bare watcher |"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_delivered_whole_and_a_cut_shows_which_subject_compares() {
    real_servers!("the benchmark's trees and cuts");
    let scenarios = [Scenario::Start, Scenario::Reconnect, Scenario::Cut];
    let (figures, table) = figures(&scenarios).await;
    for subject in [Subject::Pipeline, Subject::Bridge] {
        let missing = value(&figures, "start, 1500 znodes", subject, start::MISSING);
        assert_eq!(missing, 0.0, "{subject}: {table}");
    }
    let records = value(&figures, reconnect::NAME, Subject::Bridge, reconnect::RECORDS);
    assert_eq!(records, 0.0, "{table}");
    let wrong = |subject| value(&figures, cut::NAME, subject, cut::WRONG);
    assert_eq!(wrong(Subject::Bridge), 0.0, "{table}");
    assert_eq!(
        wrong(Subject::Pipeline),
        200.0,
        "who does not compare never hears of a delete: {table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_counted_on_both_sides_of_the_bridge() {
    real_servers!("the benchmark's bytes");
    let (figures, table) = figures(&[Scenario::Network]).await;
    let of = |measure| value(&figures, network::NAME, Subject::Bridge, measure);
    let [from_zookeeper, to_zookeeper, to_kafka] = network::PACED;
    // The value twice 100 bytes in a record of Kafka, and once with its Stat from ZooKeeper, behind an event.
    assert!(
        of(from_zookeeper) > 200.0 && of(to_zookeeper) > 20.0 && of(to_kafka) > 200.0,
        "{table}"
    );
    let [listed, ..] = network::LISTED;
    let [compared, ..] = network::COMPARED;
    assert!(
        of(listed) > 168.0 && of(compared) > 168.0,
        "a value of 100 bytes and a Stat of 68: {table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_read_transactions_deliver_every_version_beside_a_watch() {
    real_servers!("the benchmark of sources that read transactions");
    let (figures, table) = figures(&[Scenario::Lossless]).await;
    for subject in [Subject::BridgeObserver, Subject::BridgeTxnlog] {
        let of = |measure| value(&figures, lossless::SUSTAINED, subject, measure);
        assert_eq!(of(sustained::DELIVERED), 100.0, "{subject}: {table}");
        assert_eq!(of(sustained::WRONG), 0.0, "{subject}: {table}");
        let missing = value(
            &figures,
            "every change: start, 1500 znodes",
            subject,
            start::MISSING,
        );
        assert_eq!(missing, 0.0, "{subject}: {table}");
    }
    let back = value(
        &figures,
        lossless::BACK,
        Subject::BridgeObserver,
        sustained::DELIVERED,
    );
    assert_eq!(back, 100.0, "{table}");
    let observer = |scenario, measure| value(&figures, scenario, Subject::BridgeObserver, measure);
    assert_eq!(observer(lossless::BACK, lossless::GAPS), 0.0, "{table}");
    let of_tree = |measure| observer("every change: writes, 1500 znodes", measure);
    for delivered in [sustained::DELIVERED, large::CAUGHT_UP] {
        assert_eq!(of_tree(delivered), 100.0, "{delivered}: {table}");
    }
    // More than a leader keeps by default.
    assert_eq!(of_tree(lossless::GAPS), 0.0, "{table}");
    let p50 = |subject| value(&figures, lossless::LATENCY, subject, latency::P50);
    assert!(
        p50(Subject::Bridge) > 0.0 && p50(Subject::BridgeTxnlog) > 0.0,
        "{table}"
    );
    // A watch has a gap where its connection was lost, and the count sees it.
    let gaps = value(&figures, lossless::BACK, Subject::Bridge, lossless::GAPS);
    assert_eq!(gaps, 1.0, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_leaf_of_a_registry_is_an_event_where_services_are_measured() {
    real_servers!("the benchmark of services");
    let (figures, table) = figures(&[Scenario::Services]).await;
    let of = |subject, measure| value(&figures, services::NAME, subject, measure);
    for subject in [Subject::Bridge, Subject::BridgeServices] {
        assert_eq!(of(subject, sustained::WRONG), 0.0, "{subject}: {table}");
        assert!(of(subject, sustained::CPU_DELIVERED) > 0.0, "{subject}: {table}");
    }
    let records = |subject| value(&figures, services::REGISTRY, subject, idle::JOURNALLED);
    let events = records(Subject::BridgeServices) - records(Subject::Bridge);
    assert!(events >= 500.0, "{events}: {table}");
}
