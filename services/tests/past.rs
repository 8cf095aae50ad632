//! The services of an earlier moment are those that were registered then, also where old events are removed.
//!
//! A failure prints its seed; `ZKBRIDGE_SEED` replays it.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod play;

use std::collections::BTreeMap;

use bridge_core::amount::Span;
use bridge_core::record::{Op, ServiceEventType, Timestamp};
use bridge_services::{PastMoment, PastServices, Present, PresentInstance, ServiceConfig, ServiceFormat};
use play::{Play, path};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn sections(grace: u64) -> Vec<ServiceConfig> {
    let grace = Span::secs(grace);
    vec![
        ServiceConfig {
            format: ServiceFormat::Curator,
            base: Some(path("/a/services")),
            grace,
            ..ServiceConfig::default()
        },
        ServiceConfig {
            format: ServiceFormat::Queue,
            elections: vec!["/a/latch".to_owned()],
            queue_events: true,
            grace,
            ..ServiceConfig::default()
        },
    ]
}

/// The state after some events.
struct Snapshot {
    events: usize,
    at: PastMoment,
    present: Present,
}

/// A moment of a history that a watch has captured as it happened.
fn live(at: i64) -> PastMoment {
    PastMoment {
        time: Timestamp(at),
        captured: Timestamp(at),
        counted: |time| time.captured,
    }
}

/// A moment of transactions that were captured late.
fn late(at: i64, captured: i64) -> PastMoment {
    PastMoment {
        time: Timestamp(at),
        captured: Timestamp(captured),
        counted: |time| time.changed.unwrap_or(time.captured),
    }
}

/// Registrations that come, change and go, and the state after each step.
fn story(seed: u64, grace: u64) -> (Play, Vec<Snapshot>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut play = Play::new(&sections(grace));
    let mut living: Vec<String> = Vec::new();
    let mut owners: BTreeMap<String, u64> = BTreeMap::new();
    let mut snapshots = Vec::new();
    for _ in 0..80 {
        play.now += 1_000;
        let owner = random.random_range(1..5);
        match random.random_range(0..8) {
            0 => {
                play.tick(random.random_range(1..12));
            }
            1..=3 if !living.is_empty() => {
                let name = living.swap_remove(random.random_range(0..living.len()));
                play.change(&name, Op::Delete, owner, "");
            }
            4 => {
                let name = format!("/a/latch/_c_00000000-0000-4000-8000-000000000001-latch-{owner:010}");
                if !living.contains(&name) {
                    play.change(&name, Op::Create, owner, &format!("node {owner}"));
                    living.push(name);
                }
            }
            _ => {
                let (service, id) = (random.random_range(0..2), random.random_range(0..3));
                let name = format!("/a/services/s{service}/{id}");
                let status = ["UP", "OUT_OF_SERVICE"][random.random_range(0..2)];
                let port = random.random_range(1..4);
                let text = format!(
                    r#"{{"name":"s{service}","id":"{id}","address":"h","port":{port},
                       "payload":{{"metadata":{{"instance_status":"{status}","zone":"z{owner}"}}}}}}"#
                );
                if living.contains(&name) {
                    play.change(&name, Op::Update, owners[&name], &text);
                } else {
                    owners.insert(name.clone(), owner);
                    play.change(&name, Op::Create, owner, &text);
                    living.push(name);
                }
            }
        }
        play.complete();
        snapshots.push(Snapshot {
            events: play.events.len(),
            at: live(play.now),
            present: Present::of(&mut play.state).unwrap(),
        });
    }
    (play, snapshots)
}

/// Without what no event says: since when, by which of several equal registrations of a process, and whether an instance
/// was leaving that came back within its grace.
fn plain(mut present: Present) -> Present {
    present.instances.retain(|instance| !instance.is_flapping);
    for instance in &mut present.instances {
        instance.since = Timestamp(0);
        instance.path.clear();
        instance.is_leaving = false;
        instance.leaving_since = None;
    }
    present.leaders.retain(|leader| leader.leader.is_some());
    for leader in &mut present.leaders {
        leader.queue = 0;
    }
    present
}

/// The state at a snapshot, from the events of which the first are removed.
fn asked(play: &mut Play, snapshot: &Snapshot, removed: usize) -> (Present, u64) {
    let mut past = PastServices::default();
    for event in &play.events[removed.min(snapshot.events)..snapshot.events] {
        past.take_before(event);
    }
    for event in &play.events[snapshot.events.max(removed)..] {
        past.take_after(event, &snapshot.at);
    }
    let now = Present::of(&mut play.state).unwrap();
    past.at_moment(now, &snapshot.at, removed == 0)
}

fn seeds() -> Vec<u64> {
    match std::env::var("ZKBRIDGE_SEED") {
        Ok(seed) => vec![seed.parse().expect("ZKBRIDGE_SEED is a number")],
        Err(_) => (1..=20).collect(),
    }
}

#[test]
fn the_services_of_any_moment_are_those_that_were_registered_then() {
    for seed in seeds() {
        println!("ZKBRIDGE_SEED={seed}");
        let (mut play, snapshots) = story(seed, if seed % 2 == 0 { 0 } else { 10 });
        for (at, snapshot) in snapshots.iter().enumerate() {
            let (present, unknown) = asked(&mut play, snapshot, 0);
            assert_eq!(unknown, 0, "seed {seed}, step {at}");
            assert_eq!(
                plain(present),
                plain(snapshot.present.clone()),
                "seed {seed}, step {at}"
            );
        }
    }
}

