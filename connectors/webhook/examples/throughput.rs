//! How fast the webhook sink is beside a bare client with the same settings and requests, at a receiver in the same
//! process. Prints one row of the table of `make bench-sinks`, for the default of `parallel`, and the ratios for others
//! before it.
//!
//! `cargo run --release -p bridge-webhook --example throughput`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_core::format::event_type;
use bridge_core::record::Record;
use bridge_core::secret::Secret;
use bridge_core::sink::{Delivery, Sink};
use bridge_core::testing::{Ratio, some_changes};
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

/// In each round. Short rounds, so that what else the machine does meets both alike.
const RECORDS: u64 = 2_000;
const PATHS: u64 = 1_000;
/// As the engine delivers them.
const BATCH: usize = 1_000;
const ROUNDS: usize = 21;
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

/// The envelope that the sink writes around a record, after Standard Webhooks.
fn body(record: &Record) -> Vec<u8> {
    let time = record.time.changed.unwrap_or(record.time.captured);
    let mut body = format!(
        r#"{{"type":"{}","timestamp":"{time}","data":"#,
        event_type(record.op)
    )
    .into_bytes();
    body.extend(record.to_json());
    body.push(b'}');
    body
}

/// The same bodies and headers, encoded in the same task, so many at a time; a signature of the same length that is
/// none, and no order.
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
            .body(body(record));
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
    let records = some_changes(RECORDS, PATHS);
    let by_default = WebhookConfig::new("http://localhost").parallel;
    for parallel in [1, 64, by_default] {
        let mut sink = WebhookSink::new(&config(address, parallel)).unwrap();
        sink.open().await.unwrap();
        by_the_sink(&mut sink, &records).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        bare(&client, address, parallel, &records).await;
        let mut ratio = Ratio::new("webhook", "reqwest", RECORDS);
        for _ in 0..ROUNDS {
            ratio.add(
                by_the_sink(&mut sink, &records).await,
                bare(&client, address, parallel, &records).await,
            );
        }
        if parallel == by_default {
            println!("{ratio}");
        } else {
            println!(
                "webhook: with parallel = {parallel}, {:.2} of the bare client",
                ratio.median()
            );
        }
        sink.close().await.unwrap();
    }
    server.abort();
}
