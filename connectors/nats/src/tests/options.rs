//! The options.

use bridge_core::issue::Severity;

use super::config;
use crate::config::{CreateStream, NatsConfig, StreamSettings, WhenFull};
use crate::sink::NatsSink;

/// The keys of a configuration's objections, each with its message and remedy in one text.
fn objections(text: &str) -> Vec<(String, String)> {
    let found = config(text).objections();
    let said = found
        .into_iter()
        .map(|one| (one.key, format!("{}; {}", one.message, one.remedy)));
    said.collect()
}

fn with(options: &str) -> String {
    format!("servers = 'nats://a:4222'\nstream = 'ZK'\n{options}")
}

fn check(options: &str, key: &str, expected: &str) {
    let found = objections(&with(options));
    let [(at, said)] = found.as_slice() else {
        panic!("{options}: {found:?}");
    };
    assert_eq!(at, key, "{options}");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn servers_and_a_stream_are_all_that_must_be_given() {
    let config = config("servers = 'nats://127.0.0.1:4222'\nstream = 'ZK'");
    assert!(config == NatsConfig::new("nats://127.0.0.1:4222", "ZK"));
    assert_eq!(config.objections(), []);
    assert_eq!(config.subject, "zk.{{ cluster }}.{{ names | subject }}");
    assert_eq!((config.in_flight, config.fence), (1_000, false));
    assert_eq!(config.create_stream, CreateStream::No);
}

#[test]
fn a_stream_to_create_is_said_by_false_by_true_or_by_what_it_is_like() {
    let settings = |value: &str| config(&with(&format!("create_stream = {value}"))).create_stream;
    assert_eq!(settings("false"), CreateStream::No);
    assert_eq!(settings("true"), CreateStream::Yes(StreamSettings::default()));
    let CreateStream::Yes(settings) =
        settings("{ subjects = ['zk.>'], replicas = 3, max_age = '7d', when_full = 'remove_oldest' }")
    else {
        panic!("a stream is to be created");
    };
    assert_eq!(
        (settings.subjects, settings.replicas),
        (vec!["zk.>".to_owned()], 3)
    );
    assert_eq!(settings.when_full, WhenFull::RemoveOldest);
    for refused in ["'yes'", "{ replica = 3 }", "3"] {
        let text = with(&format!("create_stream = {refused}"));
        assert!(toml::from_str::<NatsConfig>(&text).is_err(), "{refused}");
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key() {
    let found = objections(
        "servers = 'nats://a:4222,http://b,c:port,:1'\nstream = 'Z K'\nsubject = 'zk {{ cluster }}'\ntimeout = '1ms'\n\
         in_flight = 0\ncreate_stream = { subjects = ['a..b'], replicas = 9, duplicate_window = '1ms', max_age = '1us' }\n\
         tls = { cert = 'x' }\nauth = { token = 't', user = 'u' }",
    );
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    let expected = [
        "servers",
        "servers",
        "servers",
        "subject",
        "stream",
        "create_stream.subjects",
        "create_stream.replicas",
        "create_stream.duplicate_window",
        "create_stream.max_age",
        "in_flight",
        "timeout",
        "auth",
        "auth.user",
        "tls.cert",
    ];
    assert_eq!(keys, expected, "{found:#?}");
    assert!(NatsSink::new(&config("servers = ''\nstream = 'ZK'"), "main").is_err());
}

#[test]
fn servers_are_addresses_of_nats() {
    let check = |servers: &str, expected: usize| {
        let found = NatsConfig::new(servers, "ZK").objections();
        assert_eq!(found.len(), expected, "{servers}: {found:?}");
    };
    check("nats://127.0.0.1:4222", 0);
    check("a, b:4223 ,nats://[::1]:4222", 0);
    check("", 1);
    check("a,", 1);
    check("a:0", 1);
    check("nats://a:99999", 1);
    check("ws://a", 1);
    check("nats://a b,nats://c/d", 2);
    let warned = NatsConfig::new("tls://a:4222", "ZK").objections();
    assert_eq!(warned[0].severity, Severity::Warning);
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    let found = NatsConfig::new("nats://me:hunter2@a:4222", "ZK").objections();
    assert_eq!(found.len(), 1);
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    assert!(found[0].message.contains("[sink.auth]"), "{found:?}");
}

#[test]
fn a_connection_has_one_identity() {
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    for fine in [
        "auth = { token = 't' }",
        "auth = { user = 'u', password = 'p' }",
        &format!("auth = {{ nkey = '{seed}' }}"),
        "auth = { creds = '/x' }",
    ] {
        assert_eq!(objections(&with(fine)), [], "{fine}");
    }
    check("auth = {}", "auth", "no credentials are given");
    check(
        "auth = { token = 't', creds = 'c' }",
        "auth",
        "token, creds are given",
    );
    check("auth = { user = 'u' }", "auth.user", "password is missing");
    check("auth = { password = 'p' }", "auth.password", "user is missing");
    check(
        "auth = { nkey = 'not-a-seed' }",
        "auth.nkey",
        "not the seed of a user's nkey",
    );
    // The seed of an account.
    let account = seed.replacen("SU", "SA", 1);
    check(
        &format!("auth = {{ nkey = '{account}' }}"),
        "auth.nkey",
        "begin with SU",
    );
}

#[test]
fn secrets_stand_in_no_debug_output_and_no_objection() {
    let text = with("auth = { token = 'hunter2', nkey = 'hunter3', user = 'u', password = 'hunter4' }");
    let config = config(&text);
    let shown = format!("{config:?} {:?}", config.objections());
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn a_domain_is_a_token_and_the_prefix_of_answers_some() {
    for fine in [
        "domain = 'hub'",
        "inbox_prefix = '_INBOX_zkbridge'",
        "inbox_prefix = 'answers.zkbridge'",
    ] {
        assert_eq!(objections(&with(fine)), [], "{fine}");
    }
    for wrong in ["", "a.b", "a b", "*", ">"] {
        check(&format!("domain = '{wrong}'"), "domain", "jetstream.domain");
    }
    for wrong in ["", "a..b", ".a", "a.", "a.*", "a.>", "ä"] {
        check(&format!("inbox_prefix = '{wrong}'"), "inbox_prefix", "tokens");
    }
    let long = "x".repeat(257);
    check(&format!("inbox_prefix = '{long}'"), "inbox_prefix", "tokens");
}

#[test]
fn a_bucket_takes_the_place_of_stream_subject_and_format() {
    let bucket =
        |options: &str| objections(&format!("servers = 'nats://a:4222'\nbucket = 'tree'\n{options}"));
    assert_eq!(bucket(""), []);
    assert_eq!(
        bucket("key = 'cluster_path'\nformat = 'raw'\ncreate_stream = { replicas = 3 }\nfence = true"),
        []
    );
    for (options, key) in [
        ("stream = 'ZK'", "stream"),
        ("subject = 'zk.{{ cluster }}'", "subject"),
        ("format = 'record'", "format"),
        (
            "create_stream = { subjects = ['zk.>'] }",
            "create_stream.subjects",
        ),
        (
            "create_stream = { when_full = 'remove_oldest' }",
            "create_stream.when_full",
        ),
    ] {
        let found = bucket(options);
        assert_eq!(found.len(), 1, "{options}: {found:?}");
        assert_eq!(found[0].0, key, "{options}");
    }
    for wrong in ["", "a.b", "a b", "ü", "a/b", &"x".repeat(300)] {
        let found = objections(&format!("servers = 'nats://a:4222'\nbucket = '{wrong}'"));
        assert!(
            found.iter().all(|(key, _)| key == "bucket") && found.len() == 1,
            "{wrong}: {found:?}"
        );
    }
    let neither = objections("servers = 'nats://a:4222'");
    assert!(
        neither[0].0 == "stream" && neither[0].1.contains("or a bucket"),
        "{neither:?}"
    );
}

#[test]
fn addresses_and_subjects_that_the_sink_cannot_use_are_refused_with_the_reason() {
    let wss = NatsConfig::new("wss://a:443", "ZK").objections();
    assert!(wss[0].message.contains("WebSockets"), "{wss:?}");
    let bucket = objections(&with("subject = '$KV.tree.{{ names | subject }}'"));
    assert!(
        bucket
            .iter()
            .any(|(key, said)| key == "subject" && said.contains("with the option bucket")),
        "{bucket:?}"
    );
}
