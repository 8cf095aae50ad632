//! Records as messages: topics, keys, headers, values.

use bridge_core::format::Format;
use bridge_core::outbound::{NameTemplate, Projection as _};
use bridge_core::record::{Op, Record, Timestamp};
use bridge_core::testing::{RecordBuilder, a_record, limit_records};
use rdkafka::message::Headers as _;

use super::{config, objections};
use crate::config::KafkaConfig;
use crate::encode::{Encoded, Encoder};
use crate::template::TOPIC;

fn encoder(config: &KafkaConfig) -> Encoder {
    let topics = NameTemplate::parse(&TOPIC, &config.topic).unwrap();
    Encoder::new(topics.of_cluster("main"), config)
}

/// The headers that every message of the record has.
fn headers(message: &Encoded) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    message
        .headers
        .for_each(|key, value| headers.push((key, value.to_owned())));
    headers
}

/// The messages of a record.
fn all_encoded(config: &KafkaConfig, record: &Record) -> Vec<Encoded> {
    let messages = encoder(config).project(record).unwrap();
    messages.placed().map(|(_, message)| message).collect()
}

/// The first of them.
fn encoded(config: &KafkaConfig, record: &Record) -> Encoded {
    all_encoded(config, record).swap_remove(0)
}

fn topic_of(template: &str, path: &str) -> Result<String, String> {
    let template = NameTemplate::parse(&TOPIC, template).unwrap();
    template
        .name(&a_record().path(path).build())
        .map(|topic| topic.to_string())
}

#[test]
fn a_topic_is_made_of_what_the_record_says() {
    let check = |template: &str, path: &str, expected: &str| {
        assert_eq!(topic_of(template, path).as_deref(), Ok(expected), "{template}");
    };
    check("changes", "/services/a", "changes");
    check("zk.{{ cluster }}", "/services/a", "zk.main");
    check("{{ op }}", "/services/a", "update");
    check("zk.{{ names[0] }}", "/services/a", "zk.services");
    check("zk.{{ names | join('.') }}", "/services/a", "zk.services.a");
    check(
        "zk.{{ names | topic }}",
        "/services/10.0.0.7:80",
        "zk.services.10_2e0_2e0_2e7_3a80",
    );
    check("{{ path | topic }}", "/a_b", "_2fa_5fb");
    check("zk.{{ names | last | topic }}", "/services/ü", "zk._c3_bc");
    check("zk.{{ names[4] | default('short') }}", "/services/a", "zk.short");
    check(
        "{% if op == 'delete' %}gone{% else %}here{% endif %}",
        "/a",
        "here",
    );
}

#[test]
fn a_record_without_a_valid_topic_is_refused_with_the_reason() {
    let check = |template: &str, path: &str, expected: &str| {
        let reason = topic_of(template, path).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    };
    check("zk.{{ names[1] }}", "/a", "undefined");
    check("zk.{{ names | join('.') }}", "/a/b c", "' '");
    check("zk.{{ names | last }}", "/a/ü", "'ü'");
    check("{{ names[0] | replace('x', '.') }}", "/xx", "folders");
    check("{{ names | topic }}", "/", "is empty");
}

#[test]
fn a_template_that_fails_for_every_record_is_an_error_of_the_configuration() {
    let check = |template: &str, expected: &str| {
        let found = objections(&format!("brokers = 'a'\ntopic = \"{template}\""));
        let [(key, said)] = found.as_slice() else {
            panic!("{template}: {found:?}");
        };
        assert_eq!(key, "topic");
        assert!(said.contains(expected), "{said}");
    };
    check("zk changes", "' '");
    check("", "is empty");
    check("zk.{{ path }}", "'/'");
    check("zk.{{ clustr }}", "'clustr'");
    check("zk.{{ cluster", "is not a template");
    check("zk.{{ cluster | nope }}", "nope");
    check("zk.{{ data.value }}", "'data'");
    check(&"x".repeat(250), "250 characters");
}

