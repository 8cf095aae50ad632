//! The machine in a real journal: a random world of registrations, with batches that are rolled back and a bridge that
//! dies and starts again. No event is lost, doubled or changed.
//!
//! A failure prints its seed; `ZKBRIDGE_SEED` replays it.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bridge_core::amount::Span;
use bridge_core::append::{Append, ChangeKind, Read};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Durability, Journal, JournalOptions, JournalWriter, ReadLimit, Reader};
use bridge_core::number::{Seq, SessionId, Zxid};
use bridge_core::record::{
    Data, DataForm, DownCause, MaskKey, Masking, Op, Record, ServiceEvent, ServiceEventType, Stat, Timestamp,
};
use bridge_services::{ServiceConfig, ServiceFormat, ServiceMachine};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

mod world;

use world::{Step, World, path};

fn sections(grace: u64) -> Vec<ServiceConfig> {
    let grace = Span::secs(grace);
    let curator = ServiceConfig {
        format: ServiceFormat::Curator,
        base: Some(path("/services")),
        grace,
        ..ServiceConfig::default()
    };
    let queue = ServiceConfig {
        format: ServiceFormat::Queue,
        elections: vec!["/latch/*".to_owned()],
        queue_events: true,
        grace,
        ..ServiceConfig::default()
    };
    vec![curator, queue]
}

fn open(file: &Path, grace: u64) -> Journal {
    let options = JournalOptions {
        durability: Durability::ProcessCrash,
        ..JournalOptions::new("main")
    };
    let mut journal = Journal::open(file, &options).unwrap();
    let machine = ServiceMachine::new("main", &sections(grace)).unwrap();
    journal
        .set_derivation(Some(Box::new(machine)), Timestamp(0))
        .unwrap();
    journal
}

fn records(file: &Path) -> Vec<Arc<Record>> {
    let limit = ReadLimit {
        records: 100_000,
        bytes: usize::MAX,
    };
    Reader::open(file).unwrap().read(Seq::ZERO, limit).unwrap()
}

/// All service events, without the position.
fn events(file: &Path) -> Vec<ServiceEvent> {
    let events = records(file)
        .into_iter()
        .filter_map(|record| record.event.clone());
    events
        .map(|event| ServiceEvent {
            seq: Seq::ZERO,
            ..(*event).clone()
        })
        .collect()
}

fn take(journal: &mut Journal, step: &Step) {
    match step {
        Step::Append(entries) => {
            for entry in entries {
                journal.append(entry.clone()).unwrap();
            }
        }
        Step::Tick(now) => journal.tick(*now).unwrap(),
    }
}

fn play_calmly(file: &Path, steps: &[Step], grace: u64) {
    let mut journal = open(file, grace);
    for step in steps {
        take(&mut journal, step);
        journal.commit().unwrap();
    }
}

/// The changes one by one, each with whether its transaction ends with it.
fn pieces(steps: &[Step]) -> Vec<(Step, bool)> {
    let one_by_one = |step: &Step| match step {
        Step::Append(entries) => {
            let last = entries.len().saturating_sub(1);
            let entries = entries.iter().enumerate();
            let piece = |(at, entry): (usize, &Append)| (Step::Append(vec![entry.clone()]), at == last);
            entries.map(piece).collect()
        }
        tick => vec![(tick.clone(), true)],
    };
    steps.iter().flat_map(one_by_one).collect()
}

/// A batch for each change. With `silence` there is a long one after each.
fn play_split(file: &Path, steps: &[Step], silence: bool) {
    let mut journal = open(file, 0);
    for (piece, _) in pieces(steps) {
        take(&mut journal, &piece);
        if let (Step::Append(entries), true) = (&piece, silence) {
            journal.tick(Timestamp(entries[0].captured.0 + 1_000)).unwrap();
        }
        journal.commit().unwrap();
    }
}

