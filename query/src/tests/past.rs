//! The time before a journal, from the file beside it.

use std::sync::Arc;

use bridge_core::append::{Append, ChangeKind, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{Journal, JournalOptions, JournalWriter, Position};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{NAMESPACE, Op, Record, Timestamp};
use bridge_core::unreadable_span::{HistoryPoint, UnreadableExtent};

use super::scratch::{Scratch, change, committed, created, deleted, gap, path, read, time_of, updated};
use crate::answer::{AnswerList, ChangesOrder, ChangesQuestion, HistoryAnswer, HistoryQuestion};
use crate::{
    AsOfValue, Certainty, Doubt, JournalQuery, PastPlace, QueryError, Selection, Version, past_file,
};

const NOW: Timestamp = Timestamp(i64::MAX);

/// The end of a listing at this zxid.
fn listing_end(zxid: u64) -> Append {
    let kind = RecordKind::RunEnd {
        run: NAMESPACE,
        index: 1,
        nodes: 1,
        unreadable: 0,
        zxid: Some(Zxid(zxid)),
        is_exact: true,
    };
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(time_of(zxid)),
        kind,
    }
}

fn listed(at: &str, czxid: u64, mzxid: u64, version: i32, text: &str) -> Append {
    let kind = ChangeKind::Listed {
        read: read(czxid, mzxid, version, text),
        run: NAMESPACE,
        index: 1,
    };
    change(at, mzxid, kind)
}

/// Everything up to a zxid is reported.
fn reported(zxid: u64) -> Progress {
    Progress {
        reported: Zxid(zxid),
        listed: true,
        run: None,
    }
}

/// A journal that is complete up to zxid 100.
fn journal(entries: impl IntoIterator<Item = Append>) -> Scratch {
    let mut scratch = Scratch::with(entries);
    let root = ZnodePath::slash();
    scratch.journal.set_progress(&root, &reported(100)).unwrap();
    scratch.journal.commit().unwrap();
    scratch
}

/// Writes the file for the time before, complete up to a zxid.
fn write_past(scratch: &Scratch, cluster: &str, until: u64, entries: impl IntoIterator<Item = Append>) {
    let options = JournalOptions::new(cluster);
    let mut past = Journal::open(&past_file(&scratch.file()), &options).unwrap();
    for entry in entries {
        past.append(entry).unwrap();
    }
    past.set_progress(&ZnodePath::slash(), &reported(until)).unwrap();
    past.commit().unwrap();
}

#[test]
fn a_znode_that_the_journal_could_never_read_is_certain_in_the_time_before_alone() {
    let mut scratch = journal([listing_end(30), created("/b", 40, "x")]);
    let znode = (&path("/a"), UnreadableExtent::Znode);
    let (since, found) = (HistoryPoint::default(), Timestamp(time_of(30)));
    scratch
        .journal
        .begin_unreadable(&ZnodePath::slash(), znode, &since, found)
        .unwrap();
    scratch.journal.commit().unwrap();
    write_past(&scratch, "main", 35, [created("/a", 10, "one")]);
    let at = |zxid| {
        let position = Position::Zxid(Zxid(zxid));
        let value = scratch
            .query()
            .as_of(&path("/a"), position, NOW)
            .unwrap()
            .unwrap();
        (value.certainty, value.exists)
    };
    assert_eq!(at(15), (Certainty::Exact, Some(true)));
    assert_eq!(at(40), (Certainty::Gap, None));
}

#[test]
fn the_hint_to_make_a_backfill_is_left_out_where_one_was_made() {
    let scratch = journal([
        listed("/a", 10, 20, 1, "two"),
        listing_end(30),
        updated("/a", 10, 40, "three"),
    ]);
    let hints = || {
        let moment = scratch
            .query()
            .moment(Some(Position::Zxid(Zxid(15))), NOW)
            .unwrap();
        let doubts = moment.doubts.iter().map(Doubt::to_string);
        assert!(!moment.certain, "the journal begins later");
        doubts.filter(|doubt| doubt.contains("zkbridge backfill")).count()
    };
    assert_eq!(hints(), 1);
    write_past(&scratch, "main", 35, [created("/a", 10, "one")]);
    assert_eq!(hints(), 0);
}

