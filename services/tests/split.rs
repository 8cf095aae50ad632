//! A watch reports a transaction change by change, and a batch may end between two of them: the events are those of the
//! whole transaction, wherever it is split.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod play;

use std::collections::BTreeMap;

use bridge_core::amount::Span;
use bridge_core::derive::DerivationMark;
use bridge_core::record::{DownCause, Op, ServiceEventType, TxnKind};
use bridge_services::{ServiceConfig, ServiceFormat};
use play::{Play, curator, path};

use ServiceEventType::{
    InstanceChanged, InstanceDown, InstanceUp, InstancesDown, LeaderChanged, LeaderElected, LeaderLost,
    ServiceAvailable, ServiceUnavailable,
};

/// Ephemeral znodes of the session.
const MANY: usize = 100;

/// A silence after which the rest of a transaction is no longer waited for, in milliseconds.
const SILENCE: i64 = 500;

fn section() -> ServiceConfig {
    ServiceConfig {
        format: ServiceFormat::Curator,
        base: Some(path("/a/services")),
        ..ServiceConfig::default()
    }
}

fn instance(at: usize) -> String {
    format!("/a/services/pay/{at}")
}

/// So many instances of one session, and one of another.
fn registered(many: usize, sections: &[ServiceConfig]) -> Play {
    let mut play = Play::new(sections);
    for at in 0..many {
        play.change(&instance(at), Op::Create, 1, &curator("pay", &format!("h{at}")));
    }
    play.change("/a/services/cart/1", Op::Create, 2, &curator("cart", "h"));
    play.complete();
    play.events.clear();
    play
}

/// The session ends: its znodes go in one transaction.
fn end_session(play: &mut Play, many: usize, mut after: impl FnMut(&mut Play, usize)) {
    for at in 0..many {
        match at {
            0 => play.change(&instance(at), Op::Delete, 1, ""),
            _ => play.change_too(&instance(at), Op::Delete, 1, ""),
        }
        after(play, at + 1);
    }
}

fn word(cause: DownCause) -> &'static str {
    match cause {
        DownCause::Deregistered => "deregistered",
        DownCause::SessionEnded => "session_ended",
        DownCause::Unknown => "unknown",
    }
}

/// How many went of each cause.
fn causes(play: &Play) -> BTreeMap<&'static str, usize> {
    let mut causes = BTreeMap::new();
    for event in play.events.iter().filter(|event| event.kind == InstanceDown) {
        *causes.entry(event.cause.map(word).unwrap()).or_default() += 1;
    }
    causes
}

fn kinds(play: &Play) -> Vec<ServiceEventType> {
    play.events.iter().map(|event| event.kind).collect()
}

#[test]
fn the_end_of_a_session_is_its_end_wherever_its_transaction_is_split() {
    for place in 1..=MANY {
        let mut play = registered(MANY, &[section()]);
        end_session(&mut play, MANY, |play, gone| {
            if gone == place {
                play.commit();
                assert_eq!(play.events, []);
            }
        });
        play.commit();
        play.wait(SILENCE);
        assert_eq!(
            causes(&play),
            [("session_ended", MANY)].into(),
            "split after {place}"
        );
        assert_eq!(play.count(ServiceUnavailable), 1);
        let summary = play.events.iter().find(|event| event.kind == InstancesDown);
        assert_eq!(summary.and_then(|event| event.instances), Some(MANY as u64));
    }
    // The control: at each end of a batch it is over.
    let mut play = registered(MANY, &[section()]);
    end_session(&mut play, MANY, |play, _| play.complete());
    let expected = [("deregistered", MANY - 1), ("session_ended", 1)];
    assert_eq!(causes(&play), expected.into());
}

#[test]
fn a_transaction_that_comes_change_by_change_is_over_with_the_first_change_of_another_one() {
    let mut play = registered(MANY, &[section()]);
    end_session(&mut play, MANY, |play, _| {
        play.commit();
        play.wait(SILENCE - 1);
        play.commit();
    });
    assert_eq!(play.events, []);
    play.change("/elsewhere", Op::Create, 0, "");
    assert_eq!(causes(&play), [("session_ended", MANY)].into());
}

#[test]
fn one_of_two_that_goes_alone_has_deregistered_once_the_rest_would_have_come() {
    let mut play = registered(2, &[section()]);
    end_session(&mut play, 1, |play, _| play.commit());
    play.wait(SILENCE - 1);
    assert_eq!(play.events, []);
    play.wait(1);
    assert_eq!(causes(&play), [("deregistered", 1)].into());
    // What comes later still is counted with what has gone before.
    play.change_too(&instance(1), Op::Delete, 1, "");
    play.commit();
    play.wait(SILENCE);
    assert_eq!(causes(&play), [("deregistered", 1), ("session_ended", 1)].into());
}

