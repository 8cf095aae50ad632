//! The records that workers get from memory: equal to the file, durable, bounded, and forgotten when the file changes.

use std::sync::Arc;
use std::time::Duration;

use super::folding::{compacting, fold_all};
use super::scratch::*;
use crate::amount::{Horizon, Span};
use crate::append::{Append, ChangeKind, Read};
use crate::image_txn::ImageTxn;
use crate::journal::{Before, Journal, JournalWriter, ReadLimit, Reader, SinkProgress, SinkState};
use crate::number::Seq;
use crate::record::{Data, DataForm, Record, Timestamp};

fn seqs(records: &[Arc<Record>]) -> Vec<u64> {
    records.iter().map(|record| record.seq.0).collect()
}

/// The records in memory after a position.
fn handed(worker: &mut Reader, after: u64) -> Option<Vec<u64>> {
    let records = worker.cached(Seq(after), ALL)?;
    Some(seqs(&records))
}

fn created_each(names: std::ops::Range<u64>) -> impl Iterator<Item = Append> {
    names.map(|name| created(&format!("/{name:06}"), name, "as it was"))
}

fn written(name: u64, zxid: u64) -> Append {
    updated(&format!("/{name:06}"), name, zxid, 1, "as it is")
}

fn a_journal() -> (Scratch, Journal, Reader) {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    let worker = journal.reader_for("one").unwrap();
    (scratch, journal, worker)
}

#[test]
fn a_batch_is_in_memory_after_its_commit_and_not_before() {
    let (scratch, mut journal, mut worker) = a_journal();
    journal.append(created("/a", 1, "")).unwrap();
    assert_eq!(handed(&mut worker, 0), None);
    journal.commit().unwrap();
    assert_eq!(handed(&mut worker, 0), Some(vec![1]));

    for entry in created_each(2..50) {
        journal.append(entry).unwrap();
    }
    assert_eq!(handed(&mut worker, 1), None);
    journal.rollback().unwrap();
    assert_eq!(handed(&mut worker, 1), None);
    append_all(&mut journal, [created("/c", 3, "")]);
    assert_eq!(worker.cached(Seq::ZERO, ALL), Some(scratch.records()));
}

#[test]
fn a_worker_gets_what_follows_its_position_and_no_more_than_it_may_take() {
    let (_scratch, mut journal, mut worker) = a_journal();
    append_all(&mut journal, created_each(1..10));
    let limited = |worker: &mut Reader, after, records, bytes| {
        let limit = ReadLimit { records, bytes };
        worker.cached(Seq(after), limit).map(|records| seqs(&records))
    };
    assert_eq!(limited(&mut worker, 3, 2, usize::MAX), Some(vec![4, 5]));
    assert_eq!(limited(&mut worker, 3, 9, 0), Some(vec![4]));
    assert_eq!(limited(&mut worker, 8, 9, usize::MAX), Some(vec![9]));
    assert_eq!(limited(&mut worker, 9, 9, usize::MAX), None);
    // A reader of another process gets nothing from memory.
    assert_eq!(Reader::open(journal.file()).unwrap().cached(Seq::ZERO, ALL), None);
}

#[test]
fn a_value_that_is_not_in_memory_is_read_from_the_file() {
    for before in [Before::Full, Before::Stat, Before::None] {
        let mut scratch = Scratch::new();
        scratch.options.before = before;
        append_all(&mut scratch.open(), created_each(1..4));
        let mut journal = scratch.open();
        let mut one = journal.reader_for("one").unwrap();
        let entries = [written(1, 10), deleted("/000002", 11), created("/x", 12, "")];
        append_all(&mut journal, entries);

        let lacks = before == Before::Full;
        assert_eq!(one.cached(Seq(3), ALL).is_none(), lacks, "{before:?}");
        let records = scratch.records();
        assert_eq!(one.read(Seq(3), ALL).unwrap(), records[3..]);
        // The next write finds the value before it in memory.
        append_all(&mut journal, [updated("/000001", 1, 13, 2, "newest")]);
        assert_eq!(one.cached(Seq(6), ALL).as_deref(), Some(&scratch.records()[6..]));
    }
}

#[test]
fn the_oldest_go_and_a_worker_that_lags_reads_the_file() {
    let (scratch, mut journal, mut worker) = a_journal();
    for batch in 0..6 {
        append_all(
            &mut journal,
            created_each(1 + 1_000 * batch..1_001 + 1_000 * batch),
        );
    }
    let newest = handed(&mut worker, 6_000 - 4_096).unwrap();
    assert_eq!((newest[0], newest.len()), (6_000 - 4_095, 4_096));
    assert_eq!(handed(&mut worker, 6_000 - 4_097), None);
    assert_eq!(worker.read(Seq(9), ALL).unwrap(), scratch.records()[9..]);
    // One batch of more than there is room for.
    append_all(&mut journal, created_each(7_000..12_000));
    assert_eq!(handed(&mut worker, 6_000), None);
    assert_eq!(
        handed(&mut worker, 11_000 - 4_096).map(|newest| newest.len()),
        Some(4_096)
    );
}

