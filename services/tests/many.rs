//! Instances that come and go all the time, many that go at once, and rules that change: a bounded number of events for
//! people, and each event for programs.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod play;

use bridge_core::amount::Span;
use bridge_core::derive::DerivationMark;
use bridge_core::record::{DownCause, Op, ServiceEventType};
use bridge_services::{FlapLimit, Present, PresentInstance, ServiceConfig, ServiceFormat};
use play::{Play, curator, path};

fn section(flap_limit: u32) -> ServiceConfig {
    ServiceConfig {
        format: ServiceFormat::Curator,
        base: Some(path("/a/services")),
        flap_limit: FlapLimit(flap_limit),
        ..ServiceConfig::default()
    }
}

/// An instance that comes and goes so often, with as many seconds between.
fn flap(play: &mut Play, times: usize, seconds: i64) {
    for _ in 0..times {
        play.change("/a/services/pay/1", Op::Create, 1, &curator("pay", "h1"));
        play.tick(seconds);
        play.change("/a/services/pay/1", Op::Delete, 1, "");
        play.tick(seconds);
    }
}

#[test]
fn thousands_of_flaps_are_a_bounded_number_of_events_and_the_instance_is_up_again_once_it_stays() {
    let mut play = Play::new(&[section(5)]);
    flap(&mut play, 2_000, 1);
    assert_eq!(play.count(ServiceEventType::InstanceDown), 5);
    assert_eq!(play.count(ServiceEventType::InstanceUp), 5);
    let last: Vec<&str> = play.texts().into_iter().rev().take(3).collect();
    let expected = [
        "pay has no available instance",
        "pay h1:1 is flapping: 5 times down within 10 minutes",
        "pay h1:1 is down: the cause is unknown",
    ];
    assert_eq!(last, expected);
    play.events.clear();
    let rows = play.state.len();
    assert!(rows < 10, "{rows} rows are left: {:?}", play.state);
    play.change("/a/services/pay/1", Op::Create, 1, &curator("pay", "h1"));
    play.tick(599);
    // A write is no come and go.
    play.change("/a/services/pay/1", Op::Update, 1, &curator("pay", "h1"));
    assert_eq!(play.texts(), [""; 0]);
    play.tick(1);
    assert_eq!(play.texts(), ["pay h1:1 is up", "pay is available: 1 instance"]);
    play.events.clear();
    flap(&mut play, 1, 1);
    assert_eq!(
        play.count(ServiceEventType::InstanceDown),
        1,
        "the count begins anew"
    );
}

#[test]
fn an_instance_that_flaps_slowly_or_without_a_limit_is_up_and_down_each_time() {
    let check = |limit: u32, times: usize, seconds: i64| {
        let mut play = Play::new(&[section(limit)]);
        flap(&mut play, times, seconds);
        let of = |kind| play.count(kind);
        let kinds = [
            ServiceEventType::InstanceUp,
            ServiceEventType::InstanceDown,
            ServiceEventType::InstanceFlapping,
        ];
        assert_eq!(kinds.map(of), [times, times, 0], "{limit}, {seconds} s");
    };
    check(5, 30, 80);
    check(0, 30, 1);
}

#[test]
fn an_instance_that_is_back_while_it_flaps_is_listed_as_flapping_until_it_is_up() {
    let mut play = Play::new(&[section(5)]);
    flap(&mut play, 6, 1);
    let listed = |play: &mut Play| -> Vec<(String, bool, String)> {
        let present = Present::of(&mut play.state).unwrap();
        let words = |one: PresentInstance| (one.instance, one.is_flapping, one.path);
        present.instances.into_iter().map(words).collect()
    };
    assert_eq!(listed(&mut play), []);
    play.change("/a/services/pay/1", Op::Create, 1, &curator("pay", "h1"));
    play.change("/a/services/pay/2", Op::Create, 2, &curator("pay", "h0"));
    play.complete();
    let path = |name: &str| format!("/a/services/pay/{name}");
    let steady = ("h0:1".to_owned(), false, path("2"));
    let flapping = ("h1:1".to_owned(), true, path("1"));
    assert_eq!(listed(&mut play), [steady.clone(), flapping]);
    play.tick(601);
    assert_eq!(listed(&mut play), [steady, ("h1:1".to_owned(), false, path("1"))]);
}

#[test]
fn a_flapping_instance_that_does_not_come_back_leaves_nothing() {
    let mut play = Play::new(&[section(2)]);
    let empty = play.state.len();
    flap(&mut play, 4, 1);
    assert_eq!(play.count(ServiceEventType::InstanceFlapping), 1);
    play.tick(700);
    assert_eq!(play.state.len(), empty, "{:?}", play.state);
}

