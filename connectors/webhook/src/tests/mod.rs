//! The sink as a whole, at a real receiver.

mod addresses;
mod answers;
mod bodies;
mod consent;
mod contract;
mod options;
mod oversize;
mod parallel;
mod presets;
mod proxies;
mod published;
mod receiver;
mod templates;
mod tls;
mod unreadable;
mod verdicts;

use std::sync::Arc;
use std::time::Duration;

use bridge_core::amount::Span;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink};
use bridge_core::testing::a_record;

use crate::{WebhookConfig, WebhookSink};
use receiver::Receiver;

/// Everything here takes less, also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The options for a receiver on this machine.
fn config(receiver: &Receiver) -> WebhookConfig {
    local(&receiver.url())
}

fn local(url: &str) -> WebhookConfig {
    let mut config = WebhookConfig::new(url);
    config.allow_private_addresses = true;
    config.timeout = Span::secs(10);
    config
}

async fn opened(config: &WebhookConfig) -> WebhookSink {
    let mut sink = WebhookSink::new(config).unwrap();
    sink.open().await.unwrap();
    sink
}

async fn deliver(sink: &mut WebhookSink, records: &[Arc<Record>]) -> Result<(), DeliverError> {
    let batch = Delivery {
        records: records.to_vec(),
    };
    let delivered = tokio::time::timeout(BOUND, sink.deliver(&batch)).await;
    delivered.expect("the sink answers within the bound")
}

/// Records with seqs from 1, of these paths.
fn of_paths(paths: &[&str]) -> Vec<Arc<Record>> {
    let record = |(at, path): (usize, &&str)| a_record().seq(at as u64 + 1).path(path).arc();
    paths.iter().enumerate().map(record).collect()
}

/// The path of the record in a request of one, in the format `record`.
fn path_in(body: &[u8]) -> String {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    event["data"]["path"].as_str().unwrap_or("-").to_owned()
}

/// The seqs of the records in a request, in the format `record`.
fn seqs_in(body: &[u8]) -> Vec<u64> {
    let events: serde_json::Value = serde_json::from_slice(body).unwrap();
    let list = events.as_array().cloned().unwrap_or_else(|| vec![events]);
    list.iter()
        .map(|event| event["data"]["seq"].as_u64().unwrap())
        .collect()
}

/// The seqs that a receiver took, in the order of arrival.
fn taken(receiver: &Receiver) -> Vec<u64> {
    receiver
        .taken()
        .iter()
        .flat_map(|request| seqs_in(&request.body))
        .collect()
}
