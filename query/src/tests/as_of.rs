//! The value of a znode at a moment: from its records alone, and from a real journal.

use std::sync::Arc;

use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Op, Record, Stat, State, Timestamp, ZxidKind};
use bridge_core::testing::a_record;

use super::scratch::{Scratch, created, deleted, path, time_of, updated, updated_over};
use crate::as_of::AsOfQuery;
use crate::{AsOfValue, Certainty, Doubt, JournalQuery};

fn at(zxid: u64) -> Position {
    Position::Zxid(Zxid(zxid))
}

/// The value at a position, of records from the oldest to the newest, in a journal that is complete up to zxid 100.
fn value(position: Position, records: &[Record], is_cut: bool) -> AsOfValue {
    let mut query = AsOfQuery::new(position);
    for record in records.iter().rev() {
        if let Some(value) = query.take(&Arc::new(record.clone()), Some(Zxid(100))) {
            return value;
        }
    }
    query.end(is_cut, false)
}

/// A record at a zxid, with a value that names its version.
fn record(op: Op, seq: u64, zxid: u64) -> Record {
    let mut record = a_record().path("/a").op(op).seq(seq).build();
    record.zxid = Some(Zxid(zxid));
    record.zxid_kind = ZxidKind::Exact;
    record.missed = Some(0);
    record.superseded = Vec::new();
    let stat = Stat {
        czxid: Zxid(10),
        mzxid: Zxid(zxid),
        ..Stat::default()
    };
    let data = Data::limited(format!("v{seq}").as_bytes(), DataForm::Auto, 99);
    let state = State {
        data: Some(data),
        stat: Some(stat),
    };
    record.after = (op != Op::Delete).then(|| state.clone());
    record.before = (op == Op::Delete).then_some(state);
    record
}

fn story() -> Vec<Record> {
    vec![
        record(Op::Create, 1, 10),
        record(Op::Update, 2, 20),
        record(Op::Delete, 3, 30),
    ]
}

/// Whether it existed, its value, and whether that is certain.
fn said(value: &AsOfValue) -> (Option<bool>, Option<String>, bool) {
    assert_eq!(value.certain, value.certainty == Certainty::Exact, "{value:?}");
    assert_eq!(value.certain, value.doubts.is_empty(), "{value:?}");
    let text = |data: &Data| String::from_utf8_lossy(&data.bytes).into_owned();
    (value.exists, value.data.as_ref().map(text), value.certain)
}

#[track_caller]
fn check(zxid: u64, records: &[Record], exists: Option<bool>, data: Option<&str>, certain: bool) {
    let value = value(at(zxid), records, false);
    assert_eq!(
        said(&value),
        (exists, data.map(str::to_owned), certain),
        "{:?}",
        value.doubts
    );
}

#[test]
fn a_change_seen_as_it_happened_is_certain_at_every_zxid() {
    check(9, &story(), None, None, false);
    check(10, &story(), Some(true), Some("v1"), true);
    check(19, &story(), Some(true), Some("v1"), true);
    check(20, &story(), Some(true), Some("v2"), true);
    check(30, &story(), Some(false), None, true);
    check(100, &story(), Some(false), None, true);
    check(101, &story(), Some(false), None, false);
}

#[test]
fn a_value_that_nobody_read_is_not_made_up() {
    let mut records = story();
    records[1].missed = Some(2);
    records[1].superseded = vec![Zxid(14), Zxid(16)];
    check(13, &records, Some(true), Some("v1"), true);
    check(15, &records, Some(true), None, false);
    records[1].superseded.clear();
    check(13, &records, Some(true), Some("v1"), false);
    records[1].missed = None;
    check(13, &records, Some(true), Some("v1"), false);
}

#[test]
fn a_delete_with_a_bound_may_have_been_before() {
    let mut records = story();
    records[2].zxid_kind = ZxidKind::UpperBound;
    check(25, &records, None, Some("v2"), false);
    check(30, &records, Some(false), None, true);
    records[2].zxid = None;
    check(99, &records, None, Some("v2"), false);
}