#[test]
fn a_topic_that_would_be_too_long_is_cut_and_ends_with_a_hash_of_the_whole() {
    let template = "zk.{{ names | topic }}";
    let whole = topic_of(template, &format!("/{}", "x".repeat(246))).unwrap();
    assert!(whole.len() == 249 && whole.ends_with("xx"), "{whole}");
    let long = |last: char| topic_of(template, &format!("/{}{last}", "x".repeat(10_000))).unwrap();
    assert!(
        long('a').len() == 249 && long('a').starts_with("zk.xxx"),
        "{}",
        long('a')
    );
    assert!(long('a').contains("x__"), "{}", long('a'));
    assert_ne!(long('a'), long('b'));
    assert_eq!(long('a'), long('a'));
}

#[test]
fn the_filter_topic_never_makes_one_name_of_two() {
    let names = ["a.b", "a/b", "a_b", "a_2eb", "ab", "a b", "a-b", "A.b", "a_5f2eb"];
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("/{}", name.replace('/', "\u{2044}")))
        .collect();
    let topics: std::collections::HashSet<String> = paths
        .iter()
        .map(|path| topic_of("{{ names | topic }}", path).unwrap())
        .collect();
    assert_eq!(topics.len(), names.len());
}

#[test]
fn the_filter_topic_strict_never_makes_names_that_differ_only_in_dots_and_underscores() {
    // All lists of up to three short texts of letters that could be taken for a mark, an escape or a part of one.
    let letters = ["x", "5", "f", "a", "_", ".", "-", "2e", "x5f"];
    let mut texts: Vec<String> = letters.iter().map(ToString::to_string).collect();
    for first in letters {
        texts.extend(letters.iter().map(|second| format!("{first}{second}")));
    }
    // No znode has such a name.
    texts.retain(|text| text != "." && text != "..");
    let names = texts.iter().map(String::as_str);
    let mut lists: Vec<Vec<&str>> = names.clone().map(|name| vec![name]).collect();
    for name in names {
        lists.extend(letters.iter().map(|more| vec![name, more]));
        lists.extend(letters.iter().map(|more| vec![more, name, more]));
    }
    lists.retain(|list| list.iter().all(|name| !matches!(*name, "." | "..")));
    let folded = |filter: &str| {
        let template = format!("{{{{ names | {filter} }}}}");
        let topic = |list: &Vec<&str>| topic_of(&template, &format!("/{}", list.join("/"))).unwrap();
        let topics: std::collections::HashSet<String> =
            lists.iter().map(|list| topic(list).replace('.', "_")).collect();
        topics.len()
    };
    let paths: std::collections::HashSet<String> = lists.iter().map(|list| list.join("/")).collect();
    assert_eq!(folded("topic_strict"), paths.len());
    assert!(
        folded("topic") < paths.len(),
        "the filter topic is the negative control"
    );
    let topic = |path: &str| topic_of("zk.{{ names | topic_strict }}", path).unwrap();
    assert_eq!(
        topic("/services/payment-api/v1.2"),
        "zk.services.payment-api.v1_x2e2"
    );
    assert_eq!(topic("/x86/xen"), "zk._x7886.xen");
}

#[test]
fn the_filter_topic_makes_colliding_names_of_a_text_after_a_dot_that_reads_as_an_escape() {
    let topic = |path: &str| topic_of("{{ names | topic }}", path).unwrap();
    assert_eq!(
        (topic("/a/5fb"), topic("/a_b")),
        ("a.5fb".to_owned(), "a_5fb".to_owned())
    );
}

#[test]
fn control_records_go_to_the_topic_and_key_of_their_root() {
    let config = config("brokers = 'a'\ntopic = 'zk.{{ names | topic }}'\nkey = 'cluster_path'");
    let record = a_record().seq(3).control(Op::SnapshotBegin).build();
    let root = record.root.clone().unwrap();
    let message = encoded(&config, &record);
    assert_eq!(*message.key, format!("control:main{root}"));
    let heartbeat = Record {
        root: None,
        ..a_record().control(Op::Heartbeat).build()
    };
    assert_eq!(&*encoded(&KafkaConfig::new("a"), &heartbeat).key, "control:");
}

#[test]
fn the_key_is_the_path_and_with_the_cluster_where_several_share_a_topic() {
    let record = a_record().path("/services/ü").build();
    let check = |key: &str, expected: &str| {
        let config = config(&format!("brokers = 'a'\nkey = '{key}'"));
        assert_eq!(&*encoded(&config, &record).key, expected);
    };
    check("path", "/services/ü");
    check("cluster_path", "main/services/ü");
}

