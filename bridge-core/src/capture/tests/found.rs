//! Single rules that the simulator once found broken.

use uuid::Uuid;

use super::rules::{Bench, event, found, path, stat, ticket};
use crate::append::{ChangeKind, DeletedAt, RecordKind};
use crate::capture::follow::Follow;
use crate::capture::machine::LAG_ATTEMPTS_MAX;
use crate::capture::{
    Capture, CaptureOptions, CaptureState, Event, EventKind, Input, Limits, Outcome, StepError, Ticket,
};
use crate::machine::SourceMachine;
use crate::number::Zxid;
use crate::record::{GapReason, Op, Timestamp};
use crate::resnapshot::Resnapshot;
use crate::source::SourceRequest;
use crate::testing::ModelJournal;

/// Without a zxid, as servers before 3.9 send it.
fn bare(text: &str, kind: EventKind) -> Event {
    Event {
        zxid: None,
        ..event(text, kind, 0)
    }
}

#[test]
fn a_gap_ends_after_the_record_that_counts_a_version_overwritten_during_its_walk() {
    let mut bench = Bench::live();
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 4, 1), Some(&["x"]))]));
    let follow = ticket(&bench.input(Input::Events(vec![event("/a", EventKind::Changed, 5)])));
    bench.answer(read, vec![found(stat(4, 4, 0, 4, 0), None)]);
    let next = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 6)]));
    bench.answer(follow, vec![found(stat(1, 6, 2, 4, 1), None)]);
    bench.answer(ticket(&next), vec![found(stat(1, 6, 2, 4, 1), None)]);
    let last = bench.image.appended.last().map(|entry| &entry.kind);
    let Some(RecordKind::GapEnd { to_zxid, .. }) = last else {
        panic!("{last:?}");
    };
    assert_eq!(*to_zxid, Zxid(5));
    let change = bench.image.changes().last().unwrap();
    assert_eq!((&change.superseded[..], change.missed), (&[Zxid(5)][..], Some(1)));
}

#[test]
fn an_incarnation_below_a_znode_that_was_deleted_before_its_listing_is_not_recorded() {
    let mut bench = Bench::new();
    let list = bench.connect();
    bench.input(Input::Events(vec![
        event("/a/x", EventKind::Created, 5),
        event("/a/x", EventKind::Changed, 6),
        event("/a/x", EventKind::Deleted, 7),
        event("/a", EventKind::Deleted, 7),
    ]));
    for effect in bench.answer(list, vec![Outcome::Missing]) {
        let SourceRequest::Read { ticket, reads } = effect else {
            panic!("{effect:?}");
        };
        bench.answer(ticket, vec![Outcome::Missing; reads.len()]);
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert_eq!(bench.image.changes().count(), 0, "{:?}", bench.image.appended);
}

#[test]
fn a_znode_that_changed_below_one_that_may_not_be_read_makes_no_doubt_without_end() {
    let mut bench = Bench::new();
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    let list = ticket(&bench.answer(read, vec![found(stat(2, 2, 0, 3, 1), None)]));
    let read = ticket(&bench.answer(list, vec![found(stat(2, 2, 0, 3, 1), Some(&["y"]))]));
    bench.answer(read, vec![found(stat(3, 3, 0, 3, 0), None)]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    // Meanwhile /a/x lost its permission, and /a/x/y was written.
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    bench.answer(read, vec![Outcome::Denied]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let sample = (0..20)
        .flat_map(|_| bench.input(Input::Tick))
        .collect::<Vec<SourceRequest>>()
        .into_iter()
        .find_map(|effect| match effect {
            SourceRequest::Read { ticket, reads } => Some((ticket, reads)),
            _ => None,
        });
    let (ticket, reads) = sample.unwrap();
    let outcomes: Vec<Outcome> = reads
        .iter()
        .map(|read| match read.path.as_str() {
            "/a" => found(stat(1, 1, 0, 2, 1), Some(&["x"])),
            "/a/x" => Outcome::Denied,
            _ => found(stat(3, 9, 1, 3, 0), None),
        })
        .collect();
    assert!(reads.iter().any(|read| read.path == path("/a/x/y")), "{reads:?}");
    bench.answer(ticket, outcomes);
    assert_eq!(bench.capture.state(), CaptureState::Live);
}

#[test]
fn no_ancestor_bounds_a_delete_below_one_that_is_there_and_may_not_be_read() {
    let mut bench = Bench::new();
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    let list = ticket(&bench.answer(read, vec![found(stat(2, 2, 0, 3, 1), None)]));
    let read = ticket(&bench.answer(list, vec![found(stat(2, 2, 0, 3, 1), Some(&["y"]))]));
    bench.answer(read, vec![found(stat(3, 3, 0, 3, 0), None)]);
    let window = ticket(&bench.input(Input::Events(vec![bare("/a/x/y", EventKind::Deleted)])));
    let above = found(stat(1, 1, 0, 2, 1), None);
    bench.answer(
        window,
        vec![Outcome::Missing, Outcome::Denied, above, Outcome::Denied],
    );
    assert_eq!(
        bench.last(),
        &ChangeKind::Deleted {
            at: DeletedAt::Unknown
        }
    );
}

#[test]
fn a_child_that_the_walk_recorded_survives_the_delete_of_its_recreated_parent_that_a_read_settles() {
    let mut bench = Bench::live();
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 4, 1), Some(&["x"]))]));
    let window = bench.input(Input::Events(vec![
        bare("/a", EventKind::Deleted),
        bare("/a", EventKind::Created),
        bare("/a/x", EventKind::Created),
    ]));
    bench.answer(read, vec![found(stat(9, 9, 0, 9, 0), None)]);
    let (parent, child) = (found(stat(9, 9, 0, 9, 1), None), found(stat(9, 9, 0, 9, 0), None));
    bench.answer(ticket(&window), vec![parent, Outcome::Missing, child]);
    let recorded: Vec<&ChangeKind> = bench.image.changes().map(|change| &change.kind).collect();
    let deletes = recorded
        .iter()
        .filter(|kind| matches!(kind, ChangeKind::Deleted { .. }))
        .count();
    assert_eq!(
        deletes, 1,
        "only the earlier incarnation of /a was deleted: {recorded:?}"
    );
    assert_eq!(bench.image.image()[&path("/a/x")].czxid, Zxid(9));
}