#[test]
fn a_life_that_began_before_its_first_value_was_read_existed() {
    let mut again = record(Op::Create, 4, 60);
    if let Some(stat) = again.after.as_mut().and_then(|state| state.stat.as_mut()) {
        stat.czxid = Zxid(50);
    }
    let records = [story(), vec![again]].concat();
    check(45, &records, Some(false), None, true);
    check(55, &records, Some(true), None, false);
    check(60, &records, Some(true), Some("v4"), true);
}

#[test]
fn a_removal_by_retention_is_stated() {
    let kept = &story()[1..];
    let cut = value(at(15), kept, true);
    assert_eq!(said(&cut), (Some(true), None, false));
    let doubt = cut.doubts[0].to_string();
    assert!(doubt.contains("retention has removed"), "{doubt}");
    let cut = value(at(5), kept, true);
    assert_eq!(said(&cut), (None, None, false));
    assert_eq!(said(&value(at(5), &[], false)), (None, None, false));
}

#[test]
fn a_time_is_that_of_zookeeper_where_it_is_known() {
    let mut records = story();
    for (record, ms) in records.iter_mut().zip([1000, 2000, 3000]) {
        record.time.changed = Some(Timestamp(ms));
        record.time.captured = Timestamp(ms + 10);
    }
    records[2].time.changed = None;
    let check = |records: &[Record], ms, expected: (Option<bool>, Option<&str>, bool)| {
        let value = value(Position::Time(Timestamp(ms)), records, false);
        let (exists, data, certain) = said(&value);
        assert_eq!(
            (exists, data.as_deref(), certain),
            expected,
            "{ms} {:?}",
            value.doubts
        );
    };
    check(&records, 1500, (Some(true), Some("v1"), true));
    check(&records, 2000, (None, Some("v2"), false));
    check(&records, 3010, (Some(false), None, true));
    records[2].time.captured = Timestamp(100_000);
    check(&records, 2000, (Some(true), Some("v2"), true));
    records[2].fidelity = Fidelity::Reconciled;
    check(&records, 2000, (None, Some("v2"), false));
}

