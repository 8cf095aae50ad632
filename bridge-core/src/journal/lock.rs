//! Allows one process per journal: an advisory lock on `<file>.lock`, held until the writer is dropped.
//!
//! The operating system releases the lock when the process ends for any reason, so a lock never outlives its owner. The
//! lock is never on the journal itself: SQLite has its own locks there, and closing any handle of a file drops them.
//!
//! Invariants:
//!
//! * A lock counts only while the locked file is the one at its path. [`Lock::verify`] checks that, and takes the lock
//!   again if it is free. In between, the term in the journal itself keeps a second writer out ([`super::local_log`]).
//! * Nothing but a plain file of a single name is opened or written: in a folder of another user it could be a link.
//! * The lock file records whether the journal exists, so that a journal that is missing is not mistaken for a new one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::companions::beside;
use super::error::{JournalError, JournalErrorKind};
use crate::folder;

/// Read and write for the owner only: a journal holds the data of znodes.
pub(super) const OWNER_ONLY: u32 = 0o600;

/// Follows the pid once the journal exists.
const EXISTS: &str = "journal-exists";

/// Longer than the content of a lock file.
const CONTENT_BYTES_MAX: u64 = 256;

/// Attempts to lock the file that is at the path, where others remove it meanwhile.
pub(super) const ATTEMPTS: usize = 8;

/// The right to write one journal. Dropped, it is free again; its file stays, as removing it would let two processes
/// lock two files of one name.
#[derive(Debug)]
pub(super) struct Lock {
    held: File,
    journal: PathBuf,
}

impl Lock {
    /// Takes the lock, or names the process that has it.
    pub(super) fn take(journal: &Path) -> Result<Lock, JournalError> {
        let path = lock_file(journal);
        let locking = |error| JournalError::of_io(journal, "locking it", error);
        for _ in 0..ATTEMPTS {
            let held = open_plain(journal, &path)?;
            match held.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(journal, &held)),
                Err(TryLockError::Error(error)) => return Err(locking(error)),
            }
            let lock = Lock {
                held,
                journal: journal.to_owned(),
            };
            // Between opening and locking another process may have removed it.
            if lock.is_at_its_path().map_err(locking)? {
                return Ok(lock);
            }
        }
        Err(locking(io::Error::other(
            "its lock file is removed again and again",
        )))
    }

    /// Whether a process that held the lock had a journal.
    pub(super) fn journal_existed(&self) -> bool {
        content(&self.held).contains(EXISTS)
    }

    /// Writes this process into the file, and whether the journal exists. It only helps messages, so that a full disk must
    /// not keep the journal from opening.
    pub(super) fn note(&self, exists: bool) {
        let mut line = std::process::id().to_string();
        if exists {
            line.push(' ');
            line.push_str(EXISTS);
        }
        line.push('\n');
        // In place, so that the note of an existing journal is never missing.
        let written = self
            .held
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| self.held.set_len(line.len() as u64));
        if let Err(error) = written {
            tracing::debug!(%error, "the lock file of a journal has no pid");
        }
    }

    /// Takes the lock again if its file was removed or replaced.
    ///
    /// # Errors
    ///
    /// If another process has it, or the file cannot be read or created.
    pub(super) fn verify(&mut self) -> Result<(), JournalError> {
        let looked = self.is_at_its_path();
        if looked.map_err(|error| JournalError::of_io(&self.journal, "looking at its lock file", error))? {
            return Ok(());
        }
        *self = Lock::take(&self.journal)?;
        self.note(true);
        tracing::warn!(
            file = %lock_file(&self.journal).display(),
            "the lock file of a running bridge was removed or replaced, and is locked again: let nothing clean up data_dir"
        );
        Ok(())
    }

    fn is_at_its_path(&self) -> io::Result<bool> {
        let held = FileId::of(&self.held.metadata()?);
        Ok(FileId::at(&lock_file(&self.journal))? == Some(held))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that was forked and has not yet begun its own program holds
        // it, too.
        if let Err(error) = self.held.unlock() {
            tracing::debug!(%error, "the lock of a journal is released by closing its file");
        }
    }
}

/// Which file it is, under whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &std::fs::Metadata) -> FileId {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// The file at a path; `None` if there is none.
    pub(super) fn at(path: &Path) -> io::Result<Option<FileId>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(FileId::of(&metadata))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The path of the lock of a journal.
pub(super) fn lock_file(journal: &Path) -> PathBuf {
    beside(journal, ".lock")
}

/// Opens or creates the lock file without changing it, unless it leads elsewhere.
fn open_plain(journal: &Path, path: &Path) -> Result<File, JournalError> {
    // One that was removed since it was opened is taken, too: [`Lock::take`] sees that.
    match folder::open_plain(path, OWNER_ONLY) {
        Ok(opened) => opened.ok_or_else(|| no_plain_file(journal, path)),
        Err(error) => Err(JournalError::of_io(journal, "opening its lock file", error)),
    }
}

fn no_plain_file(journal: &Path, path: &Path) -> JournalError {
    JournalError::new(
        JournalErrorKind::Unwritable,
        journal,
        format!(
            "its lock file {} is a link or no plain file, so it is left alone: find out who made it, remove it, and let \
             nobody else write to data_dir",
            path.display()
        ),
    )
}

fn content(file: &File) -> String {
    let mut text = Vec::new();
    let read = file.take(CONTENT_BYTES_MAX).read_to_end(&mut text);
    if let Err(error) = read {
        tracing::debug!(%error, "the lock file of a journal cannot be read");
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn in_use(journal: &Path, file: &File) -> JournalError {
    let content = content(file);
    let owner = match content.split_whitespace().next() {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    };
    open_in(journal, &owner)
}

fn open_in(journal: &Path, owner: &str) -> JournalError {
    JournalError::new(
        JournalErrorKind::InUse,
        journal,
        format!("{owner} has it open: stop that one, or give this bridge another data_dir"),
    )
}

/// The error for a journal whose lock file names a process, without a lock of this process, so that it keeps no other
/// from taking it; `None` if it names none. To be used where it is known that a bridge runs.
pub fn in_use_by_another(journal: &Path) -> Option<JournalError> {
    let content = noted(journal)?;
    let pid = content.split_whitespace().next()?;
    Some(open_in(journal, &format!("process {pid}")))
}

/// Whether a lock file says that there was a journal, without a lock of this process.
pub(super) fn says_it_existed(journal: &Path) -> bool {
    noted(journal).is_some_and(|content| content.contains(EXISTS))
}

/// The content of the lock file of a journal; `None` if there is no plain file.
fn noted(journal: &Path) -> Option<String> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(lock_file(journal));
    let file = opened
        .ok()
        .filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))?;
    Some(content(&file))
}
