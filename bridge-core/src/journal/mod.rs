//! The journal: one SQLite file per source, which holds checkpoint, image and history.
//!
//! One [`Journal`] writes, on one thread; any number of [`Reader`]s read the durable records, each on a connection of
//! its own. The writer waits for no reader, except for the short transactions of this process while the log is long;
//! readers wait for a bounded time while the log is restarted (`wal_gate`). One transaction appends the records of a
//! batch and updates the image. This module knows nothing of ZooKeeper's protocol, and never changes a written record,
//! except when a full journal compacts undelivered records, if it is configured to (`folding`).

mod append;
mod backup;
mod chains;
mod code;
mod compact;
mod companions;
mod contract;
mod cursors;
mod derived;
mod derived_rows;
mod drafts;
mod ended;
mod error;
mod event_row;
mod facts;
mod folding;
mod history;
mod holes;
mod hydrate;
mod image;
mod image_reader;
mod image_writer;
mod inspect;
mod known_children;
mod live;
mod local_log;
mod lock;
mod marks;
mod masking;
mod neighbours;
mod open;
mod options;
mod overview;
mod paths;
mod place;
mod position;
mod progress;
mod read;
mod read_connection;
mod read_marks;
mod record_dates;
mod retention;
mod row;
mod rows;
mod schema;
mod shadow_load;
mod shadows;
mod sink_progress;
mod sink_snapshot;
mod sink_state;
mod size;
mod stretches;
mod subtree_reader;
mod tail_cache;
mod unreadable;
mod wal;
mod wal_gate;
mod waypoints;
mod writer;

pub use backup::{Backup, Existing, Restored, restore};
pub use compact::Compacted;
pub use companions::{beside, log_beside, remove_companions};
pub use contract::{JournalWriter, Log, LogEnd, RefusedBatch, SealedBatch, SinkState, Term};
pub use cursors::SinkCursor;
pub use derived_rows::DerivedReader;
pub use error::{JournalError, JournalErrorKind};
pub use folding::Folded;
pub use history::{History, Position};
pub use image_reader::Imaged;
pub use inspect::{FINDINGS_MAX, Finding, Inspection};
pub use known_children::{KnownChild, PathEnd, PathNumber, ReadOrder};
pub use lock::in_use_by_another;
pub use neighbours::{NeighbourSearch, Neighbours, RecordTime, Side, ValuePart};
pub use open::check_not_lost;
pub use options::{Before, Durability, JournalOptions, WhenFull};
pub use overview::{Overview, RootProgress};
pub use read::{ReadLimit, Reader};
pub use record_dates::{DateKind, RecordDate};
pub use retention::Maintained;
pub use sink_progress::{
    BacklogChange, ProgressError, RangeMismatch, RefusedProgress, RunStep, SeqRange, SinkProgress, Switch,
};
pub use sink_snapshot::{RunPage, SinkRun};
pub use sink_state::{Disabled, Letter, ParkedRecord, RejectedRecord};
pub use size::Stats;
pub use stretches::{Births, Maxima, OpCount, RecordCount, StretchSummary};
pub use writer::Journal;

#[cfg(test)]
mod tests;
