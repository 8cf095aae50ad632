//! The forms of messages at a real broker: events as the official CloudEvents SDK reads them, and raw data.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_core::format::event_type;
use bridge_core::record::{Op, Record};
use bridge_core::testing::{a_record, limit_records, some_records};
use bridge_kafka::Format;
use bridge_servers::{Python, real_servers};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rig::{self, Message};

const READ_EVENTS: &str = include_str!("cloudevents.py");

/// Needs the compiler of a JDK.
const READ_CONNECT: &str = include_str!("ReadConnect.java");

#[derive(Serialize)]
struct Asked<'a> {
    headers: &'a BTreeMap<String, String>,
    value: String,
}

/// An event as the SDK understood it.
#[derive(Debug, Deserialize)]
struct Event {
    attributes: BTreeMap<String, String>,
    data: Value,
}

async fn read_by_the_sdk(messages: &[Message]) -> Vec<Event> {
    let asked: Vec<Asked> = messages
        .iter()
        .map(|message| Asked {
            headers: &message.headers,
            value: BASE64.encode(message.value.as_deref().unwrap()),
        })
        .collect();
    let input = serde_json::to_vec(&asked).unwrap();
    let printed = Python::CLOUDEVENTS.run(READ_EVENTS, &input).await.unwrap();
    serde_json::from_str(&printed).unwrap()
}

/// Delivers the records in this form to a topic with one partition and gives back what lies there.
async fn delivered(format: Format, records: &[Arc<Record>], tombstones: bool) -> Vec<Message> {
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "20000000")]).await;
    let mut config = rig::config(&bootstrap, &topic);
    config.format = format;
    config.tombstones = tombstones;
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, records).await.unwrap();
    rig::messages(&bootstrap, &topic).await
}

