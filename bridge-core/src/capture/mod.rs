//! The capture machine: watch events and reads go in, journal entries and requests come out.
//!
//! It never awaits, opens nothing and asks no clock: the same inputs on the same journal give the same records, so a
//! simulator can drive it. Its one view of the world besides its inputs is the [`ImageTxn`], the image inside the open
//! journal transaction.
//!
//! ```text
//! Detached ──Connected──▶ Arming ──Armed──▶ Walking ──all roots compared──▶ Live
//!    ▲                      │                  │                             │
//!    └────── Disconnected, Overflow, Unanswered, a doubt about the watch ◀───┘
//! ```
//!
//! Rules that everything here keeps:
//!
//! 1. A root is listed only after its watch is armed and a `sync` was answered, both on this connection.
//! 2. Any disconnect ends the watch epoch: what was known about the connection is forgotten, the image is not.
//! 3. Every watch event of a transaction reaches the machine before any reply that reflects it. The driver must keep
//!    this: it drains the watchers before it hands over a reply.
//! 4. Records leave in the order of events; a value that waits for its read holds back what came after it.
//! 5. A delete found by comparing is written only with a proof; without one the server lags, and the step fails with
//!    [`StepError::Lagging`] so that the caller rolls back and reads from another server.

mod answers;
mod attached;
mod audit;
mod batch;
mod canary;
mod compare;
mod denials;
mod follow;
mod lineage;
mod lists;
mod machine;
mod options;
mod pending;
mod roots;
mod settle_by_read;
mod settle_by_zxid;
mod status;
mod unreadable;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use batch::Limits;
pub use canary::CanaryOptions;
pub use machine::Capture;
pub use options::{AclMode, CaptureOptions, DataMode, SnapshotMode};
pub use status::{CaptureState, Counters, RecordCounts};

pub use crate::source::{
    AclOutcome, Event, EventKind, Input, Mark, Outcome, ReadRequest, SessionFate, Ticket,
};

use crate::journal::JournalError;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::GapReason;

#[cfg(doc)]
use crate::image_txn::ImageTxn;

/// What the machine asks for. Its journal entries are not here: they are appended through the book.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Add a persistent recursive watch on each root, and on a canary outside of them, then `sync`; answer with
    /// [`Input::Armed`].
    Arm(Vec<ZnodePath>),
    /// Read these in one atomic MultiRead; answer with [`Input::Answer`].
    Read {
        /// Names the answer.
        ticket: Ticket,
        /// What to read.
        reads: Vec<ReadRequest>,
    },
    /// Read the access control lists of these znodes, behind all reads asked for before; answer with [`Input::Acls`].
    ReadAcls {
        /// Names the answer.
        ticket: Ticket,
        /// Of which znodes.
        paths: Vec<ZnodePath>,
    },
    /// Write the canary, over a session apart; answer with [`Input::CanaryWritten`].
    WriteCanary {
        /// Names the answer.
        mark: Mark,
        /// The znode, which is created where it is missing.
        path: ZnodePath,
    },
    /// Drop the connection and make another one, to another server where there are several.
    Reconnect,
    /// There is more to do: answer with [`Input::Continue`] after the inputs that wait.
    Continue,
    /// The source must stop until an operator decides.
    Halt(Halt),
}

/// Why a source stopped, with the choices in its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The ensemble shows an older state than the journal holds, on every connection that was tried.
    #[error(
        "the ensemble went back in time: {evidence}. Either it was restored from a backup, or this is another \
         cluster. If the present tree is right, accept it as the new baseline with \
         'zkbridge run --accept-baseline {cluster}': what differs is reported, and nothing is taken back. If it is \
         the wrong cluster, correct 'connect' of source '{cluster}'"
    )]
    WentBack {
        /// The source.
        cluster: Arc<str>,
        /// Which znode, and both states.
        evidence: String,
    },
    /// The server names the watched root where a znode below it changed.
    #[error(
        "the server of source '{cluster}' reports changes of {root} that its own reads deny: it sends the watched \
         path instead of the changed one (ClickHouse Keeper does, ClickHouse issue 115475). Recursive watches \
         cannot be used with it: connect to Apache ZooKeeper 3.6 or newer"
    )]
    WrongPaths {
        /// The source.
        cluster: Arc<str>,
        /// The watched root.
        root: ZnodePath,
    },
}

/// Why a step failed. The caller rolls the journal transaction back and calls [`Capture::reset`].
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The server that answered shows less than is journalled: try another one.
    #[error("the server lags behind the journal: {0}")]
    Lagging(String),
    /// What was read contradicts the events: the watch of this connection cannot be trusted.
    #[error("the watch cannot be trusted ({}): the tree is compared anew", .0.as_str())]
    Doubt(GapReason),
}

/// Shared by all who decide on one input.
pub(crate) type Step<T> = Result<T, StepError>;

pub(crate) fn lagging(path: &ZnodePath, what: &str, seen: Zxid, known: Zxid) -> StepError {
    StepError::Lagging(format!(
        "{path} shows {what} {seen} where the journal holds {known}"
    ))
}
