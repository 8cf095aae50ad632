//! Words of registrations as their own software reads them, and the words of events.

mod play;

use bridge_core::record::{InstanceStatus, Op};
use bridge_services::{ServiceConfig, ServiceFormat};
use play::{Play, path};

fn section(format: ServiceFormat, base: &str) -> ServiceConfig {
    ServiceConfig {
        format,
        base: Some(path(base)),
        rule_events: format == ServiceFormat::Dubbo,
        ..ServiceConfig::default()
    }
}

/// The status of the last event.
fn status(play: &Play) -> Option<InstanceStatus> {
    play.events.iter().rev().find_map(|event| event.status)
}

/// Form encoding of a URL in a name.
fn encoded(url: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_*".contains(&byte);
    url.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[test]
fn words_of_a_status_are_read_as_their_own_software_reads_them() {
    use InstanceStatus::{Disabled, Starting, Unknown, Up};
    let spring = [
        ("UP", Up),
        ("up", Up),
        ("Up", Up),
        ("", Up),
        ("  ", Up),
        ("out_of_service", Disabled),
        ("down", Disabled),
        ("Starting", Starting),
        ("unwell", Unknown),
    ];
    for (word, expected) in spring {
        let mut play = Play::new(&[section(ServiceFormat::Curator, "/a/services")]);
        let text = format!(
            r#"{{"name":"pay","id":"i","address":"h","port":1,"payload":{{"metadata":{{"instance_status":"{word}"}}}}}}"#
        );
        play.change("/a/services/pay/1", Op::Create, 1, &text);
        play.complete();
        assert_eq!(status(&play), Some(expected), "{word}");
    }
    let dubbo = [
        ("disabled=true", Disabled),
        ("disabled=TRUE", Disabled),
        ("disabled=false", Up),
        ("enabled=False", Disabled),
        ("enabled=no", Disabled),
        ("enabled=TRUE", Up),
        // The first of the two decides.
        ("disabled=false&enabled=false", Up),
    ];
    for (parameters, expected) in dubbo {
        let mut play = Play::new(&[section(ServiceFormat::Dubbo, "/a/dubbo")]);
        let name = encoded(&format!("dubbo://10.0.0.7:20880/pay?{parameters}"));
        play.change(&format!("/a/dubbo/pay/providers/{name}"), Op::Create, 1, "");
        play.complete();
        assert_eq!(status(&play), Some(expected), "{parameters}");
    }
    for (word, expected) in [("FALSE", Disabled), ("False", Disabled), ("True", Up)] {
        let mut play = Play::new(&[section(ServiceFormat::Helix, "/a/c")]);
        let config = format!(r#"{{"id":"h_1","simpleFields":{{"HELIX_ENABLED":"{word}"}}}}"#);
        let live = r#"{"id":"h_1","simpleFields":{"SESSION_ID":"1","LIVE_INSTANCE":"4711@h"}}"#;
        play.change("/a/c/CONFIGS/PARTICIPANT/h_1", Op::Create, 0, &config);
        play.change("/a/c/LIVEINSTANCES/h_1", Op::Create, 1, live);
        play.complete();
        assert_eq!(status(&play), Some(expected), "{word}");
    }
}

#[test]
fn an_ipv6_address_has_brackets_in_a_sentence_and_its_fields_stay_as_they_are_registered() {
    let mut play = Play::new(&[section(ServiceFormat::Curator, "/a/services")]);
    let text = |port: u16| format!(r#"{{"name":"pay","id":"i","address":"fd00::7","port":{port}}}"#);
    play.change("/a/services/pay/1", Op::Create, 1, &text(80));
    play.complete();
    play.change("/a/services/pay/1", Op::Update, 1, &text(81));
    play.complete();
    let expected = [
        "pay [fd00::7]:80 is up",
        "pay is available: 1 instance",
        "pay [fd00::7]:81 changed: instance [fd00::7]:80 to [fd00::7]:81, endpoints [fd00::7]:80 to [fd00::7]:81",
    ];
    assert_eq!(play.texts(), expected);
    assert_eq!(play.events[0].instance.as_deref(), Some("fd00::7:80"));
    assert_eq!(play.events[0].endpoints[0].host, "fd00::7");
}

#[test]
fn a_registration_that_can_be_read_again_is_said_to_be_so_whether_its_facts_are_others_or_not() {
    let mut play = Play::new(&[section(ServiceFormat::Curator, "/a/services")]);
    let [one, two] = ["/a/services/pay/1", "/a/services/pay/2"];
    let mut step = |name: &str, op, text: &str| {
        let before = play.events.len();
        play.change(name, op, 1, text);
        play.complete();
        let kinds = play.events[before..].iter().map(|event| event.kind.as_str());
        let kinds: Vec<&'static str> = kinds.collect();
        (kinds, play.texts().last().map(|text| (*text).to_owned()))
    };
    let readable = |name: &str| format!("pay: the registration {name} can be read again");
    step(one, Op::Create, &play::curator("pay", "h1"));
    assert_eq!(step(one, Op::Update, "{broken").0, ["registration.unreadable"]);
    let (kinds, text) = step(one, Op::Update, &play::curator("pay", "h1"));
    assert_eq!(
        (kinds, text),
        (vec!["registration.readable"], Some(readable(one)))
    );
    step(one, Op::Update, "{broken");
    let (kinds, _) = step(one, Op::Update, &play::curator("pay", "h2"));
    assert_eq!(kinds, ["registration.readable", "instance.changed"]);
    // One that could never be read, and one that is deleted meanwhile.
    assert_eq!(step(two, Op::Create, "{broken").0, ["registration.unreadable"]);
    assert_eq!(
        step(two, Op::Update, &play::curator("pay", "h3")).0,
        ["instance.up"]
    );
    assert_eq!(step(two, Op::Update, "{broken").0, ["registration.unreadable"]);
    let (kinds, _) = step(two, Op::Delete, "");
    assert!(!kinds.contains(&"registration.readable"), "{kinds:?}");
}

#[test]
fn a_rule_says_what_it_switches_off_and_one_that_switches_nothing_off_says_nothing() {
    let mut play = Play::new(&[section(ServiceFormat::Dubbo, "/a/dubbo")]);
    let rules = [
        "0.0.0.0/pay?disabled=true",
        "0.0.0.0/pay?disabled=true&version=2.0&group=g1",
        "0.0.0.0/pay?disabled=true&version=*",
        "10.0.0.7:20880/pay?disabled=true&version=2.0",
        "0.0.0.0/pay?weight=10&version=2.0",
        "0.0.0.0/pay?disabled=true&enabled=false",
    ];
    for op in [Op::Create, Op::Delete] {
        for rule in rules {
            let name = encoded(&format!("override://{rule}&category=configurators"));
            play.change(&format!("/a/dubbo/pay/configurators/{name}"), op, 0, "");
        }
    }
    play.complete();
    let switched = [
        "disables all instances",
        "disables all instances of group g1 and version 2.0",
        "disables all instances of any version",
        "disables 10.0.0.7:20880 of version 2.0",
    ];
    let made = switched.iter().map(|what| format!("pay: a new rule {what}"));
    let removed = switched
        .iter()
        .map(|what| format!("pay: a rule that {what} was removed"));
    assert_eq!(play.texts(), made.chain(removed).collect::<Vec<String>>());
}
