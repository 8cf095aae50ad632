//! Deletes, whose time a watch does not know: they are certain at every moment that their bounds leave out.

use bridge_core::append::{Append, ChangeKind, DeletedAt, RecordKind};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Zxid};
use bridge_core::record::{Fidelity, GapReason, Timestamp};

use super::downtime::{control, listing};
use super::scratch::{Scratch, change, created, deleted, path, read, time_of, updated};
use crate::{Certainty, JournalQuery};

const NOW: Timestamp = Timestamp(i64::MAX);

fn time(second: u64) -> Position {
    Position::Time(Timestamp(time_of(second)))
}

fn zxid(zxid: u64) -> Position {
    Position::Zxid(Zxid(zxid))
}

#[track_caller]
fn check(query: &JournalQuery, position: Position, exists: Option<bool>, certainty: Certainty) {
    let value = query.as_of(&path("/a"), position, NOW).unwrap().unwrap();
    assert_eq!(
        (value.exists, value.certainty),
        (exists, certainty),
        "{position:?}: {value:?}"
    );
}

/// A change that was found by comparing.
fn found(zxid: u64, kind: ChangeKind, missed: Option<u64>) -> Append {
    let mut found = change("/a", zxid, kind);
    if let RecordKind::Change(change) = &mut found.kind {
        (change.fidelity, change.missed) = (Fidelity::Reconciled, missed);
    }
    found
}

/// A gap from zxid 10 to 1,500, found at second 2,000, with a difference.
fn gap_with(reason: GapReason, difference: Append) -> [Append; 3] {
    let (epoch, from_zxid) = (Epoch(2), Zxid(10));
    let begin = RecordKind::GapBegin {
        epoch,
        from_zxid,
        reason,
    };
    let end = RecordKind::GapEnd {
        epoch,
        from_zxid,
        to_zxid: Zxid(1_500),
        reason,
        differences: 1,
    };
    [control(2_000, begin), difference, control(2_000, end)]
}

fn found_deleted() -> Append {
    let at = DeletedAt::Bound(Zxid(1_500));
    let delete = found(1_500, ChangeKind::Deleted { at }, None);
    let captured = Timestamp(time_of(2_000));
    Append { captured, ..delete }
}

#[test]
fn a_znode_that_was_deleted_in_a_gap_is_certain_at_every_moment_before_the_gap() {
    let mut scratch = Scratch::with(listing());
    scratch.append([created("/a", 2, "x")]);
    scratch.journal.set_live(Timestamp(time_of(1_000)));
    scratch.append(gap_with(GapReason::Disconnected, found_deleted()));
    let query = scratch.query();
    for position in [time(2), time(900), zxid(2), zxid(9), zxid(10)] {
        check(&query, position, Some(true), Certainty::Exact);
    }
    check(&query, time(2_000), Some(false), Certainty::Exact);
    // The control: inside the gap it is not known.
    for position in [time(980), time(1_500), zxid(11), zxid(1_499)] {
        let value = query.as_of(&path("/a"), position, NOW).unwrap().unwrap();
        assert_eq!(value.exists, None, "{position:?}");
    }
}

#[test]
fn the_values_before_a_change_that_was_found_after_a_gap_were_missed_in_the_gap() {
    let write = |missed| {
        let read = read(2, 1_400, 3, "y");
        let captured = Timestamp(time_of(2_000));
        let update = found(1_400, ChangeKind::Updated { read }, missed);
        Append { captured, ..update }
    };
    for missed in [Some(2), None] {
        let mut scratch = Scratch::with(listing());
        scratch.append([created("/a", 2, "x")]);
        scratch.journal.set_live(Timestamp(time_of(1_000)));
        scratch.append(gap_with(GapReason::Started, write(missed)));
        let query = scratch.query();
        for position in [time(900), zxid(9)] {
            check(&query, position, Some(true), Certainty::Exact);
        }
        // The control: inside the gap it may have been one of them.
        for position in [time(980), time(1_300), zxid(11), zxid(1_300)] {
            let value = query.as_of(&path("/a"), position, NOW).unwrap().unwrap();
            assert!(!value.certain, "{position:?}: {value:?}");
        }
    }
}

#[test]
fn changes_of_znodes_that_could_not_be_read_may_be_missing_before_the_gap_in_which_they_are_found() {
    let mut scratch = Scratch::with(listing());
    // Another znode shows that capture was live.
    scratch.append([created("/a", 2, "x"), created("/b", 9, "y")]);
    scratch.journal.set_live(Timestamp(time_of(1_000)));
    let live = Append {
        captured: Timestamp(time_of(1_000)),
        ..updated("/b", 9, 10, "z")
    };
    scratch.append([live]);
    scratch.append(gap_with(GapReason::Permission, found_deleted()));
    let query = scratch.query();
    for position in [time(900), zxid(9)] {
        check(&query, position, Some(true), Certainty::Gap);
    }
}

#[test]
fn a_delete_that_a_watch_saw_is_placed_by_the_transactions_around_it() {
    let mut scratch = Scratch::with(listing());
    scratch.append([
        created("/a", 2, "x"),
        created("/b", 3, "y"),
        updated("/b", 3, 100, "z"),
        deleted("/a", 110),
    ]);
    let query = scratch.query();
    // Minutes before, its capture alone shows it.
    check(&query, time(40), Some(true), Certainty::Exact);
    // A second transaction of the same leader lies between the moment and the delete.
    check(&query, time(95), Some(true), Certainty::Exact);
    // The control: nothing shows whether it was before this moment.
    check(&query, time(105), None, Certainty::Bounded);
    check(&query, time(110), Some(false), Certainty::Exact);
}

#[test]
fn a_transaction_of_another_leader_with_another_clock_does_not_place_a_delete() {
    let later = 1 << 32;
    let mut scratch = Scratch::with(listing());
    let mut last = deleted("/a", later);
    last.captured = Timestamp(time_of(110));
    scratch.append([
        created("/a", 2, "x"),
        created("/b", 3, "y"),
        updated("/b", 3, 100, "z"),
        last,
    ]);
    check(&scratch.query(), time(95), None, Certainty::Bounded);
}
