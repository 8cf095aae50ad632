//! Retention, the size limit, and a disk without space.

use super::scratch::*;
use crate::amount::{Horizon, Size, Span};
use crate::append::Append;
use crate::image_txn::{ImageTxn, Progress};
use crate::journal::{
    BacklogChange, Journal, JournalError, JournalErrorKind, JournalWriter, ProgressError, SinkProgress,
    SinkState,
};
use crate::number::{Epoch, Seq};
use crate::record::Timestamp;

const LIMIT: Size = Size(1 << 20);

fn small() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.options.max_size = LIMIT;
    scratch
}

fn moved(sink: &str, cursor: Seq) -> SinkProgress {
    SinkProgress {
        sink: sink.into(),
        to: cursor,
        ..SinkProgress::default()
    }
}

/// The `index`th record of one path that is written again and again.
fn write_of(index: u64) -> Append {
    let text = format!("{index:04000}");
    match index {
        1 => created("/busy", 1, &text),
        _ => updated("/busy", 1, index, i32::try_from(index).unwrap(), &text),
    }
}

/// Appends until the journal refuses, and rolls back what was refused.
fn fill(journal: &mut Journal) -> JournalError {
    loop {
        let next = journal.tail().0 + 1;
        if let Err(error) = journal.append(write_of(next)) {
            journal.rollback().unwrap();
            return error;
        }
        journal.commit().unwrap();
        assert!(next < 10_000, "a limit of {LIMIT} was never reached");
    }
}

#[test]
fn undelivered_records_hold_capture_until_their_sink_moves() {
    let scratch = small();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    let error = fill(&mut journal);
    let full = journal.tail();
    assert_eq!(error.kind, JournalErrorKind::Full);
    let message = error.to_string();
    for word in [
        "1 MiB",
        "'slow'",
        &format!("has not delivered {full} "),
        "journal.max_size",
    ] {
        assert!(message.contains(word), "'{word}' is not in: {message}");
    }
    assert_eq!(scratch.records().len() as u64, full.0, "what was committed stays");
    assert_eq!(
        fill(&mut journal).kind,
        JournalErrorKind::Full,
        "nothing has changed"
    );

    journal.advance(&moved("slow", Seq(full.0 / 2))).unwrap();
    journal.set_progress(&path("/"), &Progress::default()).unwrap();
    journal.set_epoch(Epoch(2)).unwrap();
    journal.commit().unwrap();
    assert!(journal.maintain(NOON, 1000).unwrap().removed > 0);
    let stats = journal.stats().unwrap();
    assert!(stats.used_bytes < LIMIT.0 * 3 / 4, "{stats:?}");
    journal.append(write_of(full.0 + 1)).unwrap();
    assert_eq!(journal.commit().unwrap(), full.next());
}

#[test]
fn delivered_history_makes_room_before_its_time() {
    let scratch = small();
    let mut journal = scratch.open();
    journal.register_sink("fast", Seq::ZERO).unwrap();
    for index in 1..=2000 {
        journal.append(write_of(index)).unwrap();
        journal.advance(&moved("fast", Seq(index))).unwrap();
        journal.commit().unwrap();
    }
    let stats = journal.stats().unwrap();
    assert!(stats.used_bytes <= LIMIT.0, "{stats:?}");
    assert!(
        stats.file_bytes <= LIMIT.0 + LIMIT.0 / 8,
        "freed pages are used again: {stats:?}"
    );
    let records = scratch.records();
    assert_eq!(records.len() as u64, stats.records);
    assert_eq!(records.last().unwrap().seq, Seq(2000));
    for pair in records.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.next());
        assert_eq!(pair[1].before, pair[0].after);
    }
}

#[test]
fn without_a_sink_nothing_is_undelivered() {
    let scratch = small();
    let mut journal = scratch.open();
    for index in 1..=1000 {
        append_all(&mut journal, [write_of(index)]);
    }
    assert!(journal.stats().unwrap().used_bytes <= LIMIT.0);
}

#[test]
fn records_without_an_end_of_retention_are_not_removed_for_room() {
    let mut scratch = small();
    scratch.options.retention = Horizon::Forever;
    let mut journal = scratch.open();
    let error = fill(&mut journal);
    assert_eq!(error.kind, JournalErrorKind::Full);
    assert!(error.to_string().contains("shorter time"), "{error}");
    assert_eq!(journal.maintain(Timestamp(i64::MAX), 1000).unwrap().removed, 0);
    assert_eq!(journal.oldest().unwrap(), Some(Seq(1)));
}