#[test]
fn the_certainty_is_the_worst_of_the_doubts_and_each_doubt_is_a_sentence_in_json() {
    let mut records = story();
    records[2].zxid_kind = ZxidKind::UpperBound;
    records[2].missed = Some(2);
    let value = value(at(25), &records, false);
    assert_eq!(value.certainty, Certainty::Bounded);
    let json = serde_json::to_value(&value).unwrap();
    assert_eq!(json["certainty"], "bounded");
    assert_eq!(json["certain"], false);
    let doubts: Vec<&str> = json["doubts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|doubt| doubt.as_str().unwrap())
        .collect();
    assert!(doubts[0].contains("perhaps before"), "{doubts:?}");
    assert!(doubts[1].contains("2 values between"), "{doubts:?}");
}

/// A journal whose root is complete up to zxid 90.
fn journalled() -> Scratch {
    let mut scratch = Scratch::with([
        created("/a", 10, "one"),
        created("/b", 12, "beside"),
        updated("/a", 10, 20, "two"),
        updated_over("/a", 10, 40, "three", &[30]),
        deleted("/a", 50),
    ]);
    let progress = Progress {
        reported: Zxid(90),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch.journal.commit().unwrap();
    scratch
}

#[test]
fn a_journal_answers_by_zxid_by_time_and_by_record() {
    let scratch = journalled();
    let query = scratch.query();
    let now = Timestamp(time_of(100));
    let check = |position: Position, expected: (Option<bool>, Option<&str>, Certainty)| {
        let value = query.as_of(&path("/a"), position, now).unwrap().unwrap();
        let (exists, data, _) = said(&value);
        assert_eq!(
            (exists, data.as_deref(), value.certainty),
            expected,
            "{position:?} {:?}",
            value.doubts
        );
    };
    check(at(10), (Some(true), Some("one"), Certainty::Exact));
    check(at(25), (Some(true), Some("two"), Certainty::Exact));
    check(at(35), (Some(true), None, Certainty::Superseded));
    check(at(40), (Some(true), Some("three"), Certainty::Exact));
    check(at(60), (Some(false), None, Certainty::Exact));
    check(at(91), (Some(false), None, Certainty::Beyond));
    check(Position::Seq(Seq(1)), (Some(true), Some("one"), Certainty::Exact));
    check(Position::Seq(Seq(3)), (Some(true), Some("two"), Certainty::Exact));
    check(Position::Seq(Seq(6)), (Some(false), None, Certainty::Beyond));
    check(
        Position::Time(Timestamp(time_of(25))),
        (Some(true), Some("two"), Certainty::Missed),
    );
    check(
        Position::Time(Timestamp(now.0 + 1)),
        (Some(false), None, Certainty::Beyond),
    );
    assert_eq!(query.as_of(&path("/never"), at(20), now).unwrap(), None);
}

/// A journal whose first two records retention has removed: the create of `/a` and of `/still`.
fn retained() -> Scratch {
    let mut scratch = Scratch::with([
        created("/a", 10, "one"),
        created("/still", 11, "unchanged"),
        updated("/a", 10, 100, "two"),
    ]);
    scratch.retain_at(120);
    assert_eq!(
        scratch.query().cut(Position::Seq(Seq(1))).unwrap().oldest,
        Some(Seq(3))
    );
    scratch
}

#[test]
fn a_znode_without_kept_records_is_answered_from_the_image() {
    let scratch = retained();
    let query = scratch.query();
    let still = path("/still");
    let now = Timestamp(time_of(130));
    let check = |position: Position, expected: (Option<bool>, Option<&str>, Certainty)| {
        let value = query.as_of(&still, position, now).unwrap().unwrap();
        let (exists, data, _) = said(&value);
        assert_eq!(
            (exists, data.as_deref(), value.certainty),
            expected,
            "{position:?} {:?}",
            value.doubts
        );
    };
    check(at(11), (Some(true), Some("unchanged"), Certainty::Exact));
    check(at(10), (None, None, Certainty::Removed));
    check(
        Position::Time(Timestamp(time_of(90))),
        (Some(true), Some("unchanged"), Certainty::Exact),
    );
    check(
        Position::Seq(Seq(2)),
        (Some(true), Some("unchanged"), Certainty::Exact),
    );
    check(Position::Seq(Seq(1)), (None, None, Certainty::Removed));
    let page = query.history(&still, None, 10).unwrap().unwrap();
    assert!(page.versions.is_empty() && page.next.is_none());
    let unchanged = page.unchanged.expect("the image has it");
    assert_eq!(unchanged.node.mzxid(), Zxid(11));
    assert_eq!(unchanged.data.unwrap().bytes.as_ref(), b"unchanged");
}

#[test]
fn the_state_before_the_first_kept_record_is_known_from_that_record() {
    let scratch = retained();
    let query = scratch.query();
    let now = Timestamp(time_of(130));
    let value_at = |position| query.as_of(&path("/a"), position, now).unwrap().unwrap();
    for position in [at(10), at(99), Position::Time(Timestamp(time_of(50)))] {
        let value = value_at(position);
        assert_eq!(
            said(&value),
            (Some(true), Some("one".into()), true),
            "{position:?}"
        );
    }
    assert_eq!(value_at(at(9)).certainty, Certainty::Removed);
    assert_eq!(said(&value_at(at(100))), (Some(true), Some("two".into()), false));
}

#[test]
fn nothing_is_certain_after_the_last_record_of_a_bridge_that_captures_no_more() {
    let scratch = Scratch::with([created("/a", 1, "1"), updated("/a", 1, 2, "2")]);
    let watched = scratch.query();
    let stopped = scratch.query().with_end_of_watch().unwrap();
    let now = Timestamp(time_of(100));
    let at = |query: &JournalQuery, zxid| {
        let time = Position::Time(Timestamp(time_of(zxid)));
        query.as_of(&path("/a"), time, now).unwrap().unwrap()
    };
    for zxid in [1, 2] {
        assert_eq!(at(&stopped, zxid), at(&watched, zxid));
    }
    // The control: while a bridge captures, nothing has happened since.
    assert_eq!(at(&watched, 3).certainty, Certainty::Exact);
    let beyond = at(&stopped, 3);
    assert_eq!(beyond.certainty, Certainty::Beyond);
    assert_eq!(beyond.doubts, [Doubt::NotWatched(Timestamp(time_of(2)))]);
    let moment = stopped
        .moment(Some(Position::Time(Timestamp(time_of(3)))), now)
        .unwrap();
    assert_eq!(moment.certainty, Certainty::Beyond);
}