/// `/a` from zxid 10 on; the journal begins with a listing at 30.
fn scratch(past_reported: u64) -> Scratch {
    let scratch = journal([
        listed("/a", 10, 20, 1, "two"),
        listing_end(30),
        updated("/a", 10, 40, "three"),
    ]);
    write_past(
        &scratch,
        "main",
        past_reported,
        [
            listed("/old", 5, 5, 0, "old"),
            listing_end(9),
            created("/a", 10, "one"),
            updated("/a", 10, 20, "two"),
            deleted("/old", 25),
            // The file may reach into the time of the journal.
            updated("/a", 10, 40, "three"),
        ]
        .into_iter()
        .filter(move |append| zxid_of(append) <= past_reported),
    );
    scratch
}

fn zxid_of(append: &Append) -> u64 {
    u64::try_from((append.captured.0 - time_of(0)) / 1000).unwrap()
}

fn at(query: &JournalQuery, of: &str, zxid: u64) -> Option<AsOfValue> {
    query.as_of(&path(of), Position::Zxid(Zxid(zxid)), NOW).unwrap()
}

fn text(value: &AsOfValue) -> Option<&[u8]> {
    value.data.as_ref().map(|data| &*data.bytes)
}

/// The op and zxid of each version, from the journal and then from before.
fn versions(query: &JournalQuery, of: &str) -> Vec<(Op, u64)> {
    let of = path(of);
    let mut found = Vec::new();
    let mut oldest = None;
    let mut next = None;
    while let Some(page) = query.history(&of, next, 1).unwrap() {
        let records: Vec<_> = page.versions.into_iter().map(|one| one.record).collect();
        oldest = records.last().cloned().or(oldest);
        found.extend(records);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let mut place = PastPlace::before(oldest.as_deref());
    while let Some(page) = query.past_versions(&of, (None, None), place, 1).unwrap() {
        assert_eq!(page.doubt, None);
        found.extend(page.versions.into_iter().map(|one| one.record));
        match page.next {
            Some(next) => place = next,
            None => break,
        }
    }
    let of_record = |record: &bridge_core::record::Record| (record.op, record.zxid.unwrap().0);
    found.iter().map(|record| of_record(record)).collect()
}

#[test]
fn versions_of_before_follow_those_of_the_journal_and_each_is_there_once() {
    for reported in [30, 45] {
        let scratch = scratch(reported);
        let query = scratch.query();
        let expected = [
            (Op::Update, 40),
            (Op::Snapshot, 20),
            (Op::Update, 20),
            (Op::Create, 10),
        ];
        assert_eq!(versions(&query, "/a"), expected);
        assert_eq!(versions(&query, "/old"), [(Op::Delete, 25), (Op::Snapshot, 5)]);
        assert_eq!(versions(&query, "/never"), []);
    }
}

#[test]
fn a_value_of_before_is_certain_where_both_files_join() {
    let scratch = scratch(30);
    let query = scratch.query();
    let check = |of: &str, zxid: u64, expected: Option<&str>| {
        let value = at(&query, of, zxid).unwrap();
        assert_eq!(text(&value), expected.map(str::as_bytes), "{of} {zxid}");
        assert_eq!(value.exists, Some(expected.is_some()), "{of} {zxid}");
        assert!(value.certain, "{of} {zxid}: {:?}", value.doubts);
        value
    };
    for zxid in [10, 19] {
        assert_eq!(check("/a", zxid, Some("one")).seq, None);
    }
    check("/a", 20, Some("two"));
    check("/a", 39, Some("two"));
    assert_eq!(check("/a", 40, Some("three")).seq, Some(Seq(3)));
    check("/old", 24, Some("old"));
    check("/old", 25, None);
    // By time, too; a number names no record of before.
    let by_time = |position| query.as_of(&path("/a"), position, NOW).unwrap().unwrap();
    let value = by_time(Position::Time(Timestamp(time_of(15))));
    assert_eq!((text(&value), value.certain), (Some(&b"one"[..]), true));
    assert_eq!(by_time(Position::Seq(Seq(0))).data, None);
    // Before the oldest snapshot nothing is known.
    assert_eq!(at(&query, "/old", 4).unwrap().certainty, Certainty::Removed);
    assert_eq!(at(&query, "/never", 20), None);
}

#[test]
fn where_records_are_missing_between_the_files_no_answer_from_before_is_certain() {
    let scratch = scratch(21);
    let query = scratch.query();
    let value = at(&query, "/old", 24).unwrap();
    assert_eq!(
        (text(&value), value.certainty),
        (Some(&b"old"[..]), Certainty::Removed)
    );
    let doubts: Vec<String> = value.doubts.iter().map(ToString::to_string).collect();
    assert!(doubts[0].contains("run 'zkbridge backfill' again"), "{doubts:?}");
    let page = query
        .past_versions(&path("/a"), (None, None), PastPlace::before(None), 9)
        .unwrap();
    assert!(page.unwrap().doubt.is_some());
    // The journal's own answers are as ever.
    assert!(at(&query, "/a", 41).unwrap().certain);
}

#[test]
fn a_znode_that_was_created_after_the_listing_of_the_file_certainly_did_not_exist_before() {
    let scratch = scratch(45);
    let query = scratch.query();
    let value = at(&query, "/a", 9).unwrap();
    assert_eq!((value.exists, value.certain), (Some(false), true), "{value:?}");
    // The file knows nothing of the time before its listing.
    let value = at(&query, "/a", 8).unwrap();
    assert!(!value.certain, "{value:?}");
}

#[test]
fn a_znode_certainly_did_not_exist_at_a_time_between_the_begin_of_the_file_and_its_create() {
    let scratch = journal([listed("/a", 20, 20, 0, "one"), listing_end(30)]);
    let of_past = |entry, zxid| committed(entry, time_of(zxid), time_of(60));
    write_past(
        &scratch,
        "main",
        45,
        [
            listed("/old", 5, 5, 0, "old"),
            listing_end(9),
            of_past(updated("/old", 5, 12, "new"), 12),
            of_past(created("/a", 20, "one"), 20),
        ],
    );
    let query = scratch.query();
    let value = |second| {
        let position = Position::Time(Timestamp(time_of(second)));
        query.as_of(&path("/a"), position, NOW).unwrap().unwrap()
    };
    let between = value(15);
    assert_eq!(
        (between.exists, between.certain),
        (Some(false), true),
        "{between:?}"
    );
    // The file knows nothing of the time before its first transaction.
    assert!(!value(11).certain);
}

#[test]
fn where_retention_has_left_no_change_no_answer_from_before_is_certain() {
    let mut scratch = scratch(45);
    // Only the begin of a gap is kept, which has no zxid: the change at 60 is in neither file.
    scratch.append([
        updated("/a", 10, 60, "four"),
        updated("/a", 10, 70, "five"),
        gap(80),
    ]);
    scratch.retain_at(10_000);
    let query = scratch.query();
    assert_eq!(query.begins_at().unwrap(), Some(Zxid(100)));
    let value = at(&query, "/a", 65).unwrap();
    assert!(!value.certain, "{value:?}");
}

#[test]
fn the_rows_of_a_listing_do_not_show_where_the_kept_records_begin() {
    let mut scratch = scratch(45);
    scratch.append([updated("/a", 10, 60, "four"), updated("/a", 10, 70, "five")]);
    let restated = Append {
        captured: Timestamp(time_of(200)),
        ..listed("/b", 12, 12, 0, "old")
    };
    scratch.append([restated, listing_end(90)]);
    scratch.retain_at(250);
    let query = scratch.query();
    assert!(query.begins_at().unwrap() > Some(Zxid(45)));
}

/// Ops and zxids.
type Changes = Vec<(Op, u64)>;

/// The ops and zxids of all pages of a history: of the journal, and of the time before. The last page comes with them.
fn pages(
    query: &JournalQuery,
    of: &str,
    range: (Option<Position>, Option<Position>),
    limit: usize,
) -> Option<(Changes, Changes, HistoryAnswer)> {
    let of = path(of);
    let (mut items, mut past) = (Vec::new(), Vec::new());
    let mut next: Option<String> = None;
    loop {
        let question = HistoryQuestion {
            path: &of,
            from: range.0,
            to: range.1,
            cursor: next.as_deref(),
            limit,
        };
        let page = query.versions(&question, NOW).unwrap()?;
        let count = page.items.len() + page.past.len();
        assert!(count <= limit, "{count} of {limit}");
        let of_version = |version: &Version| (version.record.op, version.record.zxid.unwrap().0);
        items.extend(page.items.iter().map(of_version));
        past.extend(page.past.iter().map(of_version));
        assert_eq!(page.complete, page.next.is_none());
        next = page.next.clone();
        if next.is_none() {
            return Some((items, past, page));
        }
        assert!(!page.removed && page.doubts.iter().all(|doubt| *doubt != Doubt::Removed));
    }
}

#[test]
fn the_pages_of_a_history_go_on_with_the_versions_from_before_the_journal() {
    for limit in [1, 2, 3, 4, 100] {
        for reported in [30, 45] {
            let scratch = scratch(reported);
            let query = scratch.query();
            let (items, past, last) = pages(&query, "/a", (None, None), limit).unwrap();
            assert_eq!(items, [(Op::Update, 40), (Op::Snapshot, 20)], "{limit}");
            assert_eq!(past, [(Op::Update, 20), (Op::Create, 10)], "{limit}");
            assert_eq!((last.removed, last.doubts), (false, Vec::new()), "{limit}");
            let (items, past, _) = pages(&query, "/old", (None, None), limit).unwrap();
            assert_eq!(items, []);
            assert_eq!(past, [(Op::Delete, 25), (Op::Snapshot, 5)]);
            assert_eq!(pages(&query, "/never", (None, None), limit), None);
        }
    }
}

#[test]
fn a_range_of_a_history_reaches_into_the_time_before_the_journal() {
    let scratch = scratch(45);
    let query = scratch.query();
    let zxid = |zxid| Some(Position::Zxid(Zxid(zxid)));
    let check = |range, items: &[(Op, u64)], past: &[(Op, u64)]| {
        let (found, before, _) = pages(&query, "/a", range, 1).unwrap();
        assert_eq!((&*found, &*before), (items, past), "{range:?}");
    };
    let (update, snapshot) = ((Op::Update, 40), (Op::Snapshot, 20));
    check((None, zxid(19)), &[], &[(Op::Create, 10)]);
    check((zxid(20), None), &[update, snapshot], &[(Op::Update, 20)]);
    check((zxid(21), None), &[update], &[]);
    // The number of a record is one of the journal, and all of the time before is before it.
    let seq = |seq| Some(Position::Seq(Seq(seq)));
    check((None, seq(1)), &[snapshot], &[(Op::Update, 20), (Op::Create, 10)]);
    check((seq(1), None), &[update, snapshot], &[]);
}

#[test]
fn a_history_with_a_hole_before_the_journal_says_so_on_its_last_page() {
    let scratch = scratch(21);
    for limit in [1, 100] {
        let (_, past, last) = pages(&scratch.query(), "/a", (None, None), limit).unwrap();
        assert_eq!(past.len(), 2);
        assert!(last.removed && last.doubts.contains(&Doubt::Removed));
        let is_hole = |doubt: &Doubt| matches!(doubt, Doubt::NotJoined { .. });
        assert!(last.doubts.iter().any(is_hole), "{:?}", last.doubts);
    }
}

fn changes(query: &JournalQuery, from: Option<Position>, cursor: Option<&str>) -> AnswerList<Arc<Record>> {
    let question = ChangesQuestion {
        from,
        to: None,
        selection: &Selection::default(),
        filter: "",
        order: ChangesOrder::Oldest,
        cursor,
        limit: 1,
    };
    query.records_between(&question, NOW).unwrap()
}

#[test]
fn a_list_of_changes_from_the_begin_of_the_journal_names_the_history_from_before_it() {
    let scratch = scratch(30);
    let query = scratch.query();
    let zxid = |zxid| Some(Position::Zxid(Zxid(zxid)));
    for from in [None, zxid(1), Some(Position::Time(Timestamp(time_of(1))))] {
        assert_eq!(
            changes(&query, from, None).doubts,
            [Doubt::OlderHistory],
            "{from:?}"
        );
    }
    for from in [zxid(39), Some(Position::Seq(Seq(1)))] {
        assert_eq!(changes(&query, from, None).doubts, [], "{from:?}");
    }
    let first = changes(&query, None, None);
    assert_eq!(
        changes(&query, None, first.next.as_deref()).doubts,
        [],
        "a later page"
    );
    // The list of the time before has its own numbers, and knows nothing of the time after it.
    let past = query.past_journal().unwrap().unwrap();
    let (mut found, mut next) = (Vec::new(), None::<String>);
    loop {
        let page = changes(&past, None, next.as_deref());
        found.extend(
            page.items
                .iter()
                .filter_map(|record| record.zxid)
                .map(|zxid| zxid.0),
        );
        assert!(page.doubts.is_empty());
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found, [5, 9, 10, 20, 25]);
    let later = past
        .moment(Some(Position::Time(Timestamp(time_of(90)))), NOW)
        .unwrap();
    assert!(!later.certain, "{later:?}");
}

#[test]
fn without_a_file_for_the_time_before_answers_are_those_of_the_journal() {
    let scratch = journal([listed("/a", 10, 20, 1, "two"), listing_end(30)]);
    let query = scratch.query();
    assert_eq!(query.past_file(), None);
    assert_eq!(
        query
            .past_versions(&path("/a"), (None, None), PastPlace::before(None), 9)
            .unwrap(),
        None
    );
    assert!(!at(&query, "/a", 15).unwrap().certain);
    assert!(query.past_journal().unwrap().is_none());
    assert_eq!(changes(&query, None, None).doubts, []);
}

#[test]
fn a_file_for_the_time_before_that_was_made_or_removed_since_is_noticed() {
    let scratch = journal([listed("/a", 10, 20, 1, "two"), listing_end(30)]);
    let before = scratch.query();
    assert!(before.has_past_of(&scratch.file()));
    write_past(&scratch, "main", 30, [created("/a", 10, "one")]);
    assert!(!before.has_past_of(&scratch.file()));
    let query = scratch.query();
    assert!(query.has_past_of(&scratch.file()));
    std::fs::remove_file(past_file(&scratch.file())).unwrap();
    assert!(!query.has_past_of(&scratch.file()));
}

#[test]
fn a_file_of_another_source_is_refused() {
    let scratch = journal([listed("/a", 10, 20, 1, "two"), listing_end(30)]);
    write_past(&scratch, "other", 30, [created("/a", 10, "one")]);
    let query = scratch.query();
    let refused = query
        .as_of(&path("/a"), Position::Zxid(Zxid(15)), NOW)
        .unwrap_err();
    assert!(matches!(refused, QueryError::OtherSource { .. }), "{refused}");
    // What the journal knows by itself needs no other file.
    assert!(at(&query, "/a", 30).unwrap().certain);
}
