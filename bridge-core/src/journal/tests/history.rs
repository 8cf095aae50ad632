//! Reading the history of a path, and finding positions.

use super::scratch::{NOON, Scratch, append_all, path, stat};
use crate::amount::{Horizon, Span};
use crate::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use crate::journal::{Journal, JournalWriter, Position};
use crate::number::{Seq, Zxid};
use crate::record::{Fidelity, Timestamp};

fn change(at: &str, captured: i64, kind: ChangeKind) -> Append {
    Append {
        root: Some(path("/")),
        captured: Timestamp(NOON.0 + captured),
        kind: RecordKind::Change(Change {
            path: path(at),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    }
}

fn read(czxid: u64, mzxid: u64, version: i32) -> Read {
    Read {
        stat: stat(czxid, mzxid, version),
        data: None,
    }
}

/// `/a` is created (1), written (3) and deleted (4), and created again (6); `/a/b` (2) and `/c` (5) are between.
fn a_story(journal: &mut Journal) {
    let created = |at: &str, zxid: u64| {
        let read = read(zxid, zxid, 0);
        change(at, i64::try_from(zxid).unwrap(), ChangeKind::Created { read })
    };
    let written = ChangeKind::Updated {
        read: read(10, 12, 1),
    };
    let deleted = |zxid| ChangeKind::Deleted {
        at: DeletedAt::Exact(Zxid(zxid)),
    };
    append_all(
        journal,
        [
            created("/a", 10),
            created("/a/b", 11),
            change("/a", 12, written),
            change("/a/b", 13, deleted(13)),
            change("/a", 14, deleted(14)),
            created("/c", 15),
            created("/a", 16),
        ],
    );
}

fn seqs_of(
    scratch: &Scratch,
    at: &str,
    from: Option<Seq>,
    limit: usize,
) -> Option<(Vec<u64>, Option<u64>, bool)> {
    let history = scratch.reader().history(&path(at), from, limit).unwrap()?;
    let seqs = history.records.iter().map(|record| record.seq.0).collect();
    Some((seqs, history.next.map(|seq| seq.0), history.is_cut))
}

#[test]
fn a_history_goes_back_over_all_lives_of_a_path_in_stretches() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    a_story(&mut journal);
    assert_eq!(
        seqs_of(&scratch, "/a", None, 10),
        Some((vec![7, 5, 3, 1], None, false))
    );
    assert_eq!(
        seqs_of(&scratch, "/a", None, 3),
        Some((vec![7, 5, 3], Some(1), false))
    );
    assert_eq!(
        seqs_of(&scratch, "/a", Some(Seq(1)), 3),
        Some((vec![1], None, false))
    );
    assert_eq!(
        seqs_of(&scratch, "/a/b", None, 10),
        Some((vec![4, 2], None, false))
    );
    assert_eq!(seqs_of(&scratch, "/", None, 10), Some((vec![], None, false)));
    assert_eq!(seqs_of(&scratch, "/none/such", None, 10), None);
}

#[test]
fn a_history_that_retention_has_cut_says_so() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(1));
    let mut journal = scratch.open();
    a_story(&mut journal);
    journal.maintain(Timestamp(NOON.0 + 60_000), 3).unwrap();
    assert_eq!(seqs_of(&scratch, "/a", None, 10), Some((vec![7, 5], None, true)));
    assert_eq!(seqs_of(&scratch, "/a/b", None, 10), Some((vec![4], None, true)));
    assert_eq!(seqs_of(&scratch, "/c", None, 10), Some((vec![6], None, true)));
}

#[test]
fn a_position_is_the_first_record_that_is_not_before_it() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    a_story(&mut journal);
    let check = |position, expected: Option<u64>| {
        let found = scratch.reader().first_at(position).unwrap();
        assert_eq!(found, expected.map(Seq), "{position:?}");
    };
    check(Position::Seq(Seq(0)), Some(1));
    check(Position::Seq(Seq(8)), None);
    check(Position::Zxid(Zxid(12)), Some(3));
    check(Position::Zxid(Zxid(17)), None);
    check(Position::Time(Timestamp(NOON.0 + 14)), Some(5));
    check(Position::Time(Timestamp(0)), Some(1));
}

#[test]
fn a_reader_measures_what_the_writer_measures() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    journal.set_server(Some("3.9.5".into()));
    let empty = scratch.reader().overview().unwrap();
    assert_eq!((empty.records, empty.oldest, empty.newest), (0, None, None));
    a_story(&mut journal);
    let (seen, stats) = (scratch.reader().overview().unwrap(), journal.stats().unwrap());
    assert_eq!((seen.records, seen.oldest), (stats.records, stats.oldest));
    assert_eq!(
        (seen.used_bytes, seen.file_bytes),
        (stats.used_bytes, stats.file_bytes)
    );
    assert_eq!(seen.newest, Some((Seq(7), Timestamp(NOON.0 + 16))));
    assert_eq!(seen.server.as_deref(), Some("3.9.5"));
    assert_eq!(
        seen.roots.iter().map(|root| &*root.path).collect::<Vec<_>>(),
        ["/"]
    );
    assert_eq!(scratch.reader().captured_from(Seq(9)).unwrap(), None);
}
