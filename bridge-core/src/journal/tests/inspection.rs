//! The faults that an inspection finds, and the states that it must not complain about.

use rusqlite::Connection;

use super::scratch::{Advance, NOON, Scratch, append_all, path, stat};
use crate::amount::{Horizon, Span};
use crate::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use crate::committed::{HistoryPosition, RawStat, ShadowKey, ShadowNode};
use crate::image_txn::ImageTxn;
use crate::journal::{BacklogChange, Inspection, Journal, JournalWriter, SinkProgress, SinkState};
use crate::number::{Seq, SessionId, Zxid};
use crate::record::{Data, DataForm, Fidelity, Timestamp, Txn, TxnKind};

fn change(at: &str, kind: ChangeKind) -> Append {
    Append {
        root: Some(path("/")),
        captured: NOON,
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
    let text = format!("value {mzxid} {}", "x".repeat(3000));
    Read {
        stat: stat(czxid, mzxid, version),
        data: Some(Data::limited(text.as_bytes(), DataForm::Auto, 9999)),
    }
}

fn created(at: &str, zxid: u64) -> Append {
    let read = read(zxid, zxid, 0);
    change(at, ChangeKind::Created { read })
}

/// `/a` (1), written (2); `/a/b` (3), gone (4); `/c` (5), which `audit` has rejected.
fn a_story(journal: &mut Journal) {
    let written = ChangeKind::Updated {
        read: read(10, 11, 1),
    };
    let gone = ChangeKind::Deleted {
        at: DeletedAt::Exact(Zxid(13)),
    };
    append_all(
        journal,
        [
            created("/a", 10),
            change("/a", written),
            created("/a/b", 12),
            change("/a/b", gone),
            created("/c", 14),
        ],
    );
    journal.register_sink("audit", Seq::ZERO).unwrap();
    let rejected = BacklogChange::Rejected {
        seq: Seq(5),
        path: Some(path("/c")),
        reason: "too large".into(),
        attempts: 1,
    };
    let progress = SinkProgress {
        sink: "audit".into(),
        at: NOON,
        to: Seq(5),
        changes: vec![rejected],
        switch: None,
        ..SinkProgress::default()
    };
    journal.advance(&progress).unwrap();
    journal.commit().unwrap();
}

fn inspected(scratch: &Scratch) -> Inspection {
    scratch.reader().inspect(|_| {}).unwrap()
}

#[test]
fn a_journal_is_whole_before_and_after_retention_and_compaction() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(1));
    let mut journal = scratch.open();
    assert_eq!(inspected(&scratch), Inspection::default());
    a_story(&mut journal);
    let whole = inspected(&scratch);
    assert_eq!((whole.records, whole.paths, whole.total), (5, 3, 0), "{whole:?}");
    let later = Timestamp(NOON.0 + 60_000);
    let compacted = journal.compact(later).unwrap();
    assert_eq!(compacted.removed, 4);
    assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    let file = std::fs::metadata(scratch.file()).unwrap().len();
    assert_eq!(file, compacted.bytes_after, "nothing is left in the log");
    let whole = inspected(&scratch);
    assert_eq!((whole.records, whole.total), (1, 0), "{whole:?}");
    // And it is written on, and opened again.
    append_all(&mut journal, [created("/d", 20)]);
    drop(journal);
    assert_eq!(scratch.open().tail(), Seq(6));
    assert_eq!(inspected(&scratch).total, 0);
}

#[test]
fn a_position_before_a_recorded_transaction_and_a_damaged_proof_are_found() {
    let position = |zxid| HistoryPosition {
        zxid: Zxid(zxid),
        scope: 1,
        is_of_other_charset: false,
        ..HistoryPosition::default()
    };
    let txn = Txn {
        session: SessionId(1),
        cxid: 1,
        index: 0,
        count: 1,
        kind: TxnKind::Create,
        time: 1,
        ended_by: None,
        client: None,
        user: None,
        rest: 0,
    };
    let mut append = created("/a", 10);
    if let RecordKind::Change(change) = &mut append.kind {
        change.txn = Some(Box::new(txn));
    }
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [append]);
    let shadow = ShadowNode {
        crc: 7,
        stat: RawStat::default(),
    };
    journal.set_shadow(&ShadowKey::of("/a"), Some(&shadow)).unwrap();
    journal.set_position(Some(&position(10))).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.shadow(&ShadowKey::of("/a")).unwrap(), Some(shadow));
    assert_eq!(inspected(&scratch).total, 0);

    journal.set_position(Some(&position(9))).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let connection = Connection::open(scratch.file()).unwrap();
    connection.execute("UPDATE shadow SET stat = x'00'", []).unwrap();
    drop(connection);
    let found = inspected(&scratch);
    let subjects: Vec<_> = found
        .findings
        .iter()
        .map(|finding| (finding.subject, finding.seq))
        .collect();
    assert_eq!(subjects, [("position", Some(Seq(1))), ("position", None)]);
    let mut journal = scratch.open();
    assert!(journal.shadow(&ShadowKey::of("/a")).is_err());
    journal.rollback().unwrap();
    // Without a position nothing is proved.
    journal.set_position(None).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.shadow(&ShadowKey::of("/a")).unwrap(), None);
    assert_eq!(inspected(&scratch).total, 0);
}