fn expected_attributes(record: &Record) -> BTreeMap<String, String> {
    let time = record.time.changed.unwrap_or(record.time.captured);
    let mut expected: BTreeMap<String, String> = [
        ("specversion", "1.0".to_owned()),
        ("id", record.id.to_string()),
        ("source", "/zkbridge/main".to_owned()),
        ("type", format!("zkbridge.{}", event_type(record.op))),
        ("time", time.to_string()),
        ("dataschema", "urn:zkbridge:change:1".to_owned()),
        ("datacontenttype", "application/json".to_owned()),
        ("sequence", format!("{:020}", record.seq.0)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(zxid) = record.zxid {
        expected.insert("zxid".to_owned(), zxid.to_string());
    }
    expected
}

/// Records at the limits of every field, and others after them.
fn limits_and_others() -> Vec<Arc<Record>> {
    let mut records = limit_records();
    let after = records.len() as u64 + 1;
    records.extend(some_records(40, 3).iter().zip(after..).map(|(record, seq)| {
        let mut record = Record::clone(record);
        record.seq.0 = seq;
        Arc::new(record)
    }));
    records
}

#[tokio::test]
async fn events_in_both_modes_are_what_the_official_sdk_reads() {
    real_servers!("events in both modes are what the official SDK reads");
    let records = limits_and_others();
    for format in [Format::Cloudevents, Format::CloudeventsBinary] {
        let messages = delivered(format, &records, false).await;
        assert_eq!(messages.len(), records.len());
        for (event, record) in read_by_the_sdk(&messages).await.into_iter().zip(&records) {
            let mut attributes = event.attributes;
            let subject = attributes.remove("subject");
            let path = record.path.as_deref().or(record.root.as_deref());
            match path.filter(|path| path.chars().any(char::is_control)) {
                // Control characters are no text for an attribute, so they come encoded.
                Some(_) => assert!(subject.unwrap().contains('%')),
                None => assert_eq!(subject.as_deref(), path),
            }
            assert_eq!(attributes, expected_attributes(record), "{format:?}");
            let whole: Value = serde_json::from_slice(&record.to_json()).unwrap();
            assert!(event.data == whole, "{format:?}: record {}", record.seq);
        }
        for (message, record) in messages.iter().zip(&records) {
            assert_eq!(message.headers["zkbridge-id"], record.id.to_string());
        }
    }
}

/// Reads values with Kafka Connect's own converter: the name and version of each struct, and the struct as JSON.
async fn read_by_connect(messages: &[Message]) -> Vec<Option<(String, Value)>> {
    let folder = tempfile::tempdir().unwrap();
    let (program, input) = (
        folder.path().join("ReadConnect.java"),
        folder.path().join("values"),
    );
    std::fs::write(&program, READ_CONNECT).unwrap();
    let lines = messages.iter().map(|message| match &message.value {
        Some(value) => BASE64.encode(value) + "\n",
        None => "null\n".to_owned(),
    });
    std::fs::write(&input, lines.collect::<String>()).unwrap();
    // A file of source in the place of a class is compiled and run.
    let printed = rig::shared_broker()
        .await
        .tool(program.to_str().unwrap(), &[input.to_str().unwrap()])
        .await
        .unwrap();
    let read = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let (version, json) = rest.split_once(' ')?;
        Some((format!("{name} {version}"), serde_json::from_str(json).unwrap()))
    };
    printed.lines().map(read).collect()
}

/// Whether all of a record is in a struct, which has a null for each field that the record lacks.
fn is_in(record: &Value, of_struct: &Value) -> bool {
    match (record, of_struct) {
        (Value::Object(record), Value::Object(of_struct)) => {
            of_struct.iter().all(|(name, value)| {
                let of_record = record.get(name).unwrap_or(&Value::Null);
                of_record.is_null() == value.is_null() && is_in(of_record, value)
            }) && record.keys().all(|name| of_struct.contains_key(name))
        }
        (Value::Array(record), Value::Array(of_struct)) => {
            record.len() == of_struct.len()
                && record.iter().zip(of_struct).all(|(one, other)| is_in(one, other))
        }
        (record, of_struct) => record == of_struct,
    }
}

#[tokio::test]
async fn the_converter_of_kafka_connect_reads_every_record_as_a_struct() {
    real_servers!("the converter of Kafka Connect reads every record as a struct");
    let records = limits_and_others();
    let messages = delivered(Format::ConnectJson, &records, false).await;
    let read = read_by_connect(&messages).await;
    assert_eq!(read.len(), records.len());
    for (read, record) in read.into_iter().zip(&records) {
        let (name, of_struct) = read.unwrap();
        assert_eq!(name, "zkbridge.change 1");
        let whole: Value = serde_json::from_slice(&record.to_json()).unwrap();
        assert!(
            is_in(&whole, &of_struct),
            "record {}: {whole:#}\n{of_struct:#}",
            record.seq
        );
    }

    let deleted = delivered(Format::ConnectJson, &[a_record().op(Op::Delete).arc()], true).await;
    let read = read_by_connect(&deleted).await;
    assert!(read[0].is_some() && read[1].is_none(), "{read:?}");
}

#[test]
fn a_struct_that_lacks_a_part_of_a_record_is_found() {
    let record = serde_json::json!({"a": 1, "b": {"c": null}, "d": [1]});
    let with_null = serde_json::json!({"a": 1, "b": {"c": null}, "d": [1], "e": null});
    assert!(is_in(&record, &with_null));
    for wrong in [
        serde_json::json!({"a": 1, "b": {"c": null}}),
        serde_json::json!({"a": 2, "b": {"c": null}, "d": [1]}),
        serde_json::json!({"a": 1, "b": {"c": 1}, "d": [1]}),
        serde_json::json!({"a": 1, "b": {"c": null}, "d": [1, 1]}),
        serde_json::json!({"a": 1, "b": {"c": null}, "d": [1], "e": 1}),
    ] {
        assert!(!is_in(&record, &wrong), "{wrong}");
    }
}

#[tokio::test]
async fn a_tombstone_after_an_event_is_no_event() {
    real_servers!("a tombstone after an event is no event");
    for format in [Format::Cloudevents, Format::CloudeventsBinary] {
        let messages = delivered(format, &[a_record().op(Op::Delete).arc()], true).await;
        let [event, tombstone] = messages.as_slice() else {
            panic!("{messages:?}");
        };
        assert!(event.headers.contains_key("content-type"));
        assert_eq!(tombstone.value, None);
        assert_eq!(tombstone.key, event.key);
        assert!(
            tombstone.headers.keys().all(|name| name.starts_with("zkbridge-")),
            "{:?}",
            tombstone.headers
        );
    }
}

#[tokio::test]
async fn raw_messages_are_bytes_and_null_values_and_what_has_no_value_is_passed_over() {
    real_servers!("raw messages are bytes and null values and what has no value is passed over");
    let records: Vec<Arc<Record>> = [
        a_record().control(Op::SnapshotBegin),
        a_record().path("/a").op(Op::Create).after([0xff, 0x00, 0x80]),
        a_record().path("/a").op(Op::Acl),
        a_record().path("/a").after("0123456789").limit(4),
        a_record().path("/ü").op(Op::Create).after(""),
        a_record().path("/a").op(Op::Delete),
        a_record().control(Op::SnapshotEnd),
    ]
    .into_iter()
    .zip(1..)
    .map(|(record, seq)| record.seq(seq).arc())
    .collect();

    let messages = delivered(Format::Raw, &records, true).await;

    let seen: Vec<_> = messages.iter().map(seen).collect();
    assert_eq!(
        seen,
        [
            ("/a", Some(&[0xff, 0x00, 0x80][..]), "create", None),
            ("/a", Some(b"0123"), "update", Some("10")),
            ("/ü", Some(b""), "create", None),
            ("/a", None, "delete", None),
        ]
    );
}

/// Path, value, op, and how long the value was where it was cut.
type Seen<'a> = (&'a str, Option<&'a [u8]>, &'a str, Option<&'a str>);

fn seen(message: &Message) -> Seen<'_> {
    let header = |name: &str| message.headers.get(name).map(String::as_str);
    (
        header("zkbridge-path").unwrap(),
        message.value.as_deref(),
        header("zkbridge-op").unwrap(),
        header("zkbridge-truncated"),
    )
}
