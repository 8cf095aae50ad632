//! Events that are held back, and those of long gaps: none is lost, none holds up another, and memory has a bound.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod play;

use bridge_core::amount::{Size, Span};
use bridge_core::append::{Append, Change, ChangeKind, Read, RecordKind};
use bridge_core::derive::{DerivationMark, DerivedState};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Journal, JournalErrorKind, JournalOptions, SinkState};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::record::{Data, DataForm, Fidelity, Op, ServiceEventType, Stat, Timestamp};
use bridge_services::{ServiceConfig, ServiceFormat, ServiceMachine};
use play::{Play, curator, path};

/// More than one tick takes.
const MANY: usize = 1_100;

fn section(base: &str) -> ServiceConfig {
    ServiceConfig {
        format: ServiceFormat::Curator,
        base: Some(path(base)),
        grace: Span::secs(10),
        ..ServiceConfig::default()
    }
}

#[test]
fn overdue_events_of_a_root_in_a_gap_hold_up_no_other_root() {
    let mut play = Play::new(&[section("/a/services"), section("/b/services")]);
    for at in 0..MANY {
        play.change(
            &format!("/a/services/pay/{at}"),
            Op::Create,
            1,
            &curator("pay", &format!("h{at}")),
        );
    }
    for at in 0..MANY {
        play.change(&format!("/a/services/pay/{at}"), Op::Delete, 1, "");
    }
    play.change("/b/services/cart/1", Op::Create, 2, &curator("cart", "h1"));
    play.change("/b/services/cart/1", Op::Delete, 2, "");
    play.mark(DerivationMark::GapBegin, "/a");
    let texts: Vec<String> = play.tick(11).into_iter().map(|event| event.text).collect();
    let expected = [
        "cart h1:1 is down: the cause is unknown",
        "cart has no available instance",
    ];
    assert_eq!(texts, expected);
    assert_eq!(play.tick(1), []);
    play.mark(DerivationMark::GapEnd, "/a");
    let of_first = play.tick(1).len();
    assert!(of_first < MANY, "{of_first} events of one tick");
    play.tick(1);
    assert_eq!(play.count(ServiceEventType::InstanceDown), MANY + 1);
}

#[test]
fn a_down_that_waits_comes_at_its_time_although_the_options_of_its_section_change() {
    let mut play = Play::new(&[section("/a/services")]);
    play.change("/a/services/pay/1", Op::Create, 1, &curator("pay", "h1"));
    play.change("/a/services/pay/2", Op::Create, 2, &curator("pay", "h2"));
    play.change("/a/services/old/1", Op::Create, 3, &curator("old", "h3"));
    play.change("/a/services/pay/1", Op::Delete, 1, "");
    play.change("/a/services/old/1", Op::Delete, 3, "");
    play.complete();
    play.events.clear();
    let zone = Some("/payload/zone".to_owned());
    let changed = ServiceConfig {
        zone,
        ..section("/a/services")
    };
    let living = [("/a/services/pay/2", 2, curator("pay", "h2"))];
    assert!(play.restart(std::slice::from_ref(&changed), &living));
    assert_eq!(play.texts(), ["pay h2:1 is registered, up"]);
    play.events.clear();
    play.tick(9);
    assert_eq!(play.texts(), [""; 0]);
    play.tick(2);
    let mut texts = play.texts();
    texts.sort_unstable();
    let expected = [
        "old h3:1 is down: the cause is unknown",
        "old has no available instance",
        "pay h1:1 is down: the cause is unknown",
    ];
    assert_eq!(texts, expected);
    play.events.clear();
    play.change("/a/services/pay/2", Op::Delete, 2, "");
    play.tick(11);
    assert_eq!(play.texts().last(), Some(&"pay has no available instance"));
    // Without the section, nothing is left of it.
    play.restart(&[section("/b/services")], &[]);
    play.tick(700);
    assert_eq!(play.state.len(), 1, "{:?}", play.state);
}

#[test]
fn a_lost_leader_that_waits_comes_at_its_time_although_the_options_of_its_section_change() {
    let queue = |queue_name: &str| ServiceConfig {
        name: Some("queue".to_owned()),
        format: ServiceFormat::Queue,
        elections: vec!["/a/latch".to_owned(), queue_name.to_owned()],
        grace: Span::secs(10),
        ..ServiceConfig::default()
    };
    let mut play = Play::new(&[queue("/a/one")]);
    let name = "/a/latch/_c_00000000-0000-4000-8000-000000000001-latch-0000000001";
    play.change(name, Op::Create, 1, "node 1");
    play.change(name, Op::Delete, 1, "");
    play.complete();
    play.events.clear();
    assert!(play.restart(&[queue("/a/two")], &[]));
    play.tick(11);
    assert_eq!(
        play.texts(),
        ["/a/latch: the leader node 1 is gone: the cause is unknown"]
    );
}

#[test]
fn deadlines_in_the_rows_of_an_earlier_build_are_kept() {
    let sections = [section("/a/services")];
    let mut play = Play::new(&sections);
    play.change("/a/services/pay/1", Op::Create, 1, &curator("pay", "h1"));
    play.change("/a/services/pay/1", Op::Delete, 1, "");
    play.complete();
    let rows = play.state.scan(b"u", None, 10).unwrap();
    let (key, subject) = rows.first().unwrap();
    let root = b"u/a\0".len();
    let earlier = [b"d", &key[root..]].concat();
    let row = format!("[{},\"/a\"]", String::from_utf8_lossy(subject));
    play.state.put(key, None).unwrap();
    play.state.put(&earlier, Some(row.as_bytes())).unwrap();
    assert!(!play.restart(&sections, &[]));
    assert_eq!(play.tick(11).len(), 2);
    assert_eq!(play.state.scan(b"d", None, 10).unwrap(), []);
}

