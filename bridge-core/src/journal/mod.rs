//! The journal: one SQLite file per source, which is checkpoint, image and history at once.
//!
//! One [`Journal`] writes, on one thread; any number of [`Reader`]s read what is durable, each on a connection of its
//! own. The writer waits for no transaction of a reader but the short ones of this process while the log is long; readers
//! wait for a bounded time while it is restarted (`wal_gate`). One transaction appends the records of a batch and moves
//! the image with them. Nothing here knows ZooKeeper's protocol, and nothing here changes a record once it is written,
//! except where a journal that is full compacts what is not delivered, if it is configured to (`folding`).

mod append;
mod code;
mod compact;
mod contract;
mod cursors;
mod error;
mod folding;
mod history;
mod holes;
mod hydrate;
mod image;
mod image_reader;
mod image_writer;
mod inspect;
mod local_log;
mod lock;
mod open;
mod options;
mod overview;
mod paths;
mod progress;
mod read;
mod read_connection;
mod read_marks;
mod retention;
mod row;
mod rows;
mod schema;
mod sink_progress;
mod sink_snapshot;
mod sink_state;
mod size;
mod tail_cache;
mod wal;
mod wal_gate;
mod writer;

pub use compact::Compacted;
pub use contract::{JournalWriter, Log, LogEnd, RefusedBatch, SealedBatch, SinkState, Term};
pub use cursors::SinkCursor;
pub use error::{JournalError, JournalErrorKind};
pub use folding::Folded;
pub use history::{History, Position};
pub use image_reader::Imaged;
pub use inspect::{FINDINGS_MAX, Finding, Inspection};
pub use options::{Before, Durability, JournalOptions, WhenFull};
pub use overview::{Overview, RootProgress};
pub use read::{ReadLimit, Reader};
pub use retention::Maintained;
pub use sink_progress::{
    BacklogChange, ProgressError, RangeMismatch, RefusedProgress, RunStep, SeqRange, SinkProgress, Switch,
};
pub use sink_snapshot::{RunPage, SinkRun};
pub use sink_state::{Disabled, Letter, ParkedRecord, RejectedRecord};
pub use size::Stats;
pub use writer::Journal;

#[cfg(test)]
mod tests;
