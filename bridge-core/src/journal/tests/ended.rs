//! Ended incarnations: which children existed around a moment.

use rusqlite::Connection;

use super::migrations::take_back_to;
use super::scratch::*;
use crate::amount::{Horizon, Span};
use crate::append::{Append, ChangeKind, DeletedAt, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{Finding, Journal, JournalWriter};
use crate::number::Seq;
use crate::record::Timestamp;

/// The findings of the check that are about what answers questions of earlier moments.
pub fn wrong_indexes(scratch: &Scratch) -> Vec<Finding> {
    let mut findings = scratch.reader().inspect(|_| {}).unwrap().findings;
    findings.retain(|found| ["ended", "stretches"].contains(&found.subject));
    findings
}

/// The children that may have existed after a record and before the one after another.
fn around(scratch: &Scratch, at: &str, range: (u64, u64)) -> Option<Vec<String>> {
    let range = (Seq(range.0), Seq(range.1));
    let found = scratch
        .reader()
        .children_around(&path(at), range, "", 100)
        .unwrap()?;
    Some(found.into_iter().map(|child| child.name.into()).collect())
}

#[track_caller]
fn check(scratch: &Scratch, range: (u64, u64), names: &[&str]) {
    let found = around(scratch, "/q", range);
    assert_eq!(
        found,
        Some(names.iter().map(|&name| name.into()).collect()),
        "{range:?}"
    );
}

fn undated(at: &str) -> Append {
    let mut append = found(
        at,
        ChangeKind::Deleted {
            at: DeletedAt::Unknown,
        },
    );
    if let RecordKind::Change(change) = &mut append.kind {
        change.missed = None;
    }
    append
}

/// `a`, `b` and `c` come and go, records 2 to 7.
fn story() -> [Append; 7] {
    [
        created("/q", 1, "q"),
        created("/q/a", 2, "a"),
        created("/q/b", 3, "b"),
        deleted("/q/a", 4),
        created("/q/c", 5, "c"),
        deleted("/q/b", 6),
        deleted("/q/c", 7),
    ]
}

#[test]
fn a_child_is_listed_around_the_records_of_its_incarnations_and_nowhere_else() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    for append in story() {
        append_all(&mut journal, [append]);
        drop(journal);
        journal = scratch.open();
    }
    for (seq, names) in [
        (1, &[][..]),
        (2, &["a"]),
        (3, &["a", "b"]),
        (4, &["b"]),
        (5, &["b", "c"]),
        (6, &["c"]),
        (7, &[]),
    ] {
        check(&scratch, (seq, seq), names);
    }
    check(&scratch, (3, 5), &["a", "b", "c"]);
    check(&scratch, (6, 6), &["c"]);
    // Another incarnation, and one that goes on.
    append_all(
        &mut journal,
        [
            created("/q/a", 8, "a"),
            created("/q/d", 9, "d"),
            deleted("/q/a", 10),
        ],
    );
    check(&scratch, (4, 4), &["b", "d"]);
    check(&scratch, (8, 8), &["a", "d"]);
    check(&scratch, (10, 10), &["d"]);
    let from_b = scratch
        .reader()
        .children_around(&path("/q"), (Seq(3), Seq(3)), "b", 1);
    assert_eq!(&*from_b.unwrap().unwrap()[0].name, "b");
    assert_eq!(around(&scratch, "/unknown", (3, 3)), Some(vec![]));
    assert_eq!(wrong_indexes(&scratch), []);
}

#[test]
fn a_batch_that_is_rolled_back_ends_no_incarnation() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, story().into_iter().take(3));
    journal.append(deleted("/q/a", 4)).unwrap();
    journal.rollback().unwrap();
    append_all(&mut journal, [created("/q/z", 4, "z"), deleted("/q/a", 5)]);
    check(&scratch, (4, 4), &["a", "b", "z"]);
    check(&scratch, (5, 5), &["b", "z"]);
    assert_eq!(wrong_indexes(&scratch), []);
}

