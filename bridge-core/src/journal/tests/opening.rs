//! Files that are opened, and files that are refused and left unchanged.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::scratch::*;
use crate::image_txn::ImageTxn;
use crate::journal::schema::{self, FORMAT};
use crate::journal::{Journal, JournalError, JournalErrorKind, JournalOptions, Reader, check_not_lost};
use crate::number::Seq;

/// A journal with a record, closed.
pub(super) fn filled() -> Scratch {
    let scratch = Scratch::new();
    append_all(&mut scratch.open(), [created("/a", 5, "x")]);
    scratch
}

pub(super) fn refusal(file: &Path, options: &JournalOptions) -> JournalError {
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
