//! Tests without a server. Those with one are in `tests/servers`.

mod options;
mod streams;
mod subjects;

use bridge_core::format::Format;
use bridge_core::outbound::{NameTemplate, Projection};
use bridge_core::record::{Op, Record};
use bridge_core::sink::SinkErrorKind;
use bridge_core::testing::{a_record, limit_records};

use crate::config::NatsConfig;
use crate::encode::{Encoded, Encoder};
use crate::error::{self, Meaning};
use crate::template::SUBJECT;

fn config(text: &str) -> NatsConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn encoded(format: Format, record: &Record) -> Option<Encoded> {
    let config = NatsConfig::new("nats://a", "ZK");
    let subjects = NameTemplate::parse(&SUBJECT, &config.subject).unwrap();
    Encoder::new(subjects.of_cluster("main"), "ZK", format)
        .project(record)
        .unwrap()
        .placed()
        .next()
        .map(|(_, message)| message)
}

fn header<'a>(message: &'a Encoded, name: &str) -> Option<&'a str> {
    let found = message.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

#[test]
fn a_message_has_the_records_id_for_the_stream_and_its_path_as_it_is() {
    let record = a_record().path("/services/ü b").build();
    let message = encoded(Format::Record, &record).unwrap();
    let id = record.id.to_string();
    let zxid = record.zxid.unwrap().to_string();
    assert_eq!(&*message.subject, "zk.main.services._c3_bc_20b");
    assert_eq!(message.payload, record.to_json());
    for (name, expected) in [
        ("Nats-Msg-Id", Some(id.as_str())),
        ("Nats-Expected-Stream", Some("ZK")),
        ("zkbridge-id", Some(id.as_str())),
        ("zkbridge-op", Some("update")),
        ("zkbridge-path", Some("/services/%C3%BC%20b")),
        ("zkbridge-zxid", Some(zxid.as_str())),
        ("zkbridge-cluster", Some("main")),
        ("zkbridge-schema", Some("zkbridge.change/1")),
        ("content-type", None),
    ] {
        assert_eq!(header(&message, name), expected, "{name}");
    }
}

#[test]
fn a_control_record_goes_where_its_root_does_and_has_no_path() {
    let message = encoded(Format::Record, &a_record().control(Op::GapBegin).build()).unwrap();
    assert_eq!(&*message.subject, "zk.main._");
    assert_eq!(header(&message, "zkbridge-path"), None);
    assert_eq!(header(&message, "zkbridge-zxid"), None);
}

#[test]
fn no_record_makes_a_header_that_breaks_the_protocol() {
    for record in limit_records() {
        let message = encoded(Format::CloudeventsBinary, &record).unwrap();
        for (name, value) in &message.headers {
            let is_plain = |text: &str| text.chars().all(|letter| letter.is_ascii_graphic());
            assert!(is_plain(name) && is_plain(value), "{name}: {value:?}");
        }
    }
}

#[test]
fn events_are_structured_or_have_their_attributes_as_headers() {
    let record = a_record().build();
    let structured = encoded(Format::Cloudevents, &record).unwrap();
    assert_eq!(
        header(&structured, "content-type"),
        Some("application/cloudevents+json; charset=utf-8")
    );
    assert_eq!(header(&structured, "ce-id"), None);
    let binary = encoded(Format::CloudeventsBinary, &record).unwrap();
    assert_eq!(header(&binary, "content-type"), Some("application/json"));
    assert_eq!(header(&binary, "ce-specversion"), Some("1.0"));
    assert_eq!(header(&binary, "ce-id"), Some(record.id.to_string().as_str()));
    assert_eq!(binary.payload, record.to_json());
}

#[test]
fn raw_has_the_bytes_of_the_znode_an_empty_body_for_a_delete_and_passes_over_the_rest() {
    let check = |op: Op, expected: Option<&[u8]>| {
        let record = match op.is_control() {
            true => a_record().control(op).build(),
            false => a_record().op(op).after("new").build(),
        };
        let payload = encoded(Format::Raw, &record).map(|message| message.payload);
        assert_eq!(payload.as_deref(), expected, "{op:?}");
    };
    check(Op::Create, Some(b"new"));
    check(Op::Update, Some(b"new"));
    check(Op::Delete, Some(b""));
    check(Op::Acl, None);
    check(Op::GapEnd, None);
}

#[test]
fn the_size_of_a_message_is_what_the_server_counts() {
    let message = encoded(Format::Record, &a_record().build()).unwrap();
    let block: String = message
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let expected = format!("NATS/1.0\r\n{block}\r\n").len() + message.payload.len();
    assert_eq!(message.bytes(), expected);
}

