//! The log after a crash and after a clean end.

use std::fs;

use super::scratch::*;
use crate::journal::{Journal, JournalOptions};

const BATCHES: i64 = 400;

#[test]
fn a_log_that_a_crash_left_is_read_up_to_its_last_batch_and_a_closed_journal_has_none() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let log = scratch.file().with_file_name("main.journal-wal");
    for zxid in 1..=BATCHES {
        append_all(&mut journal, [created(&format!("/a-{zxid}"), zxid as u64, "x")]);
    }

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
