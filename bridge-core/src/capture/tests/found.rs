//! Single rules that the simulator once found broken.

use super::rules::{Bench, event, found, path, stat, ticket};
use crate::capture::{CaptureState, Effect, Event, EventKind, Input, Outcome};
use crate::entry::{DeletedAt, What, Word};
use crate::number::Zxid;

/// Without a zxid, as servers before 3.9 send it.
fn bare(text: &str, kind: EventKind) -> Event {
    Event {
        zxid: None,
        ..event(text, kind, 0)
    }
}

#[test]
fn a_gap_ends_behind_the_record_that_tells_of_a_version_overwritten_during_its_walk() {
    let mut bench = Bench::live();
    bench.input(Input::Disconnected);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 4, 1), Some(&["x"]))]));
    let follow = ticket(&bench.input(Input::Events(vec![event("/a", EventKind::Changed, 5)])));
    bench.answer(read, vec![found(stat(4, 4, 0, 4, 0), None)]);
    let next = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 6)]));
    bench.answer(follow, vec![found(stat(1, 6, 2, 4, 1), None)]);
    bench.answer(ticket(&next), vec![found(stat(1, 6, 2, 4, 1), None)]);
    let last = bench.book.entries.last().map(|entry| &entry.word);
    let Some(Word::GapEnd { to_zxid, .. }) = last else {
        panic!("{last:?}");
    };
    assert_eq!(*to_zxid, Zxid(5));
    let change = bench.book.changes().last().unwrap();
    assert_eq!((&change.superseded[..], change.missed), (&[Zxid(5)][..], Some(1)));
}

#[test]
fn a_life_below_a_znode_that_ended_before_it_was_listed_is_not_told() {
    let mut bench = Bench::new();
    let list = bench.connect();
    bench.input(Input::Events(vec![
        event("/a/x", EventKind::Created, 5),
        event("/a/x", EventKind::Changed, 6),
        event("/a/x", EventKind::Deleted, 7),
        event("/a", EventKind::Deleted, 7),
    ]));
    let reads = bench.answer(list, vec![Outcome::Missing]);
    bench.answer(ticket(&reads), vec![Outcome::Missing, Outcome::Missing]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert_eq!(bench.book.changes().count(), 0, "{:?}", bench.book.entries);
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
        .collect::<Vec<Effect>>()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Read { ticket, reads } => Some((ticket, reads)),
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
        &What::Deleted {
            at: DeletedAt::Unknown
        }
    );
}

#[test]
fn a_child_that_the_walk_told_survives_the_delete_of_its_recreated_parent_told_by_position() {
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
    let told: Vec<&What> = bench.book.changes().map(|change| &change.what).collect();
    let deletes = told
        .iter()
        .filter(|what| matches!(what, What::Deleted { .. }))
        .count();
    assert_eq!(deletes, 1, "only the life of /a before ended: {told:?}");
    assert_eq!(bench.book.image[&path("/a/x")].czxid, Zxid(9));
}

#[test]
fn writes_that_gave_way_under_load_and_that_a_walk_told_are_not_counted_again() {
    let mut bench = Bench::small(|limits| limits.fold_above = 2);
    let list = bench.connect();
    let read = ticket(&bench.answer(list, vec![found(stat(1, 1, 0, 2, 1), Some(&["x"]))]));
    let write = |zxid| event("/a/x", EventKind::Changed, zxid);
    bench.input(Input::Events((3..10).map(write).collect()));
    let effects = bench.answer(read, vec![found(stat(2, 6, 4, 2, 0), None)]);
    bench.answer(ticket(&effects), vec![found(stat(2, 9, 7, 2, 0), None)]);
    let change = bench.book.changes().last().unwrap();
    assert_eq!(
        (change.missed, &change.superseded[..]),
        (Some(2), &[Zxid(7), Zxid(8)][..])
    );
}
