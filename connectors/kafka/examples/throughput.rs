//! How fast the Kafka sink is beside a bare producer with the same settings, at a real broker on this machine.
//!
//! `cargo run --release -p bridge-kafka --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_core::record::Record;
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::some_records;
use bridge_kafka::{CreateTopics, KafkaConfig, KafkaSink};
use bridge_servers::Kafka;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

const RECORDS: u64 = 200_000;
const PATHS: u64 = 1_000;
const BATCH: usize = 1_000;
const LONE_RECORDS: usize = 500;
const ROUNDS: usize = 3;

fn config(bootstrap: &str, linger_ms: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(bootstrap);
    config.create_topics = CreateTopics::Yes(serde_json::from_str(r#"{"partitions": 6}"#).unwrap());
    config.properties.set("linger.ms", linger_ms);
    config
}

async fn opened(bootstrap: &str, linger_ms: &str) -> KafkaSink {
    let mut sink = KafkaSink::new(&config(bootstrap, linger_ms), "main").unwrap();
    sink.open().await.unwrap();
    sink
}

async fn by_the_sink(sink: &mut KafkaSink, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let records = batch.to_vec();
        sink.deliver(&Delivery { records }).await.unwrap();
    }
    began.elapsed()
}

/// The same messages without headers, encoded like the sink does, awaited batch by batch.
async fn bare(bootstrap: &str, linger_ms: &str, records: &[Arc<Record>]) -> Duration {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", "0")
        .set("linger.ms", linger_ms);
    let producer: FutureProducer = client.create().unwrap();
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let sent: Vec<_> = batch
            .iter()
            .map(|record| {
                let (key, payload) = (record.path.as_deref().unwrap_or("/"), record.to_json());
                let message = FutureRecord::to("zk.main").key(key).payload(&payload);
                producer.send_result(message).map_err(|(error, _)| error).unwrap()
            })
            .collect();
        for report in sent {
            report.await.unwrap().map_err(|(error, _)| error).unwrap();
        }
    }
    began.elapsed()
}

async fn lone_latencies(sink: &mut KafkaSink, records: &[Arc<Record>]) -> Vec<Duration> {
    let mut latencies = Vec::new();
    for record in &records[..LONE_RECORDS] {
        let began = Instant::now();
        let records = vec![Arc::clone(record)];
        sink.deliver(&Delivery { records }).await.unwrap();
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();
    latencies
}

#[tokio::main]
async fn main() {
    let kafka = Kafka::start().await.unwrap();
    let bootstrap = kafka.bootstrap();
    let records = some_records(RECORDS, PATHS);
    let bytes: usize = records.iter().map(|record| record.to_json().len()).sum();
    println!(
        "{RECORDS} records of {} bytes, batches of {BATCH}",
        bytes / records.len()
    );
    let rate = |time: Duration| RECORDS as f64 / time.as_secs_f64() / 1_000.0;
    for linger_ms in ["0", "1", "5"] {
        let mut sink = opened(&bootstrap, linger_ms).await;
        by_the_sink(&mut sink, &records[..20_000]).await;
        let lone = lone_latencies(&mut sink, &records).await;
        println!(
            "linger {linger_ms} ms: a lone record p50 {:?}, p99 {:?}",
            lone[lone.len() / 2],
            lone[lone.len() * 99 / 100]
        );
        for _ in 0..ROUNDS {
            let with_sink = rate(by_the_sink(&mut sink, &records).await);
            let without = rate(bare(&bootstrap, linger_ms, &records).await);
            println!(
                "  sink {with_sink:.0} k/s, bare {without:.0} k/s, ratio {:.2}",
                with_sink / without
            );
        }
        sink.close().await.unwrap();
    }
}
