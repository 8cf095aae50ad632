//! Files that are opened, and files that are refused and left unchanged.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::scratch::*;
use crate::append::{ChangeKind, Read};
use crate::delivery::SinkBacklog;
use crate::image_txn::ImageTxn;
use crate::journal::schema::{self, FORMAT, Migration};
use crate::journal::{
    BacklogChange, Journal, JournalError, JournalErrorKind, JournalOptions, JournalWriter, Log, Reader,
    SinkProgress, SinkState, Term, check_not_lost,
};
use crate::number::Seq;
use crate::record::{Data, DataForm};

/// A journal with a record, closed.
fn filled() -> Scratch {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 5, "x")]);
    scratch
}

fn refusal(file: &Path, options: &JournalOptions) -> JournalError {
    match Journal::open(file, options) {
        Ok(_) => panic!("{} must not open", file.display()),
        Err(error) => error,
    }
}

/// Neither writer nor reader takes the file, both say why, and its bytes stay.
fn check_refused(scratch: &Scratch, kind: JournalErrorKind, words: &[&str]) {
    let before = fs::read(scratch.file()).unwrap();
    let error = refusal(&scratch.file(), &scratch.options);
    assert_eq!(error.kind, kind, "{error}");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "'{word}' is not in: {message}");
    }
    assert!(
        message.contains(&scratch.file().display().to_string()),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    assert!(
        fs::read(scratch.file()).unwrap() == before,
        "the file was touched"
    );
}

