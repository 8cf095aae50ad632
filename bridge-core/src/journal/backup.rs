//! Copies a journal beside a running writer, and puts such a copy in the place of a journal.
//!
//! Invariants:
//!
//! * A copy appears under its name whole and synchronised, or not at all; only its owner may read it. Two processes never
//!   write one copy.
//! * The copy of a journal that is open is one read transaction: it has one state of records, image and cursors. No batch
//!   waits for it, and the write-ahead log grows until it ends, because SQLite cannot restart the log meanwhile.
//! * A copy takes the place of a journal only if its content is whole, its source is the same, no process has the journal
//!   open, and the journal that was there is kept under another name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::companions::{COMPANIONS, LOGS, beside, remove_companions};
use super::error::{JournalError, JournalErrorKind, start_anew};
use super::lock::{ATTEMPTS, FileId, Lock, OWNER_ONLY};
use super::open::check_cluster;
use super::read::Reader;
use crate::file_path::open_regular;
use crate::folder::{folder_of, open_plain, remove_if_there, sync_folder};
use crate::number::Seq;

/// The suffix of a copy that is being written.
const PART: &str = ".part";

/// The suffix of a journal that a copy has replaced.
const REPLACED: &str = ".replaced";

/// A copy of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The file.
    pub file: PathBuf,
    /// The last record in it.
    pub tail: Seq,
    /// Its bytes.
    pub bytes: u64,
    /// The longest write-ahead log of the journal that was seen: the part above its usual bound lasts until the writer
    /// restarts the log.
    pub log_bytes: u64,
}

/// The result of putting a copy in the place of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The journal.
    pub file: PathBuf,
    /// The last record in it. The next one has the number after it, which a record may have had already.
    pub tail: Seq,
    /// Records in it.
    pub records: u64,
    /// The name under which the journal is kept that was there.
    pub replaced: Option<PathBuf>,
}

/// The behaviour where there is a journal already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The copy is refused.
    Refuse,
    /// The journal is kept under another name.
    SetAside,
}

impl Reader {
    /// Copies the journal into a new file. Blocks as long as it takes to read the journal, and needs room for it.
    ///
    /// # Errors
    ///
    /// If there is a file of this name, it cannot be written, or the journal cannot be read. Nothing is left then.
    pub fn back_up(&mut self, to: &Path) -> Result<Backup, JournalError> {
        let part = beside(to, PART);
        let held = hold(&part, to)?;
        let copied = self.copy_into(&part, to);
        if copied.is_err() {
            // The rest of an attempt must not look like a copy, and takes room.
            discard(&part);
        }
        drop(held);
        copied
    }

    fn copy_into(&mut self, part: &Path, to: &Path) -> Result<Backup, JournalError> {
        let writing = |error| JournalError::of_io(to, "writing the copy", error);
        let name = part.to_str().ok_or_else(|| {
            JournalError::new(
                JournalErrorKind::Unwritable,
                to,
                "SQLite takes only paths that are UTF-8: name another folder",
            )
        })?;
        self.connection
            .for_whole_file()
            .execute("VACUUM INTO ?1", [name])
            .map_err(|error| JournalError::of_sqlite(to, "copying the journal", error))?;
        let log_bytes = self.log_bytes_now();
        let tail =
            into_wal_mode(part).map_err(|error| JournalError::of_sqlite(to, "ending the copy", error))?;
        let bytes = put(part, to).map_err(writing)?;
        Ok(Backup {
            file: to.to_owned(),
            tail,
            bytes,
            log_bytes,
        })
    }

    fn log_bytes_now(&self) -> u64 {
        fs::metadata(beside(self.file(), "-wal")).map_or(0, |log| log.len())
    }
}

/// Makes the file of a copy, and keeps other processes from it. Without this, a second process would take the file away,
/// and the first one would give its name to the half of the second one.
fn hold(part: &Path, to: &Path) -> Result<File, JournalError> {
    let refused = |kind, reason: &str| Err(JournalError::new(kind, to, reason));
    let writing = |error| JournalError::of_io(to, "writing the copy", error);
    for _ in 0..ATTEMPTS {
        // Also a link that leads nowhere, and the copy of a process that has ended meanwhile.
        if fs::symlink_metadata(to).is_ok() {
            let reason = "there is such a file already: name another folder, or move the file away";
            return refused(JournalErrorKind::Unwritable, reason);
        }
        // Always a new one: the rest of an attempt can be a file that others may read.
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(part);
        match created {
            Ok(held) if is_held(&held, part).map_err(writing)? => {
                remove_companions(part).map_err(writing)?;
                return Ok(held);
            }
            // Another process takes it for the rest of an attempt.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !is_removed(part).map_err(writing)? {
                    let reason = "another process writes this copy: wait for its end, or name another folder";
                    return refused(JournalErrorKind::InUse, reason);
                }
            }
            Err(error) => return Err(writing(error)),
        }
    }
    Err(writing(io::Error::other("its file is removed again and again")))
}

/// Locks a file; `false` if another process has it, or it is no longer at its path.
fn is_held(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(FileId::at(path)? == Some(FileId::of(&file.metadata()?))),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the rest of an attempt that was killed; `false` if a process still writes it.
fn is_removed(part: &Path) -> io::Result<bool> {
    // A link, a pipe and a device are of no process of this program.
    if let Some(rest) = open_plain(part, OWNER_ONLY)? {
        match rest.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if FileId::at(part)? != Some(FileId::of(&rest.metadata()?)) {
            // Another process has removed it, or made one of its own since.
            return Ok(true);
        }
    }
    remove_if_there(part).map(|()| true)
}

/// A copy of `VACUUM INTO` is in SQLite's rollback mode, and a journal is not. Returns the last record.
fn into_wal_mode(file: &Path) -> rusqlite::Result<Seq> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let tail: i64 = connection.query_row("SELECT ifnull(max(seq), 0) FROM record", [], |row| row.get(0))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(Seq(tail.cast_unsigned()))
}