#[test]
fn no_key_of_a_control_record_is_the_key_of_a_znode() {
    for key in ["path", "cluster_path"] {
        let config = config(&format!("brokers = 'a'\nkey = '{key}'"));
        let records = limit_records();
        let keys = |control: bool| {
            let chosen = records.iter().filter(|record| record.path.is_none() == control);
            let keys = chosen.map(|record| encoded(&config, record).key);
            keys.collect::<std::collections::HashSet<_>>()
        };
        assert!(keys(true).is_disjoint(&keys(false)));
        assert!(!keys(true).is_empty());
    }
}

#[test]
fn a_message_is_the_record_with_its_names_in_the_headers() {
    let record = a_record().path("/services/a").build();
    let message = encoded(&KafkaConfig::new("a"), &record);
    assert_eq!(message.payload, Some(record.to_json()));
    assert_eq!(message.event_headers, []);
    assert_eq!(&*message.topic, "zk.main");
    let expected = [
        ("zkbridge-id", record.id.to_string()),
        ("zkbridge-op", "update".to_owned()),
        ("zkbridge-zxid", record.zxid.unwrap().to_string()),
        ("zkbridge-cluster", "main".to_owned()),
        ("zkbridge-schema", "zkbridge.change/1".to_owned()),
    ];
    assert_eq!(headers(&message), expected);
    let unknown = Record { zxid: None, ..record };
    let headers = headers(&encoded(&KafkaConfig::new("a"), &unknown));
    assert!(headers.iter().all(|(key, _)| *key != "zkbridge-zxid"));
}

#[test]
fn only_deletes_have_tombstones_and_only_by_choice() {
    let chosen = config("brokers = 'a'\ntombstones = true");
    for &op in Op::ALL {
        let record = if op.is_control() {
            a_record().control(op)
        } else {
            a_record().op(op)
        };
        let record = record.build();
        if op == Op::Service {
            // It is for sinks with a format of service events.
            assert_eq!(all_encoded(&chosen, &record).len(), 0);
            continue;
        }
        let [message, more @ ..] = &all_encoded(&chosen, &record)[..] else {
            panic!("{op:?} has no message")
        };
        let is_tombstone = |one: &Encoded| one.payload.is_none() && one.key == message.key;
        assert_eq!(more.len(), usize::from(op == Op::Delete), "{op:?}");
        assert!(
            more.iter().all(is_tombstone) && message.payload.is_some(),
            "{op:?}"
        );
        assert_eq!(all_encoded(&KafkaConfig::new("a"), &record).len(), 1, "{op:?}");
    }
}

/// The options with this format.
fn in_format(format: Format) -> KafkaConfig {
    let text = format!("brokers = 'a'\ntombstones = true\nformat = '{}'", format.as_str());
    config(&text)
}

#[test]
fn a_record_is_encoded_alike_every_time() {
    for record in limit_records() {
        for &format in Format::ALL {
            let encoder = encoder(&in_format(format));
            assert_eq!(encoder.project(&record), encoder.project(&record));
        }
    }
}