#[test]
fn writes_that_were_replaced_under_load_and_that_a_walk_recorded_are_not_counted_again() {
    let mut bench = Bench::small(|limits| limits.fold_above = 2);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    let write = |zxid| event("/a/x", EventKind::Changed, zxid);
    bench.input(Input::Events((3..10).map(write).collect()));
    let requests = bench.answer(read, vec![found(stat(2, 6, 4, 2, 0), None)]);
    bench.answer(ticket(&requests), vec![found(stat(2, 9, 7, 2, 0), None)]);
    let change = bench.image.changes().last().unwrap();
    assert_eq!(
        (change.missed, &change.superseded[..]),
        (Some(2), &[Zxid(7), Zxid(8)][..])
    );
}

#[test]
fn a_znode_that_was_deleted_during_a_resnapshot_of_its_root_is_not_in_it() {
    let mut bench = Bench::live();
    for (text, zxid) in [("/a/x", 5), ("/a/y", 6), ("/a/z", 7)] {
        let requests = bench.input(Input::Events(vec![event(text, EventKind::Created, zxid)]));
        bench.answer(ticket(&requests), vec![found(stat(zxid, zxid, 0, zxid, 0), None)]);
    }
    let mut resnapshots = Resnapshot::new(path("/a"), Uuid::nil(), Timestamp(1));
    resnapshots.step(&mut bench.image, 1).unwrap();
    bench.input(Input::Events(vec![event("/a/y", EventKind::Deleted, 8)]));
    bench.input(Input::Events(vec![event("/a", EventKind::Changed, 9)]));
    assert!(!bench.image.image().contains_key(&path("/a/y")));
    let before = bench.image.changes().count();
    while !resnapshots.is_done() {
        resnapshots.step(&mut bench.image, 1).unwrap();
    }
    let restated = bench.image.changes().skip(before);
    let restated: Vec<&str> = restated.map(|change| change.path.as_str()).collect();
    assert_eq!(restated, ["/a/z"]);
}

#[test]
fn a_create_on_an_ensemble_that_was_set_back_is_a_doubt_and_no_record() {
    let mut bench = Bench::live();
    let requests = bench.input(Input::Events(vec![bare("/a", EventKind::Changed)]));
    bench.answer(ticket(&requests), vec![found(stat(1, 9, 1, 8, 0), None)]);
    assert_eq!(bench.capture.reported(), Some(Zxid(9)));
    let window = ticket(&bench.input(Input::Events(vec![bare("/a/x", EventKind::Created)])));
    let above = found(stat(1, 1, 0, 5, 1), None);
    let input = Input::Answer {
        ticket: window,
        outcomes: vec![found(stat(5, 5, 0, 5, 0), None), above.clone(), above],
    };
    let step = bench.capture.step(Timestamp(1), input, &mut bench.image);
    assert!(
        matches!(step, Err(StepError::Doubt(GapReason::Liveness))),
        "{step:?}"
    );
}

