//! Copies of a journal beside its writer, and a copy in the place of a journal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::scratch::*;
use crate::journal::{
    Existing, Journal, JournalErrorKind, JournalOptions, JournalWriter, Reader, SinkState, restore,
};
use crate::number::Seq;

/// Records of the first part of each test.
const BEFORE: u64 = 40;

fn write(journal: &mut Journal, count: u64) {
    for _ in 0..count {
        let zxid = journal.log.head.0 + 1;
        append_all(journal, [created(&format!("/n{zxid}"), zxid, "text")]);
    }
}

fn copy_of(scratch: &Scratch) -> PathBuf {
    scratch.file().with_file_name("copy.journal")
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn check_refused(scratch: &Scratch, cluster: &str, existing: Existing, kind: JournalErrorKind, words: &str) {
    let before = fs::read(scratch.file()).unwrap();
    let refused = restore(&copy_of(scratch), &scratch.file(), cluster, existing).unwrap_err();
    assert_eq!(refused.kind, kind, "{refused}");
    assert!(refused.to_string().contains(words), "{refused}");
    assert_eq!(
        fs::read(scratch.file()).unwrap(),
        before,
        "the journal is as before"
    );
    assert!(
        names_in(scratch.file().parent().unwrap())
            .iter()
            .all(|name| !name.contains(".part") && !name.contains(".replaced")),
        "nothing is left"
    );
}

#[test]
fn a_backup_beside_a_writer_has_one_state_of_records_image_and_cursors_for_its_owner_alone() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    write(&mut journal, BEFORE);
    let done = AtomicBool::new(false);
    let backup = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let backup = scratch.reader().back_up(&copy_of(&scratch)).unwrap();
            done.store(true, Ordering::Relaxed);
            backup
        });
        while !done.load(Ordering::Relaxed) {
            write(&mut journal, 1);
        }
        copying.join().unwrap()
    });
    assert!(
        backup.tail >= Seq(BEFORE) && backup.tail <= journal.tail(),
        "{backup:?}"
    );
    assert_eq!(backup.bytes, fs::metadata(&backup.file).unwrap().len());
    assert_eq!(
        fs::metadata(&backup.file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut copied = Reader::open(&backup.file).unwrap();
    assert_eq!(copied.tail().unwrap(), backup.tail);
    assert_eq!(copied.inspect(|_| {}).unwrap().total, 0);
    drop(copied);
    let names = names_in(scratch.file().parent().unwrap());
    assert!(names.iter().all(|name| !name.contains(".part")), "{names:?}");
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_where_it_fails() {
    let scratch = Scratch::new();
    write(&mut scratch.open(), 3);
    let taken = copy_of(&scratch);
    fs::write(&taken, "of somebody").unwrap();
    let refused = scratch.reader().back_up(&taken).unwrap_err();
    assert!(refused.to_string().contains("such a file already"), "{refused}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "of somebody");
    let nowhere = scratch.file().with_file_name("nowhere").join("copy.journal");
    let failed = scratch.reader().back_up(&nowhere).unwrap_err();
    assert_eq!(failed.kind, JournalErrorKind::Unwritable, "{failed}");
    let names = names_in(scratch.file().parent().unwrap());
    assert!(names.iter().all(|name| !name.contains(".part")), "{names:?}");
    // The rest of an attempt that was killed is no hindrance.
    let (part, copy) = (
        taken.with_file_name("next.journal.part"),
        taken.with_file_name("next.journal"),
    );
    fs::write(part, "half of a copy").unwrap();
    fs::write(taken.with_file_name("next.journal.part-journal"), "and its log").unwrap();
    assert_eq!(scratch.reader().back_up(&copy).unwrap().tail, Seq(3));
    let names = names_in(scratch.file().parent().unwrap());
    assert!(names.iter().all(|name| !name.contains(".part")), "{names:?}");
    let link = taken.with_file_name("link.journal");
    std::os::unix::fs::symlink(taken.with_file_name("nowhere"), &link).unwrap();
    let refused = scratch.reader().back_up(&link).unwrap_err();
    assert!(refused.to_string().contains("such a file already"), "{refused}");
}

#[test]
fn a_copy_that_another_process_writes_is_left_to_it() {
    let scratch = Scratch::new();
    write(&mut scratch.open(), 3);
    let copy = copy_of(&scratch);
    let part = copy.with_file_name("copy.journal.part");
    fs::write(&part, "what the other one has so far").unwrap();
    let other = fs::File::open(&part).unwrap();
    other.lock().unwrap();
    let refused = scratch.reader().back_up(&copy).unwrap_err();
    assert_eq!(refused.kind, JournalErrorKind::InUse, "{refused}");
    assert!(!copy.exists());
    assert_eq!(
        fs::read_to_string(&part).unwrap(),
        "what the other one has so far"
    );
    drop(other);
    assert_eq!(scratch.reader().back_up(&copy).unwrap().tail, Seq(3));
}

#[test]
fn copies_that_are_made_at_once_under_one_name_leave_one_that_is_whole() {
    let scratch = Scratch::new();
    write(&mut scratch.open(), BEFORE);
    let made: Vec<_> = std::thread::scope(|scope| {
        let copying = || scratch.reader().back_up(&copy_of(&scratch));
        let copies: Vec<_> = (0..4).map(|_| scope.spawn(copying)).collect();
        copies.into_iter().map(|copy| copy.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    let mut copied = Reader::open(&copy_of(&scratch)).unwrap();
    assert_eq!(copied.inspect(|_| {}).unwrap().total, 0);
    drop(copied);
    let names = names_in(scratch.file().parent().unwrap());
    assert!(names.iter().all(|name| !name.contains(".part")), "{names:?}");
}

#[test]
fn a_copy_that_is_a_pipe_or_a_device_is_refused_at_once() {
    let scratch = Scratch::new();
    write(&mut scratch.open(), 3);
    nix::unistd::mkfifo(&copy_of(&scratch), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let check = |words| {
        let kind = JournalErrorKind::Unwritable;
        check_refused(&scratch, "main", Existing::SetAside, kind, words);
    };
    check("not a regular file");
    fs::remove_file(copy_of(&scratch)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", copy_of(&scratch)).unwrap();
    check("nothing was changed");
}

#[test]
fn a_restored_journal_goes_on_after_the_copy_in_a_new_term_and_the_replaced_one_is_kept() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    write(&mut journal, 5);
    journal.register_sink("audit", Seq(2)).unwrap();
    journal.commit().unwrap();
    scratch.reader().back_up(&copy_of(&scratch)).unwrap();
    let term = journal.log.term;
    write(&mut journal, 4);
    drop(journal);

    let restored = restore(&copy_of(&scratch), &scratch.file(), "main", Existing::SetAside).unwrap();
    assert_eq!((restored.tail, restored.records), (Seq(5), 5));
    let replaced = restored.replaced.unwrap();
    assert_eq!(Reader::open(&replaced).unwrap().tail().unwrap(), Seq(9));
    let mut journal = scratch.open();
    assert!(journal.log.term > term, "the first batch begins a new term");
    assert_eq!(scratch.reader().cursor("audit").unwrap(), Some(Seq(2)));
    write(&mut journal, 1);
    assert_eq!(journal.tail(), Seq(6));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().total, 0);
    drop(journal);
    // A second time the first one that was replaced stays, too.
    let again = restore(&copy_of(&scratch), &scratch.file(), "main", Existing::SetAside).unwrap();
    assert_ne!(again.replaced.as_ref(), Some(&replaced));
    assert!(replaced.exists() && again.replaced.unwrap().exists());
}

#[test]
fn a_copy_takes_no_place_where_it_may_not_or_is_damaged() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    write(&mut journal, 5);
    scratch.reader().back_up(&copy_of(&scratch)).unwrap();
    check_refused(
        &scratch,
        "main",
        Existing::SetAside,
        JournalErrorKind::InUse,
        "has it open",
    );
    drop(journal);
    check_refused(
        &scratch,
        "main",
        Existing::Refuse,
        JournalErrorKind::Unwritable,
        "--force",
    );
    check_refused(
        &scratch,
        "other",
        Existing::SetAside,
        JournalErrorKind::OtherSource,
        "belongs to the source 'main'",
    );
    let whole = fs::read(copy_of(&scratch)).unwrap();
    fs::write(copy_of(&scratch), &whole[..whole.len() / 2]).unwrap();
    check_refused(
        &scratch,
        "main",
        Existing::SetAside,
        JournalErrorKind::Damaged,
        "was cut: nothing was changed, take another copy",
    );
    fs::write(copy_of(&scratch), "no journal").unwrap();
    check_refused(
        &scratch,
        "main",
        Existing::SetAside,
        JournalErrorKind::Foreign,
        "no database",
    );
    // Only the checks of the content find this.
    fs::write(copy_of(&scratch), &whole).unwrap();
    let damaged = rusqlite::Connection::open(copy_of(&scratch)).unwrap();
    damaged.execute("DELETE FROM record WHERE seq = 3", []).unwrap();
    drop(damaged);
    check_refused(
        &scratch,
        "main",
        Existing::SetAside,
        JournalErrorKind::Damaged,
        "nothing was changed",
    );
}

#[test]
fn a_log_whose_journal_is_gone_is_kept_and_never_taken_for_that_of_the_copy() {
    for suffix in ["-wal", "-journal"] {
        let scratch = Scratch::new();
        write(&mut scratch.open(), 5);
        scratch.reader().back_up(&copy_of(&scratch)).unwrap();
        let log = |file: &Path| PathBuf::from(format!("{}{suffix}", file.display()));
        fs::remove_file(scratch.file()).unwrap();
        fs::write(log(&scratch.file()), "the log of the one that is gone").unwrap();
        let refused = restore(&copy_of(&scratch), &scratch.file(), "main", Existing::Refuse).unwrap_err();
        assert!(refused.to_string().contains("--force"), "{refused}");
        let restored = restore(&copy_of(&scratch), &scratch.file(), "main", Existing::SetAside).unwrap();
        let kept = fs::read_to_string(log(&restored.replaced.unwrap())).unwrap();
        assert_eq!(kept, "the log of the one that is gone");
        assert_eq!(scratch.open().tail(), Seq(5));
    }
}

#[test]
fn a_copy_that_was_made_by_hand_is_restored_with_its_log() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    write(&mut journal, 5);
    let log = |file: &Path| PathBuf::from(format!("{}-wal", file.display()));
    fs::copy(scratch.file(), copy_of(&scratch)).unwrap();
    fs::copy(log(&scratch.file()), log(&copy_of(&scratch))).unwrap();
    drop(journal);
    let other = Scratch::new();
    let restored = restore(&copy_of(&scratch), &other.file(), "main", Existing::Refuse).unwrap();
    assert_eq!((restored.tail, restored.replaced), (Seq(5), None));
    let journal = Journal::open(&other.file(), &JournalOptions::new("main")).unwrap();
    assert_eq!(journal.tail(), Seq(5));
}
