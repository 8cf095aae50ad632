//! How fast the Kafka sink is beside a bare producer with the same settings and messages, at a real broker on this
//! machine. Prints one row of the table of `make bench-sinks`, and the latency of a lone record before it.
//!
//! `cargo run --release -p bridge-kafka --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_core::record::{Record, SCHEMA};
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::{Ratio, some_changes};
use bridge_kafka::{CreateTopics, KafkaConfig, KafkaSink};
use bridge_servers::Kafka;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

const RECORDS: u64 = 200_000;
const PATHS: u64 = 1_000;
const BATCH: usize = 1_000;
const LONE_RECORDS: usize = 500;
const ROUNDS: usize = 5;

async fn opened(bootstrap: &str) -> KafkaSink {
    let mut config = KafkaConfig::new(bootstrap);
    config.create_topics = CreateTopics::Yes(serde_json::from_str(r#"{"partitions": 6}"#).unwrap());
    let mut sink = KafkaSink::new(&config, "main").unwrap();
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

fn producer(bootstrap: &str) -> FutureProducer {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("enable.gapless.guarantee", "true")
        .set("compression.type", "zstd")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "0");
    client.create().unwrap()
}

fn headers(record: &Record) -> OwnedHeaders {
    let header = |headers: OwnedHeaders, key: &str, value: &str| {
        let value = Some(value);
        headers.insert(Header { key, value })
    };
    let mut headers = header(OwnedHeaders::new(), "zkbridge-id", &record.id.to_string());
    headers = header(headers, "zkbridge-op", record.op.as_str());
    if let Some(zxid) = record.zxid {
        headers = header(headers, "zkbridge-zxid", &zxid.to_string());
    }
    headers = header(headers, "zkbridge-cluster", &record.cluster);
    header(headers, "zkbridge-schema", SCHEMA)
}

/// The same messages, encoded in the same task, awaited batch by batch.
async fn bare(producer: &FutureProducer, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let sent: Vec<_> = batch
            .iter()
            .map(|record| {
                let (key, payload) = (record.path.as_deref().unwrap_or("control:/"), record.to_json());
                let message = FutureRecord::to("zk.main")
                    .key(key)
                    .payload(&payload)
                    .headers(headers(record));
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
    let records = some_changes(RECORDS, PATHS);
    let mut sink = opened(&kafka.bootstrap()).await;
    let producer = producer(&kafka.bootstrap());
    by_the_sink(&mut sink, &records[..20_000]).await;
    bare(&producer, &records[..20_000]).await;
    let lone = lone_latencies(&mut sink, &records).await;
    let (middle, late) = (lone[lone.len() / 2], lone[lone.len() * 99 / 100]);
    println!("kafka: a lone record takes {middle:?} (p99 {late:?})");
    let mut ratio = Ratio::new("kafka", "rdkafka producer", RECORDS);
    for _ in 0..ROUNDS {
        ratio.add(
            by_the_sink(&mut sink, &records).await,
            bare(&producer, &records).await,
        );
    }
    println!("{ratio}");
    sink.close().await.unwrap();
}
