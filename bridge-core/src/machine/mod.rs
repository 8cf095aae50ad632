//! The contract of a machine that turns the inputs of a source into appends and requests.
//!
//! The pipeline drives one machine per source. It opens the journal's transaction, calls [`SourceMachine::step`] for each
//! input, sends the requests to the connection, and commits. A machine decides everything about the records and does
//! nothing else.
//!
//! Invariants of every machine:
//!
//! * It never waits, opens no file and reads no clock: the same inputs on the same image give the same appends and
//!   requests, so that a simulator can drive it.
//! * Its appends go through the [`ImageTxn`] of the step and nowhere else, so that records and image move together.
//! * All appends of one input belong to one transaction of the journal. The pipeline never commits within an input.
//! * After a failed step the caller rolls the transaction back, then calls [`SourceMachine::reset`]. The machine
//!   forgets the connection, and keeps nothing that only the failed transaction knew.
//! * The demands that the appends of a batch fulfil, such as the reason of a gap, are kept until
//!   [`SourceMachine::committed`]: after a rollback they are due again.
//! * A request is meant for the connection that the last [`Input::Connected`] reported. The pipeline adds its number.
//!
//! The watch machine ([`crate::capture`]) is one implementation. A machine that takes committed transactions fits the
//! same contract: its position is in the image, a batch of transactions is one input, and it never needs a second look
//! at a transaction that was committed.

mod status;

use std::sync::Arc;

pub use status::{CaptureState, Counters, HistoryReport, ProofReport, RecordCounts};

use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::{Epoch, Zxid};
use crate::path::ZnodePath;
use crate::record::{GapReason, Timestamp};
use crate::source::{Input, SourceRequest};

/// Turns the inputs of a source into appends and requests.
pub trait SourceMachine: Send {
    /// Takes one input. Appends through `image`, and returns what the pipeline must do besides.
    ///
    /// # Errors
    /// The step is void: roll the transaction back, then call [`SourceMachine::reset`].
    fn step(
        &mut self,
        now: Timestamp,
        input: Input,
        image: &mut dyn ImageTxn,
    ) -> Result<StepOutcome, StepError>;

    /// The batch of all steps until now is durable: none of them will be rolled back.
    fn committed(&mut self);

    /// Forgets the connection after a failed step and its rollback. `Ok`: the pipeline replaces the connection.
    ///
    /// # Errors
    /// The source must stop until an operator decides.
    fn reset(&mut self, error: &StepError) -> Result<(), Halt>;

    /// The state of the machine.
    fn state(&self) -> CaptureState;

    /// Whether it is live and nothing of the time before its connection is missing any more.
    fn is_current(&self) -> bool {
        self.state() == CaptureState::Live
    }

    /// The counters.
    fn counters(&self) -> &Counters;

    /// The epoch in use; `None` without one.
    fn epoch(&self) -> Option<Epoch>;

    /// The zxid up to which everything was reported for all roots of this epoch.
    fn reported(&self) -> Option<Zxid>;

    /// Events that arrived and are not appended yet.
    fn waiting(&self) -> usize;

    /// How many znodes may not be read.
    fn unreadable_total(&self) -> u64;

    /// Some of the znodes that may not be read, at most `most`.
    fn unreadable(&self, most: usize) -> Vec<ZnodePath>;

    /// The history of a machine that takes transactions; `None` for one that watches a tree.
    fn history(&self) -> Option<HistoryReport> {
        None
    }
}

/// The demands that comparisons in the open batch have met. They are due again if the batch is rolled back.
#[derive(Debug, Default)]
pub(crate) struct Fulfilled {
    pub(crate) reason: Option<GapReason>,
    pub(crate) accept_baseline: bool,
    /// Of a machine that takes transactions.
    pub(crate) needs_snapshot: bool,
}

/// The requests of a step. The records are not here: they are appended through the image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutcome {
    /// For the connection, in this order.
    pub requests: Vec<SourceRequest>,
    /// The machine has more to do: give it [`Input::Continue`] after the inputs that wait.
    pub has_more: bool,
    /// The source must stop until an operator decides.
    pub halt: Option<Halt>,
}

/// Why a source stopped. The message names the choices of the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The ensemble shows an older state than the journal holds, on every connection that was tried.
    #[error(
        "the ensemble went back in time: {evidence}. Either it was restored from a backup, or this is another \
         cluster. If the present tree is right, accept it as the new baseline with \
         'zkbridge run --accept-baseline {cluster}': what differs is reported, and nothing is taken back. If it is \
         the wrong cluster, correct 'connect' of source '{cluster}', and the folders in its 'directories' if it reads \
         the files of servers"
    )]
    WentBack {
        /// The source.
        cluster: Arc<str>,
        /// The znode and both states.
        evidence: String,
    },
    /// The znodes that identify the ensemble are other incarnations than those in the journal.
    #[error(
        "source '{cluster}' is connected to another ensemble than the one in its journal, or its znodes were deleted, \
         and perhaps created again: {evidence}. Nothing was reported. If it is the wrong ensemble, correct 'connect' of source \
         '{cluster}'. If the present tree is right, accept it as the new baseline with \
         'zkbridge run --accept-baseline {cluster}': what differs is reported, and nothing is taken back"
    )]
    OtherEnsemble {
        /// The source.
        cluster: Arc<str>,
        /// Which znode, and both of its incarnations.
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

/// Why a step failed. The caller rolls the journal transaction back and calls [`SourceMachine::reset`].
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The journal refused an append.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The answer of the server is older than the journal: try another server.
    #[error("the server lags behind the journal: {0}")]
    Lagging(String),
    /// A read contradicts the events: the watch of this connection cannot be trusted.
    #[error("the watch cannot be trusted ({}): the tree is compared anew", .0.as_str())]
    Doubt(GapReason),
    /// The transactions that the servers sent are not the whole history, or contradict the journal.
    #[error("the history cannot be proved: {0}: the tree is compared anew")]
    Unproved(String),
}
