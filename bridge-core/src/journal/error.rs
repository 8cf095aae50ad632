//! What can go wrong with a journal, and what to do about it.

use std::path::PathBuf;

/// Why the journal cannot be used, with the file and a remedy in its message.
#[derive(Debug, thiserror::Error)]
#[error("journal {}: {message}", file.display())]
pub struct JournalError {
    /// What a program can decide on.
    pub kind: JournalErrorKind,
    /// The file.
    pub file: PathBuf,
    /// What happened, and what to do.
    pub message: String,
    /// Below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`JournalError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JournalErrorKind {
    /// Another process has it open.
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
    /// Belongs to a source of another name.
    OtherSource,
    /// Anything else that SQLite reports.
    Storage,
}
