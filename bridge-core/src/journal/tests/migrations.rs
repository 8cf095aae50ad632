//! Journals of earlier formats: how they are brought forward, and read before.

use std::fs;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::opening::{filled, refusal};
use super::scratch::*;
use crate::append::{ChangeKind, Read};
use crate::delivery::SinkBacklog;
use crate::journal::schema::{self, FORMAT, Migration};
use crate::journal::{BacklogChange, Journal, JournalWriter, Log, SinkProgress, SinkState, Term};
use crate::number::Seq;
use crate::record::{Data, DataForm};

#[test]
fn migrations_bring_a_file_forward_in_one_step_or_not_at_all() {
    let scratch = filled();
    let good = [
        Migration {
            to: FORMAT + 1,
            sql: "ALTER TABLE record ADD COLUMN note TEXT; UPDATE record SET note = 'old'",
        },
        Migration {
            to: FORMAT + 2,
            sql: "CREATE TABLE audit(who TEXT) STRICT",
        },
    ];
    let bad = [
        Migration {
            to: FORMAT + 1,
            sql: good[0].sql,
        },
        Migration {
            to: FORMAT + 2,
            sql: "CREATE TABLE record(twice TEXT)",
        },
    ];
    let mut connection = Connection::open(scratch.file()).unwrap();
    let look = |connection: &Connection| {
        let format: u32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        let note = connection.query_row("SELECT note FROM record", [], |row| row.get::<_, String>(0));
        (format, note.ok())
    };
    schema::migrate(&mut connection, FORMAT, &bad).unwrap_err();
    assert_eq!(look(&connection), (FORMAT, None));
    schema::migrate(&mut connection, FORMAT, &good).unwrap();
    assert_eq!(look(&connection), (FORMAT + 2, Some("old".to_owned())));
    schema::migrate(&mut connection, FORMAT + 2, &good).unwrap();
    assert_eq!(look(&connection), (FORMAT + 2, Some("old".to_owned())));
    let header = fs::read(scratch.file()).unwrap();
    assert_eq!(
        header[60..64],
        (FORMAT + 2).to_be_bytes(),
        "the file itself must say its format"
    );
}

#[test]
fn the_migrations_lead_from_each_format_to_the_present_one() {
    let mut format = 1;
    for step in schema::MIGRATIONS {
        format += 1;
        assert_eq!(step.to, format);
    }
    assert_eq!(format, schema::FORMAT);
}

/// Removes the tables and columns that were added after each format, the newest first.
const STEPS_BACK: [(u32, &str); 11] = [
    (
        11,
        "DROP TABLE unreadable; DELETE FROM meta WHERE key = 'unreadable_since'; ALTER TABLE root DROP COLUMN walked_seq;
        ALTER TABLE root DROP COLUMN walked_zxid; ALTER TABLE root DROP COLUMN walked_time;",
    ),
    (
        10,
        "DROP TABLE uncaptured; DELETE FROM meta WHERE key = 'uncaptured';",
    ),
    (
        9,
        "DROP TABLE ended; DROP TABLE unclear; ALTER TABLE image DROP COLUMN born; DELETE FROM meta WHERE key = 'ended_since';",
    ),
    (
        8,
        "DROP TABLE stretch; DELETE FROM meta WHERE key IN ('stretch', 'unsummarised');",
    ),
    (7, "DROP TABLE waypoint; ALTER TABLE image DROP COLUMN steps;"),
    (
        6,
        "DROP INDEX record_mark; ALTER TABLE record DROP COLUMN facts; ALTER TABLE image DROP COLUMN facts; DROP TABLE fact; \
         DROP TABLE position; DROP TABLE shadow; DROP TABLE derived;",
    ),
    (5, "ALTER TABLE value DROP COLUMN digest;"),
    (4, "DELETE FROM meta WHERE key IN ('term', 'applied');"),
    (3, "ALTER TABLE record DROP COLUMN txn;"),
    (
        2,
        "DROP TABLE hole; DROP TABLE folded; DELETE FROM meta WHERE key IN ('holes', 'compacted');",
    ),
    (
        1,
        "DROP TABLE parked; DROP INDEX rejected_whole; ALTER TABLE rejected DROP COLUMN attempts;
        ALTER TABLE rejected DROP COLUMN at; ALTER TABLE rejected DROP COLUMN path;
        ALTER TABLE sink DROP COLUMN disabled; ALTER TABLE sink DROP COLUMN disabled_at;",
    ),
];

/// Makes a closed journal one of an older format.
pub fn take_back_to(scratch: &Scratch, format: u32) {
    let connection = Connection::open(scratch.file()).unwrap();
    for (_, sql) in STEPS_BACK.iter().filter(|(to, _)| *to >= format) {
        connection.execute_batch(sql).unwrap();
    }
    connection.pragma_update(None, "user_version", format).unwrap();
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
}

