//! Cursors, rejected records, epoch and progress.

use std::time::Duration;

use uuid::Uuid;

use super::scratch::*;
use crate::amount::{Horizon, Span};
use crate::image_txn::{ImageTxn, OpenRun, Progress};
use crate::journal::{
    BacklogChange::{self, Dropped, Released, Retried},
    Disabled, JournalWriter, ReadLimit, SinkCursor, SinkProgress, SinkState, Switch,
};
use crate::number::{Epoch, Seq, Zxid};
use crate::record::Timestamp;

pub(super) fn progress(sink: &str, cursor: u64, rejected: &[u64]) -> SinkProgress {
    let reject = |seq: &u64| BacklogChange::Rejected {
        seq: Seq(*seq),
        path: Some(path("/a")),
        reason: "too large".to_owned(),
        attempts: 1,
    };
    SinkProgress {
        run: None,
        sink: sink.into(),
        at: NOON,
        from: Seq::ZERO,
        to: Seq(cursor),
        changes: rejected.iter().map(reject).collect(),
        switch: None,
    }
}

/// A progress of a sink whose cursor stays.
fn changes(cursor: u64, changes: Vec<BacklogChange>) -> SinkProgress {
    SinkProgress {
        from: Seq(cursor),
        changes,
        ..progress("one", cursor, &[])
    }
}

fn parked(seq: u64, attempts: u32, wait_ms: u64) -> BacklogChange {
    BacklogChange::Parked {
        seq: Seq(seq),
        path: Some(path("/a")),
        reason: format!("attempt {attempts}"),
        attempts,
        wait: Duration::from_millis(wait_ms),
    }
}

#[test]
fn a_sink_starts_at_its_first_position_and_moves_only_forward() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        (1..=9).map(|zxid| created(&format!("/a{zxid}"), zxid, "x")),
    );
    assert_eq!(journal.register_sink("one", Seq(4)).unwrap(), Seq(4));
    assert_eq!(journal.register_sink("one", Seq(9)).unwrap(), Seq(4));
    journal.advance(&progress("one", 7, &[])).unwrap();
    journal.advance(&progress("one", 5, &[])).unwrap();
    journal.commit().unwrap();
    let expected = SinkCursor {
        sink: "one".into(),
        cursor: Seq(7),
    };
    let mut reader = scratch.reader();
    let expected = [expected];
    assert_eq!(reader.cursors().unwrap(), expected);
    assert_eq!(reader.cursor("one").unwrap(), Some(Seq(7)));
    assert_eq!(reader.cursor("two").unwrap(), None);
    assert_eq!(journal.cursors().unwrap(), expected);
    assert_eq!(journal.stats().unwrap().undelivered, 2);
}

#[test]
fn rejected_records_outlive_the_retention_of_all_around_them() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(1));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/a", 1, "one"),
            updated("/a", 1, 2, 1, "two"),
            updated("/a", 1, 3, 2, "three"),
            updated("/a", 1, 4, 3, "four"),
            created("/b", 5, "other"),
        ],
    );
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.advance(&progress("one", 4, &[2, 4])).unwrap();
    journal.advance(&progress("one", 5, &[])).unwrap();
    journal.commit().unwrap();
    let mut reader = scratch.reader();
    let as_sent: Vec<_> = scratch.records().iter().map(|record| record.to_json()).collect();
    let check = |reader: &mut crate::journal::Reader| {
        let rejected = reader.rejected("one", Seq::ZERO, 9).unwrap();
        let found: Vec<_> = rejected
            .iter()
            .map(|one| (one.letter.seq, one.letter.reason.as_str()))
            .collect();
        assert_eq!(found, [(Seq(2), "too large"), (Seq(4), "too large")]);
        assert_eq!(rejected[0].record.to_json(), as_sent[1]);
        assert_eq!(rejected[1].record.to_json(), as_sent[3]);
    };
    check(&mut reader);
    let removed = journal.maintain(Timestamp(NOON.0 + 2000), 100).unwrap();
    assert_eq!(removed.removed, 4);
    assert_eq!(reader.oldest().unwrap(), Some(Seq(5)));
    check(&mut reader);
    assert_eq!(reader.rejected("one", Seq(2), 9).unwrap().len(), 1);
    assert_eq!(reader.rejected("one", Seq::ZERO, 1).unwrap().len(), 1);
    journal.advance(&progress("one", 5, &[2])).unwrap();
    let drops = vec![Dropped(Seq(2)), Dropped(Seq(3))];
    journal.advance(&changes(5, drops)).unwrap();
    journal.commit().unwrap();
    assert_eq!(reader.rejected("one", Seq::ZERO, 9).unwrap().len(), 1);
    assert!(journal.remove_sink("one").unwrap());
    assert!(!journal.remove_sink("one").unwrap());
    journal.commit().unwrap();
    assert_eq!(reader.rejected("one", Seq::ZERO, 9).unwrap(), []);
}

