//! The costs of a batch in the journal: statements, and pages in its log. Counts are the same on every machine, so they
//! show a change that makes the journal slower even if times vary.

use std::cell::Cell;

use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::scratch::{Scratch, found, path, read, seen, stat};
use crate::append::ChangeKind;
use crate::image_txn::ImageTxn;
use crate::journal::{Journal, JournalWriter};

thread_local! {
    static STATEMENTS: Cell<usize> = const { Cell::new(0) };
}

fn count(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(..) = event {
        STATEMENTS.set(STATEMENTS.get() + 1);
    }
}

/// The number of statements of some work for each of `count` records.
fn statements_each(journal: &mut Journal, count_of: usize, work: impl FnOnce(&mut Journal)) -> f64 {
    journal
        .connection
        .trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(count))
        .unwrap();
    STATEMENTS.set(0);
    work(journal);
    STATEMENTS.get() as f64 / count_of as f64
}

fn log_pages(connection: &Connection) -> i64 {
    let noop = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1));
    noop.unwrap()
}

#[track_caller]
fn check(what: &str, counted: f64, bound: f64) {
    assert!(
        counted <= bound,
        "{what}: {counted:.3} for each, more than {bound}. If the journal has to do more now, measure what it costs with \
         `cargo bench -p bridge-core --bench journal`, say it in the commit, and raise the bound"
    );
    assert!(
        counted * 2.0 >= bound,
        "{what}: only {counted:.3} for each, so the bound of {bound} guards nothing any more: lower it"
    );
}

const ZNODES: u64 = 500;

fn child(number: u64) -> String {
    format!("/a/{number:06}")
}

fn version(number: u64, version: i32) -> ChangeKind {
    let czxid = 10 + number;
    let mzxid = czxid + 1_000 * u64::from(version.cast_unsigned());
    let read = read(stat(czxid, mzxid, version), &"x".repeat(100));
    match version {
        0 => ChangeKind::Created { read },
        _ => ChangeKind::Updated { read },
    }
}

/// As a walk does: looks whether the znode is there, whether something is below it, and writes it.
fn list(journal: &mut Journal) {
    for number in 0..ZNODES {
        let at = path(&child(number));
        assert_eq!(journal.node(&at).unwrap(), None);
        assert_eq!(journal.deepest_below(&at, 10).unwrap(), []);
        journal.append(found(&child(number), version(number, 0))).unwrap();
        assert_eq!(journal.children(&at, None, 10).unwrap(), []);
    }
    journal.commit().unwrap();
}

#[test]
fn a_batch_takes_few_statements_and_pages() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let parent = ChangeKind::Created {
        read: read(stat(5, 5, 0), ""),
    };
    journal.append(seen("/a", parent)).unwrap();
    journal.commit().unwrap();

    let listing = statements_each(&mut journal, 500, list);
    // The number of the path, its row of the image, the value and the record, 16 of each in a statement.
    check("statements for a znode that is listed", listing, 0.31);

    let before = log_pages(&journal.connection);
    let updating = statements_each(&mut journal, 500, |journal| {
        for number in 0..ZNODES {
            assert!(journal.node(&path(&child(number))).unwrap().is_some());
            journal.append(seen(&child(number), version(number, 1))).unwrap();
        }
        journal.commit().unwrap();
    });
    check("statements for a write that is followed", updating, 0.23);
    let pages = (log_pages(&journal.connection) - before) as f64 / 500.0;
    check("pages in the log for a write that is followed", pages, 0.3);
}

#[test]
fn a_listing_that_comes_back_to_a_parent_that_memory_has_no_more_takes_no_more_statements() {
    const PARENTS: u64 = 30;
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let created = |at: &str, czxid| {
        let read = read(stat(czxid, czxid, 0), "");
        found(at, ChangeKind::Created { read })
    };
    // As a walk reads them: all parents first, and then what is below each.
    journal.append(created("/a", 1)).unwrap();
    for parent in 0..PARENTS {
        journal
            .append(created(&format!("/a/{parent:03}"), 2 + parent))
            .unwrap();
    }
    journal.commit().unwrap();
    let listing = statements_each(&mut journal, usize::try_from(MANY).unwrap(), |journal| {
        let mut czxid = 100;
        for parent in 0..PARENTS {
            for number in 0..MANY / PARENTS {
                let at = format!("/a/{parent:03}/{number:06}");
                assert_eq!(journal.node(&path(&at)).unwrap(), None);
                journal.append(created(&at, czxid)).unwrap();
                czxid += 1;
            }
            journal.commit().unwrap();
        }
    });
    // As below a single parent, and a few to find each parent again.
    check("statements for a znode that is listed", listing, 0.4);
}

