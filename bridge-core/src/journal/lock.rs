//! One process per journal: an advisory lock on `<file>.lock`, held as long as the writer lives.
//!
//! The operating system releases it when the process ends in whatever way, so a lock never outlives its owner. The
//! lock is never on the journal itself: SQLite's own locks are there, and closing any handle of a file drops them.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{JournalError, JournalErrorKind};

/// Read and write for the owner only: a journal holds the data of znodes.
pub(super) const OWNER_ONLY: u32 = 0o600;

/// The right to write one journal. Dropped, it is free again; its file stays, as removing it would let two processes
/// lock two files of one name.
#[derive(Debug)]
pub(super) struct Lock {
    held: File,
}

impl Lock {
    /// Takes the lock, or names the process that has it.
    pub(super) fn take(journal: &Path) -> Result<Lock, JournalError> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(OWNER_ONLY)
            .open(beside(journal, ".lock"));
        let mut file =
            opened.map_err(|error| JournalError::of_io(journal, "opening its lock file", error))?;
        match file.try_lock() {
            Ok(()) => {
                write_pid(&mut file);
                Ok(Lock { held: file })
            }
            Err(TryLockError::WouldBlock) => Err(in_use(journal, &mut file)),
            Err(TryLockError::Error(error)) => Err(JournalError::of_io(journal, "locking it", error)),
        }
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

/// The pid only helps a message, so that a full disk must not keep the journal from opening.
fn write_pid(file: &mut File) {
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::debug!(%error, "the lock file of a journal has no pid");
    }
}

fn in_use(journal: &Path, file: &mut File) -> JournalError {
    let mut pid = String::new();
    let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    let owner = if known {
        format!("process {}", pid.trim())
    } else {
        "another process".to_owned()
    };
    JournalError::new(
        JournalErrorKind::InUse,
        journal,
        format!("{owner} has it open: stop that one, or give this bridge another data_dir"),
    )
}

/// A file of the same name with a suffix.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}