#[test]
fn a_parked_record_outlives_retention_moves_among_the_letters_and_back_and_goes_when_it_is_delivered() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(1));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/a", 1, "one"),
            updated("/a", 1, 2, 1, "two"),
            created("/b", 3, "other"),
        ],
    );
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal
        .advance(&changes(3, vec![parked(1, 1, 500), parked(2, 0, 0)]))
        .unwrap();
    journal.commit().unwrap();
    let as_sent: Vec<_> = scratch.records().iter().map(|record| record.to_json()).collect();
    journal.maintain(Timestamp(NOON.0 + 2000), 100).unwrap();
    let mut reader = scratch.reader();
    assert_eq!(reader.oldest().unwrap(), Some(Seq(3)));

    let recalled = reader.recall(&[Seq(1), Seq(2), Seq(3)]).unwrap();
    let recalled: Vec<_> = recalled.iter().map(|record| record.to_json()).collect();
    assert_eq!(recalled, as_sent);
    let rows = reader.parked("one", Seq::ZERO, 9).unwrap();
    assert_eq!((rows.len(), rows[0].attempts, rows[1].attempts), (2, 1, 0));
    assert_eq!(rows[0].due, Timestamp(NOON.0 + 500));
    assert_eq!((rows[0].since, rows[1].since), (Some(NOON), None));
    assert_eq!(reader.parked("one", Seq(1), 9).unwrap().len(), 1);

    let mut later = changes(3, vec![parked(1, 2, 900)]);
    later.at = Timestamp(NOON.0 + 100);
    journal.advance(&later).unwrap();
    journal.commit().unwrap();
    let rows = reader.parked("one", Seq::ZERO, 1).unwrap();
    assert_eq!(
        (rows[0].attempts, rows[0].since),
        (2, Some(NOON)),
        "since the first failure"
    );
    assert_eq!(
        (rows[0].due, &*rows[0].reason),
        (Timestamp(NOON.0 + 1000), "attempt 2")
    );

    journal.advance(&progress("one", 3, &[1])).unwrap();
    journal.commit().unwrap();
    let letter = reader.rejected("one", Seq::ZERO, 9).unwrap().remove(0);
    assert_eq!((letter.letter.attempts, letter.letter.at), (3, Some(NOON)));
    assert_eq!(letter.record.to_json(), as_sent[0]);
    assert_eq!(reader.parked("one", Seq::ZERO, 9).unwrap().len(), 1);

    journal
        .advance(&changes(3, vec![Retried(Seq(1)), Retried(Seq(3))]))
        .unwrap();
    journal
        .advance(&changes(3, vec![Released(Seq(2)), parked(2, 1, 0)]))
        .unwrap();
    journal.commit().unwrap();
    assert_eq!(reader.letters("one", Seq::ZERO, 9).unwrap(), []);
    let rows = reader.parked("one", Seq::ZERO, 9).unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [Seq(1)]);
    assert_eq!(
        reader.recall(&[Seq(1), Seq(2)]).unwrap().len(),
        1,
        "2 is nowhere any more"
    );
}