#[test]
fn a_journal_of_the_first_format_keeps_its_cursors_and_dead_letters() {
    let scratch = filled();
    let mut journal = scratch.open();
    journal.register_sink("one", Seq::ZERO).unwrap();
    let letter = BacklogChange::Rejected {
        seq: Seq(1),
        path: None,
        reason: "too large".into(),
        attempts: 1,
    };
    let progress = SinkProgress {
        sink: "one".into(),
        to: Seq(1),
        changes: vec![letter],
        ..SinkProgress::default()
    };
    journal.advance(&progress).unwrap();
    journal.commit().unwrap();
    drop(journal);
    take_back_to(&scratch, 1);

    drop(scratch.open());

    let mut reader = scratch.reader();
    assert_eq!(reader.cursor("one").unwrap(), Some(Seq(1)));
    let letters = reader.rejected("one", Seq::ZERO, 9).unwrap();
    assert_eq!((letters[0].letter.attempts, letters[0].letter.at), (1, None));
    assert_eq!(letters[0].record.path.as_deref(), Some("/a"));
    assert_eq!(reader.parked("one", Seq::ZERO, 9).unwrap(), []);
    let backlog = SinkBacklog::load(&mut reader, "one", NOON).unwrap();
    assert_eq!(backlog.letters.len(), 1);
}

#[test]
fn an_interrupted_opening_leaves_a_journal_in_its_old_format_and_the_next_one_finishes() {
    let scratch = filled();
    let many = (6..2_000).map(|zxid| created(&format!("/{zxid}"), zxid, "x"));
    append_all(&mut scratch.open(), many);
    let before = scratch.records();
    take_back_to(&scratch, 6);
    let mut options = scratch.options.clone();
    options.stop.cancel();

    let error = refusal(&scratch.file(), &options);

    assert!(error.to_string().contains("interrupted"), "{error}");
    let format = |scratch: &Scratch| fs::read(scratch.file()).unwrap()[60..64].to_vec();
    assert_eq!(format(&scratch), 6_u32.to_be_bytes());
    options.stop = CancellationToken::new();
    let mut journal = Journal::open(&scratch.file(), &options).unwrap();
    assert_eq!(format(&scratch), FORMAT.to_be_bytes());
    // An open journal is written and read to the end.
    journal.end_opening().unwrap();
    options.stop.cancel();
    append_all(&mut journal, [created("/b", 9_000, "y")]);
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(scratch.records().len(), before.len() + 1);
}

#[test]
fn a_journal_of_the_second_format_can_be_looked_at_before_it_is_brought_forward() {
    let scratch = filled();
    let before = scratch.reader().overview().unwrap();
    take_back_to(&scratch, 2);

    let look = || {
        let mut reader = scratch.reader();
        let history = reader.history(&path("/a"), None, 9).unwrap().unwrap();
        assert_eq!(reader.inspect(|_| {}).unwrap().findings, []);
        assert!(history.compacted.is_empty());
        reader.overview().unwrap().records
    };
    assert_eq!(look(), before.records);
    drop(scratch.open());
    assert_eq!(look(), before.records);
}

#[test]
fn a_journal_of_the_third_format_can_be_read_before_it_is_brought_forward() {
    let scratch = filled();
    let before = scratch.records();
    take_back_to(&scratch, 3);

    assert_eq!(scratch.records(), before);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
    drop(scratch.open());
    assert_eq!(scratch.records(), before);
}

#[test]
fn a_journal_of_the_fourth_format_is_read_checked_and_written_on() {
    let scratch = filled();
    let before = scratch.records();
    take_back_to(&scratch, 4);

    assert_eq!(scratch.records(), before);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
    let mut journal = scratch.open();
    assert_eq!((journal.term(), journal.end().term), (Term(1), Term(1)));
    append_all(&mut journal, [created("/b", 6, "y")]);
    drop(journal);
    assert_eq!(scratch.open().end().term, Term(2));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_journal_of_the_fifth_format_has_no_digests_and_those_of_later_values_are_kept() {
    let scratch = filled();
    let before = scratch.records();
    take_back_to(&scratch, 5);
    assert_eq!(scratch.records(), before);

    let mut journal = scratch.open();
    let long = Data::limited(b"a long value", DataForm::Auto, 4);
    let read = Read {
        stat: stat(900, 900, 0),
        data: Some(long.clone()),
    };
    append_all(&mut journal, [seen("/long", ChangeKind::Created { read })]);
    drop(journal);
    let records = scratch.records();
    assert_eq!(records[..before.len()], before);
    let kept = records.last().unwrap().after.as_ref().unwrap().data.as_ref();
    assert_eq!(kept, Some(&long));
    assert!(long.digest.is_some());
}