#[test]
fn many_instances_that_go_at_once_are_counted_in_one_summary_that_each_of_them_names() {
    let mut play = Play::new(&[section(5)]);
    let names: Vec<String> = (0..30)
        .map(|at| format!("/a/services/s{}/{at}", at % 3))
        .collect();
    for (at, name) in names.iter().enumerate() {
        let text = curator(&format!("s{}", at % 3), &format!("h{at}"));
        play.change(name, Op::Create, 1, &text);
    }
    play.complete();
    play.events.clear();
    play.change(&names[0], Op::Delete, 1, "");
    for name in &names[1..] {
        play.change_too(name, Op::Delete, 1, "");
    }
    play.complete();
    let summary = play.events.last().unwrap();
    assert_eq!(summary.kind, ServiceEventType::InstancesDown);
    assert_eq!((summary.instances, summary.unavailable), (Some(30), Some(3)));
    assert_eq!(summary.cause, Some(DownCause::SessionEnded));
    let by_service: Vec<(&str, u64)> = summary
        .by_service
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(by_service, [("s0", 10), ("s1", 10), ("s2", 10)]);
    assert_eq!(
        summary.text,
        "30 instances of 3 services are down: their sessions ended; 3 services have no available instance (s0 10, s1 10, \
         s2 10)"
    );
    let counted = play
        .events
        .iter()
        .filter(|event| event.summary == Some(summary.id));
    assert_eq!(counted.count(), 33);
}

#[test]
fn few_instances_that_go_at_once_have_no_summary_and_many_that_wait_for_their_grace_have_one() {
    let mut play = Play::new(&[ServiceConfig {
        grace: Span::secs(10),
        ..section(5)
    }]);
    let mut go = |count: u64, seconds: i64| {
        for owner in 1..=count {
            let name = format!("/a/services/pay/{owner}");
            play.change(&name, Op::Create, owner, &curator("pay", &format!("h{owner}")));
        }
        for owner in 1..=count {
            play.change(&format!("/a/services/pay/{owner}"), Op::Delete, owner, "");
        }
        play.tick(seconds);
        let summaries = play.count(ServiceEventType::InstancesDown);
        play.events.clear();
        summaries
    };
    assert_eq!(go(18, 11), 0);
    // Each session ended in a transaction of its own.
    assert_eq!(go(40, 11), 1);
}

#[test]
fn services_that_a_gap_has_made_unavailable_have_a_summary_of_their_own() {
    let mut play = Play::new(&[section(5)]);
    for at in 0..25 {
        let text = curator(&format!("s{at}"), "h");
        play.change(&format!("/a/services/s{at}/1"), Op::Create, at + 1, &text);
    }
    play.mark(DerivationMark::GapBegin, "/a");
    for at in 0..25 {
        play.change(&format!("/a/services/s{at}/1"), Op::Delete, at + 1, "");
    }
    play.mark(DerivationMark::GapEnd, "/a");
    let summaries: Vec<(Option<u64>, Option<u64>)> = play
        .events
        .iter()
        .filter(|event| event.kind == ServiceEventType::InstancesDown)
        .map(|event| (event.instances, event.unavailable))
        .collect();
    assert_eq!(summaries, [(Some(25), Some(0)), (Some(0), Some(25))]);
}

#[test]
fn a_rule_of_dubbo_that_is_made_changed_or_removed_is_an_event_if_asked_for() {
    let rule = |options: &str| {
        format!(
            "/a/dubbo/com.acme.Pay/configurators/override%3A%2F%2F10.0.0.7%3A20880%2Fcom.acme.Pay%3F{options}"
        )
    };
    let (off, other) = (rule("disabled%3Dtrue"), rule("weight%3D10"));
    let texts = |rule_events: bool| -> Vec<String> {
        let mut play = Play::new(&[ServiceConfig {
            format: ServiceFormat::Dubbo,
            base: Some(path("/a/dubbo")),
            rule_events,
            ..ServiceConfig::default()
        }]);
        play.change(&off, Op::Create, 0, "");
        play.change(&other, Op::Create, 0, "");
        play.change(&off, Op::Delete, 0, "");
        play.complete();
        play.texts().into_iter().map(str::to_owned).collect()
    };
    let expected = [
        "com.acme.Pay: a new rule disables 10.0.0.7:20880",
        "com.acme.Pay: a rule that disables 10.0.0.7:20880 was removed",
    ];
    assert_eq!(texts(true), expected);
    assert_eq!(texts(false), [""; 0]);
}