#[test]
fn a_child_of_which_it_is_not_certain_when_it_began_is_listed_at_each_earlier_moment() {
    let reconciled = |at: &str| {
        let read = read(stat(3, 9, 4), "x");
        found(at, ChangeKind::Created { read })
    };
    let late = |at: &str| {
        let read = read(stat(11, 11, 0), "x");
        seen(at, ChangeKind::Created { read })
    };
    let earlier = |at: &str| {
        // It was written before it was created, by the clock of another server.
        let mut stat = stat(11, 12, 1);
        stat.mtime = stat.ctime - 1;
        seen(
            at,
            ChangeKind::Updated {
                read: read(stat, "y"),
            },
        )
    };
    for (begin, is_certain) in [
        (vec![reconciled("/q/x")], false),
        (vec![unread("/q/x", 11)], false),
        (vec![late("/q/x")], true),
        (vec![late("/q/x"), earlier("/q/x")], false),
    ] {
        let scratch = Scratch::new();
        let mut journal = scratch.open();
        append_all(&mut journal, [created("/q", 1, "q"), created("/other", 2, "o")]);
        append_all(&mut journal, begin);
        append_all(&mut journal, [deleted("/q/x", 20)]);
        let end = journal.tail().0;
        check(&scratch, (1, 1), if is_certain { &[] } else { &["x"] });
        check(&scratch, (end - 1, end - 1), &["x"]);
        check(&scratch, (end, end), &[]);
        assert_eq!(wrong_indexes(&scratch), []);
    }
}

fn remove_all(journal: &mut Journal) {
    while journal.maintain(Timestamp(i64::MAX / 2), 3).unwrap().more {}
}

#[test]
fn a_child_of_which_no_record_says_when_it_existed_is_listed_at_each_moment() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(60));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/q", 1, "q"),
            created("/q/undated", 2, "u"),
            undated("/q/undated"),
            // Entered for its child.
            created("/q/above/x", 3, "x"),
            deleted("/q/above/x", 4),
            created("/q/orphan", 5, "o"),
            created("/q/orphan/x", 6, "x"),
            deleted("/q/orphan", 7),
            created("/other", 8, "x"),
        ],
    );
    for seq in [1, 3, 6, 9] {
        check(&scratch, (seq, seq), &["above", "orphan", "undated"]);
    }
    assert_eq!(wrong_indexes(&scratch), []);
    remove_all(&mut journal);
    // Its child exists, and no record of either is kept.
    check(&scratch, (9, 9), &["orphan"]);
    append_all(
        &mut journal,
        [deleted("/q/orphan/x", 10), created("/last", 11, "x")],
    );
    check(&scratch, (11, 11), &["orphan"]);
    assert_eq!(wrong_indexes(&scratch), []);
    remove_all(&mut journal);
    check(&scratch, (11, 11), &[]);
    let left: i64 = journal
        .connection
        .query_row(
            "SELECT (SELECT count(*) FROM unclear) + (SELECT count(*) FROM ended)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn every_name_is_looked_at_until_the_records_of_an_older_format_are_removed() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(60));
    append_all(&mut scratch.open(), story());
    take_back_to(&scratch, 9);
    assert_eq!(around(&scratch, "/q", (3, 3)), None);
    assert_eq!(wrong_indexes(&scratch), []);
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/q/d", 8, "d"),
            deleted("/q/d", 9),
            created("/q/e", 10, "e"),
        ],
    );
    assert_eq!(around(&scratch, "/q", (8, 8)), None);
    assert_eq!(wrong_indexes(&scratch), []);
    remove_all(&mut journal);
    check(&scratch, (10, 10), &["e"]);
    assert_eq!(wrong_indexes(&scratch), []);
}

#[test]
fn incarnations_that_are_not_as_the_records_say_are_found_by_the_check() {
    for sql in [
        "DELETE FROM ended WHERE died = 4",
        "DELETE FROM unclear WHERE path = (SELECT id FROM path WHERE name = 'undated')",
        "DELETE FROM unclear WHERE path = (SELECT id FROM path WHERE name = 'above')",
        "UPDATE ended SET rank = rank + 1 WHERE died = 4",
        "UPDATE ended SET born = born + 1, rank = 0 WHERE died = 4",
        "UPDATE ended SET path = path + 1 WHERE died = 4",
        "UPDATE ended SET parent = parent + 1 WHERE died = 4",
        "UPDATE ended SET died = 5 WHERE died = 4",
        "UPDATE image SET born = 3 WHERE born IS NOT NULL AND name = 'q'",
    ] {
        let scratch = Scratch::new();
        let more = [
            created("/q/undated", 8, "u"),
            undated("/q/undated"),
            created("/q/above/x", 9, "x"),
        ];
        append_all(&mut scratch.open(), story().into_iter().chain(more));
        assert_eq!(wrong_indexes(&scratch), []);
        let damaged = Connection::open(scratch.file()).unwrap();
        assert!(damaged.execute(sql, []).unwrap() > 0, "{sql}");
        assert!(!wrong_indexes(&scratch).is_empty(), "{sql}");
    }
}
