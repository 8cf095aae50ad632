//! Tests without a broker. Those with one are in `tests/brokers`.

mod messages;

use std::time::Duration;

use bridge_core::issue::Severity;
use bridge_core::sink::{Sink as _, SinkErrorKind};
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::config::{CreateTopics, KafkaConfig, KeyBy};
use crate::error::{self, Meaning};
use crate::properties;
use crate::sink::KafkaSink;

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
fn a_pipe_in_the_place_of_a_certificate_is_refused_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("ca.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let check = |path: &str, is_fine: bool| {
        let text = format!("brokers = 'a'\nproperties = {{ 'ssl.ca.location' = '{path}' }}");
        let checked = properties::check_files(&properties::client_config(&config(&text)));
        assert_eq!(checked.is_ok(), is_fine, "{path}: {checked:?}");
        if let Err(error) = checked {
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
    };
    check(pipe.to_str().unwrap(), false);
    check("/dev/null", false);
    check(folder.path().to_str().unwrap(), true);
    check("probe", true);
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
    check(
        "'sasl.jaas.config' = 'x'",
        "\"sasl.username\" and \"sasl.password\"",
    );
    check("'ssl.truststore.location' = '/a.jks'", "\"ssl.ca.location\"");
    check("'sasl.mechanism' = 'OAUTHBEARER'", "cannot fetch tokens");
    check("'sasl.mechanisms' = 'oauthbearer'", "SCRAM-SHA-512");
    check("'ssl.key.password' = \"a\\u0000b\"", "NUL");
}

#[test]
fn credentials_that_cannot_work_or_that_nothing_reads_are_named() {
    let check = |properties: &str, expected: &str| {
        let found = objections(&format!("brokers = 'a'\nproperties = {{ {properties} }}"));
        let [(_, said)] = found.as_slice() else {
            panic!("{properties}: {found:?}");
        };
        assert!(said.contains(expected), "{said}");
    };
    if cfg!(not(feature = "gssapi")) {
        let alone = "'security.protocol' = 'sasl_ssl'";
        check(
            alone,
            "without sasl.mechanism means GSSAPI, and this build has no Kerberos",
        );
        let named = "'security.protocol' = 'SASL_PLAINTEXT', 'sasl.mechanism' = 'GSSAPI'";
        check(named, "sasl.mechanism = GSSAPI, and this build has no Kerberos");
    }
    let unread = "'sasl.username' = 'u', 'sasl.password' = 'p', 'sasl.mechanisms' = 'PLAIN'";
    check(
        unread,
        "sasl.username has no effect: security.protocol is plaintext",
    );
    check(
        "'security.protocol' = 'ssl', 'sasl.password' = 'p'",
        "sasl.password has no effect: security.protocol is ssl; set \"security.protocol\" to \"SASL_SSL\"",
    );
}

#[test]
fn a_program_with_its_own_openssl_looks_for_certificates_where_distributions_have_them() {
    let check = |given: &str, expected: Option<&str>| {
        let client =
            properties::client_config(&config(&format!("brokers = 'a'\nproperties = {{ {given} }}")));
        assert_eq!(client.get("ssl.ca.location"), expected, "{given}");
    };
    let probed = cfg!(feature = "vendored").then_some("probe");
    check("'security.protocol' = 'SASL_SSL'", probed);
    check("'security.protocol' = 'ssl'", probed);
    check("'security.protocol' = 'sasl_plaintext'", None);
    check("'client.id' = 'a'", None);
    check(
        "'security.protocol' = 'ssl', 'ssl.ca.location' = '/ca.pem'",
        Some("/ca.pem"),
    );
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
    assert_eq!(client.get("receive.message.max.bytes"), Some("16777216"));
    // Every address of a broker's name is tried within an attempt to open the sink.
    assert_eq!(client.get("socket.connection.setup.timeout.ms"), Some("4000"));
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
    for key in [
        "client.id",
        "compression.type",
        "sasl.username",
        "ssl.ca.location",
    ] {
        assert!(!properties::is_secret(key), "{key}");
    }
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
    assert!(objections.iter().all(|one| one.severity == Severity::Error));
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