#[test]
fn of_two_writes_in_one_transaction_none_gives_way_alone_under_load() {
    let mut bench = Bench::small(|limits| limits.fold_above = 2);
    let list = bench.connect();
    bench.answer(list, vec![found(stat(1, 1, 0, 1, 0), Some(&[]))]);
    let write = |zxid| event("/a", EventKind::Changed, zxid);
    let reads = bench.input(Input::Events(vec![write(5), write(5)]));
    // Nothing is recorded before the value has arrived; another write arrives first.
    let next = bench.input(Input::Events(vec![write(7)]));
    bench.answer(ticket(&reads), vec![found(stat(1, 5, 2, 1, 0), None)]);
    bench.answer(ticket(&next), vec![found(stat(1, 7, 3, 1, 0), None)]);
    let recorded: Vec<_> = bench.image.changes().skip(1).collect();
    let recorded: Vec<_> = recorded
        .iter()
        .map(|change| (change.missed, &change.superseded[..]))
        .collect();
    assert_eq!(recorded, [(Some(1), &[Zxid(5)][..]), (Some(0), &[][..])]);
}

#[test]
fn a_transaction_of_which_a_walk_recorded_a_part_is_not_split() {
    let mut follow = Follow::new(Limits::default());
    let write = |text| event(text, EventKind::Changed, 9);
    assert!(follow.push(write("/a/x"), 0, false, false));
    assert!(follow.push(write("/a/y"), 0, false, false));
    follow.absorb(&path("/a/y"), 2, Some(&stat(1, 9, 1, 1, 0)));
    assert!(follow.push(write("/a/z"), 0, false, false));
    follow.fence(1);
    assert_eq!(follow.complete, 3, "complete after its last event");
}

/// Connected again after a child was recorded and its parent was not, with the list of `/a` requested.
fn with_a_child_of_an_unrecorded_parent() -> (Bench, Ticket) {
    let mut bench = Bench::live();
    let reads = bench.input(Input::Events(vec![event("/a/x/y", EventKind::Created, 6)]));
    bench.answer(ticket(&reads), vec![found(stat(6, 6, 0, 6, 0), None)]);
    bench.input(Input::Disconnected);
    let list = bench.connect();
    (bench, list)
}

/// The first record since then ends the child, by 9.
fn assert_child_ended(bench: &Bench) {
    let recorded = bench.image.changes().nth(2).unwrap();
    let at = DeletedAt::Bound(Zxid(9));
    assert_eq!(
        (recorded.path.as_str(), &recorded.kind),
        ("/a/x/y", &ChangeKind::Deleted { at })
    );
    assert!(!bench.image.image().contains_key(&path("/a/x/y")));
}

#[test]
fn recorded_znodes_below_an_unreadable_one_are_deleted_with_its_incarnation() {
    let (mut bench, list) = with_a_child_of_an_unrecorded_parent();
    let read = bench.answer(list, vec![found(stat(1, 1, 0, 9, 1), Some(&["x"]))]);
    bench.answer(ticket(&read), vec![found(stat(9, 9, 0, 9, 0), None)]);
    assert_child_ended(&bench);
}

