//! Answers questions about a source from its journal: the value of a znode at a moment, its history, the changes of a
//! range, the newest changes, gaps, activity, the state of sinks.
//!
//! Invariants:
//!
//! * A query only reads. It never opens a journal for writing and never moves a cursor.
//! * A query reads in steps. Each step is one short read transaction of at most [`STEP`] records; between two steps
//!   nothing is held, so that the journal's writer never waits for a query.
//! * Every list of records, znodes, gaps or counts is paged: it has a limit, and the page says where the next one
//!   begins. A page reads at most [`SCAN_MAX`] records and one [`STEP`]; a page that stops there may be short or empty
//!   and still have a next one.
//! * An answer says what it leaves open, as [`Doubt`]s of a known [`Certainty`]. It never guesses a value.
//! * [`Visibility`] is applied here, before an answer leaves the crate, and no selection looks at a value that the caller
//!   may not see.
//!
//! All functions block on the journal's file. An asynchronous caller runs them on a thread for blocking work. A call
//! that is abandoned leaves nothing behind: its reader returns to the pool at the end of the step.

mod activity;
pub mod answer;
mod as_of;
mod at_position;
mod certainty;
mod changes;
mod counted;
mod counted_stretches;
mod coverage;
mod cursor;
mod cut;
mod dead_letters;
mod entry;
mod error;
mod follow;
mod gaps;
mod history;
mod image;
mod journal;
mod known_paths;
mod past;
mod plan;
mod pool;
mod position;
mod selection;
pub mod status;
mod stretches;
mod subtree;
#[cfg(test)]
mod tests;
mod timeline;
mod tree_at;
mod tree_walk;
mod unreadable;
mod visibility;

pub use activity::{ActivityCounts, ActivityKey, ActivityPage, Grouping};
pub use as_of::AsOfValue;
pub use certainty::{Certainty, Doubt, RecordRef, UnreadableZnode};
pub use changes::{ChangesPage, GapMark, Range, SCAN_MAX, STEP};
pub use cut::Cut;
pub use error::QueryError;
pub use follow::Follower;
pub use gaps::{Captured, GapScan, GapSpan, GapsPage};
pub use history::{HistoryPage, Version};
pub use image::ChildrenPage;
pub use journal::JournalQuery;
pub use past::{PastPage, PastPlace, past_file};
pub use pool::{PooledReader, READER_WAIT, READERS_MAX, ReaderPool};
pub use position::{BadPosition, POSITION_FORMS, parse_position, parse_range_end, position_text};
pub use selection::{BadPattern, PathPattern, Selection};
pub use subtree::{FactsAsOf, SubtreeMoment, SubtreePage, SubtreeZnode};
pub use tree_at::{TreePage, TreeQuestion};
pub use unreadable::{UnreadableItem, UnreadablePoint};
pub use visibility::{Access, AllVisible, Visibility};

/// The largest page of a list. A larger limit is taken as this one.
pub const PAGE_MAX: usize = 1_000;