#[test]
fn a_batch_is_one_transaction_and_so_one_synchronisation() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    // The first batch also stores the term.
    journal.append(found(&child(0), version(0, 0))).unwrap();
    journal.commit().unwrap();
    let around = statements_each(&mut journal, 1, |journal| {
        journal.begin().unwrap();
        journal.commit().unwrap();
    });
    // BEGIN, COMMIT, and looks at the end of the records and at the length of the write-ahead log.
    check("statements of a batch besides its records", around, 4.0);
}

#[test]
fn an_unchanged_znode_is_compared_without_a_statement_of_its_own() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    list(&mut journal);
    drop(journal);
    let mut journal = scratch.open();
    let comparing = statements_each(&mut journal, 500, |journal| {
        let rows = journal.children_to_compare(&path("/a"), None, 500).unwrap();
        assert_eq!(rows.len(), 500);
        for (name, node) in rows {
            let at = path("/a").child(&name);
            assert_eq!(journal.node(&at).unwrap(), Some(node));
            assert_eq!(journal.children(&at, None, 10).unwrap(), []);
        }
    });
    // Those that find the parent and list its children.
    check("statements for a znode that is compared", comparing, 0.01);
}

/// More than the journal holds in memory.
const MANY: u64 = 12_000;

#[test]
fn a_row_that_waits_to_be_written_is_read_as_if_it_were() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    for number in 0..MANY {
        journal.append(found(&child(number), version(number, 0))).unwrap();
    }
    journal.commit().unwrap();
    let versions = |journal: &mut Journal, changed: u64, expected: i32| {
        for number in (0..MANY).chain([changed]) {
            let node = journal.node(&path(&child(number))).unwrap().unwrap();
            let expected = if number == changed { expected } else { 0 };
            assert_eq!(node.version(), expected, "{number}");
        }
    };
    let writing = statements_each(&mut journal, 1, |journal| {
        journal.begin().unwrap();
        journal.append(seen(&child(7), version(7, 1))).unwrap();
    });
    // BEGIN, one that reads where the records end, two that measure the journal, and one that finds the row.
    check("statements for a write that waits", writing, 5.0);
    versions(&mut journal, 7, 1);
    assert_eq!(
        journal.children(&path("/a"), Some("000006"), 1).unwrap()[0]
            .1
            .version(),
        1
    );
    // Taken back it never was, whether it waited or not.
    journal.append(seen(&child(7), version(7, 2))).unwrap();
    journal.rollback().unwrap();
    versions(&mut journal, 7, 0);
    journal.append(seen(&child(7), version(7, 3))).unwrap();
    journal.commit().unwrap();
    versions(&mut journal, 7, 3);
}

#[test]
fn the_cached_rows_below_a_path_follow_the_writes() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let created = |at: &str, czxid| {
        let read = read(stat(czxid, czxid, 0), "");
        found(at, ChangeKind::Created { read })
    };
    let names = |journal: &mut Journal, at: &str| -> Vec<String> {
        let rows = journal.children(&path(at), None, 10).unwrap();
        rows.into_iter().map(|(name, _)| name.into_string()).collect()
    };
    // A leaf gets a child, out of the order of names too, and a grandchild whose parent is unknown.
    journal.append(created("/a", 1)).unwrap();
    assert_eq!(names(&mut journal, "/a"), [""; 0]);
    journal.append(created("/a/m", 2)).unwrap();
    journal.append(created("/a/c", 3)).unwrap();
    journal.append(created("/a/z", 4)).unwrap();
    journal.append(created("/a/x/y", 5)).unwrap();
    assert_eq!(names(&mut journal, "/a"), ["c", "m", "z"]);
    assert_eq!(names(&mut journal, "/a/x"), ["y"]);
    assert_eq!(journal.deepest_below(&path("/a"), 10).unwrap().len(), 4);
    // A write invalidates the rows that a comparison has cached.
    journal.commit().unwrap();
    let mut journal = {
        drop(journal);
        scratch.open()
    };
    journal.children_to_compare(&path("/a"), None, 10).unwrap();
    assert_eq!(names(&mut journal, "/a/m"), [""; 0]);
    journal.append(created("/a/m/n", 6)).unwrap();
    assert_eq!(names(&mut journal, "/a/m"), ["n"]);
    // A rollback takes it back.
    journal.rollback().unwrap();
    assert_eq!(names(&mut journal, "/a/m"), [""; 0]);
    assert_eq!(journal.node(&path("/a/m/n")).unwrap(), None);
    journal.append(created("/a/m/n", 7)).unwrap();
    assert_eq!(names(&mut journal, "/a/m"), ["n"]);
}