#[test]
fn recorded_znodes_below_an_unknown_one_are_deleted_when_the_list_of_its_parent_does_not_name_it() {
    // As a walk leaves it that was cut.
    let (mut bench, list) = with_a_child_of_an_unrecorded_parent();
    bench.answer(list, vec![found(stat(1, 1, 0, 9, 0), Some(&[]))]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert_eq!(
        bench.image.changes().skip(2).count(),
        1,
        "{:?}",
        bench.image.appended
    );
    assert_child_ended(&bench);
}

#[test]
fn a_child_that_a_walk_reads_in_the_next_incarnation_of_its_parent_is_recorded_after_it() {
    let mut bench = Bench::new();
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    let mut requests = bench.input(Input::Events(vec![
        event("/a/x", EventKind::Deleted, 5),
        event("/a", EventKind::Deleted, 5),
        event("/a", EventKind::Created, 7),
        event("/a/x", EventKind::Created, 8),
    ]));
    // The walk requested the child of the earlier incarnation.
    requests.extend(bench.answer(read, vec![found(stat(8, 8, 0, 8, 0), None)]));
    while bench.capture.state() != CaptureState::Live {
        let Some(SourceRequest::Read { ticket, reads }) = requests.first().cloned() else {
            panic!("{requests:?}");
        };
        let outcomes = reads.iter().map(|read| match read.path.as_str() {
            "/a" => found(stat(7, 7, 0, 8, 1), read.children.then_some(&["x"][..])),
            _ => found(stat(8, 8, 0, 8, 0), read.children.then_some(&[][..])),
        });
        let outcomes = outcomes.collect();
        let more = bench.answer(ticket, outcomes);
        requests.extend(more);
        requests.remove(0);
    }
    let recorded: Vec<_> = bench
        .image
        .changes()
        .map(|change| (change.path.as_str(), change.kind.op()))
        .collect();
    let last_create = |path: &str| {
        recorded
            .iter()
            .rposition(|(recorded, op)| *recorded == path && *op == Op::Create)
    };
    assert!(
        last_create("/a").is_some() && last_create("/a") < last_create("/a/x"),
        "{recorded:?}"
    );
    assert_eq!(
        recorded.iter().filter(|(path, _)| *path == "/a/x").count(),
        1,
        "{recorded:?}"
    );
}

/// A walk of `/a` that has listed the child `x`, and the request that reads it.
fn reading_a_child() -> (Bench, Ticket) {
    let mut bench = Bench::small(|limits| limits.follow_window = 1);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    (bench, read)
}

#[test]
fn a_list_that_is_answered_after_the_delete_of_its_znode_was_recorded_does_not_record_it_again() {
    let (mut bench, read) = reading_a_child();
    let list = ticket(&bench.answer(read, vec![found(stat(2, 2, 0, 3, 1), None)]));
    let requests = bench.input(Input::Events(vec![
        event("/a/x", EventKind::Deleted, 5),
        event("/a", EventKind::Changed, 6),
    ]));
    assert!(!bench.image.image().contains_key(&path("/a/x")));
    bench.answer(list, vec![found(stat(2, 2, 0, 4, 0), Some(&[]))]);
    bench.answer(ticket(&requests), vec![found(stat(1, 6, 1, 5, 0), None)]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let ops: Vec<Op> = bench.image.changes().map(|change| change.kind.op()).collect();
    assert_eq!(ops, [Op::Snapshot, Op::Snapshot, Op::Delete, Op::Update]);
}

#[test]
fn the_children_of_a_znode_that_was_deleted_before_its_list_was_requested_are_recorded_after_its_create() {
    let (mut bench, read) = reading_a_child();
    let mut requests = bench.input(Input::Events(vec![
        event("/a", EventKind::Changed, 4),
        event("/a/x", EventKind::Deleted, 5),
    ]));
    requests.extend(bench.answer(read, vec![found(stat(2, 2, 0, 3, 1), None)]));
    requests.extend(bench.input(Input::Events(vec![
        event("/a/x", EventKind::Created, 7),
        event("/a/x/y", EventKind::Created, 8),
        event("/a", EventKind::Changed, 9),
    ])));
    // The first request, for the value of /a, is answered last.
    while let Some(SourceRequest::Read { ticket, reads }) = requests.pop() {
        let outcomes = reads.iter().map(|read| match read.path.as_str() {
            "/a" => found(stat(1, 9, 2, 7, 1), None),
            "/a/x" => found(stat(7, 7, 0, 8, 1), read.children.then_some(&["y"][..])),
            _ => found(stat(8, 8, 0, 8, 0), None),
        });
        let outcomes = outcomes.collect();
        requests.extend(bench.answer(ticket, outcomes));
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let recorded = bench.image.changes();
    let recorded = recorded.map(|change| (change.path.as_str(), change.kind.op()));
    let below: Vec<_> = recorded.filter(|(path, _)| *path != "/a").collect();
    let expected = [
        ("/a/x", Op::Snapshot),
        ("/a/x", Op::Delete),
        ("/a/x", Op::Create),
        ("/a/x/y", Op::Create),
    ];
    assert_eq!(below, expected);
}

#[test]
fn a_root_whose_delete_was_recorded_is_not_taken_from_a_server_that_has_not_applied_it_yet() {
    let mut bench = Bench::live();
    bench.input(Input::Events(vec![event("/a", EventKind::Deleted, 9)]));
    bench.input(Input::Events(vec![event("/a", EventKind::Created, 11)]));
    bench.input(Input::Disconnected);
    assert!(bench.image.image().is_empty());
    let old = || vec![found(stat(1, 1, 0, 1, 0), Some(&[]))];
    for attempt in 1..LAG_ATTEMPTS_MAX {
        let ticket = bench.connect();
        let input = Input::Answer {
            ticket,
            outcomes: old(),
        };
        let step = bench.capture.step(Timestamp(1), input, &mut bench.image);
        let Err(error @ StepError::Lagging(_)) = step else {
            panic!("{attempt}: {step:?}");
        };
        bench.capture.reset(&error).unwrap();
    }
    // If all servers show it, it is true: the znode may have become readable.
    let ticket = bench.connect();
    bench.answer(ticket, old());
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert!(bench.image.image().contains_key(&path("/a")));
}

#[test]
fn recorded_znodes_below_an_unreadable_root_are_deleted_with_it() {
    let mut bench = Bench::new();
    let list = bench.connect();
    bench.answer(list, vec![Outcome::Denied]);
    let reads = bench.input(Input::Events(vec![event("/a/x", EventKind::Created, 6)]));
    bench.answer(ticket(&reads), vec![found(stat(6, 6, 0, 6, 0), None)]);
    // Then both are deleted, without an event.
    let sample = (0..20)
        .flat_map(|_| bench.input(Input::Tick))
        .collect::<Vec<SourceRequest>>();
    let Some(SourceRequest::Read { ticket, reads }) = sample.first().cloned() else {
        panic!("{sample:?}");
    };
    let outcomes = reads.iter().map(|_| Outcome::Missing).collect();
    let step = bench
        .capture
        .step(Timestamp(1), Input::Answer { ticket, outcomes }, &mut bench.image);
    assert!(
        matches!(step, Err(StepError::Doubt(GapReason::Permission))),
        "{step:?}"
    );
}

#[test]
fn the_gap_of_a_root_that_is_not_there_reaches_as_far_as_what_is_above_it() {
    let check = |above: Outcome, gap: u64| {
        let mut bench = Bench::new();
        for _ in 0..2 {
            let list = bench.connect();
            let requests = bench.answer(list, vec![Outcome::Missing]);
            bench.answer(ticket(&requests), vec![Outcome::Missing, above.clone()]);
            assert_eq!(bench.capture.state(), CaptureState::Live);
            bench.input(Input::Disconnected);
        }
        let ends: Vec<_> = bench.image.appended.iter().map(|entry| &entry.kind).collect();
        assert!(
            matches!(ends[1], RecordKind::RunEnd { zxid: None, .. }),
            "{ends:?}"
        );
        assert!(
            matches!(ends[3], RecordKind::GapEnd { to_zxid, .. } if *to_zxid == Zxid(gap)),
            "{ends:?}"
        );
    };
    // It may have been created and deleted at 7, while there was no connection.
    check(found(stat(0, 0, 0, 7, 0), None), 7);
    check(Outcome::Denied, 0);
}

#[test]
fn a_gap_that_begins_with_a_transaction_begins_before_its_first_record() {
    let mut bench = Bench {
        capture: Capture::new(CaptureOptions::new("main", vec![path("/a"), path("/b")])),
        image: ModelJournal::default(),
        halted: None,
    };
    // Up to where the child of the second root is read.
    let come_to_child = |bench: &mut Bench| {
        let list = bench.connect();
        let list = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 1, 0), Some(&[]))]));
        ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 1, 1), Some(&["c"]))]))
    };
    let child = come_to_child(&mut bench);
    bench.answer(child, vec![found(stat(1, 1, 0, 1, 0), None)]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    bench.input(Input::Disconnected);
    come_to_child(&mut bench);
    let writes = ["/a", "/b"].map(|text| event(text, EventKind::Changed, 9));
    let reads = bench.input(Input::Events(writes.to_vec()));
    let written = || found(stat(1, 9, 1, 1, 0), None);
    bench.answer(ticket(&reads), vec![written(), written()]);
    let recorded: Vec<_> = bench.image.appended.iter().rev().take(3).collect();
    let ops = recorded.iter().rev().map(|entry| match &entry.kind {
        RecordKind::Change(change) => change.kind.op(),
        RecordKind::GapBegin { .. } => Op::GapBegin,
        other => panic!("{other:?}"),
    });
    assert_eq!(ops.collect::<Vec<_>>(), [Op::GapBegin, Op::Update, Op::Update]);
    assert_eq!(recorded[2].root, Some(path("/b")));
}