/// Batches of several changes, which begin and end within transactions, and some of which are undone and played again,
/// and journals that are closed between two transactions.
fn play_wildly(file: &Path, steps: &[Step], grace: u64, random: &mut StdRng) {
    let pieces = pieces(steps);
    let mut journal = open(file, grace);
    let (mut at, mut is_between) = (0, true);
    while at < pieces.len() {
        let end = (at + random.random_range(1..6)).min(pieces.len());
        for (piece, _) in &pieces[at..end] {
            take(&mut journal, piece);
        }
        let ends_between = pieces[end - 1].1;
        match random.random_range(0..5) {
            0 => {
                journal.rollback().unwrap();
                continue;
            }
            1 if is_between => {
                drop(journal);
                journal = open(file, grace);
                continue;
            }
            2 if ends_between => {
                journal.commit().unwrap();
                drop(journal);
                journal = open(file, grace);
            }
            _ => {
                journal.commit().unwrap();
            }
        }
        (at, is_between) = (end, ends_between);
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("ZKBRIDGE_SEED") {
        Ok(seed) => vec![seed.parse().expect("ZKBRIDGE_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

#[test]
fn crashes_and_rollbacks_lose_double_and_change_no_event() {
    let mut kinds = BTreeSet::new();
    for seed in seeds(12) {
        println!("ZKBRIDGE_SEED={seed}");
        let grace = if seed % 2 == 0 { 0 } else { 10 };
        let mut world = World::new(seed);
        let steps = world.story();
        let folder = tempfile::tempdir().unwrap();
        let (calm, wild) = (folder.path().join("calm"), folder.path().join("wild"));
        play_calmly(&calm, &steps, grace);
        play_wildly(&wild, &steps, grace, &mut StdRng::seed_from_u64(seed));
        let (calm, wild) = (events(&calm), events(&wild));
        check_causes(&calm, &wild, seed);
        let causeless = |events: &[ServiceEvent]| -> Vec<ServiceEvent> {
            let without = |event: &ServiceEvent| ServiceEvent {
                cause: None,
                text: String::new(),
                ..event.clone()
            };
            events.iter().map(without).collect()
        };
        assert_eq!(causeless(&calm), causeless(&wild), "seed {seed}");
        let ids: BTreeSet<_> = calm.iter().map(|event| event.id).collect();
        assert_eq!(ids.len(), calm.len(), "seed {seed}: two events of one id");
        check_alternation(&calm, seed);
        kinds.extend(calm.iter().map(|event| event.kind));
    }
    if std::env::var("ZKBRIDGE_SEED").is_err() {
        let expected = [
            ServiceEventType::InstanceUp,
            ServiceEventType::InstanceDown,
            ServiceEventType::InstanceChanged,
            ServiceEventType::InstanceRestarted,
            ServiceEventType::ServiceAvailable,
            ServiceEventType::ServiceUnavailable,
            ServiceEventType::LeaderElected,
            ServiceEventType::LeaderChanged,
            ServiceEventType::LeaderLost,
            ServiceEventType::QueueChanged,
            ServiceEventType::RegistrationUnreadable,
        ];
        for kind in expected {
            assert!(kinds.contains(&kind), "no seed has led to {}", kind.as_str());
        }
    }
}

/// A bridge that has forgotten a part of a transaction knows less, and says nothing else.
fn check_causes(calm: &[ServiceEvent], wild: &[ServiceEvent], seed: u64) {
    for (calm, wild) in calm.iter().zip(wild) {
        assert!(
            wild.cause == calm.cause || wild.cause == Some(DownCause::Unknown),
            "seed {seed}: {} became {}",
            calm.text,
            wild.text
        );
    }
}

#[test]
fn a_transaction_that_is_split_into_batches_leads_to_the_events_of_the_whole() {
    let mut controls = 0;
    for seed in seeds(12) {
        println!("ZKBRIDGE_SEED={seed}");
        let steps = World::new(seed).story();
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        play_calmly(&of("whole"), &steps, 0);
        play_split(&of("split"), &steps, false);
        assert_eq!(events(&of("whole")), events(&of("split")), "seed {seed}");
        play_split(&of("control"), &steps, true);
        controls += usize::from(events(&of("control")) != events(&of("whole")));
    }
    assert!(controls > 0, "no seed shows that the split matters");
}

/// Up and down, available and unavailable, elected and lost take turns.
fn check_alternation(events: &[ServiceEvent], seed: u64) {
    let mut is_up: BTreeMap<String, bool> = BTreeMap::new();
    for event in events {
        let (subject, up) = match event.kind {
            ServiceEventType::InstanceUp => (format!("i {} {:?}", event.service, event.instance), true),
            ServiceEventType::InstanceDown => (format!("i {} {:?}", event.service, event.instance), false),
            ServiceEventType::ServiceAvailable => (format!("s {}", event.service), true),
            ServiceEventType::ServiceUnavailable => (format!("s {}", event.service), false),
            // It goes by one name and comes by another.
            ServiceEventType::InstanceChanged => {
                let renamed = event.changes.iter().find(|change| change.field == "instance");
                let Some(from) = renamed.and_then(|change| change.from.as_str()) else {
                    continue;
                };
                let before = format!("i {} {:?}", event.service, Some(from));
                let was = is_up.insert(before, false);
                assert_eq!(
                    was,
                    Some(true),
                    "seed {seed}: {from} was not there: {}",
                    event.text
                );
                (format!("i {} {:?}", event.service, event.instance), true)
            }
            // The same leader in another session, without a loss in between.
            ServiceEventType::LeaderElected if event.previous == event.leader => {
                is_up.insert(format!("e {:?}", event.election), true);
                continue;
            }
            ServiceEventType::LeaderElected => (format!("e {:?}", event.election), true),
            ServiceEventType::LeaderLost => (format!("e {:?}", event.election), false),
            _ => continue,
        };
        let was = is_up.insert(subject.clone(), up);
        assert_ne!(was, Some(up), "seed {seed}: {subject} twice: {}", event.text);
        assert!(
            was.is_some() || up,
            "seed {seed}: {subject} goes before it came: {}",
            event.text
        );
    }
}

#[test]
fn events_follow_their_changes_in_the_same_transaction_and_are_no_part_of_the_history_of_a_znode() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let world = World::new(7);
    let name = "/services/s0/i0".to_owned();
    let bytes = r#"{"name":"s0","id":"i0","address":"h0","port":1}"#;
    let mut journal = open(&file, 0);
    let data = Data::limited(bytes.as_bytes(), DataForm::Auto, 1 << 20);
    let stat = Stat {
        czxid: Zxid(9),
        mzxid: Zxid(9),
        ephemeral_owner: SessionId(1),
        ..Stat::default()
    };
    let read = Read {
        stat,
        data: Some(data),
    };
    let entry = world.change(&name, ChangeKind::Created { read });
    journal.append(entry).unwrap();
    assert_eq!(journal.commit().unwrap(), Seq(3));
    let records = records(&file);
    let ops: Vec<Op> = records.iter().map(|record| record.op).collect();
    assert_eq!(ops, [Op::Create, Op::Service, Op::Service]);
    let event = records[1].event.as_ref().unwrap();
    assert_eq!((event.seq, event.id), (Seq(2), records[1].id));
    assert_eq!(
        records[1].path.as_deref(),
        name.rsplit_once('/').map(|(home, _)| home)
    );
    assert_eq!(
        serde_json::from_slice::<Record>(&records[1].to_json()).unwrap(),
        *records[1]
    );
    drop(journal);
    let inspected = Reader::open(&file).unwrap().inspect(|_| {}).unwrap();
    assert_eq!(inspected.findings.len(), 0, "{inspected:?}");
}

#[test]
fn without_sections_nothing_is_derived_and_with_new_ones_the_image_is_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let mut world = World::new(3);
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
    for _ in 0..40 {
        let entry = world.write();
        journal.append(entry).unwrap();
    }
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(events(&file), []);
    drop(open(&file, 0));
    let listed = events(&file);
    let is_news = |kind| {
        use ServiceEventType as Kind;
        matches!(
            kind,
            Kind::InstanceUp
                | Kind::InstanceDown
                | Kind::ServiceAvailable
                | Kind::ServiceUnavailable
                | Kind::LeaderChanged
                | Kind::LeaderLost
                | Kind::QueueChanged
        )
    };
    assert!(
        listed
            .iter()
            .any(|event| event.kind == ServiceEventType::InstanceListed)
    );
    assert!(!listed.iter().any(|event| is_news(event.kind)), "{listed:#?}");
    drop(open(&file, 10));
    assert_eq!(
        events(&file).len(),
        listed.len(),
        "grace is no reason to list again"
    );
}

#[test]
fn a_mask_that_comes_later_removes_the_facts_and_the_registration_is_unreadable_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let mut world = World::new(5);
    let mut journal = open(&file, 0);
    for _ in 0..30 {
        let entry = world.write();
        journal.append(entry).unwrap();
    }
    journal.commit().unwrap();
    let glob = bridge_core::path_glob::path_glob("/services/**").unwrap();
    let key = MaskKey::new([7; 32]);
    journal
        .set_masking(Some(Arc::new(Masking::new([&glob], key).unwrap())))
        .unwrap();
    drop(journal);
    let has_facts = |event: &ServiceEvent| !event.endpoints.is_empty();
    assert!(!events(&file).iter().any(has_facts));
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(9).any(|window| window == b"\"address\""));
    drop(open(&file, 0));
    let listed = events(&file);
    assert!(
        listed
            .iter()
            .any(|event| event.reason.as_deref() == Some("a value that is masked"))
    );
    assert!(!listed.iter().any(has_facts));
}
