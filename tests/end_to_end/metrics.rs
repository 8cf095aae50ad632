//! `/metrics` of a bridge at work, as Prometheus reads it.

use std::collections::BTreeSet;

use bridge_core::metrics::{self, MetricKind};
use bridge_servers::{Tool, eventually, real_servers};

use crate::bridge::{BOUND, Bridge};
use crate::stage::shared;
use crate::writer::Writer;

/// The metrics in a page: those with a `# TYPE`.
fn typed(page: &str) -> BTreeSet<(&str, &str)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_no_fault_with_the_metrics_and_they_are_those_that_are_documented() {
    real_servers!("promtool judges /metrics");
    let servers = shared().await;
    let root = "/metrics";
    let connect = servers.zookeeper.connect_string();
    let writer = Writer::connect(&connect).await;
    writer.create(root, b"").await;
    let mut bridge = Bridge::configured(&format!(
        "[[source]]\nname = \"main\"\nconnect = \"{connect}\"\nroots = [\"{root}\"]\n\
         [[sink]]\ntype = \"file\"\nname = \"out\"\npath = \"out.jsonl\"\n"
    ));
    bridge.start_ready().await;
    for child in 0..20 {
        writer.create(&format!("{root}/{child}"), b"value").await;
    }

    bridge
        .until("all to be delivered", |status| {
            status["sinks"][0]["delivered"].as_u64() >= Some(21)
        })
        .await;
    let followed = eventually("the metrics to follow", BOUND, || async {
        bridge.metric("zkbridge_source_events_total", &[]).await >= 20.0
    });
    followed.await.unwrap();
    let page = bridge.get("/metrics").await.1;

    let said = Tool::promtool().run(&["check", "metrics"], page.as_bytes()).await;
    assert_eq!(said.unwrap().trim(), "");
    let known: BTreeSet<(&str, &str)> = metrics::ALL
        .iter()
        .map(|(name, of, ..)| (*name, kind(*of)))
        .collect();
    let typed = typed(&page);
    let (of_process, own): (BTreeSet<_>, BTreeSet<_>) =
        typed.iter().partition(|(name, _)| name.starts_with("process_"));
    assert!(
        of_process.contains(&("process_resident_memory_bytes", "gauge")),
        "{page}"
    );
    let unknown: Vec<_> = own.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    // Metrics of failing sinks and of librdkafka have no values here.
    let expected = [
        ("zkbridge_source_capture_duration_seconds", "histogram"),
        ("zkbridge_source_walk_duration_seconds", "histogram"),
        ("zkbridge_journal_commit_duration_seconds", "histogram"),
        ("zkbridge_journal_fsync_duration_seconds", "histogram"),
        ("zkbridge_journal_limit_bytes", "gauge"),
        ("zkbridge_sink_delivered_records_total", "counter"),
        ("zkbridge_sink_lag_seconds", "gauge"),
        ("zkbridge_sink_delivery_latency_seconds", "histogram"),
        ("zkbridge_build_info", "gauge"),
    ];
    for metric in expected {
        assert!(typed.contains(&metric), "{metric:?} is missing:\n{page}");
    }
    bridge.terminate().await;
}