/// Gives a file that is complete its name. Returns its bytes.
fn put(part: &Path, to: &Path) -> io::Result<u64> {
    let written = File::open(part)?;
    written.sync_all()?;
    let bytes = written.metadata()?.len();
    // A log of an empty length, or none, is left by a connection that was closed.
    remove_companions(part)?;
    fs::rename(part, to)?;
    sync_folder(folder_of(to))?;
    Ok(bytes)
}

fn remove_all(file: &Path) -> io::Result<()> {
    remove_if_there(file)?;
    remove_companions(file)
}

fn discard(part: &Path) {
    if let Err(error) = remove_all(part) {
        tracing::warn!(file = %part.display(), %error, "the rest of a copy cannot be removed");
    }
}

/// Puts a copy in the place of the journal of a source, after checking all of it.
///
/// # Errors
///
/// If a process has the journal open, there is one and it may not be set aside, or the copy is damaged, newer, of another
/// source or of another program. The journal and the copy are then as before.
pub fn restore(
    copy: &Path,
    file: &Path,
    cluster: &str,
    existing: Existing,
) -> Result<Restored, JournalError> {
    let lock = Lock::take(file)?;
    if is_there(file) && existing == Existing::Refuse {
        return Err(JournalError::new(
            JournalErrorKind::Unwritable,
            file,
            "there is a journal already, or the log of one: add --force to keep it under another name and put the copy \
             in its place",
        ));
    }
    let part = beside(file, PART);
    let restored = take_copy(copy, &part, cluster).and_then(|records| replace(&part, file, records, &lock));
    if restored.is_err() {
        discard(&part);
    }
    restored
}

/// Copies the copy beside the journal, and checks it there: the original stays as it is, also on a medium that cannot be
/// written. Returns how many records it has.
fn take_copy(copy: &Path, part: &Path, cluster: &str) -> Result<u64, JournalError> {
    let reading = |error: io::Error| {
        let message = format!(
            "the copy cannot be read ({error}); nothing was changed: name a folder of 'zkbridge journal backup' that this \
             user may read"
        );
        JournalError::new(JournalErrorKind::Unwritable, copy, message)
    };
    let writing = |error| JournalError::of_io(part, "writing it", error);
    remove_all(part).map_err(writing)?;
    // A copy that was made by hand may have a log.
    for suffix in ["", "-wal"] {
        let (from, to) = (beside(copy, suffix), beside(part, suffix));
        let mut source = match open_regular(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => continue,
            other => other.map_err(reading)?,
        };
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(&to)
            .map_err(writing)?;
        io::copy(&mut source, &mut target).map_err(writing)?;
        target.sync_all().map_err(writing)?;
    }
    // The remedies of a journal are none for a copy.
    let of_journal = format!("restore it from a copy, or {}", start_anew(part));
    let of_copy = |error: JournalError| JournalError {
        file: copy.to_owned(),
        message: error
            .message
            .replace(&of_journal, "nothing was changed, take another copy"),
        ..error
    };
    let mut reader = Reader::open(part).map_err(of_copy)?;
    check_cluster(copy, reader.connection.for_whole_file(), cluster)?;
    let inspection = reader.inspect(|_| {}).map_err(of_copy)?;
    match inspection.findings.first() {
        None => Ok(inspection.records),
        Some(first) => Err(JournalError::new(
            JournalErrorKind::Damaged,
            copy,
            format!(
                "{} things are wrong with the copy, the first: {}: {}; nothing was changed, take another copy",
                inspection.total, first.subject, first.message
            ),
        )),
    }
}

fn replace(part: &Path, file: &Path, records: u64, lock: &Lock) -> Result<Restored, JournalError> {
    let opened = |error| JournalError::of_sqlite(file, "ending the copy", error);
    let tail = into_wal_mode(part).map_err(opened)?;
    let moving = |error| JournalError::of_io(file, "putting the copy in its place", error);
    let replaced = set_aside(file).map_err(moving)?;
    put(part, file).map_err(moving)?;
    lock.note(true);
    Ok(Restored {
        file: file.to_owned(),
        tail,
        records,
        replaced,
    })
}

/// Whether there is a journal, or a log without its journal, which would be taken for that of the copy.
fn is_there(file: &Path) -> bool {
    file.exists() || LOGS.iter().any(|suffix| beside(file, suffix).exists())
}

/// Moves the journal and its logs to a free name. Returns that name; `None` if there is neither.
fn set_aside(file: &Path) -> io::Result<Option<PathBuf>> {
    if !is_there(file) {
        return Ok(None);
    }
    let names =
        std::iter::once(REPLACED.to_owned()).chain((2..).map(|number| format!("{REPLACED}-{number}")));
    let aside = names
        .map(|suffix| beside(file, &suffix))
        .find(|name| !is_there(name));
    let aside = aside.expect("the names have no end");
    // The logs first: a journal without its log is older, a log without its journal would belong to another.
    for suffix in COMPANIONS.into_iter().chain([""]) {
        match fs::rename(beside(file, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(Some(aside))
}