#[test]
fn large_values_leave_room_for_few_records() {
    let (_scratch, mut journal, mut worker) = a_journal();
    let large = "x".repeat(1 << 20);
    append_all(
        &mut journal,
        (1..9).map(|zxid| created(&format!("/{zxid}"), zxid, &large)),
    );
    assert_eq!(handed(&mut worker, 4), None);
    assert_eq!(handed(&mut worker, 5), Some(vec![6, 7, 8]));
    // Alone it is more than there is room for.
    let kind = ChangeKind::Created {
        read: Read {
            stat: stat(20, 20, 0),
            data: Some(Data::limited(&[0; 5 << 20], DataForm::Auto, usize::MAX)),
        },
    };
    append_all(&mut journal, [seen("/huge", kind)]);
    assert_eq!(handed(&mut worker, 8), None);
    assert_eq!(seqs(&worker.read(Seq(8), ALL).unwrap()), [9]);
}

#[test]
fn a_fold_empties_memory_and_nothing_is_added_meanwhile() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    let mut worker = journal.reader_for("slow").unwrap();
    let write = |version: u64| updated("/a", 1, version + 1, i32::try_from(version).unwrap(), "x");
    append_all(&mut journal, [created("/a", 1, "x"), write(1), write(2)]);
    let marks = journal.read_marks.clone();
    let closed = marks.close();
    assert_eq!(handed(&mut worker, 0), None);
    drop(closed);

    assert_eq!(fold_all(&mut journal), 1);
    assert_eq!(handed(&mut worker, 0), None);
    assert_eq!(worker.read(Seq::ZERO, ALL).unwrap(), scratch.records());
    append_all(&mut journal, [write(3)]);
    assert_eq!(
        worker.cached(Seq(3), ALL),
        None,
        "the value before it was forgotten"
    );
    assert_eq!(seqs(&worker.read(Seq(3), ALL).unwrap()), [4]);
    // The worker keeps the records that it already has.
    append_all(&mut journal, [write(4)]);
    assert_eq!(handed(&mut worker, 4), Some(vec![5]));
    append_all(&mut journal, [write(5), write(6)]);
    assert_eq!(fold_all(&mut journal), 1);
    let seqs: Vec<_> = scratch.records().iter().map(|record| record.seq.0).collect();
    assert_eq!(seqs, [1, 3, 4, 5, 7]);
}

#[test]
fn retention_takes_from_memory_what_it_takes_from_the_file() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(60));
    let mut journal = scratch.open();
    journal.register_sink("one", Seq::ZERO).unwrap();
    let mut worker = journal.reader_for("one").unwrap();
    append_all(&mut journal, created_each(1..10));
    journal
        .advance(&SinkProgress {
            sink: "one".into(),
            to: Seq(6),
            ..SinkProgress::default()
        })
        .unwrap();
    journal.commit().unwrap();
    journal.maintain(Timestamp(NOON.0 + 60_001), 100).unwrap();
    assert_eq!(handed(&mut worker, 0), None);
    assert_eq!(handed(&mut worker, 6), Some(vec![7, 8, 9]));
}

#[test]
fn nothing_is_held_for_nobody() {
    let (_scratch, mut journal, worker) = a_journal();
    drop(worker);
    append_all(&mut journal, created_each(1..4));
    let mut worker = journal.reader_for("one").unwrap();
    assert_eq!(handed(&mut worker, 0), None);
    append_all(&mut journal, created_each(4..6));
    assert_eq!(handed(&mut worker, 3), Some(vec![4, 5]));
}

#[test]
fn the_writer_lets_a_record_wait_only_as_long_as_every_worker_would() {
    let (_scratch, mut journal, one) = a_journal();
    let ms = Duration::from_millis;
    assert_eq!(journal.linger(), ms(0), "it has not said that it waits");
    one.lingers(ms(5));
    assert_eq!(journal.linger(), ms(5));
    journal.register_sink("two", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    let two = journal.reader_for("two").unwrap();
    assert_eq!(journal.linger(), ms(0), "another waits for nothing");
    two.lingers(ms(3));
    assert_eq!(journal.linger(), ms(3));
    drop(two);
    assert_eq!(
        journal.linger(),
        ms(5),
        "who has ended waits for nothing and hurries nobody"
    );
    drop(one);
    assert_eq!(journal.linger(), ms(0));
}

#[test]
fn the_capture_of_a_record_is_known_once_it_is_durable() {
    let (_scratch, mut journal, worker) = a_journal();
    journal.append(created("/a", 1, "")).unwrap();
    assert_eq!(worker.captured(Seq(1)), None);
    journal.commit().unwrap();
    let captured = created("/a", 1, "").captured;
    assert_eq!(worker.captured(Seq(1)), Some(captured));
    assert_eq!(worker.captured(Seq(2)), None);
}
