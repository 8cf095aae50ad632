//! The transaction logs that a server writes into a folder: their files, and the transactions in them while it goes on.
//!
//! Everything is read at explicit positions and nothing is ever written, locked or held open longer than it is read.

pub(crate) mod applied;
mod backfill;
pub(crate) mod base;
mod begin;
mod driver;
pub(crate) mod evidence;
mod examine;
pub(crate) mod fill;
mod folder;
mod history;
mod idle;
mod options;
mod tail;

pub use applied::applied_by_servers;
pub use backfill::{BackfillError, BackfillRequest, LogBackfill};
pub use driver::TxnlogSource;
pub use evidence::{ForeignFolder, foreign_folders};
pub use examine::{FolderExamination, FolderFiles, examine_folder, newest_applied, write_rate};
pub use folder::{FolderError, LogFile, LogFolder, SnapshotFile};
pub use history::{HistoryError, LogHistory, LogHole, LogPosition};
pub use options::TxnlogOptions;
pub use tail::{LogTail, Obstacle, TailError};

/// An error as the reason of another one, which has a remedy of its own.
fn as_reason(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let cause = text.split("\nhelp: ").next();
    cause.unwrap_or_default().to_owned()
}