#[test]
fn each_kind_of_damage_is_found_with_its_place() {
    let check = |sql: &str, expected: &[(&str, Option<&str>, Option<u64>, &str)]| {
        let scratch = Scratch::new();
        let mut journal = scratch.open();
        a_story(&mut journal);
        drop(journal);
        Connection::open(scratch.file())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        let found = inspected(&scratch);
        let findings: Vec<_> = found
            .findings
            .iter()
            .map(|found| {
                (
                    found.subject,
                    found.path.as_deref(),
                    found.seq.map(|seq| seq.0),
                    &*found.message,
                )
            })
            .collect();
        for (subject, path, seq, words) in expected {
            let is_named = findings.iter().any(|found| {
                (found.0, found.1, found.2) == (*subject, *path, *seq) && found.3.contains(words)
            });
            assert!(is_named, "{sql}: {words}\n{findings:#?}");
        }
        assert_eq!(found.total as usize, findings.len());
        assert!(found.findings.iter().all(|found| !found.remedy.is_empty()));
    };
    check(
        "DELETE FROM record WHERE seq = 3",
        &[
            ("records", None, Some(4), "the record before it is missing"),
            ("history", Some("/a/b"), Some(4), "the record that it follows"),
        ],
    );
    check(
        "UPDATE record SET previous = 3 WHERE seq = 5",
        &[("history", Some("/c"), Some(5), "not one of its path")],
    );
    check(
        "UPDATE record SET zxid = 9 WHERE seq = 2",
        &[("history", Some("/a"), Some(2), "before that of the record")],
    );
    check(
        "INSERT INTO waypoint(seq, path) SELECT 5, id FROM path WHERE name = 'a'",
        &[("history", Some("/a"), Some(5), "a waypoint in the history")],
    );
    check(
        "DELETE FROM value WHERE id = 2",
        &[
            ("values", Some("/a"), Some(2), "its value is missing"),
            ("values", Some("/a"), None, "the image has of it is missing"),
            ("records", None, Some(2), "it cannot be read"),
        ],
    );
    check(
        "DELETE FROM value WHERE id = 1",
        &[("values", Some("/a"), Some(2), "the value before it")],
    );
    check(
        "UPDATE image SET life = 0, czxid = 14, stat = NULL WHERE name = 'c'",
        &[
            ("image", Some("/c"), Some(5), "gone in the image, and living"),
            ("image", Some("/c"), None, "is living"),
        ],
    );
    check(
        "UPDATE image SET stat = (SELECT stat FROM image WHERE name = 'c') WHERE name = 'a'",
        &[("image", Some("/a"), Some(2), "another version")],
    );
    check(
        "UPDATE image SET value = 5 WHERE name = 'a'",
        &[("image", Some("/a"), Some(2), "another value")],
    );
    check(
        "UPDATE image SET last = 1 WHERE name = 'a'",
        &[("image", Some("/a"), Some(2), "not the one that the image names")],
    );
    check(
        "UPDATE path SET name = 'z' WHERE name = 'c'",
        &[("image", Some("/z"), None, "does not have it")],
    );
    check(
        "UPDATE path SET parent = id WHERE name = 'c'",
        &[
            ("paths", Some("/(path 4)/c"), None, "lead in a circle"),
            ("records", None, Some(5), "lead in a circle"),
        ],
    );
    check(
        "UPDATE sink SET cursor = 9",
        &[("cursors", None, Some(9), "sink 'audit': this sink's cursor")],
    );
    check(
        "UPDATE sink SET cursor = 4",
        &[("aside", None, Some(5), "never came to")],
    );
    check(
        "UPDATE rejected SET seq = 1; DELETE FROM record WHERE seq = 1; UPDATE sink SET cursor = 0",
        &[
            ("aside", None, Some(1), "has set aside is gone"),
            ("cursors", None, Some(0), "records that this sink has not got"),
        ],
    );
    check(
        "UPDATE record SET op = 77 WHERE seq = 3",
        &[("records", None, Some(3), "it cannot be read")],
    );
}
