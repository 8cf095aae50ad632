//! How fast the webhook sink is beside a bare client with the same settings, at a receiver on this machine.
//!
//! `cargo run --release -p bridge-webhook --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_core::record::Record;
use bridge_core::secret::Secret;
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::some_records;
use bridge_webhook::{WebhookConfig, WebhookSink};
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// In each turn. Short turns, so that what else the machine does meets both alike.
const RECORDS: u64 = 2_000;
const PATHS: u64 = 1_000;
/// As the engine delivers them.
const BATCH: usize = 1_000;
const ROUNDS: u32 = 20;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn take(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await;
    Ok(Response::new(Empty::new()))
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder
                .serve_connection(TokioIo::new(stream), service_fn(take))
                .await;
        });
    }
}

fn config(address: SocketAddr, parallel: usize) -> WebhookConfig {
    let mut config = WebhookConfig::new(&format!("http://{address}/hook"));
    config.allow_private_addresses = true;
    config.parallel = parallel;
    config.secrets = vec![Secret::new(SECRET)];
    config
}

async fn by_the_sink(sink: &mut WebhookSink, records: &[Arc<Record>]) -> Duration {
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        let records = batch.to_vec();
        sink.deliver(&Delivery { records }).await.unwrap();
    }
    began.elapsed()
}

/// The same bodies with an id and a signature's length of header, so many at a time, in whatever order.
async fn bare(
    client: &reqwest::Client,
    address: SocketAddr,
    parallel: usize,
    records: &[Arc<Record>],
) -> Duration {
    let url = format!("http://{address}/hook");
    let began = Instant::now();
    let requests = records.iter().map(|record| {
        let request = client
            .post(&url)
            .header("content-type", "application/json")
            .header("webhook-id", record.id.to_string())
            .header("webhook-timestamp", "1795354800")
            .header(
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            )
            .body(record.to_json());
        async move {
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success());
            answer.bytes().await.unwrap();
        }
    });
    let mut sent = futures::stream::iter(requests).buffer_unordered(parallel);
    while sent.next().await.is_some() {}
    began.elapsed()
}

#[tokio::main]
async fn main() {
    // The bare client takes what the process has; the sink brings its own.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener));
    let records = some_records(RECORDS, PATHS);
    let bytes: usize = records.iter().map(|record| record.to_json().len()).sum();
    println!(
        "{ROUNDS} times {RECORDS} records of {} bytes, batches of {BATCH}",
        bytes / records.len()
    );
    let rate = |time: Duration| f64::from(ROUNDS) * RECORDS as f64 / time.as_secs_f64() / 1_000.0;
    for parallel in [1, 16, 64] {
        let mut sink = WebhookSink::new(&config(address, parallel)).unwrap();
        sink.open().await.unwrap();
        by_the_sink(&mut sink, &records).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        bare(&client, address, parallel, &records).await;
        let (mut with_sink, mut without) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            with_sink += by_the_sink(&mut sink, &records).await;
            without += bare(&client, address, parallel, &records).await;
        }
        let (with_sink, without) = (rate(with_sink), rate(without));
        println!(
            "parallel {parallel}: sink {with_sink:.1} k/s, bare {without:.1} k/s, ratio {:.2}",
            with_sink / without
        );
        sink.close().await.unwrap();
    }
    server.abort();
}
