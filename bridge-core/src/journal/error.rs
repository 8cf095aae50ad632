//! The errors of a journal, each with a remedy.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use super::contract::RefusedBatch;
use super::lock::lock_file;

/// Why the journal cannot be used, with the file and a remedy in its message.
#[derive(Debug, thiserror::Error)]
#[error("journal {}: {message}", file.display())]
pub struct JournalError {
    /// The kind, for a program to decide on.
    pub kind: JournalErrorKind,
    /// The file.
    pub file: PathBuf,
    /// The message, with the remedy.
    pub message: String,
    /// Below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`JournalError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JournalErrorKind {
    /// Another process has it open, or has opened it after this one.
    InUse,
    /// Written by a newer zkbridge.
    Newer,
    /// A database of something else, or no database at all.
    Foreign,
    /// Damaged.
    Damaged,
    /// The file system has no space left.
    DiskFull,
    /// The journal's own size limit is reached.
    Full,
    /// No permission, a missing folder, a read-only file system.
    Unwritable,
    /// Another program has kept it locked for longer than the writer waits; it may let go of it.
    Held,
    /// It is no longer at its path.
    Moved,
    /// Belongs to a source of another name.
    OtherSource,
    /// Anything else that SQLite reports.
    Storage,
}

impl JournalError {
    /// An error without a cause below.
    pub fn new(kind: JournalErrorKind, file: &Path, message: impl Into<String>) -> JournalError {
        JournalError {
            kind,
            file: file.to_owned(),
            message: message.into(),
            source: None,
        }
    }

    /// A batch that the log did not accept.
    pub fn of_refused_batch(file: &Path, refused: RefusedBatch) -> JournalError {
        JournalError {
            source: Some(Box::new(refused)),
            ..JournalError::new(
                JournalErrorKind::InUse,
                file,
                format!(
                    "a batch was refused: {refused}: end one of the two processes; the lock file prevents a second one \
                     unless it was removed, so let nothing clean up data_dir"
                ),
            )
        }
    }

    /// An error that SQLite reported while `doing` something (a participle: `reading records`).
    pub(super) fn of_sqlite(file: &Path, doing: &str, error: rusqlite::Error) -> JournalError {
        let kind = kind_of(&error);
        let message = if kind == JournalErrorKind::Held {
            format!("{doing} failed ({error}): end the program that holds it, a backup or an SQLite shell")
        } else {
            message_of(file, kind, doing, &error.to_string())
        };
        JournalError {
            message,
            source: Some(Box::new(error)),
            ..JournalError::new(kind, file, "")
        }
    }

    /// An error that the operating system reported while `doing` something.
    pub(super) fn of_io(file: &Path, doing: &str, error: io::Error) -> JournalError {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                JournalErrorKind::DiskFull
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            // A file where the folder has to be made.
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotFound => JournalErrorKind::Unwritable,
            _ => JournalErrorKind::Storage,
        };
        JournalError {
            message: message_of(file, kind, doing, &error.to_string()),
            source: Some(Box::new(error)),
            ..JournalError::new(kind, file, "")
        }
    }
}

fn kind_of(error: &rusqlite::Error) -> JournalErrorKind {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => kind_of_code(failure),
        // The stored value is not valid in this format.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::QueryReturnedNoRows => JournalErrorKind::Damaged,
        _ => JournalErrorKind::Storage,
    }
}

fn kind_of_code(failure: &ffi::Error) -> JournalErrorKind {
    // Growing the -shm file fails with an input/output error, not with SQLITE_FULL.
    if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE {
        return JournalErrorKind::DiskFull;
    }
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => JournalErrorKind::Held,
        ErrorCode::DiskFull => JournalErrorKind::DiskFull,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => JournalErrorKind::Damaged,
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            JournalErrorKind::Unwritable
        }
        _ => JournalErrorKind::Storage,
    }
}

/// The remedy that gives up the content of the journal.
pub(super) fn start_anew(file: &Path) -> String {
    format!(
        "move it away together with {} and start with a new one, which begins with a snapshot",
        lock_file(file).display()
    )
}

fn message_of(file: &Path, kind: JournalErrorKind, doing: &str, cause: &str) -> String {
    let remedy = match kind {
        JournalErrorKind::DiskFull => "make room on its file system; nothing of this step was kept",
        JournalErrorKind::Damaged => {
            &format!("it is damaged: restore it from a copy, or {}", start_anew(file))
        }
        JournalErrorKind::Unwritable => {
            "give this user write permission on the file and its folder, or choose another data_dir"
        }
        _ => "look at the file system and the disk; starting again is safe",
    };
    format!("{doing} failed ({cause}): {remedy}")
}
