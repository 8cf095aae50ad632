//! The file at its path: what is removed, moved, replaced or linked while the journal is open, or before it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};

use super::scratch::*;
use crate::image_txn::ImageTxn;
use crate::journal::{Journal, JournalError, JournalErrorKind, JournalWriter, Reader, SinkState, beside};
use crate::number::Seq;

/// The file that a child process looks at.
const FILE: &str = "ZKBRIDGE_TEST_PLACE_FILE";

fn refusal(scratch: &Scratch) -> JournalError {
    match Journal::open(&scratch.file(), &scratch.options) {
        Ok(_) => panic!("{} must not open", scratch.file().display()),
        Err(error) => error,
    }
}

/// A journal with a record, open.
fn filled(scratch: &Scratch) -> Journal {
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x")]);
    journal
}

fn lock_of(scratch: &Scratch) -> std::path::PathBuf {
    scratch.file().with_file_name("main.journal.lock")
}

/// Runs this test again in another process, which does its part there.
fn in_another_process(test: &str, file: &Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("journal::tests::place::{test}")])
        .env(FILE, file)
        .status()
        .unwrap();
    assert!(status.success());
}

/// The bytes of a file that each connection of SQLite has locked (the SQLite file format, "the lock-byte page").
const SHARED: (i64, i64) = (0x4000_0002, 510);

/// Without this lock, the SQLite of another program that closes the journal takes itself for the last one, and removes
/// the log under the writer, as version 3.40 was seen to do.
#[test]
fn readers_that_come_and_go_leave_the_writer_the_lock_that_keeps_its_log() {
    if let Ok(file) = std::env::var(FILE) {
        let mut lock = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: SHARED.0,
            l_len: SHARED.1,
            l_pid: 0,
        };
        let file = fs::File::open(file).unwrap();
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).unwrap();
        assert_eq!(i32::from(lock.l_type), nix::libc::F_RDLCK, "nobody has locked it");
        return;
    }
    let scratch = Scratch::new();
    let journal = filled(&scratch);
    drop(scratch.reader());
    let reader = scratch.reader();
    assert_eq!(refusal(&scratch).kind, JournalErrorKind::InUse);
    in_another_process(
        "readers_that_come_and_go_leave_the_writer_the_lock_that_keeps_its_log",
        &scratch.file(),
    );
    drop((journal, reader));
}

#[test]
fn a_journal_that_was_removed_moved_or_replaced_while_it_is_open_is_noticed() {
    let check = |change: fn(&Path), words: &str| {
        let scratch = Scratch::new();
        let mut journal = filled(&scratch);
        journal.verify_place().unwrap();
        change(&scratch.file());
        let error = journal.verify_place().unwrap_err();
        assert_eq!(error.kind, JournalErrorKind::Moved);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("start again"), "{error}");
    };
    check(|file| fs::remove_file(file).unwrap(), "removed or moved");
    check(
        |file| fs::remove_dir_all(file.parent().unwrap()).unwrap(),
        "removed or moved",
    );
    check(
        |file| fs::rename(file, file.with_extension("old")).unwrap(),
        "removed or moved",
    );
    check(
        |file| {
            let copy = file.with_extension("copy");
            fs::copy(file, &copy).unwrap();
            fs::rename(copy, file).unwrap();
        },
        "another file",
    );
    for suffix in ["-wal", "-shm"] {
        let scratch = Scratch::new();
        let mut journal = filled(&scratch);
        journal.verify_place().unwrap();
        fs::remove_file(beside(&scratch.file(), suffix)).unwrap();
        let error = journal.verify_place().unwrap_err();
        assert_eq!(error.kind, JournalErrorKind::Moved);
        assert!(error.to_string().contains(suffix), "{error}");
        drop(journal);
        assert_eq!(scratch.records().len(), 1, "an orderly end keeps what SQLite has");
    }
    check(
        |file| {
            let log = beside(file, "-wal");
            fs::File::options()
                .write(true)
                .open(log)
                .unwrap()
                .set_len(0)
                .unwrap()
        },
        "the end of the file -wal beside it was cut off",
    );
    check(
        |file| {
            fs::File::options()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(0)
                .unwrap()
        },
        "its end was cut off",
    );
}

