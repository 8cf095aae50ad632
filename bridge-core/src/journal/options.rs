//! The choices of one source's journal.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::amount::{Horizon, Size, Span};
use crate::record::Mode;

/// How a journal is kept. [`JournalOptions::new`] has the defaults of the configuration.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The name of the source; a file never changes its name.
    pub cluster: Arc<str>,
    /// How the source captures; part of each record.
    pub mode: Mode,
    /// The part of the previous state that a record holds. Decided at append: a later choice changes no record.
    pub before: Before,
    /// The failures that a committed batch survives.
    pub durability: Durability,
    /// How long delivered records stay readable.
    pub retention: Horizon,
    /// The most that records, values, image and cursors may take in the file.
    pub max_size: Size,
    /// The action at `max_size`.
    pub when_full: WhenFull,
    /// The most memory for pages of the file.
    pub page_cache: Size,
    /// Interrupts the opening: until [`Journal::end_opening`](super::Journal::end_opening), a statement that runs when it
    /// is cancelled is undone and fails.
    pub stop: CancellationToken,
}

/// 8 MiB of pages: all of the index of a million paths but its leaves, of which twice as many would hold few more. Random
/// updates of a million znodes are no faster with 16.
const PAGE_CACHE: Size = Size(8 << 20);

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl JournalOptions {
    /// The defaults, for the source of this name.
    pub fn new(cluster: &str) -> JournalOptions {
        JournalOptions {
            cluster: cluster.into(),
            mode: Mode::Watch,
            before: Before::default(),
            durability: Durability::default(),
            retention: Horizon::For(Span(WEEK)),
            max_size: Size(10 << 30),
            when_full: WhenFull::default(),
            page_cache: PAGE_CACHE,
            stop: CancellationToken::new(),
        }
    }
}

/// The part of the previous state that a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Data and Stat.
    #[default]
    Full,
    /// The Stat.
    Stat,
    /// Nothing.
    None,
}

/// The failures that a committed batch survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A power loss: each batch is synchronised to the disk.
    #[default]
    PowerLoss,
    /// The end of the process: the operating system decides when to write. A power loss can undo batches whose records
    /// were already delivered.
    ProcessCrash,
}

/// The action when the journal has reached its size limit and no delivered record is left to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Capture waits until the sinks have moved on; a later comparison finds what changed meanwhile.
    #[default]
    Hold,
    /// Of the undelivered writes of a znode only the newest is kept; its `missed` and `superseded` count the others.
    /// Creates, deletes and all other records are kept; if that frees no room, capture waits.
    Compact,
}
