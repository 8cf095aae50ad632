//! What can be known without a broker. What cannot is in `tests/real`.

use std::time::Duration;

use bridge_core::format::Format;
use bridge_core::issue::Severity;
use bridge_core::record::{Op, Record};
use bridge_core::sink::{Sink as _, SinkErrorKind};
use bridge_core::testing::{RecordBuilder, a_record, limit_records};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::Headers as _;

use crate::config::{CreateTopics, KafkaConfig, KeyBy};
use crate::encode::{Encoded, Encoder};
use crate::error::{self, Meaning};
use crate::properties;
use crate::sink::KafkaSink;
use crate::template::TopicTemplate;

fn config(text: &str) -> KafkaConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The keys of a configuration's objections, each with its message and remedy in one text.
fn objections(text: &str) -> Vec<(String, String)> {
    let found = config(text).objections();
    let said = found
        .into_iter()
        .map(|one| (one.key, format!("{}; {}", one.message, one.remedy)));
    said.collect()
}

fn encoder(config: &KafkaConfig) -> Encoder {
    Encoder::new(TopicTemplate::parse(&config.topic).unwrap(), config, "main")
}

/// The headers that every message of the record has.
fn headers(message: &Encoded) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    message
        .headers
        .tell(|key, value| headers.push((key, value.to_owned())));
    headers
}

fn encoded(config: &KafkaConfig, record: &Record) -> Encoded {
    encoder(config)
        .encode(record)
        .unwrap()
        .expect("the format has a word for it")
}

fn topic_of(template: &str, path: &str) -> Result<String, String> {
    let template = TopicTemplate::parse(template).unwrap();
    template
        .topic(&a_record().path(path).build())
        .map(|topic| topic.to_string())
}

#[test]
fn a_broker_is_all_that_must_be_given() {
    let config = config("brokers = '127.0.0.1:9092'");
    assert_eq!(config, KafkaConfig::new("127.0.0.1:9092"));
    assert_eq!(config.objections(), []);
    assert_eq!(config.topic, "zk.{{ cluster }}");
    assert_eq!(config.compression.as_str(), "zstd");
    assert_eq!((config.key, config.tombstones), (KeyBy::Path, false));
    assert_eq!(config.create_topics, CreateTopics::No);
}