#[test]
fn events_have_the_headers_of_the_kafka_binding_and_tombstones_have_none_of_them() {
    let record = a_record().op(Op::Delete).path("/services/ü").build();
    let header = |message: &Encoded, name: &str| {
        let found = message.event_headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };

    let structured = encoded(&in_format(Format::Cloudevents), &record);
    assert_eq!(structured.event_headers.len(), 1);
    let content_type = header(&structured, "content-type").unwrap();
    assert!(
        content_type.starts_with("application/cloudevents+json"),
        "{content_type}"
    );

    let binary = encoded(&in_format(Format::CloudeventsBinary), &record);
    assert_eq!(
        header(&binary, "content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(header(&binary, "ce_specversion").as_deref(), Some("1.0"));
    assert_eq!(header(&binary, "ce_id"), Some(record.id.to_string()));
    assert_eq!(header(&binary, "ce_subject").as_deref(), Some("/services/ü"));
    assert_eq!(binary.payload, Some(record.to_json()));
    for format in [Format::Cloudevents, Format::CloudeventsBinary] {
        let [message, tombstone] = &all_encoded(&in_format(format), &record)[..] else {
            panic!("{format:?}: a message and a tombstone")
        };
        assert_eq!(tombstone.kafka_headers().count(), headers(message).len());
        assert_eq!(headers(tombstone), headers(message));
        assert_eq!(
            message.kafka_headers().count(),
            headers(message).len() + message.event_headers.len()
        );
    }
}

#[test]
fn a_raw_message_is_the_bytes_and_its_headers_say_the_rest() {
    let config = in_format(Format::Raw);
    let check = |record: RecordBuilder, payload: Option<&[u8]>, expected: &[(&str, &str)]| {
        let [message] = &all_encoded(&config, &record.build())[..] else {
            panic!("a delete is a null value already")
        };
        assert_eq!(message.payload.as_deref(), payload);
        let found: Vec<(&str, &str)> = message
            .event_headers
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(headers(message).len(), 5);
    };
    let path = ("zkbridge-path", "/services/a");
    check(a_record().after([0xff, 0]), Some(&[0xff, 0]), &[path]);
    check(a_record().op(Op::Create).after(""), Some(&[]), &[path]);
    check(a_record().op(Op::Delete), None, &[path]);
    check(
        a_record().after("0123456789").limit(4),
        Some(b"0123"),
        &[path, ("zkbridge-truncated", "10")],
    );
}

#[test]
fn a_record_without_a_value_has_no_raw_message() {
    let raw = in_format(Format::Raw);
    assert_eq!(all_encoded(&raw, &a_record().control(Op::GapBegin).build()), []);
    assert_eq!(all_encoded(&raw, &a_record().op(Op::Acl).build()), []);
}

#[test]
fn a_body_takes_the_place_of_the_format_and_names_its_media_type() {
    let mut config = config("brokers = 'a:9092'");
    config.body = Some(r#"{"p": {{ path }}{% if op == "delete" %}, "gone": true{% endif %}}"#.to_owned());
    config.tombstones = true;
    assert_eq!(config.objections(), []);

    let messages = all_encoded(&config, &a_record().path("/a\"b").op(Op::Delete).build());
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|one| one.payload.as_deref()).collect();
    assert_eq!(payloads, [Some(&br#"{"p": "/a\"b", "gone": true}"#[..]), None]);
    assert_eq!(
        messages[0].event_headers,
        [("content-type".into(), "application/json".to_owned())]
    );
    assert_eq!(messages[1].event_headers, []);
    assert!(all_encoded(&config, &a_record().control(Op::GapEnd).build()).is_empty());

    config.body = Some("{% if op == 'create' %}{{ path }}{% endif %}".to_owned());
    config.content_type = Some("text/plain".to_owned());
    assert!(all_encoded(&config, &a_record().build()).is_empty());
    let buried = all_encoded(&config, &a_record().op(Op::Delete).build());
    assert_eq!((buried.len(), &buried[0].payload), (1, &None));
}

#[test]
fn a_body_without_a_result_rejects_the_record_with_the_reason() {
    let mut config = config("brokers = 'a:9092'");
    config.body = Some("{{ after.data.value.host }}".to_owned());
    let reason = encoder(&config).project(&a_record().build()).unwrap_err();
    assert!(reason.contains("undefined value"), "{reason}");
    config.format = Format::Raw;
    assert!(!config.objections().is_empty());
}

#[test]
fn the_timestamp_of_a_message_is_the_one_that_the_option_names() {
    let mut record = a_record().op(Op::Delete).captured_ms(2_000).build();
    record.time.changed = Some(Timestamp(1_000));
    let mut unknown = record.clone();
    unknown.time.changed = None;
    let check = |option: &str, record: &Record, expected: Option<i64>| {
        let config = config(&format!("brokers = 'a'\ntombstones = true\n{option}"));
        let messages = all_encoded(&config, record);
        let stamps: Vec<Option<i64>> = messages.iter().map(|message| message.timestamp).collect();
        assert_eq!(stamps, [expected; 2], "{option}: the message and its tombstone");
    };
    check("", &record, None);
    check("timestamp = 'sent'", &record, None);
    check("timestamp = 'changed'", &record, Some(1_000));
    check("timestamp = 'changed'", &unknown, Some(2_000));
    check("timestamp = 'captured'", &record, Some(2_000));
    record.time.changed = Some(Timestamp(-5));
    check("timestamp = 'changed'", &record, Some(0));
}
