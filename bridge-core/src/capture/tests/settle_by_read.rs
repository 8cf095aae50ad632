//! Events without zxids, as servers before 3.9 send them: what a read shows that ran ahead of its events.

use super::rules::{Bench, event, found, path, stat, ticket};
use crate::append::{ChangeKind, DeletedAt, RecordKind};
use crate::capture::{CaptureState, Event, EventKind, Input, Limits, Outcome};
use crate::machine::SourceMachine;
use crate::number::Zxid;
use crate::source::SourceRequest;

use EventKind::{Changed, Created, Deleted};

/// Without a zxid.
fn bare(text: &str, kind: EventKind) -> Event {
    Event {
        zxid: None,
        ..event(text, kind, 0)
    }
}

fn events(kinds: &[(&str, EventKind)]) -> Input {
    Input::Events(kinds.iter().map(|(text, kind)| bare(text, *kind)).collect())
}

/// The first read among these, and its paths.
fn read(requests: &[SourceRequest]) -> (crate::capture::Ticket, Vec<String>) {
    let reads = requests.iter().find_map(|effect| match effect {
        SourceRequest::Read { reads, .. } => Some(reads.iter().map(|read| read.path.to_string()).collect()),
        _ => None,
    });
    (ticket(requests), reads.unwrap_or_default())
}

/// Answers a read from a table of what is there. All that may have lost a child did so at 90.
fn answer(bench: &mut Bench, requests: &[SourceRequest], there: &[(&str, u64)]) -> Vec<SourceRequest> {
    let (ticket, reads) = read(requests);
    let outcomes = reads.iter().map(|path| {
        let zxid = there.iter().find(|(there, _)| there == path).map(|there| there.1);
        zxid.map_or(Outcome::Missing, |zxid| found(stat(zxid, zxid, 0, 90, 0), None))
    });
    let outcomes = outcomes.collect();
    bench.answer(ticket, outcomes)
}

/// Live, with these below `/a`, which was there at 1; and how many records that makes.
fn live_with(there: &[(&str, u64)], change: impl FnOnce(&mut Limits)) -> (Bench, usize) {
    let mut bench = Bench::small(change);
    let root = bench.connect();
    bench.answer(root, vec![found(stat(1, 1, 0, 1, 0), Some(&[]))]);
    for (text, zxid) in there {
        let (ticket, reads) = read(&bench.input(events(&[(text, Created)])));
        let mut outcomes = vec![found(stat(*zxid, *zxid, 0, *zxid, 0), None)];
        let known = |path: &str| {
            there
                .iter()
                .find(|(there, _)| *there == path)
                .map_or(1, |there| there.1)
        };
        outcomes.extend(reads[1..].iter().map(|path| {
            let czxid = known(path);
            found(stat(czxid, czxid, 0, *zxid, 1), None)
        }));
        bench.answer(ticket, outcomes);
    }
    let recorded = bench.image.changes().count();
    (bench, recorded)
}

fn recorded(bench: &Bench, skipped: usize) -> Vec<(String, &'static str, u64)> {
    let changes = bench.image.changes().skip(skipped);
    let words = changes.map(|change| match &change.kind {
        ChangeKind::Created { read } => (change.path.to_string(), "create", read.stat.czxid.0),
        ChangeKind::Updated { read } => (change.path.to_string(), "update", read.stat.mzxid.0),
        ChangeKind::Deleted {
            at: DeletedAt::Bound(bound),
        } => (change.path.to_string(), "delete", bound.0),
        other => panic!("{other:?}"),
    });
    words.collect()
}

