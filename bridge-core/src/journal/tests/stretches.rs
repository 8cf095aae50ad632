//! Stretches: what is known of some records together.

use rusqlite::Connection;

use super::folding::{compacting, fold_all};
use super::migrations::take_back_to;
use super::scratch::*;
use crate::amount::{Horizon, Span};
use crate::append::{Append, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::stretches::{WrongStretch, compare};
use crate::journal::{Births, JournalWriter, OpCount, SinkState, StretchSummary};
use crate::number::{Seq, Zxid};
use crate::record::{Op, Timestamp};

/// Records of a stretch here.
const LENGTH: u64 = 8;

/// The first stretch that is not as its records say.
pub fn first_wrong_stretch(connection: &Connection) -> Option<WrongStretch> {
    let mut first = None;
    compare(connection, |found| first = first.or(Some(found))).unwrap();
    first
}

fn short() -> Scratch {
    Scratch::new().with_stretches_of(LENGTH)
}

/// `/a` and then versions of it, up to this many records. The clock of the capture goes back now and then.
fn story(records: u64) -> impl Iterator<Item = Append> {
    (1..=records).map(|number| {
        let version = i32::try_from(number).unwrap() - 1;
        let mut append = match version {
            0 => created("/a", 1, "x"),
            _ => updated("/a", 1, number, version, "x"),
        };
        let ahead = if number % 10 == 7 { 5_000 } else { 0 };
        append.captured = Timestamp(1_000 + number.cast_signed() + ahead);
        if let RecordKind::Change(change) = &mut append.kind {
            change.missed = (number % 3).checked_sub(1);
        }
        append
    })
}

fn stored(scratch: &Scratch) -> Vec<(u64, StretchSummary)> {
    let found = scratch.reader().summaries(Seq::ZERO, 100).unwrap();
    found
        .into_iter()
        .map(|(last, summary)| (last.0, summary))
        .collect()
}

fn lasts(scratch: &Scratch) -> Vec<u64> {
    stored(scratch).into_iter().map(|(last, _)| last).collect()
}

#[test]
fn a_stretch_is_summed_up_over_restarts_and_rolled_back_batches() {
    let scratch = short();
    let mut journal = scratch.open();
    let mut story = story(2 * LENGTH + 3);
    append_all(&mut journal, story.by_ref().take(3));
    drop(journal);
    let mut journal = scratch.open();
    append_all(&mut journal, story.by_ref().take(2));
    // These are rolled back, with the end of the stretch, and one that is later than all others.
    let lost: Vec<Append> = story.by_ref().take(5).collect();
    for append in lost.iter().cloned() {
        journal.append(append).unwrap();
    }
    let mut latest = updated("/a", 1, 1_000_000, 2_000_000, "x");
    latest.captured = Timestamp(i64::MAX / 2);
    journal.append(latest).unwrap();
    journal.rollback().unwrap();
    append_all(&mut journal, lost);
    append_all(&mut journal, story);

    let found = stored(&scratch);
    assert_eq!(
        lasts(&scratch),
        [LENGTH, 2 * LENGTH],
        "the last stretch is not complete"
    );
    let (_, first) = &found[0];
    assert_eq!(first.zxid, Some(Zxid(LENGTH)));
    // The clock was ahead at the record 7.
    let captured = (Timestamp(1_001), Timestamp(1_000 + 7 + 5_000));
    assert_eq!(first.captured, Some(captured));
    assert_eq!(first.changed, Some(Timestamp(1_000 + LENGTH.cast_signed())));
    let births = Births {
        zxid: Zxid(1),
        changed: Timestamp(1_001),
    };
    assert_eq!((first.births, found[1].1.births), (Some(births), None));
    let count = |records, missed, missed_unknown| OpCount {
        records,
        missed,
        missed_unknown,
    };
    assert_eq!(first.of(Op::Create), count(1, 0, 0));
    // 2, 5 and 8 with one each; 3 and 6 do not know.
    assert_eq!(first.of(Op::Update), count(7, 3, 2));
    assert_eq!(first.of(Op::Delete), count(0, 0, 0));
    assert_eq!(first_wrong_stretch(&journal.connection), None);
}

#[test]
fn a_create_counts_as_a_birth_only_if_it_was_seen_as_it_happened() {
    let births = |append: Append| {
        let scratch = short();
        append_all(&mut scratch.open(), std::iter::once(append).chain(filler()));
        stored(&scratch)[0].1.births.map(|births| births.zxid)
    };
    assert_eq!(births(created("/b", 5, "x")), Some(Zxid(5)));
    let read_later = read(stat(3, 5, 2), "x");
    let reconciled = crate::append::ChangeKind::Created { read: read_later };
    assert_eq!(births(found("/b", reconciled)), Some(Zxid(FILLER)));
    let mut missed = created("/b", 5, "x");
    if let RecordKind::Change(change) = &mut missed.kind {
        change.missed = None;
    }
    assert_eq!(births(missed), Some(Zxid(FILLER)));
    assert_eq!(
        births(unread("/b", 5)),
        Some(Zxid(FILLER)),
        "its time is not known"
    );
}

/// The zxid of the first of [`filler`].
const FILLER: u64 = 100;

/// Enough records for the rest of a stretch.
fn filler() -> impl Iterator<Item = Append> {
    (FILLER..FILLER + LENGTH).map(|zxid| created(&format!("/f{zxid}"), zxid, "x"))
}

#[test]
fn folding_counts_the_stretches_again_that_it_has_touched() {
    let scratch = compacting().with_stretches_of(LENGTH);
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    append_all(&mut journal, story(3 * LENGTH + 3));
    assert!(fold_all(&mut journal) > LENGTH);
    let first = &stored(&scratch)[0].1;
    assert_eq!(
        (first.of(Op::Create).records, first.of(Op::Update).records),
        (1, 0)
    );
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
    // The stretch that was under way had folded records, too.
    append_all(
        &mut journal,
        (100..100 + LENGTH).map(|zxid| updated("/a", 1, zxid, i32::try_from(zxid).unwrap(), "x")),
    );
    assert_eq!(lasts(&scratch).len(), 4);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn retention_removes_a_stretch_with_its_first_record() {
    let mut scratch = short();
    scratch.options.retention = Horizon::For(Span::secs(60));
    let mut journal = scratch.open();
    append_all(&mut journal, story(3 * LENGTH + 3));
    let remove = |journal: &mut crate::journal::Journal, budget| {
        journal.maintain(Timestamp(i64::MAX / 2), budget).unwrap()
    };
    remove(&mut journal, 1);
    assert_eq!(lasts(&scratch), [2 * LENGTH, 3 * LENGTH]);
    remove(&mut journal, usize::try_from(LENGTH).unwrap() - 1);
    assert_eq!(lasts(&scratch), [2 * LENGTH, 3 * LENGTH]);
    while remove(&mut journal, 5).more {}
    assert_eq!(lasts(&scratch), [0; 0]);
    // Of the stretch that is under way some records are gone: it gets no row, and the next one has one.
    let writes =
        (100..100 + 2 * LENGTH).map(|zxid| updated("/a", 1, zxid, i32::try_from(zxid).unwrap(), "x"));
    append_all(&mut journal, writes);
    assert_eq!(lasts(&scratch), [5 * LENGTH]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_stretch_that_is_not_as_its_records_say_is_found_by_the_check() {
    let check = |sql: &str, seq: u64, word: &str| {
        let scratch = short();
        append_all(&mut scratch.open(), story(3 * LENGTH + 3));
        let damaged = Connection::open(scratch.file()).unwrap();
        damaged.execute_batch(sql).unwrap();
        let findings = scratch.reader().inspect(|_| {}).unwrap().findings;
        let found: Vec<_> = findings.iter().map(|found| (found.subject, found.seq)).collect();
        assert_eq!(found, [("stretches", Some(Seq(seq)))], "{sql}: {findings:?}");
        assert!(findings[0].message.contains(word), "{sql}: {findings:?}");
    };
    for column in [
        "zxid = 2",
        "latest = 5",
        "earliest = 1008",
        "changed = 1",
        "changed = NULL",
    ] {
        check(
            &format!("UPDATE stretch SET {column} WHERE last = 8"),
            LENGTH,
            "is not that of its records",
        );
    }
    check(
        "UPDATE stretch SET born_zxid = 2 WHERE last = 8",
        LENGTH,
        "is not that",
    );
    check(
        "UPDATE stretch SET counts = x'010000' WHERE last = 8",
        LENGTH,
        "is not that",
    );
    check(
        "UPDATE stretch SET counts = x'01' WHERE last = 16",
        2 * LENGTH,
        "is not that",
    );
    check("DELETE FROM stretch WHERE last = 8", LENGTH, "is missing");
    check("DELETE FROM stretch WHERE last = 24", 3 * LENGTH, "is missing");
    check(
        "INSERT INTO stretch(last, earliest, latest, counts) VALUES (77, 0, 0, x'')",
        77,
        "no stretch",
    );
}

#[test]
fn a_check_of_a_journal_whose_last_record_has_the_greatest_number_ends() {
    let scratch = short();
    append_all(&mut scratch.open(), story(LENGTH + 3));
    let damaged = Connection::open(scratch.file()).unwrap();
    let last = "UPDATE record SET seq = 9223372036854775807 WHERE seq = (SELECT max(seq) FROM record)";
    damaged.execute_batch(last).unwrap();
    let inspection = scratch.reader().inspect(|_| {}).unwrap();
    let is_found = |subject: &str| inspection.findings.iter().any(|found| found.subject == subject);
    assert!(
        is_found("records") && is_found("stretches"),
        "{:?}",
        inspection.findings
    );
}

#[test]
fn of_records_that_an_older_format_has_written_no_stretch_is_known() {
    let scratch = Scratch::new();
    let mut story = story(800);
    append_all(&mut scratch.open(), story.by_ref().take(300));
    take_back_to(&scratch, 8);
    assert_eq!(scratch.reader().stretch_length().unwrap(), None);
    assert_eq!(lasts(&scratch), [0; 0]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);

    append_all(&mut scratch.open(), story);
    assert_eq!(scratch.reader().stretch_length().unwrap(), Some(256));
    // The one that was under way has records of before.
    assert_eq!(lasts(&scratch), [768]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}