#[test]
fn a_lock_file_that_was_removed_is_locked_again_unless_another_process_has_it() {
    let scratch = Scratch::new();
    let mut journal = filled(&scratch);
    fs::remove_file(lock_of(&scratch)).unwrap();
    journal.verify_place().unwrap();
    assert_eq!(refusal(&scratch).kind, JournalErrorKind::InUse);

    fs::remove_file(lock_of(&scratch)).unwrap();
    let other = fs::File::create(lock_of(&scratch)).unwrap();
    other.lock().unwrap();
    assert_eq!(journal.verify_place().unwrap_err().kind, JournalErrorKind::InUse);
}

#[test]
fn a_second_writer_that_a_removed_lock_file_let_in_stops_the_first() {
    let scratch = Scratch::new();
    let mut first = filled(&scratch);
    fs::remove_file(lock_of(&scratch)).unwrap();
    let mut second = scratch.open();
    second.register_sink("second", Seq::ZERO).unwrap();
    second.commit().unwrap();
    let error = first.append(created("/b", 6, "first")).unwrap_err();
    assert_eq!(error.kind, JournalErrorKind::InUse, "{error}");
    assert!(error.to_string().contains("lock file"), "{error}");
    first.rollback().unwrap();
    assert_eq!(append_all(&mut second, [created("/b", 6, "second")]), Seq(2));
    assert!(first.append(created("/c", 7, "first")).is_err());
    drop((first, second));
    assert_eq!(scratch.records().len(), 2);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn an_empty_journal_is_refused_and_not_taken_for_a_new_one() {
    let scratch = Scratch::new();
    drop(filled(&scratch));
    fs::File::create(scratch.file()).unwrap();
    let error = refusal(&scratch);
    assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
    for word in ["it is empty", "restore it", "main.journal.lock"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(fs::metadata(scratch.file()).unwrap().len(), 0);
    assert!(Reader::open(&scratch.file()).is_err());
}

#[test]
fn a_journal_that_is_missing_beside_the_lock_file_of_one_is_refused_until_that_goes_too() {
    let scratch = Scratch::new();
    drop(filled(&scratch));
    fs::remove_file(scratch.file()).unwrap();
    for _ in 0..2 {
        let error = refusal(&scratch);
        assert_eq!(error.kind, JournalErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("main.journal.lock"), "{error}");
    }
    assert!(!scratch.file().exists());
    fs::remove_file(lock_of(&scratch)).unwrap();
    assert_eq!(scratch.open().tail(), Seq::ZERO);
}

#[test]
fn the_lock_file_of_an_attempt_that_created_no_journal_does_not_keep_the_next_one_from_it() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.file().with_file_name("main.journal.new")).unwrap();
    assert!(Journal::open(&scratch.file(), &scratch.options).is_err());
    assert!(lock_of(&scratch).exists());
    fs::remove_dir(scratch.file().with_file_name("main.journal.new")).unwrap();
    assert_eq!(scratch.open().tail(), Seq::ZERO);
}

#[test]
fn a_lock_file_that_leads_to_another_file_is_refused_and_that_file_keeps_its_content() {
    let check = |link: fn(&Path, &Path)| {
        let scratch = Scratch::new();
        let target = scratch.file().with_file_name("precious");
        fs::write(&target, "not to be emptied").unwrap();
        link(&target, &lock_of(&scratch));
        let error = refusal(&scratch);
        assert_eq!(error.kind, JournalErrorKind::Unwritable, "{error}");
        assert!(error.to_string().contains("is a link"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "not to be emptied");
        assert!(!scratch.file().exists());
    };
    check(|target, link| symlink(target, link).unwrap());
    check(|target, link| fs::hard_link(target, link).unwrap());
}
