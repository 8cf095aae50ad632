//! The judgement of a stream's settings.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bridge_core::outbound::NameTemplate;
use bridge_core::sink::SinkErrorKind;

use crate::config::CreateStream;
use crate::stream::{StreamSpec, judge};
use crate::template::{self, SUBJECT};

fn spec(template: &str) -> StreamSpec {
    StreamSpec {
        is_bucket: false,
        name: Arc::from("ZK"),
        create: CreateStream::No,
        samples: template::samples(&NameTemplate::parse(&SUBJECT, template).unwrap(), "main"),
        default_subject: "zk.>".to_owned(),
        timeout: Duration::from_secs(30),
    }
}

fn fit() -> Config {
    Config {
        name: "ZK".to_owned(),
        subjects: vec!["zk.>".to_owned()],
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    }
}

fn remarks(config: &Config) -> Vec<String> {
    judge(config, &spec("zk.{{ cluster }}.{{ names | subject }}"))
        .unwrap()
        .remarks
}

#[test]
fn a_stream_that_takes_all_and_keeps_all_is_fit() {
    assert_eq!(remarks(&fit()), [""; 0]);
}

#[test]
fn a_stream_that_never_takes_a_record_is_refused() {
    let check = |config: Config, template: &str, kind: SinkErrorKind, expected: &str| {
        let Err(error) = judge(&config, &spec(template)) else {
            panic!("{expected}: it is taken");
        };
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(expected), "{error}");
    };
    let default = "zk.{{ cluster }}.{{ names | subject }}";
    let config = SinkErrorKind::Configuration;
    check(
        Config {
            sealed: true,
            ..fit()
        },
        default,
        config,
        "sealed",
    );
    check(
        Config {
            no_ack: true,
            ..fit()
        },
        default,
        config,
        "no_ack",
    );
    let mirror = Some(Default::default());
    check(Config { mirror, ..fit() }, default, config, "mirror");
    let events = vec!["events.>".to_owned()];
    check(
        Config {
            subjects: events,
            ..fit()
        },
        default,
        SinkErrorKind::Missing,
        "takes events.>, and the records go to zk.main.>",
    );
    check(fit(), "zk", SinkErrorKind::Missing, "the records go to zk");
}

#[test]
fn settings_that_would_lose_records_are_remarked() {
    let check = |config: Config, expected: &str| {
        let found = remarks(&config);
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].contains(expected), "{found:?}");
        assert!(found[0].starts_with("stream 'ZK' "), "{found:?}");
    };
    check(
        Config {
            max_bytes: 1_000,
            ..fit()
        },
        "max_bytes = 1000 (discard = old)",
    );
    check(
        Config {
            max_messages: 10,
            ..fit()
        },
        "max_msgs = 10",
    );
    check(
        Config {
            max_messages_per_subject: 1,
            ..fit()
        },
        "only the newest 1 of each subject",
    );
    check(
        Config {
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            ..fit()
        },
        "only the newest 1 of each subject",
    );
    check(
        Config {
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            ..fit()
        },
        "refuses a message to a subject that has 1",
    );
    check(
        Config {
            retention: RetentionPolicy::Interest,
            ..fit()
        },
        "only for consumers that are there",
    );
    check(
        Config {
            max_age: Duration::from_secs(600),
            ..fit()
        },
        "removes messages after 10m",
    );
    check(
        Config {
            storage: StorageType::Memory,
            ..fit()
        },
        "is kept in memory",
    );
    check(
        Config {
            duplicate_window: Duration::from_secs(60),
            ..fit()
        },
        "give it 1m 30s or more",
    );
    let subjects = vec!["zk.main.services.>".to_owned()];
    check(Config { subjects, ..fit() }, "where a record of '/' would go");
    let refusing = Config {
        max_bytes: 1_000,
        discard: DiscardPolicy::New,
        ..fit()
    };
    assert_eq!(remarks(&refusing), [""; 0]);
}

#[test]
fn the_streams_own_limit_on_messages_is_kept() {
    let spec = spec("zk.{{ cluster }}.x");
    let largest = |max_message_size: i32| {
        let config = Config {
            max_message_size,
            ..fit()
        };
        judge(&config, &spec).unwrap().largest
    };
    assert_eq!(
        (largest(-1), largest(0), largest(1_000)),
        (None, None, Some(1_000))
    );
}

#[test]
fn a_subject_that_the_stream_does_not_take_is_said_to_hold_its_own_records() {
    let subjects = vec!["zk.main.*".to_owned()];
    let said = remarks(&Config { subjects, ..fit() });
    let [remark] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(
        remark.contains("is parked and tried again, and other subjects go on"),
        "{remark}"
    );
}
