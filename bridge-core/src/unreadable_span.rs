//! The time in which a znode may not be read: what the journal keeps of it, so that a question about a moment knows it.
//!
//! ```text
//!     since             found                          until
//!       │  perhaps not    │        may not be read       │  read again, and compared
//! ──────┴─────────────────┴──────────────────────────────┴──────
//!  known                    the journal has its last state      known
//! ```
//!
//! A change of an access control list has no event, and neither has any later change of a znode that may not be read. So
//! the begin of the time is not known. `since` is the last place in the history at which its state was surely known.

use serde::{Deserialize, Serialize};

use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::Timestamp;

/// A place in the history, in each of the three ways in which a moment is named. Each holds on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryPoint {
    /// After this record; 0 is before all records.
    pub seq: Seq,
    /// After this transaction; 0 is before all transactions.
    pub zxid: Zxid,
    /// At this time, by the clock of the bridge or, where a Stat has shown it, of ZooKeeper; 0 if none is known.
    pub time: Timestamp,
}

impl HistoryPoint {
    /// The later one, in each of the three ways.
    #[must_use]
    pub fn max(self, other: HistoryPoint) -> HistoryPoint {
        HistoryPoint {
            seq: self.seq.max(other.seq),
            zxid: self.zxid.max(other.zxid),
            time: self.time.max(other.time),
        }
    }

    /// The earlier one, in each of the three ways.
    #[must_use]
    pub fn min(self, other: HistoryPoint) -> HistoryPoint {
        HistoryPoint {
            seq: self.seq.min(other.seq),
            zxid: self.zxid.min(other.zxid),
            time: self.time.min(other.time),
        }
    }
}

/// The znodes of which a span speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreadableExtent {
    /// The znode at the path and everything below it: its children may not be listed either.
    Znode,
    /// Znodes at or below the path that are too many to be named.
    Unnamed,
}

/// A znode that may not be read, with the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSpan {
    /// The znode, or the root below which they are.
    pub path: ZnodePath,
    /// Which znodes.
    pub extent: UnreadableExtent,
    /// Its state is surely known up to here. All three are 0 if it was never read.
    pub since: HistoryPoint,
    /// The last record when it was found, and the time. Not the begin.
    pub found: (Seq, Timestamp),
    /// Its state is known again from here on: the end of the walk that has read it; `None` while it may not be read.
    pub until: Option<HistoryPoint>,
}

/// The most spans that a journal keeps by name. Of further znodes it keeps one span for each root.
pub const SPANS_MAX: usize = 10_000;
