//! The capture machine: takes watch events and answers to reads, and makes journal appends and requests.
//!
//! It never awaits, opens no file and reads no clock: the same inputs on the same journal give the same records, so
//! that a simulator can drive it. Besides its inputs it only reads the [`ImageTxn`], the image inside the open journal
//! transaction.
//!
//! ```text
//! Detached ──Connected──▶ Arming ──Armed──▶ Walking ──all roots compared──▶ Live
//!    ▲                      │                  │                             │
//!    └────── Disconnected, Overflow, Unanswered, a doubt about the watch ◀───┘
//! ```
//!
//! Rules:
//!
//! 1. A root is listed only after its watch is armed and a `sync` was answered, both on this connection.
//! 2. Any disconnect ends the watch epoch: the state of the connection is dropped, the image is kept.
//! 3. Every watch event of a transaction reaches the machine before any reply that reflects it. The driver must keep
//!    this: it drains the watchers before it forwards a reply.
//! 4. Records are appended in the order of events; an event that waits for its read delays all later ones.
//! 5. A delete found by comparing is written only with a proof; without one the server lags, and the step fails with
//!    [`StepError::Lagging`] so that the caller rolls back and reads from another server.

mod answers;
mod asking;
mod attached;
pub(crate) mod audit;
mod batch;
mod canary;
mod compare;
mod contract;
mod denials;
mod due_gap;
mod follow;
mod lineage;
pub(crate) mod lists;
mod machine;
mod options;
mod path_events;
mod pending;
pub(crate) mod roots;
mod settle_by_read;
mod settle_by_zxid;
pub(crate) mod unreadable;
mod walk;
mod window;

#[cfg(test)]
mod tests;

pub use crate::machine::{CaptureState, Counters, Halt, RecordCounts, StepError, StepOutcome};
pub use crate::source::{
    AclOutcome, CanaryMark, Event, EventKind, Input, Outcome, ReadRequest, SessionFate, Ticket,
};
pub use batch::Limits;
pub use machine::Capture;
pub use options::{AclMode, CanaryOptions, CaptureOptions, DataMode, SnapshotMode};

use crate::number::Zxid;
use crate::path::ZnodePath;

#[cfg(doc)]
use crate::image_txn::ImageTxn;

/// The result of a part of a step.
pub(crate) type StepResult<T> = Result<T, StepError>;

pub(crate) fn lagging(path: &ZnodePath, what: &str, seen: Zxid, known: Zxid) -> StepError {
    StepError::Lagging(format!(
        "{path} shows {what} {seen} where the journal holds {known}"
    ))
}