#[test]
fn a_dead_letter_that_outlived_its_record_is_recalled_before_its_retry_is_stored() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(1));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [created("/a", 1, "one"), updated("/a", 1, 2, 1, "two")],
    );
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.advance(&progress("one", 2, &[1])).unwrap();
    journal.commit().unwrap();
    let as_sent = [scratch.records()[0].to_json()];
    journal.maintain(Timestamp(NOON.0 + 2000), 100).unwrap();
    let mut reader = scratch.reader();
    assert_eq!(reader.oldest().unwrap(), Some(Seq(2)));
    // The worker asks at once for what a person wants to be tried again; its progress is still on its way.
    let recalled = |reader: &mut crate::journal::Reader| {
        let records = reader.recall(&[Seq(1)]).unwrap();
        records.iter().map(|record| record.to_json()).collect::<Vec<_>>()
    };
    assert_eq!(recalled(&mut reader), as_sent);
    journal.advance(&changes(2, vec![Retried(Seq(1))])).unwrap();
    journal.commit().unwrap();
    assert_eq!(recalled(&mut reader), as_sent);
}

#[test]
fn a_sink_stays_disabled_over_restarts_until_it_is_enabled() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "one")]);
    journal.register_sink("one", Seq::ZERO).unwrap();
    let switched = |switch| SinkProgress {
        switch: Some(switch),
        ..progress("one", 0, &[])
    };
    let reason = "the endpoint is gone".to_owned();
    let off = Switch::Disabled {
        reason: reason.clone(),
    };
    journal.advance(&switched(off)).unwrap();
    journal.advance(&progress("one", 1, &[])).unwrap();
    journal.commit().unwrap();
    drop(journal);

    let mut journal = scratch.open();
    let mut reader = scratch.reader();
    let expected = Disabled { reason, at: NOON };
    assert_eq!(reader.disabled("one").unwrap(), Some(expected));
    assert_eq!(reader.disabled("two").unwrap(), None);
    journal.advance(&switched(Switch::Enabled)).unwrap();
    journal.commit().unwrap();
    assert_eq!(reader.disabled("one").unwrap(), None);
}

#[test]
fn a_note_that_takes_in_later_ones_says_the_same_as_all_of_them() {
    let mut first = changes(3, vec![parked(1, 1, 500)]);
    first.switch = Some(Switch::Enabled);
    let mut later = changes(2, vec![Released(Seq(1))]);
    later.at = Timestamp(NOON.0 + 7);
    first.absorb(later, Seq(9)).unwrap();
    assert_eq!((first.to, first.at), (Seq(3), Timestamp(NOON.0 + 7)));
    assert_eq!(first.changes, [parked(1, 1, 500), Released(Seq(1))]);
    assert_eq!(first.switch, Some(Switch::Enabled));
}

#[test]
fn a_sink_that_starts_before_what_is_kept_starts_at_the_oldest() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(1));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        (1..=5).map(|zxid| created(&format!("/a{zxid}"), zxid, "x")),
    );
    journal.maintain(Timestamp(NOON.0 + 2000), 3).unwrap();
    assert_eq!(journal.oldest().unwrap(), Some(Seq(4)));
    assert_eq!(journal.register_sink("late", Seq::ZERO).unwrap(), Seq(3));
}

#[test]
fn epoch_and_progress_are_kept_with_the_batch_that_they_speak_of() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let (root, other) = (path("/services"), path("/config"));
    let progress = Progress {
        reported: Zxid(u64::MAX),
        listed: true,
        run: Some(OpenRun {
            id: Uuid::from_u128(9),
            index: 42,
        }),
    };
    assert_eq!(journal.progress(&root).unwrap(), Progress::default());
    assert_eq!(journal.epoch().unwrap(), Epoch(0));
    journal.set_progress(&root, &progress).unwrap();
    journal.set_epoch(Epoch(7)).unwrap();
    assert_eq!(journal.progress(&root).unwrap(), progress);
    journal.rollback().unwrap();
    assert_eq!(journal.progress(&root).unwrap(), Progress::default());
    assert_eq!(journal.epoch().unwrap(), Epoch(0));
    journal.set_progress(&root, &progress).unwrap();
    journal.set_epoch(Epoch(7)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut journal = scratch.open();
    assert_eq!(journal.progress(&root).unwrap(), progress);
    assert_eq!(journal.progress(&other).unwrap(), Progress::default());
    assert_eq!(journal.epoch().unwrap(), Epoch(7));
}

