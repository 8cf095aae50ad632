//! Which registrations are those of one process: one that only registers again is not restarted.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod play;

use bridge_core::amount::Span;
use bridge_core::derive::DerivationMark;
use bridge_core::record::{Op, ServiceEventType};
use bridge_services::{ServiceConfig, ServiceFormat};
use play::{Play, path};

use ServiceEventType::{InstanceDown, InstanceRestarted, InstanceUp, ServiceAvailable, ServiceUnavailable};

const FIRST: u64 = 1;
const SECOND: u64 = 2;

fn section(format: ServiceFormat, base: &str, grace: Span) -> ServiceConfig {
    ServiceConfig {
        format,
        base: Some(path(base)),
        grace,
        ..ServiceConfig::default()
    }
}

fn dubbo(grace: Span) -> Play {
    Play::new(&[section(ServiceFormat::Dubbo, "/dubbo", grace)])
}

fn sofarpc() -> Play {
    Play::new(&[section(ServiceFormat::Sofarpc, "/sofa-rpc", Span::secs(10))])
}

/// A znode below `providers`, whose name is a URL.
fn provider(root: &str, url: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_*".contains(&byte);
    let encode = |byte| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    let encoded: String = url.bytes().map(encode).collect();
    format!("/{root}/com.acme.Pay/providers/{encoded}")
}

/// A provider that was exported at this time.
fn exported(timestamp: u64) -> String {
    let url = format!("dubbo://10.0.0.7:20880/com.acme.Pay?pid=1&side=provider&timestamp={timestamp}");
    provider("dubbo", &url)
}

/// A provider of SOFARPC, which writes the time of each registration.
fn registered(pid: u64, at: u64) -> String {
    let url = format!("bolt://10.0.0.7:12200?version=1.0&weight=100&startTime={at}&pid={pid}");
    provider("sofa-rpc", &url)
}

#[track_caller]
fn check(mut play: Play, expected: &[ServiceEventType]) {
    play.tick(60);
    let kinds: Vec<ServiceEventType> = play.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, expected, "{:?}", play.texts());
}

#[test]
fn a_provider_of_dubbo_that_registers_again_after_its_session_expired_is_not_restarted() {
    let story = |mut play: Play, away| {
        play.change(&exported(7), Op::Create, FIRST, "10.0.0.7");
        play.change(&exported(7), Op::Delete, FIRST, "");
        play.tick(away);
        play.change(&exported(7), Op::Create, SECOND, "10.0.0.7");
        play
    };
    let comes = [InstanceUp, ServiceAvailable];
    let goes = [InstanceDown, ServiceUnavailable];
    check(story(dubbo(Span::secs(10)), 3), &comes);
    let each = [comes, goes, comes].concat();
    check(story(dubbo(Span::secs(10)), 30), &each);
    check(story(dubbo(Span::default()), 3), &each);
}

#[test]
fn a_provider_of_dubbo_with_another_timestamp_is_restarted_in_whatever_order_it_comes() {
    for is_overlapping in [true, false] {
        let mut play = dubbo(Span::secs(10));
        play.change(&exported(7), Op::Create, FIRST, "10.0.0.7");
        if is_overlapping {
            play.change(&exported(8), Op::Create, SECOND, "10.0.0.7");
            play.change(&exported(7), Op::Delete, FIRST, "");
        } else {
            play.change(&exported(7), Op::Delete, FIRST, "");
            play.change(&exported(8), Op::Create, SECOND, "10.0.0.7");
        }
        check(play, &[InstanceUp, ServiceAvailable, InstanceRestarted]);
    }
}

#[test]
fn in_a_gap_too_the_timestamp_decides_whether_a_provider_of_dubbo_is_restarted() {
    for (timestamp, restart) in [(7, None), (8, Some(InstanceRestarted))] {
        let mut play = dubbo(Span::default());
        play.change(&exported(7), Op::Create, FIRST, "10.0.0.7");
        play.mark(DerivationMark::GapBegin, "/dubbo");
        play.change(&exported(7), Op::Delete, FIRST, "");
        play.change(&exported(timestamp), Op::Create, SECOND, "10.0.0.7");
        play.mark(DerivationMark::GapEnd, "/dubbo");
        let before = [InstanceUp, ServiceAvailable].into_iter();
        check(play, &before.chain(restart).collect::<Vec<_>>());
    }
}

#[test]
fn a_provider_of_sofarpc_that_only_registers_again_is_neither_changed_nor_restarted() {
    let story = |next: &str, owner| {
        let mut play = sofarpc();
        let first = registered(4711, 100);
        play.change(&first, Op::Create, FIRST, "\u{1}");
        play.change(next, Op::Create, owner, "\u{1}");
        play.change(&first, Op::Delete, FIRST, "");
        play
    };
    let comes = [InstanceUp, ServiceAvailable];
    for owner in [FIRST, SECOND] {
        check(story(&registered(4711, 200), owner), &comes);
    }
    let restarted = [&comes[..], &[InstanceRestarted]].concat();
    check(story(&registered(5012, 200), SECOND), &restarted);
}

#[test]
fn a_broker_that_registers_again_may_have_lost_its_session_alone_and_the_event_says_so() {
    let broker = |at: u64, port: u16| {
        format!(
            r#"{{"version":5,"endpoints":["PLAINTEXT://k1:{port}"],"listener_security_protocol_map":{{}},"jmx_port":-1,
               "timestamp":"{at}"}}"#
        )
    };
    let kafka = || Play::new(&[section(ServiceFormat::Kafka, "/kafka", Span::secs(30))]);
    let id = "/kafka/brokers/ids/1";
    let mut play = kafka();
    play.change(id, Op::Create, FIRST, &broker(1, 9092));
    play.change(id, Op::Delete, FIRST, "");
    play.change(id, Op::Create, SECOND, &broker(2, 9092));
    play.complete();
    let event = play.events.last().unwrap();
    assert_eq!(event.kind, InstanceRestarted);
    let open = "its registration does not show whether it restarted";
    assert_eq!(event.reason.as_deref(), Some(open));
    assert_eq!(event.text, format!("kafka 1 registered again: {open}"));
    // In one session the process is the same one, whatever the time of the registration.
    let mut play = kafka();
    play.change(id, Op::Create, FIRST, &broker(1, 9092));
    play.change(id, Op::Update, FIRST, &broker(2, 9092));
    check(play, &[InstanceUp, ServiceAvailable]);
    // The control: a registration that names its process.
    let mut play = dubbo(Span::secs(10));
    play.change(&exported(7), Op::Create, FIRST, "10.0.0.7");
    play.change(&exported(7), Op::Delete, FIRST, "");
    play.change(&exported(8), Op::Create, SECOND, "10.0.0.7");
    play.complete();
    let event = play.events.last().unwrap();
    assert_eq!((event.kind, &event.reason), (InstanceRestarted, &None));
    assert!(event.text.ends_with(" restarted"), "{}", event.text);
}

#[test]
fn where_a_registration_says_nothing_of_its_process_its_session_counts_as_the_process() {
    // Every container begins with process 1.
    let (first, next) = (registered(1, 100), registered(1, 200));
    for (owner, restart) in [(FIRST, None), (SECOND, Some(InstanceRestarted))] {
        let mut play = sofarpc();
        play.change(&first, Op::Create, FIRST, "\u{1}");
        play.change(&next, Op::Create, owner, "\u{1}");
        play.change(&first, Op::Delete, FIRST, "");
        let before = [InstanceUp, ServiceAvailable].into_iter();
        check(play, &before.chain(restart).collect::<Vec<_>>());
    }
}
