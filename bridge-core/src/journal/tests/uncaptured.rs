//! The rows of sources that read transactions: the position, and the ephemeral znodes that are not captured.

use super::migrations::take_back_to;
use super::scratch::*;
use crate::committed::HistoryPosition;
use crate::image_txn::ImageTxn;
use crate::journal::JournalWriter;
use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;

#[test]
fn a_journal_of_the_tenth_format_lacks_ephemeral_znodes_that_are_not_captured_until_a_snapshot_brings_them() {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 5, "x")]);
    let (path, session) = (ZnodePath::parse("/out").unwrap(), SessionId(u64::MAX));
    let mut journal = scratch.open();
    journal.clear_uncaptured().unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.uncaptured_of(session).unwrap(), Some(Vec::new()));
    drop(journal);
    take_back_to(&scratch, 10);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);

    let mut journal = scratch.open();
    journal.set_uncaptured(&path, Some(session)).unwrap();
    assert_eq!(journal.uncaptured_of(session).unwrap(), None);
    journal.clear_uncaptured().unwrap();
    assert_eq!(journal.uncaptured_of(session).unwrap(), Some(Vec::new()));
    journal.set_uncaptured(&path, Some(session)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut journal = scratch.open();
    let one = Some(vec![path.clone()]);
    assert_eq!(journal.uncaptured_of(session).unwrap(), one);
    assert_eq!(journal.uncaptured_of(SessionId(1)).unwrap(), Some(Vec::new()));
    // Another one has the path now.
    journal.set_uncaptured(&path, Some(SessionId(1))).unwrap();
    assert_eq!(journal.uncaptured_of(session).unwrap(), Some(Vec::new()));
    journal.set_uncaptured(&path, None).unwrap();
    assert_eq!(journal.uncaptured_of(SessionId(1)).unwrap(), Some(Vec::new()));
    journal.rollback().unwrap();
    assert_eq!(journal.uncaptured_of(session).unwrap(), one);
    // Without a position nothing is known.
    journal.set_position(None).unwrap();
    assert_eq!(journal.uncaptured_of(session).unwrap(), None);
}

#[test]
fn a_journal_of_the_sixth_format_has_no_position_and_takes_one() {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 5, "x")]);
    let before = scratch.records();
    take_back_to(&scratch, 6);
    assert_eq!(scratch.records(), before);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);

    let mut journal = scratch.open();
    assert_eq!(journal.position().unwrap(), None);
    let position = HistoryPosition {
        zxid: Zxid(u64::MAX - 1),
        payload_crc: Some(u32::MAX),
        digest: Some(u64::MAX),
        epoch: u32::MAX,
        scope: u64::MAX,
        is_of_other_charset: true,
    };
    journal.set_position(Some(&position)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut journal = scratch.open();
    assert_eq!(journal.position().unwrap(), Some(position));
    journal.set_position(None).unwrap();
    journal.rollback().unwrap();
    assert_eq!(journal.position().unwrap(), Some(position));
    assert_eq!(scratch.records(), before);
}
