//! The log: it has room behind its end, and what a loss of power leaves of it is read.

use std::fs;

use super::scratch::*;
use crate::journal::{Durability, Journal, JournalOptions};

const BATCHES: i64 = 400;

#[test]
fn a_log_that_is_synchronised_grows_in_few_steps_and_is_read_up_to_where_it_is_written() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let log = scratch.file().with_file_name("main.journal-wal");
    let mut lengths = Vec::new();
    for zxid in 1..=BATCHES {
        append_all(&mut journal, [created(&format!("/a-{zxid}"), zxid as u64, "x")]);
        lengths.push(fs::metadata(&log).unwrap().len());
    }
    lengths.dedup();
    let written: i64 = journal
        .connection
        .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))
        .unwrap();
    assert!(
        lengths.len() <= 6,
        "{BATCHES} batches made the log grow to {lengths:?}"
    );
    let end = written.cast_unsigned() * 1_048 + 32;
    assert!(
        lengths.last().is_some_and(|length| *length >= end),
        "{end} {lengths:?}"
    );

    // As a crash leaves them.
    let left = tempfile::tempdir().unwrap();
    let file = left.path().join("main.journal");
    fs::copy(scratch.file(), &file).unwrap();
    fs::copy(&log, left.path().join("main.journal-wal")).unwrap();
    let opened = Journal::open(&file, &JournalOptions::new("main")).unwrap();
    assert_eq!(opened.tail(), journal.tail());
    drop(journal);
    assert!(!log.exists(), "a journal that is closed has no log");
}

#[test]
fn a_log_that_is_not_synchronised_is_as_long_as_what_is_written() {
    let mut scratch = Scratch::new();
    scratch.options.durability = Durability::ProcessCrash;
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x")]);
    let length = fs::metadata(scratch.file().with_file_name("main.journal-wal"))
        .unwrap()
        .len();
    assert!(length < 100_000, "{length}");
}
