//! Deletes, whose time a watch does not know: they are certain at every moment that their bounds leave out.

use bridge_core::append::{Append, ChangeKind, DeletedAt, RecordKind};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Zxid};
use bridge_core::record::{Fidelity, GapReason, Timestamp};

use super::downtime::{control, listing};
use super::scratch::{Scratch, change, created, deleted, gap, path, time_of, updated};
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

#[test]
fn a_delete_that_was_found_after_a_gap_is_after_every_moment_before_the_gap() {
    let mut scratch = Scratch::with(listing());
    scratch.append([created("/a", 2, "x")]);
    scratch.journal.set_live(Timestamp(time_of(1_000)));
    let captured = Timestamp(time_of(2_000));
    let mut found = change(
        "/a",
        2_000,
        ChangeKind::Deleted {
            at: DeletedAt::Bound(Zxid(1_500)),
        },
    );
    if let RecordKind::Change(change) = &mut found.word {
        (change.fidelity, change.missed) = (Fidelity::Reconciled, None);
    }
    scratch.append([
        Append { captured, ..gap(10) },
        found,
        control(
            2_000,
            RecordKind::GapEnd {
                epoch: Epoch(2),
                from_zxid: Zxid(10),
                to_zxid: Zxid(1_500),
                reason: GapReason::Disconnected,
                differences: 1,
            },
        ),
    ]);
    let query = scratch.query();
    // It existed; the number of writes before the delete is not known.
    check(&query, time(900), Some(true), Certainty::Gap);
    check(&query, time(2_000), Some(false), Certainty::Exact);
    // The control: inside the gap it is not known.
    for position in [time(980), time(1_500), zxid(11), zxid(1_499)] {
        let value = query.as_of(&path("/a"), position, NOW).unwrap().unwrap();
        assert_eq!(value.exists, None, "{position:?}");
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
