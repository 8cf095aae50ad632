//! A record as a CloudEvent 1.0 (<https://github.com/cloudevents/spec>, version 1.0.2, with its JSON format).

use std::fmt::Write;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::{JSON, event_type};
use crate::record::{Record, ServiceEvent};

/// The same of service events.
const EVENT_SCHEMA: &str = "urn:zkbridge:service:1";

const SPEC_VERSION: &str = "1.0";

/// Names the contract of `data`; a change that could break a reader is a new number, as in the record's `schema`.
const DATA_SCHEMA: &str = "urn:zkbridge:change:1";

/// As many digits as a seq can have, so that text order is the order of the journal (the `sequence` extension).
const SEQUENCE_DIGITS: usize = 20;

/// All context attributes but `datacontenttype`, which each binding places for itself.
///
/// `time` is ZooKeeper's if it is known, else when the change was captured.
pub(super) fn attributes(record: &Record) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("specversion", SPEC_VERSION.to_owned()),
        ("id", record.id.to_string()),
        ("source", format!("/zkbridge/{}", record.cluster)),
        ("type", format!("zkbridge.{}", event_type(record.op))),
    ];
    if let Some(subject) = record.path.as_ref().or(record.root.as_ref()) {
        attributes.push(("subject", attribute_text(subject)));
    }
    let time = record.time.changed.unwrap_or(record.time.captured);
    attributes.push(("time", time.to_string()));
    attributes.push(("dataschema", DATA_SCHEMA.to_owned()));
    if let Some(zxid) = record.zxid {
        attributes.push(("zxid", zxid.to_string()));
    }
    attributes.push(("sequence", format!("{:0SEQUENCE_DIGITS$}", record.seq.0)));
    attributes
}

/// The same of a service event. Its subject is the service and the instance, or the election or the lock.
pub(super) fn event_attributes(record: &Record, event: &ServiceEvent) -> Vec<(&'static str, String)> {
    let mut subject = event
        .election
        .as_ref()
        .or(event.lock.as_ref())
        .unwrap_or(&event.service)
        .clone();
    if let Some(instance) = &event.instance {
        subject = format!("{subject}/{instance}");
    }
    let time = event.time.changed.unwrap_or(event.time.captured);
    let mut attributes = vec![
        ("specversion", SPEC_VERSION.to_owned()),
        ("id", record.id.to_string()),
        ("source", format!("/zkbridge/{}", record.cluster)),
        ("type", format!("zkbridge.{}", event.kind.as_str())),
        ("subject", attribute_text(&subject)),
        ("time", time.to_string()),
        ("dataschema", EVENT_SCHEMA.to_owned()),
    ];
    if let Some(zxid) = event.zxid {
        attributes.push(("zxid", zxid.to_string()));
    }
    attributes.push(("sequence", format!("{:0SEQUENCE_DIGITS$}", record.seq.0)));
    attributes
}

struct StructuredEvent<'a>(&'a Record, &'a ServiceEvent);

impl Serialize for StructuredEvent<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_map(None)?;
        for (name, value) in event_attributes(self.0, self.1) {
            event.serialize_entry(name, &value)?;
        }
        event.serialize_entry("datacontenttype", JSON)?;
        event.serialize_entry("data", self.1)?;
        event.end()
    }
}

/// A whole service event in the JSON format.
pub(super) fn structured_event(record: &Record, event: &ServiceEvent) -> Vec<u8> {
    serde_json::to_vec(&StructuredEvent(record, event))
        .expect("an event has only text keys and finite numbers")
}

struct Structured<'a>(&'a Record);

impl Serialize for Structured<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_map(None)?;
        for (name, value) in attributes(self.0) {
            event.serialize_entry(name, &value)?;
        }
        event.serialize_entry("datacontenttype", JSON)?;
        event.serialize_entry("data", self.0)?;
        event.end()
    }
}

/// The whole event in the JSON format.
pub(super) fn structured(record: &Record) -> Vec<u8> {
    serde_json::to_vec(&Structured(record)).expect("an event has only text keys and finite numbers")
}

/// A text as attributes may hold it: control characters and noncharacters, which the type system of CloudEvents
/// excludes, are percent-encoded. ZooKeeper itself takes hardly any of them; `data.path` is the path as it is.
fn attribute_text(text: &str) -> String {
    let is_excluded = |letter: char| {
        let code = u32::from(letter);
        letter.is_control() || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    };
    encode_where(text, is_excluded)
}

/// An attribute as the value of a header that takes visible ASCII only (CloudEvents HTTP binding, section 3.1.3.2; the
/// binding for NATS has the same rule).
pub fn header_value(value: &str) -> String {
    encode_where(value, |letter| {
        !letter.is_ascii_graphic() || matches!(letter, '"' | '%')
    })
}

fn encode_where(text: &str, must_be_encoded: impl Fn(char) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for letter in text.chars() {
        if !must_be_encoded(letter) {
            encoded.push(letter);
            continue;
        }
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            write!(encoded, "%{byte:02X}").expect("a text takes everything");
        }
    }
    encoded
}
