//! How fast the NATS sink is beside the bare client with the same settings and messages, at a real server on this
//! machine. Prints one row of the table of `make bench-sinks`, and the latency of a lone record before it.
//!
//! `cargo run --release -p bridge-nats --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use bridge_core::record::{Record, SCHEMA};
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::{Ratio, some_changes};
use bridge_nats::{CreateStream, NatsConfig, NatsSink, StreamSettings};
use bridge_servers::Nats;

const RECORDS: u64 = 100_000;
const PATHS: u64 = 2_000;
const BATCH: usize = 1_000;
const LONE_RECORDS: usize = 500;
const ROUNDS: usize = 5;
const STREAM: &str = "ZK";

fn config(urls: &str) -> NatsConfig {
    let mut config = NatsConfig::new(urls, STREAM);
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    config
}

/// Before each round: the ids of the one before would make the next a list of duplicates.
async fn fresh_stream(context: &Context) {
    context.delete_stream(STREAM).await.ok();
}

async fn opened(urls: &str) -> NatsSink {
    let mut sink = NatsSink::new(&config(urls), "main").unwrap();
    sink.open().await.unwrap();
    sink
}

async fn by_the_sink(sink: &mut NatsSink, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let records = batch.to_vec();
        sink.deliver(&Delivery { records }).await.unwrap();
    }
    began.elapsed()
}

fn headers(record: &Record) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", record.id.to_string());
    headers.insert("Nats-Expected-Stream", STREAM);
    headers.insert("zkbridge-id", record.id.to_string());
    headers.insert("zkbridge-op", record.op.as_str());
    if let Some(path) = &record.path {
        headers.insert("zkbridge-path", path.as_str());
    }
    if let Some(zxid) = record.zxid {
        headers.insert("zkbridge-zxid", zxid.to_string());
    }
    headers.insert("zkbridge-cluster", &*record.cluster);
    headers.insert("zkbridge-schema", SCHEMA);
    headers
}

/// The same messages, encoded in the same task, with as many in flight, awaited batch by batch.
async fn bare(context: &Context, in_flight: usize, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let mut acks = VecDeque::new();
        for record in batch {
            if acks.len() == in_flight {
                let oldest: jetstream::context::PublishAckFuture = acks.pop_front().unwrap();
                oldest.await.unwrap();
            }
            let path = record.path.as_deref().unwrap_or("/control");
            let subject = format!("zk.main{}", path.replace('/', "."));
            let payload = record.to_json().into();
            acks.push_back(
                context
                    .publish_with_headers(subject, headers(record), payload)
                    .await
                    .unwrap(),
            );
        }
        for ack in acks {
            ack.await.unwrap();
        }
    }
    began.elapsed()
}

async fn lone_latencies(sink: &mut NatsSink, records: &[Arc<Record>]) -> Vec<Duration> {
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
    let nats = Nats::start().await.unwrap();
    let urls = nats.urls();
    let context = jetstream::new(async_nats::connect(&urls).await.unwrap());
    let in_flight = config(&urls).in_flight as usize;
    let records = some_changes(RECORDS, PATHS);
    let mut sink = opened(&urls).await;
    let lone = lone_latencies(&mut sink, &records).await;
    let (middle, late) = (lone[lone.len() / 2], lone[lone.len() * 99 / 100]);
    println!("nats: a lone record takes {middle:?} (p99 {late:?})");
    let mut ratio = Ratio::new("nats", "async-nats jetstream", RECORDS);
    for _ in 0..ROUNDS {
        fresh_stream(&context).await;
        sink.open().await.unwrap();
        let with_sink = by_the_sink(&mut sink, &records).await;
        fresh_stream(&context).await;
        sink.open().await.unwrap();
        ratio.add(with_sink, bare(&context, in_flight, &records).await);
    }
    println!("{ratio}");
    sink.close().await.unwrap();
}