#[test]
fn topics_to_create_are_said_by_false_by_true_or_by_what_they_are_like() {
    let settings = |value: &str| config(&format!("brokers = 'a'\ncreate_topics = {value}")).create_topics;
    assert_eq!(settings("false"), CreateTopics::No);
    assert_eq!(
        settings("true"),
        CreateTopics::Yes(crate::TopicSettings::default())
    );
    let CreateTopics::Yes(settings) = settings(
        "{ partitions = 6, replication = 3, config = { 'cleanup.policy' = 'compact', 'retention.ms' = 5 } }",
    ) else {
        panic!("topics are to be created");
    };
    assert_eq!((settings.partitions, settings.replication), (Some(6), Some(3)));
    let pairs: Vec<_> = settings.config.iter().collect();
    assert_eq!(pairs, [("cleanup.policy", "compact"), ("retention.ms", "5")]);
    for refused in ["'yes'", "{ partition = 6 }", "3"] {
        let text = format!("brokers = 'a'\ncreate_topics = {refused}");
        assert!(toml::from_str::<KafkaConfig>(&text).is_err(), "{refused}");
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key() {
    let found = objections(
        "brokers = 'a:9092,kafka://b:9092,c:port,:1'\ntopic = 'zk {{ cluster }}'\ntimeout = '1ms'\n\
         create_topics = { partitions = 0, replication = 70000 }\n\
         properties = { acks = 1, 'no.such.thing' = true, 'linger.ms' = 'soon' }",
    );
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    let expected = [
        "brokers",
        "brokers",
        "brokers",
        "topic",
        "create_topics.partitions",
        "create_topics.replication",
        "timeout",
        "properties.\"acks\"",
        "properties.\"linger.ms\"",
        "properties.\"no.such.thing\"",
    ];
    assert_eq!(keys, expected, "{found:#?}");
}

#[test]
fn brokers_are_hosts_with_ports() {
    let check = |brokers: &str, expected: usize| {
        let found = KafkaConfig::new(brokers).objections();
        assert_eq!(found.len(), expected, "{brokers}: {found:?}");
    };
    check("127.0.0.1:9092", 0);
    check("a:9092, b:9093 ,c", 0);
    check("[::1]:9092,[fe80::1]", 0);
    check("", 1);
    check("a:9092,", 1);
    check("a:0", 1);
    check("a:99999", 1);
    check("ssl://a:9093", 1);
    check("a b:1,c/d", 2);
}

#[test]
fn properties_that_would_break_a_promise_are_refused_with_a_reason() {
    let check = |property: &str, expected: &str| {
        let found = objections(&format!("brokers = 'a'\nproperties = {{ {property} }}"));
        let [(key, said)] = found.as_slice() else {
            panic!("{property}: {found:?}");
        };
        assert!(key.starts_with("properties."), "{key}");
        assert!(said.contains(expected), "{said}");
    };
    check("acks = 1", "lose records when a broker dies");
    check("'request.required.acks' = 0", "give \"all\"");
    check("'enable.idempotence' = false", "duplicates and reorders");
    check("'enable.gapless.guarantee' = false", "pass an earlier one");
    check("'max.in.flight' = 6", "from 1 to 5");
    check(
        "'max.in.flight.requests.per.connection' = 1000",
        "five requests in flight",
    );
    check("retries = 3", "option retry");
    check("'message.send.max.retries' = 3", "option retry");
    check("'message.timeout.ms' = 5000", "option timeout");
    check("'delivery.timeout.ms' = 5000", "option timeout");
    check("'bootstrap.servers' = 'b'", "option brokers");
    check("'metadata.broker.list' = 'b'", "option brokers");
    check("'transactional.id' = 'x'", "transactions");
    check("partitioner = 'random'", "the order of a path");
    check("partitioner = 'consistent'", "the sink chooses");
    check("'queuing.strategy' = 'lifo'", "reorders");
    check("'queue.buffering.max.messages' = 0", "must have a bound");
    check("'queue.buffering.max.kbytes' = 2000000000", "must have a bound");
    check("'delivery.report.only.error' = true", "what is durable");
    check("'compression.type' = 'lz4'", "option compression");
    check("'allow.auto.create.topics' = true", "option create_topics");
    check("'test.mock.num.brokers' = 3", "go nowhere");
    check("'no.such.property' = 3", "no property no.such.property;");
    check("'ssl.key.password' = \"a\\u0000b\"", "NUL");
}

#[test]
fn properties_that_keep_the_promises_are_passed_on() {
    let text = "brokers = 'a'\nproperties = { acks = 'all', 'enable.idempotence' = true, 'max.in.flight' = 1, \
                partitioner = 'murmur2', 'security.protocol' = 'SASL_SSL', 'sasl.mechanism' = 'PLAIN', \
                'sasl.username' = 'u', 'sasl.password' = 'p', 'queue.buffering.max.kbytes' = 1024, \
                'message.max.bytes' = 900000, 'linger.ms' = 0.5, 'enable.gapless.guarantee' = 'true' }";
    assert_eq!(objections(text), []);
    let client = properties::client_config(&config(text));
    for (key, value) in [
        ("sasl.password", "p"),
        ("partitioner", "murmur2"),
        ("message.max.bytes", "900000"),
        ("bootstrap.servers", "a"),
        ("acks", "all"),
        ("message.timeout.ms", "0"),
        ("compression.type", "zstd"),
    ] {
        assert_eq!(client.get(key), Some(value), "{key}");
    }
    client.create_native_config().unwrap();
}

#[test]
fn records_wait_for_company_before_they_are_handed_to_the_producer_and_in_it_while_they_are() {
    for (properties, expected, in_it) in [
        ("", Duration::ZERO, "0"),
        ("'linger.ms' = 5", Duration::from_millis(5), "1"),
        ("'linger.ms' = 0.5", Duration::from_micros(500), "0.5"),
        ("'queue.buffering.max.ms' = 900000", Duration::from_secs(900), "1"),
    ] {
        let text = format!("brokers = 'a'\nproperties = {{ {properties} }}");
        assert_eq!(objections(&text), [], "{properties}");
        let config = config(&text);
        let client = properties::client_config(&config);
        assert_eq!(client.get("linger.ms"), Some(in_it), "{properties}");
        assert_eq!(client.get("queue.buffering.max.ms"), None, "{properties}");
        let sink = KafkaSink::new(&config, "main").expect("these properties are allowed");
        assert_eq!(sink.linger(), expected, "{properties}");
    }
}

#[test]
fn the_defaults_are_taken_by_librdkafka_and_have_a_bound_on_memory() {
    let client = properties::client_config(&KafkaConfig::new("a:9092"));
    client.create_native_config().unwrap();
    assert_eq!(client.get("queue.buffering.max.kbytes"), Some("65536"));
    assert_eq!(client.get("allow.auto.create.topics"), None);
    let creating = config("brokers = 'a'\ncreate_topics = true");
    let client = properties::client_config(&creating);
    assert_eq!(client.get("allow.auto.create.topics"), Some("false"));
}

#[test]
fn a_secret_is_in_no_message_and_no_debug_text() {
    let text = "brokers = 'a'\nproperties = { 'sasl.password' = 'hunter2', 'ssl.key.pem' = 'hunter2' }";
    let shown = format!("{:?} {:?}", config(text), objections(text));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("sasl.password"), "{shown}");
    for key in [
        "ssl.key.password",
        "sasl.oauthbearer.client.secret",
        "ssl.key.pem",
        "sasl.oauthbearer.config",
        "ssl.keystore.password",
    ] {
        assert!(properties::is_secret(key), "{key}");
    }
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
    check(
        "{{ names | topic }}",
        &format!("/{}", "x".repeat(250)),
        "250 characters",
    );
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
fn control_records_go_to_the_topic_and_key_of_their_root() {
    let config = config("brokers = 'a'\ntopic = 'zk.{{ names | topic }}'\nkey = 'cluster_path'");
    let record = a_record().seq(3).control(Op::SnapshotBegin).build();
    let root = record.root.clone().unwrap();
    let message = encoded(&config, &record);
    assert_eq!(message.key, format!("control:main{root}"));
    let heartbeat = Record {
        root: None,
        ..a_record().control(Op::Heartbeat).build()
    };
    assert_eq!(encoded(&KafkaConfig::new("a"), &heartbeat).key, "control:");
}

#[test]
fn the_key_is_the_path_and_with_the_cluster_where_several_share_a_topic() {
    let record = a_record().path("/services/ü").build();
    let check = |key: &str, expected: &str| {
        let config = config(&format!("brokers = 'a'\nkey = '{key}'"));
        assert_eq!(encoded(&config, &record).key, expected);
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
    for op in Op::ALL {
        let record = if op.is_control() {
            a_record().control(op)
        } else {
            a_record().op(op)
        };
        let record = record.build();
        assert_eq!(encoded(&chosen, &record).tombstone, op == Op::Delete, "{op:?}");
        assert!(!encoded(&KafkaConfig::new("a"), &record).tombstone);
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
        for format in Format::ALL {
            let encoder = encoder(&in_format(format));
            assert_eq!(encoder.encode(&record), encoder.encode(&record));
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
    for message in [structured, binary] {
        assert!(message.tombstone);
        assert_eq!(message.tombstone_headers().count(), headers(&message).len());
        assert_eq!(
            message.kafka_headers().count(),
            headers(&message).len() + message.event_headers.len()
        );
    }
}

#[test]
fn a_raw_message_is_the_bytes_and_its_headers_say_the_rest() {
    let config = in_format(Format::Raw);
    let check = |record: RecordBuilder, payload: Option<&[u8]>, expected: &[(&str, &str)]| {
        let message = encoded(&config, &record.build());
        assert_eq!(message.payload.as_deref(), payload);
        let found: Vec<(&str, &str)> = message
            .event_headers
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .collect();
        assert_eq!(found, expected);
        assert!(!message.tombstone, "a delete is a null value already");
        assert_eq!(headers(&message).len(), 5);
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
fn what_tells_of_no_value_has_no_raw_message() {
    let raw = encoder(&in_format(Format::Raw));
    assert_eq!(raw.encode(&a_record().control(Op::GapBegin).build()), Ok(None));
    assert_eq!(raw.encode(&a_record().op(Op::Acl).build()), Ok(None));
}

#[test]
fn every_error_has_the_kind_that_its_remedy_needs() {
    use Meaning::{Aftermath, Trouble};
    use SinkErrorKind as Kind;
    for (code, expected) in [
        (Code::MessageSizeTooLarge, Meaning::Record),
        (Code::InvalidRecord, Meaning::Record),
        (Code::InvalidDifferentRecord, Meaning::Record),
        (Code::PurgeInflight, Aftermath),
        (Code::GaplessGuarantee, Aftermath),
        (Code::BrokerTransportFailure, Trouble(Kind::Unavailable)),
        (Code::NotEnoughReplicas, Trouble(Kind::Unavailable)),
        (Code::ThrottlingQuotaExceeded, Trouble(Kind::Throttled)),
        (Code::KafkaStorageError, Trouble(Kind::Full)),
        (Code::UnknownTopicOrPartition, Trouble(Kind::Missing)),
        (Code::Authentication, Trouble(Kind::Authentication)),
        (Code::SSL, Trouble(Kind::Authentication)),
        (Code::TopicAuthorizationFailed, Trouble(Kind::Authorization)),
        (Code::ClusterAuthorizationFailed, Trouble(Kind::Authorization)),
        (Code::InvalidReplicationFactor, Trouble(Kind::Configuration)),
        (Code::OutOfOrderSequenceNumber, Trouble(Kind::Broken)),
        (Code::UnknownProducerId, Trouble(Kind::Broken)),
        (Code::QueueFull, Trouble(Kind::Broken)),
        (Code::Unknown, Trouble(Kind::Broken)),
    ] {
        assert_eq!(error::meaning(code), expected, "{code:?}");
    }
}

#[test]
fn an_error_names_the_topic_the_brokers_and_what_to_do() {
    let missing = error::about_topic(Code::UnknownTopic, "a:9092", "zk.main");
    assert_eq!(missing.kind, SinkErrorKind::Missing);
    for part in ["zk.main", "a:9092", "create_topics"] {
        assert!(missing.message.contains(part), "{}", missing.message);
    }
    let reason = error::refusal(Code::MessageSizeTooLarge, "zk.main", 2_000_000);
    for part in [
        "2000000 bytes",
        "zk.main",
        "max.message.bytes",
        "message.max.bytes",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn a_sink_with_options_that_cannot_work_is_not_made() {
    let mut config = KafkaConfig::new("a:port");
    config.topic = "{{ nope }}".to_owned();
    let objections = crate::KafkaSink::new(&config, "main").err().unwrap();
    assert_eq!(objections.len(), 2);
    assert!(objections.iter().all(|one| one.gravity == Severity::Error));
    assert!(crate::KafkaSink::new(&KafkaConfig::new("a:1"), "main").is_ok());
}

#[test]
fn unknown_options_are_refused() {
    for text in [
        "brokers = 'a'\nbroker = 'b'",
        "topic = 'x'",
        "brokers = 'a'\ncompression = 'brotli'",
    ] {
        assert!(toml::from_str::<KafkaConfig>(text).is_err(), "{text}");
    }
}