#[test]
fn whoever_dies_or_loses_the_connection_within_a_transaction_never_takes_its_end_for_a_deregistration() {
    type Interrupt = fn(&mut Play);
    let ways: [(&str, Interrupt); 3] = [
        ("a start anew", |play| assert!(!play.restart(&[section()], &[]))),
        ("other options", |play| {
            let zone = Some("/payload/zone".to_owned());
            assert!(play.restart(&[ServiceConfig { zone, ..section() }], &[]));
        }),
        ("a gap", |play| play.mark(DerivationMark::GapBegin, "/a")),
    ];
    for (way, interrupt) in ways {
        for place in 1..5 {
            let mut play = registered(5, &[section()]);
            end_session(&mut play, 5, |play, gone| {
                play.commit();
                if gone == place {
                    interrupt(play);
                    assert_eq!(causes(play), [("unknown", place)].into(), "{way} after {place}");
                }
            });
            play.mark(DerivationMark::GapEnd, "/a");
            play.wait(SILENCE);
            let causes = causes(&play);
            assert_eq!(
                causes.get("deregistered"),
                None,
                "{way} after {place}: {causes:?}"
            );
            if way != "other options" {
                assert_eq!(play.count(InstanceDown), 5, "{way} after {place}");
            }
        }
    }
}

#[test]
fn rows_that_were_undone_within_a_transaction_leave_no_guess() {
    use bridge_core::derive::Derivation;

    let mut play = registered(3, &[section()]);
    let mut before = play.state.clone();
    end_session(&mut play, 3, |play, gone| match gone {
        1 => {
            play.commit();
            before = play.state.clone();
        }
        2 => {
            play.state = before.clone();
            play.machine.forget(&mut play.state).unwrap();
            play.wait(SILENCE);
            assert_eq!(causes(play), [("unknown", 1)].into());
        }
        _ => {}
    });
}

#[test]
fn more_changes_than_may_wait_are_announced_with_an_unknown_cause() {
    let many = 16_400;
    let mut play = registered(many + 1, &[section()]);
    end_session(&mut play, many, |_, _| {});
    play.commit();
    assert_eq!(causes(&play), [("unknown", many)].into());
}

#[test]
fn a_leader_that_one_transaction_replaces_is_changed_and_not_lost_although_its_create_comes_later() {
    let kafka = ServiceConfig {
        format: ServiceFormat::Kafka,
        base: Some(path("/k")),
        ..ServiceConfig::default()
    };
    let controller = |id: u32| format!(r#"{{"version":2,"brokerid":{id},"timestamp":"1"}}"#);
    // Persistent, and of a session.
    for owner in [0, 7] {
        let story = |is_replaced: bool| {
            let mut play = Play::new(std::slice::from_ref(&kafka));
            play.change("/k/controller", Op::Create, owner, &controller(1));
            play.change("/k/controller", Op::Delete, owner, "");
            play.commit();
            match is_replaced {
                true => play.change_too("/k/controller", Op::Create, owner, &controller(2)),
                false => play.change("/k/controller", Op::Create, owner, &controller(2)),
            }
            play.complete();
            kinds(&play)
        };
        assert_eq!(story(true), [LeaderElected, LeaderChanged], "owner {owner}");
        assert_eq!(
            story(false),
            [LeaderElected, LeaderLost, LeaderElected],
            "owner {owner}"
        );
    }
}

#[test]
fn an_instance_that_one_transaction_replaces_is_never_down_and_its_service_never_unavailable() {
    let mut play = Play::new(&[section()]);
    play.change(&instance(1), Op::Create, 0, &curator("pay", "h1"));
    play.change(&instance(1), Op::Delete, 0, "");
    play.commit();
    let text = r#"{"name":"pay","id":"i","address":"h1","port":1,"sslPort":2}"#;
    play.change_too(&instance(2), Op::Create, 0, text);
    play.commit();
    play.wait(SILENCE);
    assert_eq!(kinds(&play), [InstanceUp, ServiceAvailable, InstanceChanged]);
}

#[test]
fn a_known_transaction_and_the_release_of_a_lock_wait_for_nothing() {
    let mut play = registered(2, &[section()]);
    play.txn = Some(TxnKind::CloseSession);
    end_session(&mut play, 2, |_, _| {});
    play.commit();
    assert_eq!(causes(&play), [("session_ended", 2)].into());

    let mut play = Play::new(&[ServiceConfig {
        format: ServiceFormat::Queue,
        locks: vec!["/a/lock".to_owned()],
        ..ServiceConfig::default()
    }]);
    let name = "/a/lock/_c_00000000-0000-4000-8000-000000000001-lock-0000000001";
    play.change(name, Op::Create, 1, "node 1");
    play.change(name, Op::Delete, 1, "");
    play.commit();
    assert_eq!(
        play.texts().last(),
        Some(&"node 1 released the write lock /a/lock")
    );
}

#[test]
fn grace_counts_from_the_change_and_its_event_has_the_cause_of_the_whole_transaction() {
    let mut play = registered(
        2,
        &[ServiceConfig {
            grace: Span::secs(1),
            ..section()
        }],
    );
    let began = play.now;
    end_session(&mut play, 2, |play, _| play.commit());
    play.wait(SILENCE);
    play.tick(0);
    assert_eq!(play.events, []);
    let rest = began + 1_000 - play.now;
    play.wait(rest);
    play.tick(0);
    assert_eq!(causes(&play), [("session_ended", 2)].into());
    assert_eq!(play.events[0].cause, Some(DownCause::SessionEnded));
}
