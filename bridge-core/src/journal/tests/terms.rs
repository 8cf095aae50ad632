//! Compare-and-set of the log, and the position of the image, on the real file.

use std::fs;

use rusqlite::Connection;

use super::scratch::*;
use crate::image_txn::ImageTxn;
use crate::journal::{
    Inspection, Journal, JournalError, JournalErrorKind, JournalWriter, Log, LogEnd, SealedBatch, SinkState,
    Term,
};
use crate::number::Seq;

/// Opens the journal once more, although it is open: its lock file was removed meanwhile.
fn open_without_lock(scratch: &Scratch) -> Journal {
    fs::remove_file(scratch.file().with_file_name("main.journal.lock")).unwrap();
    scratch.open()
}

#[track_caller]
fn check_fenced(error: &JournalError, words: &str) {
    assert_eq!(error.kind, JournalErrorKind::InUse, "{error}");
    let message = error.to_string();
    for words in [words, "end one of the two", "lock file"] {
        assert!(message.contains(words), "'{words}' is not in: {message}");
    }
}

fn end(tail: u64, term: u64) -> LogEnd {
    LogEnd {
        tail: Seq(tail),
        term: Term(term),
    }
}

fn seq_numbers(scratch: &Scratch) -> Vec<u64> {
    scratch.records().iter().map(|record| record.seq.0).collect()
}

#[test]
fn each_process_that_opens_a_journal_to_write_it_has_the_term_after_the_last_one() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    assert_eq!((journal.end(), journal.term()), (end(0, 1), Term(1)));
    append_all(&mut journal, [created("/a", 1, "x")]);
    append_all(&mut journal, [created("/b", 2, "x")]);
    assert_eq!((journal.end(), journal.term()), (end(2, 1), Term(1)));
    drop(journal);
    drop(scratch.reader());
    let journal = scratch.open();
    assert_eq!((journal.end(), journal.term()), (end(2, 2), Term(2)));
}

#[test]
fn opening_a_journal_writes_nothing_and_its_first_batch_begins_the_term() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "x")]);
    journal.register_sink("known", Seq(1)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let before = fs::read(scratch.file()).unwrap();

    let mut journal = scratch.open();
    assert_eq!(journal.register_sink("known", Seq::ZERO).unwrap(), Seq(1));
    journal.commit().unwrap();
    assert_eq!(journal.term(), Term(2));
    drop(journal);
    assert_eq!(fs::read(scratch.file()).unwrap(), before);

    let mut journal = scratch.open();
    assert_eq!(
        journal.term(),
        Term(2),
        "the second process has no term in the file"
    );
    append_all(&mut journal, [created("/b", 2, "x")]);
    drop(journal);
    assert_eq!(scratch.open().term(), Term(3));
}

#[test]
fn of_two_processes_that_take_the_same_term_the_one_that_writes_first_goes_on() {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 1, "x")]);
    let mut slow = scratch.open();
    let mut quick = open_without_lock(&scratch);
    assert_eq!((slow.term(), quick.term()), (Term(2), Term(2)));

    // It moves no record, so that the tail alone would not show it.
    quick.register_sink("one", Seq(1)).unwrap();
    quick.commit().unwrap();
    check_fenced(
        &slow.register_sink("two", Seq(1)).unwrap_err(),
        "another writer has begun term 2",
    );
    append_all(&mut quick, [created("/b", 2, "x")]);
    check_fenced(&slow.append(created("/c", 3, "x")).unwrap_err(), "term 2");
    assert_eq!(seq_numbers(&scratch), [1, 2]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_first_batch_includes_what_an_older_writer_wrote_since_the_journal_was_opened() {
    let scratch = Scratch::new();
    let mut old = scratch.open();
    append_all(&mut old, [created("/a", 1, "x")]);
    let mut new = open_without_lock(&scratch);
    old.set_epoch(crate::number::Epoch(7)).unwrap();
    old.commit().unwrap();

    append_all(&mut new, [created("/b", 2, "x")]);
    assert_eq!(new.epoch().unwrap(), crate::number::Epoch(7));
    check_fenced(&old.append(created("/c", 3, "x")).unwrap_err(), "term 2");
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_rollback_that_cannot_read_the_file_again_is_tried_again_and_nothing_is_taken_before() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "x")]);
    journal.append(created("/b", 2, "x")).unwrap();
    // As SQLite does by itself after some errors.
    journal.connection.execute_batch("ROLLBACK").unwrap();
    let rename = |from: &str, to: &str| {
        let other = Connection::open(scratch.file()).unwrap();
        let sql = format!("UPDATE meta SET key = '{to}' WHERE key = '{from}'");
        assert_eq!(other.execute(&sql, []).unwrap(), 1);
    };
    rename("applied", "away");
    assert!(journal.rollback().is_err());
    let error = journal.append(created("/b", 2, "x")).unwrap_err();
    assert!(error.to_string().contains("roll it back"), "{error}");

    rename("away", "applied");
    journal.rollback().unwrap();
    assert_eq!(append_all(&mut journal, [created("/b", 2, "x")]), Seq(2));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_writer_of_an_older_term_is_refused_and_the_newer_one_goes_on() {
    let scratch = Scratch::new();
    let mut old = scratch.open();
    append_all(&mut old, [created("/a", 1, "x")]);
    let mut new = open_without_lock(&scratch);
    new.register_sink("new", Seq::ZERO).unwrap();
    new.commit().unwrap();

    let error = old.append(created("/c", 3, "x")).unwrap_err();
    check_fenced(&error, "of term 1, and another writer has begun term 2");
    check_fenced(&old.append(created("/c", 3, "x")).unwrap_err(), "term 2");
    check_fenced(&old.register_sink("one", Seq::ZERO).unwrap_err(), "term 2");

    append_all(&mut new, [created("/b", 2, "x"), created("/c", 3, "x")]);
    check_fenced(&old.append(created("/d", 4, "x")).unwrap_err(), "term 2");
    assert_eq!(seq_numbers(&scratch), [1, 2, 3]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

/// Appends a sealed batch of one record in place of [`JournalWriter::commit`], at the end 2 of term 2.
fn append_sealed(after: u64, term: u64) -> (Scratch, Journal, Result<Seq, JournalError>) {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 1, "x")]);
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/b", 2, "x")]);
    assert_eq!(journal.end(), end(2, 2));
    journal.append(created("/c", 3, "x")).unwrap();
    let batch = journal.seal().unwrap();
    assert_eq!(batch, SealedBatch { last: Seq(3) });
    let appended = journal.append_batch(Seq(after), batch, Term(term));
    (scratch, journal, appended)
}