#[test]
fn retention_takes_what_is_old_and_delivered_in_slices_and_keeps_the_last() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(60));
    let mut journal = scratch.open();
    journal.register_sink("one", Seq::ZERO).unwrap();
    append_all(&mut journal, (1..=20).map(write_of));
    let young = Timestamp(NOON.0 + 60_000);
    let old = Timestamp(NOON.0 + 60_001);
    assert_eq!(
        journal.maintain(old, 5).unwrap().removed,
        0,
        "nothing is delivered"
    );
    journal.advance(&moved("one", Seq(12))).unwrap();
    journal.commit().unwrap();
    assert_eq!(
        journal.maintain(young, 5).unwrap().removed,
        0,
        "it is not old yet"
    );
    let rows = [(5, true, 6), (5, true, 11), (5, false, 13), (5, false, 13)];
    for (budget, more, oldest) in rows {
        assert_eq!(journal.maintain(old, budget).unwrap().more, more, "{oldest}");
        assert_eq!(journal.oldest().unwrap(), Some(Seq(oldest)));
    }
    let kept = scratch.records();
    assert_eq!(kept.len(), 8);
    assert_eq!(kept[0].before.as_ref().unwrap().data.as_ref().unwrap().size, 4000);
    journal.advance(&moved("one", Seq(20))).unwrap();
    journal.commit().unwrap();
    journal.maintain(old, 100).unwrap();
    assert_eq!(journal.oldest().unwrap(), Some(Seq(20)));
    drop(journal);
    assert_eq!(
        scratch.open().tail(),
        Seq(20),
        "the last record says where the journal ends"
    );
}

#[test]
fn a_path_that_is_gone_leaves_with_its_last_record_and_its_number_is_not_used_again() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(60));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/a", 1, "x"),
            created("/a/b", 2, "x"),
            deleted("/a/b", 3),
            deleted("/a", 4),
            created("/z", 5, "x"),
        ],
    );
    let ids = |journal: &Journal| -> Vec<i64> {
        let mut statement = journal
            .connection
            .prepare("SELECT id FROM path ORDER BY id")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(ids(&journal), [1, 2, 3, 4]);
    append_all(
        &mut journal,
        [
            deleted("/z", 6),
            control_record(None, crate::append::RecordKind::Heartbeat { zxid: None }),
        ],
    );
    journal.maintain(Timestamp(NOON.0 + 60_001), 100).unwrap();
    assert_eq!(ids(&journal), [1]);
    drop(journal);
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/new", 7, "x")]);
    assert_eq!(ids(&journal), [1, 5]);
}

/// The file may not grow any more, which SQLite reports as it reports a full disk.
fn stop_growth(journal: &Journal) {
    let pages: i64 = journal
        .connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    journal
        .connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
}

fn let_grow(journal: &Journal) {
    journal
        .connection
        .pragma_update(None, "max_page_count", i64::from(u32::MAX - 1))
        .unwrap();
}

#[test]
fn a_full_disk_undoes_the_batch_and_nothing_else() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "x")]);
    let before = scratch.records();
    stop_growth(&journal);
    let failed = (2..200).try_for_each(|zxid| {
        journal
            .append(created(&format!("/{zxid}"), zxid, &"y".repeat(5000)))
            .map(drop)
    });
    let error = failed.unwrap_err();
    assert_eq!(error.kind, JournalErrorKind::DiskFull, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    let refused = journal.append(created("/b", 300, "y")).unwrap_err();
    assert!(refused.to_string().contains("roll it back"), "{refused}");
    assert!(
        journal.commit().is_err(),
        "half of a batch must not become durable"
    );
    assert_eq!(journal.tail(), Seq(1));
    assert!(journal.node(&path("/2")).unwrap().is_none());
    assert_eq!(scratch.records(), before);
    let_grow(&journal);
    assert_eq!(append_all(&mut journal, [created("/2", 400, "y")]), Seq(2));
}

#[test]
fn a_full_disk_while_a_sink_reports_keeps_its_cursor_where_it_was() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, (1..=100).map(write_of));
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    stop_growth(&journal);
    let progress = SinkProgress {
        changes: (1..=100)
            .map(|seq| BacklogChange::Rejected {
                seq: Seq(seq),
                path: None,
                reason: "z".repeat(9000),
                attempts: 1,
            })
            .collect(),
        ..moved("one", Seq(100))
    };
    let error = journal.advance(&progress).unwrap_err();
    let ProgressError::Journal(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind, JournalErrorKind::DiskFull, "{error}");
    journal.rollback().unwrap();
    assert_eq!(journal.cursor("one").unwrap(), Some(Seq::ZERO));
    let_grow(&journal);
    journal.advance(&progress).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.cursor("one").unwrap(), Some(Seq(100)));
}
