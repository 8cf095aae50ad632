//! Histories that were read long after they happened, by a source of transactions: with a listing first, and with a hole.

use bridge_core::append::{Append, ChangeKind, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{GapReason, Mode, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::downtime::{Played, Tree, Truth, compared, control, mutate, text_of};
use super::scratch::{Scratch, change, committed, created, path, read, time_of, updated};
use crate::answer::{ChangesOrder, ChangesQuestion, RangeQuestion};
use crate::{Doubt, JournalQuery, Selection};

const SEEDS: u64 = 16;

/// The most changes of a turn, and seconds between two.
const CHANGES: u64 = 12;
const SECONDS_BETWEEN: u64 = 100;

/// The second at which the history is read.
const READ_AT: u64 = 20_000;

/// How the source reports transactions that it could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// They are in a gap.
    Honest,
    /// Nothing: the control that the test must catch.
    Silent,
}

/// A record that was written when the history was read.
fn late(entry: Append) -> Append {
    Append {
        captured: Timestamp(time_of(READ_AT)),
        ..entry
    }
}

/// The same without a word of what was missed before it.
fn unmissed(mut entry: Append) -> Append {
    if let RecordKind::Change(change) = &mut entry.kind {
        change.missed = Some(0);
    }
    entry
}

/// A transaction of the history.
fn past(entry: Append) -> Append {
    let time = entry.captured.0;
    committed(entry, time, time_of(READ_AT))
}

/// The listing of a tree at a zxid.
fn listing(tree: &Tree, zxid: u64) -> Vec<Append> {
    let run = Uuid::from_u128(7);
    let mut records = vec![control(zxid, RecordKind::RunBegin { run })];
    for (index, (name, version)) in tree.iter().enumerate() {
        let kind = ChangeKind::Listed {
            read: read(version.czxid, version.mzxid, version.version, &text_of(version)),
            run,
            index: index as u64,
        };
        records.push(change(&format!("/{name}"), zxid, kind));
    }
    let nodes = tree.len() as u64;
    let end = RecordKind::RunEnd {
        run,
        index: nodes,
        nodes,
        unreadable: 0,
        zxid: Some(Zxid(zxid)),
        is_exact: true,
    };
    records.push(control(zxid, end));
    records
}

/// A history from a listing on, with a hole and what a comparison found after it, and then records of a bridge that runs.
fn play(seed: u64, source: Source) -> Played {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut scratch = Scratch::of(Mode::Txnlog).with_stretches_of(4);
    let mut truth = Truth::from([(1, Tree::new())]);
    let (mut tree, mut zxid) = (Tree::new(), 1);
    let mut turn = |zxid: &mut u64, tree: &mut Tree| {
        let mut records = Vec::new();
        for _ in 0..random.random_range(2..CHANGES) {
            *zxid += random.random_range(1..SECONDS_BETWEEN);
            records.push(mutate(random, tree, *zxid));
            truth.insert(*zxid, tree.clone());
        }
        records
    };
    turn(&mut zxid, &mut tree);
    scratch.append(listing(&tree, zxid).into_iter().map(late));
    let mut away = vec![];
    let history = turn(&mut zxid, &mut tree);
    let first = |records: &[Append]| u64::try_from((records[0].captured.0 - time_of(0)) / 1000).unwrap();
    away.push((1, first(&history)));
    scratch.append(history.into_iter().map(past));
    // The hole.
    let (seen, from) = (tree.clone(), zxid);
    turn(&mut zxid, &mut tree);
    let (epoch, reason) = (Epoch(2), GapReason::Unproved);
    let from_zxid = Zxid(from);
    let differences = compared(&seen, &tree, zxid);
    let begin = RecordKind::GapBegin {
        epoch,
        from_zxid,
        reason,
    };
    let end = RecordKind::GapEnd {
        epoch,
        from_zxid,
        to_zxid: Zxid(zxid),
        reason,
        differences: differences.len() as u64,
    };
    let (begin, end) = (control(zxid, begin), control(zxid, end));
    let found: Vec<Append> = match source {
        Source::Honest => [begin].into_iter().chain(differences).chain([end]).collect(),
        Source::Silent => differences.into_iter().map(unmissed).collect(),
    };
    scratch.append(found.into_iter().map(late));
    let history = turn(&mut zxid, &mut tree);
    away.push((from, first(&history)));
    scratch.append(history.into_iter().map(past));
    zxid = READ_AT;
    let live = turn(&mut zxid, &mut tree).into_iter();
    scratch.append(live.map(|entry| {
        let time = entry.captured.0;
        committed(entry, time, time)
    }));
    complete(&mut scratch, zxid + 1);
    Played {
        scratch,
        truth,
        away,
        end: zxid + 1,
    }
}

fn complete(scratch: &mut Scratch, reported: u64) {
    let progress = Progress {
        reported: Zxid(reported),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch.journal.commit().unwrap();
}

#[test]
fn a_certain_answer_about_a_history_that_was_read_later_is_the_truth() {
    let (mut certain, mut all) = (0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (lie, known) = play(seed, Source::Honest).first_lie();
        assert_eq!(lie, None, "seed {seed}");
        (certain, all) = (certain + known.0, all + known.1);
    }
    // Not by never being certain: only the first versions after the hole leave something open.
    assert!(certain * 10 > all * 9, "{certain} of {all}");
}

#[test]
fn a_source_that_says_nothing_of_transactions_that_it_could_not_read_is_caught() {
    let is_caught = |seed: &u64| play(*seed, Source::Silent).first_lie().0.is_some();
    let caught = (0..SEEDS).filter(is_caught).count() as u64;
    assert!(caught > SEEDS / 2, "{caught}");
}

/// A history of two changes a day apart, which was read a week later, and a change since.
fn read_later() -> Scratch {
    let mut scratch = Scratch::of(Mode::Txnlog);
    let hour = 3_600;
    let tree = Tree::new();
    scratch.append(listing(&tree, 1).into_iter().map(|entry| Append {
        captured: Timestamp(time_of(200 * hour)),
        ..entry
    }));
    let at =
        |entry, hours: u64, captured: u64| committed(entry, time_of(hours * hour), time_of(captured * hour));
    scratch.append([
        at(created("/a", 2, "1"), 10, 200),
        at(updated("/a", 2, 3, "2"), 34, 200),
        at(updated("/a", 2, 4, "3"), 201, 201),
    ]);
    complete(&mut scratch, 4);
    scratch
}

fn hours(hours: u64) -> Option<Position> {
    Some(Position::Time(Timestamp(time_of(hours * 3_600))))
}

/// The numbers of the records of a range, and the doubts about the list.
fn changes(query: &JournalQuery, from: Option<Position>, to: Option<Position>) -> (Vec<u64>, Vec<Doubt>) {
    let question = ChangesQuestion {
        from,
        to,
        selection: &Selection::default(),
        filter: "",
        order: ChangesOrder::Oldest,
        cursor: None,
        limit: 100,
    };
    let now = Timestamp(time_of(300 * 3_600));
    let list = query.records_between(&question, now).unwrap();
    let seqs = list.items.iter().map(|record| record.seq.0).collect();
    (seqs, list.doubts)
}

#[test]
fn a_range_by_time_has_the_transactions_of_that_time_and_not_those_that_were_read_then() {
    let scratch = read_later();
    let query = scratch.query();
    let check = |from, to, expected: &[u64]| {
        assert_eq!(
            changes(&query, from, to),
            (expected.to_vec(), vec![]),
            "{from:?} {to:?}"
        );
    };
    check(hours(11), hours(40), &[4]);
    check(hours(10), hours(34), &[1, 2, 3, 4]);
    check(hours(35), hours(200), &[]);
    check(hours(199), None, &[5]);
    let known = Doubt::KnownSince {
        seq: Seq(1),
        at: Timestamp(time_of(36_000)),
        is_backfilled: false,
    };
    assert!(known.to_string().contains("zkbridge backfill"));
    assert_eq!(changes(&query, hours(9), hours(11)), (vec![1, 2, 3], vec![known]));
}

#[test]
fn a_moment_within_a_history_that_was_read_later_is_certain_and_one_before_it_is_before_the_journal() {
    let scratch = read_later();
    let query = scratch.query();
    let now = Timestamp(time_of(300 * 3_600));
    for hour in [10, 20, 34, 100, 201] {
        let moment = query.moment(hours(hour), now).unwrap();
        assert!(moment.certain, "{hour}: {moment:?}");
    }
    let before = query.moment(hours(9), now).unwrap();
    let listed = Doubt::BeforeListing {
        root: ZnodePath::slash(),
        seq: Seq(2),
        at: Timestamp(time_of(36_000)),
        is_backfilled: false,
    };
    assert_eq!((before.seq, before.doubts), (Seq(0), vec![listed]));
}

#[test]
fn nothing_is_known_after_the_last_transaction_of_a_history_that_no_bridge_goes_on_with() {
    let mut scratch = Scratch::of(Mode::Txnlog);
    scratch.append(listing(&Tree::new(), 1).into_iter().map(late));
    scratch.append([past(created("/a", 100, "1"))]);
    complete(&mut scratch, 100);
    let query = scratch.query().with_end_of_watch().unwrap();
    let now = Timestamp(time_of(READ_AT + 1));
    let at = |second| Position::Time(Timestamp(time_of(second)));
    let value = |second| query.as_of(&path("/a"), at(second), now).unwrap().unwrap();
    assert!(value(100).certain);
    assert_eq!(value(200).doubts, [Doubt::NotWatched(Timestamp(time_of(100)))]);
}

#[test]
fn while_a_source_catches_up_with_the_past_the_time_that_it_has_not_reached_is_not_certain() {
    let mut scratch = Scratch::of(Mode::Txnlog);
    scratch.append(listing(&Tree::new(), 1).into_iter().map(late));
    scratch.append([past(created("/a", 100, "1"))]);
    complete(&mut scratch, 100);
    let now = Timestamp(time_of(READ_AT + 200));
    let mut doubts = |live: u64, second: u64| {
        scratch.journal.set_live(Timestamp(time_of(live)));
        scratch.journal.store_live().unwrap();
        let at = Position::Time(Timestamp(time_of(second)));
        let value = scratch.query().as_of(&path("/a"), at, now).unwrap();
        value.unwrap().doubts
    };
    assert_eq!(doubts(READ_AT, 100), []);
    assert_eq!(doubts(READ_AT, 200), [Doubt::NotLive(Timestamp(time_of(100)))]);
    // It is live for a while without a transaction that would be late: so there is none.
    assert_eq!(doubts(READ_AT + 100, 200), []);
}

#[test]
fn a_gap_in_a_history_that_was_read_later_begins_with_the_transaction_before_it() {
    let played = play(3, Source::Honest);
    let query = played.scratch.query();
    let question = RangeQuestion {
        from: None,
        to: None,
        cursor: None,
        limit: 10,
    };
    let now = Timestamp(time_of(played.end));
    let gaps = query.gaps_between(&question, now).unwrap().items;
    let since = Timestamp(time_of(played.away[1].0));
    assert_eq!(
        gaps.iter().map(|gap| gap.since).collect::<Vec<_>>(),
        [Some(since)]
    );
}