/// An error as a server sends it.
fn said(code: u64, description: &str) -> async_nats::jetstream::Error {
    let json = serde_json::json!({"code": 503, "err_code": code, "description": description});
    serde_json::from_value(json).unwrap()
}

#[test]
fn an_error_of_jetstream_becomes_a_kind_of_the_engine() {
    let check = |code: u64, description: &str, expected: Meaning| {
        assert_eq!(
            error::of_jetstream(&said(code, description)),
            expected,
            "{code} {description}"
        );
    };
    check(
        10077,
        "maximum bytes exceeded",
        Meaning::Trouble(SinkErrorKind::Full),
    );
    check(
        10077,
        "store is closed",
        Meaning::Trouble(SinkErrorKind::Unavailable),
    );
    check(
        10047,
        "insufficient storage resources",
        Meaning::Trouble(SinkErrorKind::Full),
    );
    check(
        10002,
        "resource limits exceeded for account",
        Meaning::Trouble(SinkErrorKind::Full),
    );
    check(
        10008,
        "JetStream system temporarily unavailable",
        Meaning::Trouble(SinkErrorKind::Unavailable),
    );
    check(
        10158,
        "duplicate message id is in process",
        Meaning::Subject(SinkErrorKind::Unavailable),
    );
    check(
        10059,
        "stream not found",
        Meaning::Trouble(SinkErrorKind::Missing),
    );
    check(
        10039,
        "JetStream not enabled for account",
        Meaning::Trouble(SinkErrorKind::Missing),
    );
    check(
        10060,
        "expected stream does not match",
        Meaning::Subject(SinkErrorKind::Configuration),
    );
    check(
        10077,
        "maximum messages per subject exceeded",
        Meaning::Subject(SinkErrorKind::Full),
    );
    check(
        10109,
        "invalid operation on sealed stream",
        Meaning::Trouble(SinkErrorKind::Configuration),
    );
    check(
        10167,
        "too many requests",
        Meaning::Trouble(SinkErrorKind::Throttled),
    );
    check(10054, "message size exceeds maximum allowed", Meaning::Record);
    check(10071, "wrong last sequence: 7", Meaning::Conflict);
    check(10164, "wrong last sequence", Meaning::Conflict);
    check(19999, "something new", Meaning::Trouble(SinkErrorKind::Broken));
}

#[test]
fn an_error_of_a_server_on_a_connection_becomes_a_kind_of_the_engine() {
    for (words, expected) in [
        (
            "Permissions Violation for Publish to \"zk.main\"",
            SinkErrorKind::Authorization,
        ),
        ("Authorization Violation", SinkErrorKind::Authentication),
        ("User Authentication Expired", SinkErrorKind::Authentication),
        ("User Authentication Revoked", SinkErrorKind::Authentication),
        ("maximum connections exceeded", SinkErrorKind::Throttled),
        ("Secure Connection - TLS Required", SinkErrorKind::Configuration),
        ("Stale Connection", SinkErrorKind::Unavailable),
    ] {
        assert_eq!(error::of_server(words), expected, "{words}");
    }
}

#[test]
fn a_payload_can_be_written_by_a_template() {
    let config = config(
        "servers = 'nats://a'\nstream = 'ZK'\nformat = 'service'\ncontent_type = 'text/plain'\nbody = '{{ text }}'",
    );
    assert_eq!(config.objections(), []);
    let subjects = NameTemplate::parse(&SUBJECT, &config.subject).unwrap();
    let encoder =
        Encoder::new(subjects.of_cluster("main"), "ZK", config.form()).with_body(config.body_template());
    let record = a_record().control(Op::Service).build();
    let messages = encoder.project(&record).unwrap();
    let (_, message) = messages.placed().next().unwrap();
    assert_eq!(message.payload, b"a 10.0.0.7:8080 is down: its session ended");
    assert_eq!(header(&message, "content-type"), Some("text/plain"));
    assert_eq!(header(&message, "Nats-Msg-Id"), Some(&*record.id.to_string()));
    assert!(encoder.project(&a_record().build()).unwrap().is_empty());

    let of_bucket = "servers = 'nats://a'\nbucket = 'zk'\nbody = '{{ path }}'";
    let keys: Vec<String> = self::config(of_bucket)
        .objections()
        .into_iter()
        .map(|one| one.key)
        .collect();
    assert_eq!(keys, ["body"]);
}
