//! librdkafka's statistics in the metrics.

use bridge_core::metrics as names;
use bridge_core::sink::Sink;
use bridge_core::testing::some_records;
use bridge_servers::{eventually, real_servers};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::rig;

/// The value of a metric of the sink under test.
fn value(metrics: &Snapshotter, name: &str) -> Option<f64> {
    let snapshot = metrics.snapshot().into_vec();
    let found = snapshot.into_iter().find(|(key, ..)| {
        let labels: Vec<_> = key
            .key()
            .labels()
            .map(|label| (label.key(), label.value()))
            .collect();
        key.key().name() == name && labels == [("sink", "counted"), ("source", "main")]
    });
    found.map(|(.., value)| match value {
        DebugValue::Counter(count) => count as f64,
        DebugValue::Gauge(value) => value.into_inner(),
        DebugValue::Histogram(_) => f64::NAN,
    })
}

#[tokio::test]
async fn the_statistics_of_the_client_are_in_the_metrics_of_the_sink() {
    real_servers!("what the client counts is in the metrics of the sink");
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    recorder.install().expect("no other test installs one");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 1, &[]).await;
    let mut config = rig::config(&bootstrap, &topic);
    config.properties.set("statistics.interval.ms", "50");
    let mut sink = rig::sink(&config).metered("counted", "main");
    sink.open().await.unwrap();

    rig::deliver(&mut sink, &some_records(100, 5)).await.unwrap();

    // A snapshot takes what was counted since the last one.
    let sent = std::cell::Cell::new(0.0);
    eventually("all messages to be counted", rig::BOUND, || {
        sent.set(sent.get() + value(&metrics, names::KAFKA_SENT_MESSAGES).unwrap_or_default());
        std::future::ready(sent.get() >= 100.0)
    })
    .await
    .unwrap();
    assert_eq!(sent.get(), 100.0);
    eventually(
        "the queue to be empty and the round trip known",
        rig::BOUND,
        || {
            let queued = value(&metrics, names::KAFKA_QUEUED_MESSAGES);
            let round_trip = value(&metrics, names::KAFKA_ROUND_TRIP);
            std::future::ready(queued == Some(0.0) && round_trip.is_some())
        },
    )
    .await
    .unwrap();
    assert_eq!(value(&metrics, names::KAFKA_THROTTLE), Some(0.0));
    sink.close().await.unwrap();
}