#[test]
fn a_journal_is_created_with_its_folder_for_its_owner_only() {
    let scratch = Scratch::new();
    let file = scratch
        .file()
        .with_file_name("deep")
        .join("er")
        .join("main.journal");
    let mut journal = Journal::open(&file, &scratch.options).unwrap();
    append_all(&mut journal, [created("/a", 5, "x")]);
    for name in ["main.journal", "main.journal-wal", "main.journal.lock"] {
        let mode = fs::metadata(file.with_file_name(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let folder = fs::metadata(file.parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[test]
fn committed_records_and_no_others_are_there_after_opening_again() {
    let scratch = filled();
    let mut journal = scratch.open();
    journal.append(created("/b", 6, "y")).unwrap();
    drop(journal);
    let mut journal = scratch.open();
    assert_eq!(journal.tail(), Seq(1));
    assert!(journal.node(&path("/a")).unwrap().is_some());
    assert!(journal.node(&path("/b")).unwrap().is_none());
}

#[test]
fn a_file_of_something_else_is_refused() {
    let scratch = Scratch::new();
    fs::write(
        scratch.file(),
        "the recipes of my grandmother, in no particular order".repeat(9),
    )
    .unwrap();
    check_refused(
        &scratch,
        JournalErrorKind::Foreign,
        &["no database", "move it away"],
    );
    fs::write(scratch.file(), "short").unwrap();
    check_refused(&scratch, JournalErrorKind::Foreign, &["no database"]);
}

#[test]
fn a_database_of_something_else_is_refused() {
    let scratch = Scratch::new();
    let other = Connection::open(scratch.file()).unwrap();
    other
        .execute_batch("CREATE TABLE recipe(name TEXT); INSERT INTO recipe VALUES ('plum dumplings')")
        .unwrap();
    drop(other);
    check_refused(
        &scratch,
        JournalErrorKind::Foreign,
        &["database of something else"],
    );
    let error = Reader::open(&scratch.file()).err().unwrap();
    assert_eq!(error.kind, JournalErrorKind::Foreign);
}

#[test]
fn a_journal_of_a_newer_format_is_refused_with_both_numbers() {
    let scratch = filled();
    let newer = Connection::open(scratch.file()).unwrap();
    newer.pragma_update(None, "user_version", 77).unwrap();
    drop(newer);
    check_refused(
        &scratch,
        JournalErrorKind::Newer,
        &["format 77", &format!("up to {FORMAT}")],
    );
}

#[test]
fn a_newer_format_that_is_only_in_the_log_is_refused_too() {
    let scratch = filled();
    let newer = Connection::open(scratch.file()).unwrap();
    newer.pragma_update(None, "user_version", 77).unwrap();
    check_refused(&scratch, JournalErrorKind::Newer, &["format 77"]);
}

#[test]
fn a_journal_of_another_source_is_refused_with_both_names() {
    let mut scratch = filled();
    scratch.options = JournalOptions::new("spare");
    check_refused(&scratch, JournalErrorKind::OtherSource, &["'main'", "'spare'"]);
}

#[test]
fn a_journal_that_was_cut_is_refused() {
    let scratch = filled();
    let length = fs::metadata(scratch.file()).unwrap().len();
    let file = File::options().write(true).open(scratch.file()).unwrap();
    file.set_len(length / 2).unwrap();
    check_refused(&scratch, JournalErrorKind::Damaged, &["it was cut", "restore it"]);
}

#[test]
fn a_log_whose_journal_is_gone_is_not_taken_for_the_log_of_a_new_one() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x")]);
    let log = scratch.file().with_file_name("main.journal-wal");
    let kept = fs::read(&log).unwrap();
    drop(journal);
    fs::remove_file(scratch.file()).unwrap();
    fs::write(&log, &kept).unwrap();
    let error = refusal(&scratch.file(), &scratch.options);
    assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
    assert!(fs::read(&log).unwrap() == kept);
    assert!(!scratch.file().exists());
}

#[test]
fn another_file_may_get_the_name_of_a_journal_only_where_none_was_lost() {
    let scratch = Scratch::new();
    let lost = || check_not_lost(&scratch.file()).map_err(|error| error.to_string());
    lost().unwrap();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x")]);
    let log = scratch.file().with_file_name("main.journal-wal");
    let kept = fs::read(&log).unwrap();
    drop(journal);
    fs::write(&log, "").unwrap();
    fs::remove_file(scratch.file()).unwrap();
    let error = lost().unwrap_err();
    assert!(error.contains("its lock file says that there was one"), "{error}");
    fs::remove_file(scratch.file().with_file_name("main.journal.lock")).unwrap();
    lost().unwrap();
    fs::write(&log, &kept).unwrap();
    let error = lost().unwrap_err();
    assert!(error.contains("main.journal-wal is there without it"), "{error}");
}

#[test]
fn a_rollback_log_whose_file_is_missing_is_not_taken_for_that_of_a_new_journal() {
    let scratch = Scratch::new();
    let log = scratch.file().with_file_name("main.journal-journal");
    fs::write(&log, "of another file").unwrap();
    let error = check_not_lost(&scratch.file()).unwrap_err().to_string();
    assert!(
        error.contains("main.journal-journal is there without it"),
        "{error}"
    );
    let error = refusal(&scratch.file(), &scratch.options);
    assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
    assert!(log.exists() && !scratch.file().exists());
    // One without content is none.
    fs::write(&log, "").unwrap();
    check_not_lost(&scratch.file()).unwrap();
    drop(scratch.open());
}

#[test]
fn damage_met_while_reading_is_called_damage() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        (1..2000).map(|zxid| created(&format!("/a-{zxid}"), zxid, "x")),
    );
    drop(journal);
    let mut bytes = fs::read(scratch.file()).unwrap();
    for page in bytes.chunks_mut(schema::PAGE_BYTES as usize).skip(1) {
        page[..8].fill(0xee);
    }
    fs::write(scratch.file(), &bytes).unwrap();
    let damaged = match Journal::open(&scratch.file(), &scratch.options) {
        Err(error) => error,
        Ok(mut journal) => journal.node(&path("/a-7")).unwrap_err(),
    };
    assert_eq!(damaged.kind, JournalErrorKind::Damaged, "{damaged}");
    assert!(damaged.to_string().contains("move it away"), "{damaged}");
    assert!(fs::read(scratch.file()).unwrap() == bytes, "the file was touched");
}

#[test]
fn a_column_that_holds_no_code_of_a_journal_is_damage() {
    let scratch = filled();
    let editor = Connection::open(scratch.file()).unwrap();
    editor.execute("UPDATE record SET stat = x'ff'", []).unwrap();
    drop(editor);
    let error = scratch.reader().read(Seq::ZERO, ALL).unwrap_err();
    assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
}

#[test]
fn a_value_that_is_named_and_not_there_is_damage() {
    let scratch = filled();
    let editor = Connection::open(scratch.file()).unwrap();
    editor.execute("DELETE FROM value", []).unwrap();
    drop(editor);
    let error = scratch.reader().read(Seq::ZERO, ALL).unwrap_err();
    assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
}

#[test]
fn a_second_writer_is_refused_with_the_number_of_the_first_until_that_ends() {
    let scratch = Scratch::new();
    let first = scratch.open();
    let pid = std::process::id().to_string();
    check_refused(&scratch, JournalErrorKind::InUse, &[pid.as_str(), "data_dir"]);
    drop(first);
    assert_eq!(scratch.open().tail(), Seq::ZERO);
}

#[test]
fn a_program_that_holds_the_file_is_named_as_the_cause() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    journal
        .connection
        .busy_timeout(std::time::Duration::ZERO)
        .unwrap();
    let shell = Connection::open(scratch.file()).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = journal.append(created("/a", 5, "x")).unwrap_err();
    assert_eq!(error.kind, JournalErrorKind::Held);
    assert!(error.to_string().contains("SQLite shell"), "{error}");
    shell.execute_batch("ROLLBACK").unwrap();
    assert_eq!(append_all(&mut journal, [created("/a", 5, "x")]), Seq(1));
}

#[test]
fn a_directory_in_the_place_of_the_journal_is_refused() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.file()).unwrap();
    let error = refusal(&scratch.file(), &scratch.options);
    assert_eq!(error.kind, JournalErrorKind::Unwritable, "{error}");
    assert!(error.to_string().contains("this is no file"), "{error}");
}

