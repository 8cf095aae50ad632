//! The errors of a query.

use std::path::PathBuf;
use std::time::Duration;

use bridge_core::journal::JournalError;
use bridge_core::path::ZnodePath;

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Every reader of the pool is in use.
    #[error(
        "query failed: journal {}: all {readers} readers stayed busy for {} s\nhelp: repeat the query later",
        file.display(),
        waited.as_secs()
    )]
    Busy {
        /// The journal's file.
        file: PathBuf,
        /// The size of the pool.
        readers: usize,
        /// How long the query waited.
        waited: Duration,
    },
    /// The file for the time before the journal is of another source.
    #[error(
        "query failed: {} belongs to the source '{found}', not to '{source_name}'\nhelp: move the file away",
        file.display()
    )]
    OtherSource {
        /// The file.
        file: PathBuf,
        /// The source that it belongs to.
        found: String,
        /// The source of the journal.
        source_name: String,
    },
    /// A `next` of another question, or of an older version.
    #[error(
        "query failed: cursor {0}…: it does not belong to this question\nhelp: repeat the question without a cursor"
    )]
    BadCursor(String),
    /// The path is hidden from this caller.
    #[error("query failed: {0}: this path is hidden")]
    Hidden(ZnodePath),
}
