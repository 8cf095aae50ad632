//! A sink that takes no value but JSON, and one beside it that takes all.

use bridge_servers::{eventually, real_servers};
use serde_json::{Value, json};

use crate::bridge::{BOUND, Bridge};
use crate::refusals::{dead_letters, order};
use crate::services::lines;
use crate::stage::{Place, source};
use crate::writer::Writer;

/// The last name of the path and the new value of each record of a file.
fn values(bridge: &Bridge, file: &str) -> Vec<(String, Value)> {
    let read = |record: &Value| {
        let name = record["path"].as_str()?.rsplit('/').next()?.to_owned();
        Some((name, record["after"]["data"]["value"].clone()))
    };
    lines(bridge, file).iter().filter_map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_sink_gets_documents_alone_and_keeps_other_values_as_dead_letters_over_a_kill() {
    real_servers!("a sink that takes no value but JSON");
    let mut place = Place::shared().await;
    place.source = "data = \"json\"".to_owned();
    let root = "/strict-json";
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "{}").await;
    let sink = |name: &str, lines: &str| {
        format!(
            "[[sink]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\nops = [\"create\", \"update\", \"delete\"]\n\
             start = \"now\"\n{lines}"
        )
    };
    let sinks = sink("strict", "not_json = \"reject\"\n") + &sink("all", "");
    let configuration = source("main", &place, &[root.to_owned()]) + &sinks;
    let mut bridge = Bridge::configured(&configuration);
    bridge.start_ready().await;
    let at = |name: &str| format!("{root}/{name}");
    let documents = [
        ("price", r#"{"eur": 1.10}"#),
        ("list", "[1, 2]"),
        ("text", "\"a\""),
    ];
    let others: [(&str, &[u8], &str); 4] = [
        ("word", b"open", "JSON"),
        ("twice", br#"{"a": 1, "a": 2}"#, "repeated"),
        ("cut", br#"{"a": "#, "JSON"),
        ("bytes", b"\xff\x00", "JSON"),
    ];
    writer.create(&at("empty"), "").await;
    for (name, value) in documents {
        writer.create(&at(name), value).await;
    }
    for (name, value, _) in others {
        writer.create(&at(name), value).await;
    }
    let has_all = async |count: usize| {
        let known = || std::future::ready(values(&bridge, "all.jsonl").len() == count);
        eventually("every record in the other file", BOUND, known)
            .await
            .unwrap();
        bridge.at_rest().await;
    };
    has_all(8).await;
    // A delete has no new value.
    writer.delete(&at("bytes")).await;
    has_all(9).await;
    let document = |(name, text): (&'static str, &str)| (name, serde_json::from_str(text).unwrap());
    let mut expected: Vec<(&str, Value)> = documents.map(document).into();
    expected.push(("bytes", Value::Null));
    let read = values(&bridge, "strict.jsonl");
    let mut taken: Vec<(&str, &Value)> = read.iter().map(|(name, value)| (name.as_str(), value)).collect();
    // Without data there is no value, whatever its form.
    taken.retain(|(name, _)| *name != "empty");
    let expected: Vec<(&str, &Value)> = expected.iter().map(|(name, value)| (*name, value)).collect();
    assert_eq!(taken, expected);
    assert!(read.iter().any(|(name, _)| name == "empty"), "{read:?}");
    let text = std::fs::read_to_string(bridge.folder().join("strict.jsonl")).unwrap();
    assert!(text.contains("1.10"), "a number stays as it is written");
    let counted = async || {
        let values = bridge.metric("zkbridge_source_not_json_values_total", &[]);
        (values.await - 4.0).abs() < f64::EPSILON
    };
    eventually("four values that are not JSON in the metric", BOUND, counted)
        .await
        .unwrap();

    // Killed: the dead letters are in the journal, and nothing is delivered that is none.
    bridge.kill().await;
    bridge.start_ready().await;
    let letters = dead_letters(&bridge).await;
    for (letter, (name, _, reason)) in letters.iter().zip(others) {
        assert_eq!(letter["path"], at(name), "{letters:#?}");
        assert!(letter["reason"].as_str().unwrap().contains(reason), "{letter:#}");
    }
    assert_eq!(letters.len(), others.len(), "{letters:#?}");

    // A document in the place of a text is delivered; the text is no document at a later attempt either.
    writer.set(&at("word"), r#"{"state": "open"}"#).await;
    let corrected = || {
        let last = values(&bridge, "strict.jsonl").pop();
        std::future::ready(last == Some(("word".to_owned(), json!({"state": "open"}))))
    };
    eventually("the document", BOUND, corrected).await.unwrap();
    order(&bridge, &["dlq", "retry", "--path", &at("twice")]).await;
    let again = async || {
        let letters = dead_letters(&bridge).await;
        letters.iter().any(|letter| letter["attempts"] == 2)
    };
    eventually("the second attempt", BOUND, again).await.unwrap();
    bridge.at_rest().await;
    let read = values(&bridge, "strict.jsonl");
    let is_strict = |name: &str| !others.iter().any(|(other, ..)| *other == name) || name == "bytes";
    let texts = read.iter().filter(|(name, _)| !is_strict(name)).count();
    assert_eq!(texts, 1, "only the corrected one: {read:?}");
    bridge.terminate().await;
}