#[test]
fn a_read_stops_at_its_limits_and_takes_at_least_one_record() {
    let scratch = Scratch::new();
    let big = "x".repeat(100_000);
    append_all(
        &mut scratch.open(),
        (1..=5).map(|zxid| created(&format!("/a{zxid}"), zxid, &big)),
    );
    let mut reader = scratch.reader();
    let mut count = |after, records, bytes| {
        reader
            .read(Seq(after), ReadLimit { records, bytes })
            .unwrap()
            .len()
    };
    assert_eq!(count(0, 3, usize::MAX), 3);
    assert_eq!(count(3, 3, usize::MAX), 2);
    assert_eq!(count(0, 5, 1), 1);
    assert_eq!(count(0, 5, 250_000), 2);
    assert_eq!(count(5, 5, 250_000), 0);
    assert_eq!(count(0, 0, usize::MAX), 0);
}

#[test]
fn a_reader_sees_what_is_committed_and_only_that() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let mut reader = scratch.reader();
    assert_eq!(
        (reader.tail().unwrap(), reader.oldest().unwrap()),
        (Seq::ZERO, None)
    );
    journal.append(created("/a", 5, "x")).unwrap();
    assert_eq!(reader.tail().unwrap(), Seq::ZERO);
    journal.commit().unwrap();
    assert_eq!(reader.tail().unwrap(), Seq(1));
    assert_eq!(&**reader.cluster(), "main");
}

#[test]
fn a_cursor_after_the_last_record_is_an_error_with_a_remedy_until_the_sink_is_forgotten() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x"), created("/b", 6, "x")]);
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.advance(&progress("one", 2, &[])).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let connection = rusqlite::Connection::open(scratch.file()).unwrap();
    connection.execute("UPDATE sink SET cursor = 70", []).unwrap();
    drop(connection);

    let mut journal = scratch.open();
    let errors = [
        journal.cursor("one").unwrap_err(),
        journal.register_sink("one", Seq::ZERO).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind, crate::journal::JournalErrorKind::Damaged);
        for word in ["'one': 70", "is 2", "--forget-sink one"] {
            assert!(error.message.contains(word), "{word}: {error}");
        }
    }
    assert!(journal.remove_sink("one").unwrap());
    assert_eq!(journal.register_sink("one", Seq(1)).unwrap(), Seq(1));
}

#[test]
fn records_that_are_missing_in_the_middle_stop_a_reader_before_they_are_passed() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        (1..=9).map(|zxid| created(&format!("/n{zxid}"), zxid, "x")),
    );
    drop(journal);
    let connection = rusqlite::Connection::open(scratch.file()).unwrap();
    connection
        .execute("DELETE FROM record WHERE seq IN (4, 5, 6)", [])
        .unwrap();

    let mut reader = scratch.reader();
    let seqs = |records: Vec<std::sync::Arc<crate::record::Record>>| -> Vec<u64> {
        records.iter().map(|record| record.seq.0).collect()
    };
    assert_eq!(seqs(reader.read(Seq::ZERO, ALL).unwrap()), [1, 2, 3]);
    for after in [Seq(3), Seq(4)] {
        let error = reader.read(after, ALL).unwrap_err();
        assert_eq!(error.kind, crate::journal::JournalErrorKind::Damaged);
        let missing = format!("{} to 6", after.next());
        assert!(error.message.contains(&missing), "{missing}: {error}");
    }
    assert_eq!(seqs(reader.read(Seq(6), ALL).unwrap()), [7, 8, 9]);

    // A fold says which records went into later ones, and retention removes the first ones.
    connection
        .execute("INSERT INTO hole(first, last) VALUES (4, 5)", [])
        .unwrap();
    let error = reader.read(Seq(3), ALL).unwrap_err();
    assert!(error.message.contains("6 to 6"), "{error}");
    connection.execute("UPDATE hole SET last = 6", []).unwrap();
    assert_eq!(seqs(reader.read(Seq::ZERO, ALL).unwrap()), [1, 2, 3, 7, 8, 9]);
    connection
        .execute("DELETE FROM record WHERE seq < 8", [])
        .unwrap();
    assert_eq!(seqs(reader.read(Seq::ZERO, ALL).unwrap()), [8, 9]);
}