#[test]
fn a_batch_that_does_not_start_at_the_tail_or_is_of_an_older_term_is_refused_and_rolled_back() {
    for (after, term, words) in [
        (1, 2, "after record 1, and the log ends at record 2"),
        (3, 2, "after record 3"),
        (2, 1, "of term 1"),
    ] {
        let (scratch, mut journal, appended) = append_sealed(after, term);
        check_fenced(&appended.unwrap_err(), words);
        assert_eq!((journal.end(), journal.tail()), (end(2, 2), Seq(2)));
        assert_eq!(journal.node(&path("/c")).unwrap(), None);
        append_all(&mut journal, [created("/d", 4, "x")]);
        assert_eq!(seq_numbers(&scratch), [1, 2, 3]);
    }
}

#[test]
fn a_batch_at_the_tail_of_the_same_or_a_newer_term_is_appended_and_its_term_stored() {
    for term in [2, 7] {
        let (scratch, journal, appended) = append_sealed(2, term);
        assert_eq!(appended.unwrap(), Seq(3));
        assert_eq!((journal.end(), journal.term()), (end(3, term), Term(term)));
        drop(journal);
        assert_eq!(scratch.open().end(), end(3, term + 1));
    }
}

#[test]
fn a_sealed_batch_takes_nothing_more() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    journal.append(created("/a", 1, "x")).unwrap();
    journal.seal().unwrap();
    let error = journal.append(created("/b", 2, "x")).unwrap_err();
    assert_eq!(error.kind, JournalErrorKind::Storage, "{error}");
    journal.rollback().unwrap();
    assert_eq!(append_all(&mut journal, [created("/b", 2, "x")]), Seq(1));
}

fn damage(scratch: &Scratch, sql: &str) -> Inspection {
    Connection::open(scratch.file())
        .unwrap()
        .execute_batch(sql)
        .unwrap();
    scratch.reader().inspect(|_| {}).unwrap()
}

#[test]
fn an_image_that_is_not_the_one_of_the_last_record_is_refused_and_named_by_the_check() {
    for (sql, words) in [
        (
            "UPDATE meta SET value = 1 WHERE key = 'applied'",
            "up to 1, and the last record is 2",
        ),
        (
            "DELETE FROM record WHERE seq = 2",
            "up to 2, and the last record is 1",
        ),
    ] {
        let scratch = Scratch::new();
        append_all(
            &mut scratch.open(),
            [created("/a", 1, "x"), created("/b", 2, "x")],
        );
        let findings = damage(&scratch, sql).findings;
        let is_named = findings
            .iter()
            .any(|found| found.subject == "image" && found.message.contains("the image has applied"));
        assert!(is_named, "{findings:#?}");
        let error = Journal::open(&scratch.file(), &scratch.options).err().unwrap();
        assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
        for words in [words, "restore a copy"] {
            assert!(error.to_string().contains(words), "'{words}' is not in: {error}");
        }
    }
}

#[test]
fn the_image_is_at_the_last_record_after_every_kind_of_batch() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "x")]);
    append_all(
        &mut journal,
        [control_record(
            None,
            crate::append::RecordKind::Heartbeat { zxid: None },
        )],
    );
    journal.append(created("/b", 3, "x")).unwrap();
    journal.rollback().unwrap();
    journal.register_sink("one", Seq(2)).unwrap();
    journal.commit().unwrap();
    assert_eq!(
        journal
            .maintain(crate::record::Timestamp(i64::MAX), 9)
            .unwrap()
            .removed,
        1
    );
    drop(journal);
    let journal = scratch.open();
    assert_eq!((journal.image.applied, journal.tail()), (Seq(2), Seq(2)));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}