fn owned(expected: &[(&str, &'static str, u64)]) -> Vec<(String, &'static str, u64)> {
    let rows = expected.iter();
    rows.map(|(path, op, zxid)| ((*path).to_owned(), *op, *zxid))
        .collect()
}

#[test]
fn a_parent_that_was_created_again_is_recorded_before_a_child_whose_read_is_newer_than_its_events() {
    let (mut bench, before) = live_with(&[("/a/p", 5)], |limits| limits.follow_batch = 1);
    // Room for one event: that of the child is read first, and before those of its parent are recorded.
    let requests = bench.input(events(&[
        ("/a/p/c", Created),
        ("/a/p/c", Deleted),
        ("/a/p", Deleted),
        ("/a/p", Created),
        ("/a/p/c", Created),
    ]));
    let now = [("/", 0), ("/a", 1), ("/a/p", 20), ("/a/p/c", 21)];
    let requests = answer(&mut bench, &requests, &now);
    assert_eq!(
        recorded(&bench, before),
        owned(&[
            ("/a/p", "delete", 20),
            ("/a/p", "create", 20),
            ("/a/p/c", "delete", 21),
            ("/a/p/c", "create", 21)
        ])
    );
    assert!(requests.is_empty(), "nothing is left to be read: {requests:?}");
}

#[test]
fn a_parent_that_ended_takes_only_what_lived_below_it_then_and_children_come_first() {
    let there = [("/a/p", 5), ("/a/p/c", 6), ("/a/q", 7)];
    let (mut bench, before) = live_with(&there, |limits| limits.follow_batch = 1);
    // The window has room for the first event only.
    let requests = bench.input(events(&[
        ("/a/p/d", Created),
        ("/a/p/d", Deleted),
        ("/a/p/c", Deleted),
        ("/a/p", Deleted),
        ("/a/p", Created),
        ("/a/p/d", Created),
    ]));
    let now = [("/", 0), ("/a", 1), ("/a/p", 20), ("/a/p/d", 21), ("/a/q", 7)];
    answer(&mut bench, &requests, &now);
    let expected = [
        ("/a/p/c", "delete", 20),
        ("/a/p", "delete", 20),
        ("/a/p", "create", 20),
        ("/a/p/d", "delete", 21),
        ("/a/p/d", "create", 21),
    ];
    assert_eq!(recorded(&bench, before), owned(&expected));
}

#[test]
fn a_read_that_may_show_a_later_incarnation_than_its_events_is_repeated() {
    let (mut bench, before) = live_with(&[], |_| {});
    let requests = bench.input(events(&[("/a/x", Created)]));
    bench.input(events(&[("/a/x", Deleted), ("/a/x", Created)]));
    let now = [("/", 0), ("/a", 1), ("/a/x", 30)];
    let requests = answer(&mut bench, &requests, &now);
    assert_eq!(
        recorded(&bench, before),
        [],
        "it is unknown yet which of two incarnations it is"
    );
    answer(&mut bench, &requests, &now);
    // The earlier incarnation gets a delete of its own.
    let expected = [("/a/x", "delete", 30), ("/a/x", "create", 30)];
    assert_eq!(recorded(&bench, before), owned(&expected));
}

#[test]
fn an_incarnation_created_in_the_window_that_deleted_the_one_before_gets_its_own_delete() {
    let (mut bench, before) = live_with(&[("/a/x", 5)], |_| {});
    let requests = bench.input(events(&[("/a/x", Deleted), ("/a/x", Created)]));
    bench.input(events(&[("/a/x", Deleted)]));
    answer(&mut bench, &requests, &[("/", 0), ("/a", 1)]);
    let expected = [("/a/x", "delete", 90), ("/a/x", "delete", 90)];
    assert_eq!(recorded(&bench, before), owned(&expected));
    assert_eq!(bench.capture.waiting(), 0);
}

#[test]
fn a_delete_that_arrives_after_the_read_that_reflects_it_is_bound_by_the_paths_above() {
    let (mut bench, before) = live_with(&[("/a/x", 5)], |_| {});
    let requests = bench.input(events(&[("/a/x", Changed)]));
    bench.input(events(&[("/a/x", Deleted)]));
    let requests = answer(&mut bench, &requests, &[]);
    assert_eq!(
        recorded(&bench, before),
        [],
        "the paths above it were not requested"
    );
    let (_, reads) = read(&requests);
    assert_eq!(reads, ["/a/x", "/a", "/"]);
    answer(&mut bench, &requests, &[("/", 0), ("/a", 1)]);
    assert_eq!(recorded(&bench, before), owned(&[("/a/x", "delete", 90)]));
    assert!(!bench.image.image().contains_key(&path("/a/x")));
    assert!(bench.capture.reported() >= Some(Zxid(90)));
}

#[test]
fn a_delete_is_never_bound_by_the_paths_above_one_that_was_not_read() {
    let there = [("/a/p", 5), ("/a/p/q", 6), ("/a/p/q/x", 7)];
    let (mut bench, before) = live_with(&there, |_| {});
    // The paths above them are not requested; the created path has `/a` read, and nothing reads `/a/p`.
    let window = [("/a/p/q/x", Changed), ("/a/p/q", Changed), ("/a/z", Created)];
    let requests = bench.input(events(&window));
    let (ticket, reads) = read(&requests);
    assert_eq!(reads, ["/a/p/q/x", "/a/p/q", "/a/z", "/a", "/"]);
    bench.input(events(&[("/a/p/q/x", Deleted), ("/a/p/q", Deleted)]));
    // They ended at 95, which only `/a/p` shows; `/a` had its last child at 80.
    let top = [
        found(stat(80, 80, 0, 80, 0), None),
        found(stat(1, 1, 0, 80, 2), None),
        found(stat(0, 0, 0, 1, 1), None),
    ];
    let outcomes = [Outcome::Missing, Outcome::Missing].into_iter().chain(top);
    let requests = bench.answer(ticket, outcomes.collect());
    assert_eq!(recorded(&bench, before), [], "80 is before their delete");
    let (ticket, reads) = read(&requests);
    assert_eq!(reads, ["/a/p/q/x", "/a/p/q", "/a/p", "/a", "/", "/a/z"]);
    let above = [
        Outcome::Missing,
        Outcome::Missing,
        found(stat(5, 5, 0, 95, 0), None),
        found(stat(1, 1, 0, 80, 2), None),
        found(stat(0, 0, 0, 1, 1), None),
        found(stat(80, 80, 0, 80, 0), None),
    ];
    bench.answer(ticket, above.into());
    let expected = [
        ("/a/p/q/x", "delete", 95),
        ("/a/p/q", "delete", 95),
        ("/a/z", "create", 80),
    ];
    assert_eq!(recorded(&bench, before), owned(&expected));
}

#[test]
fn a_window_that_is_older_than_what_a_walk_read_of_a_path_is_read_again() {
    let mut bench = Bench::new();
    let list = bench.connect();
    // Whether the walk records /a/x is undecided until its list arrives; the next one keeps the window waiting.
    bench.input(events(&[("/a", Changed)]));
    let walk = bench.answer(list, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    let mut requests = walk;
    requests.extend(bench.input(events(&[("/a/x", Deleted), ("/a/x", Created)])));
    requests.extend(bench.input(events(&[("/a/x", Deleted), ("/a/x", Created)])));
    // The walk finds nothing between the incarnations, and reads show the last one.
    let mut now = vec![("/", 0), ("/a", 1)];
    while bench.capture.state() != crate::capture::CaptureState::Live || !requests.is_empty() {
        assert!(!requests.is_empty(), "{:?}", bench.capture.state());
        let next = vec![requests.remove(0)];
        requests.extend(answer(&mut bench, &next, &now));
        now = vec![("/", 0), ("/a", 1), ("/a/x", 40)];
    }
    assert_eq!(bench.image.image()[&path("/a/x")].czxid, Zxid(40));
}

#[test]
fn a_gap_reaches_the_incarnations_that_were_created_and_deleted_unread_during_its_walk() {
    let (mut bench, before) = live_with(&[], |limits| {
        limits.walk_batch = 1;
        limits.walk_window = 1;
    });
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let walk = bench.answer(list, vec![found(stat(1, 1, 0, 5, 2), Some(&["w", "x"]))]);
    // One incarnation was listed. The second is left to the walk, which still has to read the path, and finds nothing.
    let incarnations = [("/a/x", Deleted), ("/a/x", Created), ("/a/x", Deleted)];
    let mut window = bench.input(events(&incarnations));
    let walk = bench.answer(ticket(&walk), vec![found(stat(4, 4, 0, 4, 0), None)]);
    bench.answer(ticket(&walk), vec![Outcome::Missing]);
    // Events before the answer may precede the delete that it bounds, so they are recorded before the gap ends.
    window.extend(bench.input(events(&[("/a/y", Created)])));
    let next = answer(&mut bench, &window, &[("/", 0), ("/a", 1)]);
    assert_eq!(bench.capture.state(), CaptureState::Walking);
    answer(&mut bench, &next, &[("/", 0), ("/a", 1), ("/a/y", 80)]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let expected = [("/a/w", "create", 4), ("/a/y", "create", 80)];
    assert_eq!(
        recorded(&bench, before),
        owned(&expected),
        "the deleted incarnation was never read"
    );
    let last = &bench.image.appended.last().unwrap().kind;
    assert!(
        matches!(
            last,
            RecordKind::GapEnd {
                to_zxid: Zxid(90),
                ..
            }
        ),
        "the incarnations have no record, so the gap has to reach them: {last:?}"
    );
}

#[test]
fn a_create_after_the_read_is_not_that_of_the_found_incarnation_if_a_delete_is_between_them() {
    let mut bench = Bench::new();
    let list = bench.connect();
    // Whether the walk records /a/x is undecided: its first create is left to it, and then its parent is created again.
    let window = bench.input(events(&[("/a/x", Created), ("/a/x", Deleted), ("/a/x", Created)]));
    assert_eq!(window, [], "all wait for the list");
    let mut requests = bench.answer(list, vec![found(stat(1, 1, 0, 17, 1), Some(&["x"]))]);
    requests.extend(bench.input(events(&[
        ("/a/x", Deleted),
        ("/a", Deleted),
        ("/a", Created),
        ("/a/x", Created),
    ])));
    // An earlier request shows the deleted incarnation.
    let before = [("/", 0), ("/a", 1), ("/a/x", 17)];
    let after = [("/", 0), ("/a", 40), ("/a/x", 40)];
    for round in 0.. {
        if requests.is_empty() {
            break;
        }
        assert!(round < 20, "no end: {requests:?}");
        let next = vec![requests.remove(0)];
        requests.extend(answer(
            &mut bench,
            &next,
            if round < 2 { &before } else { &after },
        ));
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    for path in ["/a", "/a/x"] {
        assert_eq!(
            bench.image.image()[&super::rules::path(path)].czxid,
            Zxid(40),
            "{path}"
        );
    }
}

#[test]
fn the_delete_of_an_incarnation_that_was_never_read_comes_before_the_create_of_the_next_one() {
    let (mut bench, before) = live_with(&[], |_| {});
    let requests = bench.input(events(&[("/a/x", Created), ("/a/x", Changed), ("/a/x", Deleted)]));
    bench.input(events(&[
        ("/a/x", Created),
        ("/a/x", Changed),
        ("/a/x", Changed),
        ("/a/x", Deleted),
        ("/a/x", Created),
    ]));
    // The third incarnation is read; the events leave open whether it is the second.
    let third = [("/", 0), ("/a", 1), ("/a/x", 28)];
    let requests = answer(&mut bench, &requests, &third);
    bench.input(events(&[("/a/x", Deleted)]));
    let requests = answer(&mut bench, &requests, &third);
    answer(&mut bench, &requests, &[("/", 0), ("/a", 1)]);
    let expected = [
        ("/a/x", "delete", 28),
        ("/a/x", "create", 28),
        ("/a/x", "delete", 90),
    ];
    assert_eq!(recorded(&bench, before), owned(&expected));
}

#[test]
fn a_delete_after_the_read_may_be_of_an_earlier_incarnation_if_creates_are_left_to_a_walk() {
    let (mut bench, before) = live_with(&[("/a/p", 2), ("/a/p/x", 4)], |_| {});
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let read_p = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["p"]))]));
    let again = [("/a/p/x", Deleted), ("/a/p/x", Created)];
    bench.input(events(&again));
    // The create is left to the list of /a/p, and the delete is read with all paths above it.
    let requests = bench.answer(read_p, vec![found(stat(2, 2, 0, 47, 1), None)]);
    let reads = requests.iter().filter_map(|request| match request {
        SourceRequest::Read { ticket, reads } => Some((*ticket, reads.len())),
        _ => None,
    });
    let reads: Vec<_> = reads.collect();
    let by_length = |length| reads.iter().find(|(_, reads)| *reads == length).unwrap().0;
    // The window has the third incarnation; the second was deleted after it was sent.
    bench.input(events(&[("/a/p", Changed)]));
    bench.input(events(&again));
    let line = [
        stat(51, 51, 0, 51, 0),
        stat(2, 2, 0, 51, 1),
        stat(1, 1, 0, 2, 1),
        stat(0, 0, 0, 1, 1),
    ];
    bench.answer(by_length(4), line.map(|stat| found(stat, None)).to_vec());
    bench.input(events(&[("/a/p/x", Deleted)]));
    let mut requests = bench.answer(by_length(1), vec![found(stat(2, 2, 0, 51, 1), Some(&["x"]))]);
    let there = [("/", 0), ("/a", 1), ("/a/p", 2)];
    for round in 0.. {
        if requests.is_empty() {
            break;
        }
        assert!(round < 20, "no end: {requests:?}");
        let next = vec![requests.remove(0)];
        requests.extend(answer(&mut bench, &next, &there));
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    // Those before it were created and deleted inside of the gap.
    let expected = [
        ("/a/p/x", "delete", 51),
        ("/a/p/x", "create", 51),
        ("/a/p/x", "delete", 90),
    ];
    assert_eq!(recorded(&bench, before), owned(&expected));
}

#[test]
fn an_incarnation_that_ended_before_its_second_read_is_folded_into_one_delete() {
    let (mut bench, before) = live_with(&[], |_| {});
    let requests = bench.input(events(&[("/a/x", Created), ("/a/x", Deleted)]));
    bench.input(events(&[
        ("/a/x", Created),
        ("/a/x", Deleted),
        ("/a/x", Created),
        ("/a/x", Deleted),
    ]));
    let requests = answer(&mut bench, &requests, &[("/", 0), ("/a", 1), ("/a/x", 28)]);
    answer(&mut bench, &requests, &[("/", 0), ("/a", 1)]);
    let expected = [("/a/x", "delete", 28), ("/a/x", "delete", 90)];
    assert_eq!(recorded(&bench, before), owned(&expected));
}

#[test]
fn an_incarnation_that_a_walk_recorded_gets_one_delete_if_its_parent_is_created_again_too() {
    let (mut bench, before) = live_with(&[], |_| {});
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let walk = bench.answer(list, vec![found(stat(1, 1, 0, 17, 1), Some(&["x"]))]);
    // The create arrives while the walk reads the path, so the walk may have recorded it.
    let mut requests = bench.input(events(&[("/a/x", Created)]));
    requests.extend(bench.answer(ticket(&walk), vec![found(stat(17, 17, 0, 17, 0), None)]));
    requests.extend(bench.input(events(&[
        ("/a/x", Deleted),
        ("/a", Deleted),
        ("/a", Created),
        ("/a/x", Created),
    ])));
    for round in 0.. {
        if requests.is_empty() {
            break;
        }
        assert!(round < 20, "no end: {requests:?}");
        let next = vec![requests.remove(0)];
        requests.extend(answer(&mut bench, &next, &[("/", 0), ("/a", 40), ("/a/x", 40)]));
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let recorded = recorded(&bench, before);
    let ops: Vec<(&str, &str)> = recorded
        .iter()
        .map(|(path, op, _)| (path.as_str(), *op))
        .collect();
    let expected = [
        ("/a/x", "create"),
        ("/a/x", "delete"),
        ("/a", "delete"),
        ("/a", "create"),
        ("/a/x", "create"),
    ];
    assert_eq!(ops, expected);
}

#[test]
fn a_child_that_was_read_below_a_parent_that_was_deleted_before_its_walk_is_not_recorded() {
    let mut bench = Bench::new();
    let list = bench.connect();
    let read_q = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["q"]))]));
    bench.input(events(&[
        ("/a/q/p", Created),
        ("/a/q/p/c", Created),
        ("/a/q/p/c", Deleted),
    ]));
    // The creates are left to the list of /a/q, and the delete is read with all paths above it.
    let requests = bench.answer(read_q, vec![found(stat(2, 2, 0, 7, 1), None)]);
    let reads = requests.iter().filter_map(|request| match request {
        SourceRequest::Read { ticket, reads } => Some((*ticket, reads.len())),
        _ => None,
    });
    let reads: Vec<_> = reads.collect();
    let by_length = |length| reads.iter().find(|(_, reads)| *reads == length).unwrap().0;
    bench.input(events(&[
        ("/a/q/p/c", Created),
        ("/a/q/p/c", Deleted),
        ("/a/q/p", Deleted),
        ("/a/q", Changed),
    ]));
    let line = [
        stat(9, 9, 0, 9, 0),
        stat(7, 7, 0, 9, 1),
        stat(2, 2, 0, 7, 1),
        stat(1, 1, 0, 2, 1),
        stat(0, 0, 0, 1, 1),
    ];
    bench.answer(by_length(5), line.map(|stat| found(stat, None)).to_vec());
    let mut requests = bench.answer(by_length(1), vec![found(stat(2, 2, 0, 10, 0), Some(&[]))]);
    let there = [("/", 0), ("/a", 1), ("/a/q", 2)];
    while !requests.is_empty() {
        requests = answer(&mut bench, &requests, &there);
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let recorded: Vec<&str> = bench.image.changes().map(|change| change.path.as_str()).collect();
    assert_eq!(recorded, ["/a", "/a/q"]);
}