#[test]
fn without_the_first_events_the_instances_of_a_moment_are_still_those_that_were_registered_then() {
    let mut compared = 0;
    for seed in seeds() {
        println!("ZKBRIDGE_SEED={seed}");
        let (mut play, snapshots) = story(seed, if seed % 2 == 0 { 0 } else { 10 });
        let removed = play.events.len() / 2;
        for (at, snapshot) in snapshots.iter().enumerate() {
            // An earlier moment is one that the journal does not reach.
            if snapshot.events < removed {
                continue;
            }
            let (present, _) = asked(&mut play, snapshot, removed);
            let facts = |present: Present| -> Vec<PresentInstance> {
                let mut instances = plain(present).instances;
                for instance in &mut instances {
                    instance.session = None;
                }
                instances
            };
            let expected = facts(snapshot.present.clone());
            compared += expected.len();
            assert_eq!(facts(present), expected, "seed {seed}, step {at}");
        }
    }
    assert!(compared > 100 || seeds().len() == 1, "{compared} instances");
}

#[test]
fn an_instance_that_a_section_with_other_options_no_longer_lists_is_counted_as_unknown() {
    let mut play = Play::new(&sections(0));
    play.change("/a/services/pay/1", Op::Create, 1, &play::curator("pay", "h1"));
    play.complete();
    let snapshot = Snapshot {
        events: play.events.len(),
        at: live(play.now),
        present: Present::default(),
    };
    let mut others = sections(0);
    others[0].zone = Some("/z".to_owned());
    play.restart(&others, &[]);
    let (present, unknown) = asked(&mut play, &snapshot, 0);
    assert_eq!((present.instances.len(), unknown), (0, 1));
}

#[test]
fn an_instance_whose_down_was_held_back_at_the_moment_is_leaving_then() {
    let mut play = Play::new(&sections(10));
    play.change("/a/services/pay/1", Op::Create, 1, &play::curator("pay", "h1"));
    play.complete();
    let before = play.now;
    play.now += 1_000;
    play.change("/a/services/pay/1", Op::Delete, 1, "");
    play.complete();
    let check = |play: &mut Play, at: i64, is_leaving: bool| {
        let snapshot = Snapshot {
            events: 2,
            at: live(at),
            present: Present::default(),
        };
        let (present, unknown) = asked(play, &snapshot, 0);
        let leaving: Vec<bool> = present.instances.iter().map(|one| one.is_leaving).collect();
        assert_eq!((leaving, unknown), (vec![is_leaving], 0));
    };
    check(&mut play, before, false);
    check(&mut play, before + 1_000, true);
    assert_eq!(play.tick(11).len(), 2);
    check(&mut play, before, false);
    check(&mut play, before + 5_000, true);
}

#[test]
fn in_a_history_that_was_captured_late_a_moment_is_compared_with_the_times_of_its_changes() {
    let mut play = Play::new(&sections(10));
    let begin = play.now;
    let captured = begin + 3_600_000;
    play.captured = Some(captured);
    play.change("/a/services/pay/1", Op::Create, 1, &play::curator("pay", "h1"));
    play.change("/a/services/pay/2", Op::Create, 2, &play::curator("pay", "h2"));
    play.complete();
    let listed = play.events.len();
    play.now = begin + 10_000;
    play.change("/a/services/pay/1", Op::Delete, 1, "");
    play.complete();
    let leaving = |play: &mut Play, at: i64, removed: usize| {
        let snapshot = Snapshot {
            events: listed,
            at: late(at, captured),
            present: Present::default(),
        };
        let (present, unknown) = asked(play, &snapshot, removed);
        let leaving: Vec<bool> = present.instances.iter().map(|one| one.is_leaving).collect();
        (leaving, unknown)
    };
    // While the end is held back, and after it.
    for _ in 0..2 {
        assert_eq!(leaving(&mut play, begin + 5_000, 0), (vec![false, false], 0));
        assert_eq!(leaving(&mut play, begin + 15_000, 0), (vec![true, false], 0));
        play.now = captured;
        play.tick(11);
    }
    // Without the first events, too.
    assert_eq!(leaving(&mut play, begin + 5_000, listed), (vec![false, false], 0));
    assert_eq!(leaving(&mut play, begin + 15_000, listed), (vec![true, false], 0));
    // The control: by the clock of the bridge it would not be leaving, and the other one not be there.
    let of_bridge = Snapshot {
        events: listed,
        at: live(begin + 15_000),
        present: Present::default(),
    };
    let (present, _) = asked(&mut play, &of_bridge, listed);
    assert!(present.instances.iter().all(|one| !one.is_leaving) && present.instances.len() == 1);
}

#[test]
fn an_event_too_much_gives_another_state() {
    let (mut play, snapshots) = story(3, 0);
    let is_down = |event: &bridge_core::record::ServiceEvent| event.kind == ServiceEventType::InstanceDown;
    let at = play.events.iter().rposition(is_down).unwrap();
    play.events.remove(at);
    let differs = snapshots
        .into_iter()
        .filter(|snapshot| snapshot.events > at)
        .any(|mut snapshot| {
            snapshot.events -= 1;
            let (present, unknown) = asked(&mut play, &snapshot, 0);
            (plain(present), unknown) != (plain(snapshot.present), 0)
        });
    assert!(differs);
}
