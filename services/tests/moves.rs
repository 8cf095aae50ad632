//! Instances that are named by an address, and registrations that take another one.

mod play;

use std::collections::BTreeSet;

use bridge_core::amount::Span;
use bridge_core::derive::DerivationMark;
use bridge_core::record::{Op, ServiceEvent, ServiceEventType};
use bridge_services::{Present, ServiceConfig, ServiceFormat};
use play::{Play, path};

const BLUE: &str = "/a/services/pay/blue";
const GREEN: &str = "/a/services/pay/green";

fn section(grace: u64) -> ServiceConfig {
    ServiceConfig {
        format: ServiceFormat::Curator,
        base: Some(path("/a/services")),
        grace: Span::secs(grace),
        ..ServiceConfig::default()
    }
}

fn at(port: u16) -> String {
    format!(r#"{{"name":"pay","id":"i","address":"10.0.0.1","port":{port}}}"#)
}

fn registered(play: &mut Play) -> Vec<String> {
    let present = Present::of(&mut play.state).unwrap_or_default();
    present.instances.into_iter().map(|one| one.instance).collect()
}

/// A consumer that keeps what is registered by the identities of the events alone.
fn followed(events: &[ServiceEvent]) -> Vec<String> {
    let mut there = BTreeSet::new();
    for event in events {
        let name = event.instance.clone().unwrap_or_default();
        let before = event.changes.iter().find(|change| change.field == "instance");
        if let Some(before) = before.and_then(|change| change.from.as_str()) {
            assert!(there.remove(before), "{}", event.text);
        }
        match event.kind {
            ServiceEventType::InstanceDown => assert!(there.remove(&name), "{}", event.text),
            ServiceEventType::InstanceUp | ServiceEventType::InstanceChanged => drop(there.insert(name)),
            _ => {}
        }
    }
    there.into_iter().collect()
}

/// Blue takes another address, and green the first one of blue.
fn moved(grace: u64) -> Play {
    let mut play = Play::new(&[section(grace)]);
    play.change(BLUE, Op::Create, 1, &at(8080));
    play.change(BLUE, Op::Update, 1, &at(8081));
    play.change(GREEN, Op::Create, 2, &at(8080));
    play.complete();
    play
}

#[test]
fn an_address_that_a_registration_has_left_is_free_for_another_instance_and_each_has_its_own_end() {
    let mut play = moved(0);
    let expected = [
        "pay 10.0.0.1:8080 is up",
        "pay is available: 1 instance",
        "pay 10.0.0.1:8081 changed: instance 10.0.0.1:8080 to 10.0.0.1:8081, endpoints 10.0.0.1:8080 to 10.0.0.1:8081",
        "pay 10.0.0.1:8080 is up",
    ];
    assert_eq!(play.texts(), expected);
    assert_eq!(registered(&mut play), ["10.0.0.1:8080", "10.0.0.1:8081"]);
    play.events.clear();
    play.change(BLUE, Op::Delete, 1, "");
    play.complete();
    assert_eq!(play.texts(), ["pay 10.0.0.1:8081 is down: the cause is unknown"]);
    play.events.clear();
    play.change(GREEN, Op::Delete, 2, "");
    play.complete();
    let expected = [
        "pay 10.0.0.1:8080 is down: the cause is unknown",
        "pay has no available instance",
    ];
    assert_eq!(play.texts(), expected);
}

#[test]
fn an_address_that_is_left_and_claimed_in_one_transaction_or_gap_is_renamed_before_it_is_claimed() {
    for is_gap in [false, true] {
        let mut play = Play::new(&[section(0)]);
        play.change(BLUE, Op::Create, 1, &at(8080));
        play.complete();
        if is_gap {
            play.mark(DerivationMark::GapBegin, "/a");
        }
        play.change(BLUE, Op::Update, 1, &at(8081));
        play.change_too(GREEN, Op::Create, 2, &at(8080));
        if is_gap {
            play.mark(DerivationMark::GapEnd, "/a");
        }
        play.complete();
        let kinds: Vec<ServiceEventType> = play.events.iter().skip(2).map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [ServiceEventType::InstanceChanged, ServiceEventType::InstanceUp]
        );
        assert_eq!(followed(&play.events), ["10.0.0.1:8080", "10.0.0.1:8081"]);
    }
}

/// The registrations name no process.
fn again(instance: &str) -> String {
    format!("pay {instance} registered again: its registration does not show whether it restarted")
}

#[test]
fn two_registrations_that_exchange_their_addresses_are_two_instances_of_other_processes() {
    let mut play = Play::new(&[section(0)]);
    play.change(BLUE, Op::Create, 1, &at(1));
    play.change(GREEN, Op::Create, 2, &at(2));
    play.complete();
    play.events.clear();
    play.change(BLUE, Op::Update, 1, &at(2));
    play.change_too(GREEN, Op::Update, 2, &at(1));
    play.complete();
    assert_eq!(play.texts(), [again("10.0.0.1:1"), again("10.0.0.1:2")]);
    play.events.clear();
    play.change(BLUE, Op::Delete, 1, "");
    play.complete();
    assert_eq!(play.texts(), ["pay 10.0.0.1:2 is down: the cause is unknown"]);
    assert_eq!(registered(&mut play), ["10.0.0.1:1"]);
}

#[test]
fn a_registration_that_takes_the_address_of_a_living_one_leaves_its_own_which_is_down() {
    let mut play = Play::new(&[section(10)]);
    play.change(BLUE, Op::Create, 1, &at(1));
    play.change(GREEN, Op::Create, 2, &at(2));
    play.complete();
    play.events.clear();
    play.change(GREEN, Op::Update, 2, &at(1));
    play.complete();
    assert_eq!(play.texts(), [""; 0]);
    play.tick(11);
    assert_eq!(play.texts(), ["pay 10.0.0.1:2 is down: it deregistered"]);
    play.events.clear();
    play.change(BLUE, Op::Delete, 1, "");
    play.complete();
    assert_eq!(play.texts(), [again("10.0.0.1:1")]);
    play.change(GREEN, Op::Delete, 2, "");
    play.tick(11);
    assert_eq!(registered(&mut play), [""; 0]);
}

#[test]
fn a_registration_that_moves_and_goes_within_one_transaction_is_down_under_the_name_that_was_said() {
    let mut play = Play::new(&[section(0)]);
    play.change(BLUE, Op::Create, 1, &at(1));
    play.complete();
    play.change(BLUE, Op::Update, 1, &at(2));
    play.change_too(BLUE, Op::Delete, 1, "");
    play.complete();
    assert_eq!(followed(&play.events), [""; 0]);
    assert_eq!(play.count(ServiceEventType::InstanceDown), 1);
    assert_eq!(registered(&mut play), [""; 0]);
}

#[test]
fn moves_are_derived_twice_with_equal_events() {
    for grace in [0, 10] {
        assert_eq!(moved(grace).events, moved(grace).events);
    }
}