#[test]
fn a_file_in_the_place_of_the_folder_is_refused() {
    let scratch = Scratch::new();
    let folder = scratch.file().with_file_name("taken");
    fs::write(&folder, "x").unwrap();
    let error = refusal(&folder.join("main.journal"), &scratch.options);
    assert_ne!(error.kind, JournalErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("taken"), "{error}");
}

#[test]
fn a_place_where_nothing_can_be_written_is_refused_with_a_remedy() {
    // For root, too, nothing can be created there.
    for place in [
        "/proc/zkbridge/main.journal",
        "/proc/main.journal",
        "/sys/main.journal",
    ] {
        let error = refusal(Path::new(place), &JournalOptions::new("main"));
        assert_eq!(error.kind, JournalErrorKind::Unwritable, "{error}");
        assert!(error.to_string().contains("write permission"), "{error}");
    }
}

#[test]
fn a_reader_of_no_journal_says_so_and_creates_none() {
    let scratch = Scratch::new();
    let error = Reader::open(&scratch.file()).err().unwrap();
    assert_eq!(error.kind, JournalErrorKind::Unwritable);
    assert!(error.to_string().contains("no such file"), "{error}");
    assert!(!scratch.file().exists());
}

#[test]
fn the_rest_of_a_creation_that_crashed_is_overwritten() {
    let scratch = Scratch::new();
    fs::write(scratch.file().with_file_name("main.journal.new"), "half").unwrap();
    fs::write(
        scratch.file().with_file_name("main.journal.new-journal"),
        "a half more",
    )
    .unwrap();
    assert_eq!(append_all(&mut scratch.open(), [created("/a", 5, "x")]), Seq(1));
}

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
