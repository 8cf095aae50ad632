//! The transaction logs that a server writes into a folder: their files, and the transactions in them while it goes on.
//!
//! Everything is read at explicit positions and nothing is ever written, locked or held open longer than it is read.

mod applied;
mod base;
mod driver;
mod folder;
mod history;
mod idle;
mod options;
mod tail;

pub use driver::TxnlogSource;
pub use folder::{FolderError, LogFile, LogFolder, SnapshotFile};
pub use history::{HistoryError, LogHistory, LogHole, LogPosition};
pub use options::TxnlogOptions;
pub use tail::{LogTail, Obstacle, TailError};