#[test]
fn the_events_of_a_long_gap_come_in_batches_of_a_bounded_size_and_those_of_services_last() {
    let sections = [ServiceConfig {
        grace: Span::default(),
        ..section("/a/services")
    }];
    let mut play = Play::new(&sections);
    play.mark(DerivationMark::GapBegin, "/a");
    let services = 300;
    for at in 0..3 * services {
        let service = format!("s{:03}", at % services);
        let text = curator(&service, &format!("h{at}"));
        play.change(&format!("/a/services/{service}/{at}"), Op::Create, 1, &text);
    }
    assert_eq!(play.events, []);
    play.mark(DerivationMark::GapEnd, "/a");
    assert!(play.batch_max <= 256, "a batch of {}", play.batch_max);
    let kinds: Vec<ServiceEventType> = play.events.iter().map(|event| event.kind).collect();
    let instances = kinds
        .iter()
        .take_while(|kind| **kind == ServiceEventType::InstanceUp)
        .count();
    assert_eq!(instances, 3 * services);
    assert!(
        kinds[instances..]
            .iter()
            .all(|kind| *kind == ServiceEventType::ServiceAvailable)
    );
    assert_eq!(kinds.len() - instances, services);
    assert!(
        play.events
            .iter()
            .all(|event| event.fidelity == Fidelity::Reconciled)
    );
    // Nothing is left of the gap but the counter of its subjects.
    for kind in [&b"h"[..], b"v", b"g"] {
        assert_eq!(play.state.scan(kind, None, 10).unwrap(), []);
    }
}

#[test]
fn a_listing_that_ends_inside_of_a_gap_says_nothing_before_the_end_of_the_gap() {
    let mut play = Play::new(&[section("/a/services")]);
    play.mark(DerivationMark::GapBegin, "/a");
    play.mark(DerivationMark::ListingBegin, "/a");
    play.change("/a/services/pay/1", Op::Create, 1, &curator("pay", "h1"));
    play.mark(DerivationMark::ListingEnd, "/a");
    assert_eq!(play.events, []);
    play.mark(DerivationMark::GapEnd, "/a");
    assert_eq!(play.events.len(), 2);
}

#[test]
fn the_session_of_many_instances_ends_in_batches_and_the_service_is_unavailable_after_the_last() {
    let sections = [ServiceConfig {
        grace: Span::default(),
        ..section("/a/services")
    }];
    let mut play = Play::new(&sections);
    let names: Vec<String> = (0..600).map(|at| format!("/a/services/pay/{at}")).collect();
    for (at, name) in names.iter().enumerate() {
        play.change(name, Op::Create, 1, &curator("pay", &format!("h{at}")));
    }
    play.complete();
    play.events.clear();
    play.change(&names[0], Op::Delete, 1, "");
    for name in &names[1..] {
        play.change_too(name, Op::Delete, 1, "");
    }
    play.complete();
    assert!(play.batch_max <= 257, "a batch of {}", play.batch_max);
    assert_eq!(play.count(ServiceEventType::InstanceDown), names.len());
    assert_eq!(play.count(ServiceEventType::ServiceUnavailable), 1);
    let mut last = play.events.iter().rev().map(|event| event.kind);
    let last = last.find(|kind| *kind != ServiceEventType::InstancesDown);
    assert_eq!(last, Some(ServiceEventType::ServiceUnavailable));
}

#[test]
fn events_of_large_registrations_count_against_the_size_of_the_journal() {
    let limit = 2 << 20;
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        max_size: Size(limit),
        ..JournalOptions::new("main")
    };
    let mut journal = Journal::open(&folder.path().join("main.journal"), &options).unwrap();
    let machine = ServiceMachine::new("main", &[section("/a/services")]).unwrap();
    journal
        .set_derivation(Some(Box::new(machine)), Timestamp(0))
        .unwrap();
    journal
        .register_sink("slow", bridge_core::number::Seq::ZERO)
        .unwrap();
    // The znode, its two rows and its event have this size each.
    let fields: Vec<String> = (0..60)
        .map(|at| format!(r#""k{at}":"{}""#, "x".repeat(1_000)))
        .collect();
    let payload = fields.join(",");
    let whole = 4 * payload.len() as u64;
    for at in 1..200_u64 {
        let text = format!(
            r#"{{"name":"pay","id":"i","address":"h{at}","port":1,"payload":{{"metadata":{{{payload}}}}}}}"#
        );
        let stat = Stat {
            czxid: Zxid(at),
            mzxid: Zxid(at),
            ephemeral_owner: SessionId(at),
            ..Stat::default()
        };
        let data = Some(Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20));
        let change = Change {
            path: path(&format!("/a/services/pay/{at}")),
            kind: ChangeKind::Created {
                read: Read { stat, data },
            },
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        };
        let entry = Append {
            root: Some(path("/a")),
            captured: Timestamp(1),
            kind: RecordKind::Change(change),
        };
        match journal.append(entry) {
            Ok(_) => {
                let used = journal.stats().unwrap().used_bytes;
                assert!(
                    used < limit + whole,
                    "{used} bytes are in use of {limit} after {at} registrations"
                );
            }
            Err(error) => {
                assert_eq!(error.kind, JournalErrorKind::Full);
                assert!(at > 3, "full after {at} registrations");
                return;
            }
        }
    }
    panic!("the limit was never reached");
}
