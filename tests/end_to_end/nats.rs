//! NATS: the real binary between a real ZooKeeper and a stream of a real NATS server.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::jetstream::{self, Context};
use bridge_servers::{Nats, eventually, real_servers};
use futures::StreamExt;
use serde_json::Value;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::writer::Writer;

fn sink(nats: &Nats, stream: &str, lines: &str) -> String {
    format!(
        "[[sink]]\nname = \"stream\"\ntype = \"nats\"\nservers = \"{}\"\nstream = \"{stream}\"\ntimeout = \"2s\"\n\
         retry = {{ first = \"50ms\", max = \"300ms\" }}\n{lines}\n",
        nats.urls()
    )
}

async fn context(nats: &Nats) -> Context {
    jetstream::new(async_nats::connect(nats.urls()).await.unwrap())
}

/// All records in the stream, from its beginning, and the id that the server knows each by. None while the server is
/// away.
async fn records(context: &Context, stream: &str) -> Option<Vec<(String, Value)>> {
    let mut stream = context.get_stream(stream).await.ok()?;
    let expected = stream.info().await.ok()?.state.messages;
    let consumer = stream.create_consumer(pull::Config {
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    });
    let consumer = consumer.await.ok()?;
    let mut records = Vec::new();
    while (records.len() as u64) < expected {
        let mut fetched = consumer.fetch().max_messages(500).messages().await.ok()?;
        while let Some(message) = fetched.next().await {
            let message = message.ok()?;
            let id = message.headers.as_ref()?.get("Nats-Msg-Id")?.to_string();
            records.push((id, serde_json::from_slice(&message.payload).ok()?));
        }
    }
    Some(records)
}

/// The ops of a path in the stream, in order.
fn story(records: &[(String, Value)], path: &str) -> Vec<String> {
    let of_path = records.iter().filter(|(_, record)| record["path"] == path);
    of_path
        .map(|(_, record)| record["op"].as_str().unwrap_or("?").to_owned())
        .collect()
}

/// Waits until the stream has exactly these ops of a path.
pub async fn has_ops(bridge: &Bridge, nats: &Nats, path: &str, expected: &[&str]) {
    let context = context(nats).await;
    let found = eventually(format!("{expected:?} of {path}"), BOUND, || async {
        let records = records(&context, "ZK").await.unwrap_or_default();
        story(&records, path) == expected
    });
    if let Err(error) = found.await {
        let (records, log) = (records(&context, "ZK").await, bridge.log().join("\n"));
        panic!("{error}: {records:#?}\n{:#}\n{log}", bridge.status().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_every_change_once_in_order_over_kills_of_the_bridge_and_of_the_server() {
    real_servers!("a NATS stream between kills");
    let place = Place::shared().await;
    let nats = Nats::start().await.unwrap();
    let writer = Writer::connect(&place.direct).await;
    writer.create("/ops", "root").await;
    let configuration =
        source("main", &place, &["/ops".to_owned()]) + &sink(&nats, "ZK", "create_stream = true");
    let mut bridge = Bridge::configured(&configuration);
    bridge.start_ready().await;

    writer.create("/ops/a b", "1").await;
    writer.set("/ops/a b", "2").await;
    has_ops(&bridge, &nats, "/ops/a b", &["create", "update"]).await;
    nats.kill(0);
    writer.create("/ops/other", "1").await;
    bridge
        .until("a record that waits for a server that is away", |status| {
            let sink = &status["sinks"][0];
            sink["lag_records"].as_u64() >= Some(1) && !sink["error"].is_null()
        })
        .await;
    bridge.kill().await;
    writer.delete("/ops/other").await;
    nats.restart(0).await.unwrap();
    bridge.start_ready().await;
    writer.delete("/ops/a b").await;
    has_ops(&bridge, &nats, "/ops/a b", &["create", "update", "delete"]).await;
    has_ops(&bridge, &nats, "/ops/other", &["create", "delete"]).await;
    has_ops(&bridge, &nats, "/ops", &["snapshot"]).await;
    bridge.terminate().await;

    let arrived = records(&context(&nats).await, "ZK").await.unwrap();
    let ids: BTreeSet<&str> = arrived.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids.len(), arrived.len(), "stored twice: {arrived:#?}");
    for (id, record) in &arrived {
        assert_eq!(record["id"], Value::from(id.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_connects_warns_of_a_stream_that_would_lose_or_double_records() {
    real_servers!("a NATS stream under check");
    let place = Place::shared().await;
    let nats = Nats::start().await.unwrap();
    let context = context(&nats).await;
    let unfit = Config {
        name: "unfit".to_owned(),
        subjects: vec!["zk.main.services.>".to_owned()],
        discard: DiscardPolicy::Old,
        max_messages: 1_000,
        duplicate_window: Duration::from_secs(5),
        ..Config::default()
    };
    let created = eventually("JetStream", BOUND, || async {
        context.create_stream(unfit.clone()).await.is_ok()
    });
    created.await.unwrap();
    let check = |args: &[&str], stream: &str, lines: &str| {
        let sink = sink(&nats, stream, lines);
        let bridge = Bridge::configured(&(source("main", &place, &["/".to_owned()]) + &sink));
        let output = bridge.command(args).output().unwrap();
        // Joins the lines that were wrapped at the width of a terminal.
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        (output.status.code(), words.join(" "))
    };
    let warnings = [
        "takes zk.main.services.>, and not",
        "removes its oldest messages at max_msgs = 1000 (discard = old)",
        "knows the ids of its messages for 5s (duplicate_window)",
    ];

    let (code, text) = check(&["check", "--connect"], "unfit", "");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok sink 'stream'"), "{text}");
    for warning in warnings {
        let expected = format!(" warning sink 'stream': stream 'unfit' {warning}");
        assert_eq!(text.matches(&expected).count(), 1, "{expected}: {text}");
    }

    let (code, text) = check(&["check", "--connect", "--json"], "unfit", "");
    assert_eq!(code, Some(0), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let connections = report["connections"].as_array().unwrap();
    let of_sink = connections
        .iter()
        .find(|one| one["what"] == "sink 'stream'")
        .unwrap();
    assert_eq!(
        of_sink["warnings"].as_array().unwrap().len(),
        warnings.len(),
        "{text}"
    );

    let (code, text) = check(
        &["check", "--connect"],
        "fit",
        "create_stream = { subjects = [\"other.>\"] }",
    );
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("failure sink 'stream': stream 'fit' takes other.>"),
        "{text}"
    );
    let (code, text) = check(
        &["check", "--connect"],
        "whole",
        "subject = \"whole.{{ names | subject }}\"\ncreate_stream = true",
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("warning sink"), "{text}");
}
