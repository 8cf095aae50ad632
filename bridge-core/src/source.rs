//! The contract between the pipeline of a source and its connection to the outside system.
//!
//! The pipeline owns the capture machine and the journal, on a thread of its own; the connection owns the sockets. Two
//! bounded channels connect them: requests outward, reports inward. They never wait for each other at the same time:
//! the pipeline sends requests only as far as the machine's windows allow, and a connection whose reports are not taken
//! keeps reading its socket into a bounded buffer, and closes the connection when that is full.

mod feed;
mod input;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::committed::{HistoryPosition, StageRead};
use crate::path::ZnodePath;
use crate::record::Mode;

pub use feed::{FeedMeasures, FeedView, SpoolUse, TreeLoad, TreePhase};
pub use input::{
    AclOutcome, CanaryMark, Event, EventKind, Input, Outcome, ReadRequest, SessionFate, SessionOwner, Ticket,
};

/// A request of a machine to the connection of its source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceRequest {
    /// Add a persistent recursive watch on each of these, then `sync`; report [`Input::Armed`].
    Arm(Vec<ZnodePath>),
    /// One MultiRead; report [`Input::Answer`].
    Read {
        /// Identifies the answer.
        ticket: Ticket,
        /// The paths to read.
        reads: Vec<ReadRequest>,
    },
    /// Read these access control lists, after all earlier reads; report [`Input::Acls`].
    ReadAcls {
        /// Identifies the answer.
        ticket: Ticket,
        /// The znodes.
        paths: Vec<ZnodePath>,
    },
    /// Write the canary, in a session of its own; report [`Input::CanaryWritten`].
    WriteCanary {
        /// Identifies the answer.
        mark: CanaryMark,
        /// The znode, which is created if it does not exist.
        path: ZnodePath,
    },
    /// Read the history after this position, or take a snapshot if there is none; report [`Input::Synced`]. The first
    /// request on each connection of a source that reads transactions.
    Resume {
        /// The last transaction that was taken.
        after: Option<HistoryPosition>,
    },
    /// Read some znodes of the staged snapshot; report [`Input::StagePage`].
    ReadStage {
        /// Identifies the answer.
        ticket: Ticket,
        /// The znodes.
        read: StageRead,
    },
    /// Drop the stage, and send the transactions after its position; report [`Input::Transactions`].
    Follow,
    /// Drop the connection at once, wait, and make a new one, to another server where there are several.
    Reconnect {
        /// How long to wait.
        after: Duration,
    },
}

/// The number of a connection of a source, from 1; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection(pub u64);

impl Connection {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Connection {
        Connection(self.0 + 1)
    }
}

/// A request, with the connection that it is for. Another connection must ignore it: it would add its watches a second
/// time, in place of those that may have reported events already.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressedRequest {
    /// The last connection that the pipeline knew.
    pub connection: Connection,
    /// The request itself.
    pub request: SourceRequest,
}

/// A report of a connection to the pipeline.
#[derive(Debug)]
pub enum SourceEvent {
    /// A new connection: [`Input::Connected`].
    Connected {
        /// Which.
        connection: Connection,
        /// Whether the session is the same.
        session: SessionFate,
        /// The server at its other end, for people; `None` if it is not known or shown elsewhere.
        server: Option<Arc<str>>,
    },
    /// Any other input of the machine.
    Input(Input),
    /// The version of the server, if it is known.
    Server(Option<Arc<str>>),
    /// How the records of the following inputs were captured; `None`: as the source is configured.
    Mode(Option<Mode>),
    /// The measures of a source that reads transactions, which it sets from now on.
    Feed(FeedMeasures),
    /// The connection cannot be made or kept. It is tried again unless [`SourceErrorKind::is_final`].
    Trouble(SourceError),
}

/// Why a source has no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Decides whether the connection is tried again.
    pub kind: SourceErrorKind,
    /// The failure with its value, and the action for the operator.
    pub message: String,
}

/// The kinds of [`SourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// No answer, or not in time. Tried again without limit.
    Unavailable,
    /// The credentials are refused. Final.
    Authentication,
    /// The server lacks a needed function. Final.
    Unsupported,
    /// The options cannot work. Final.
    Configuration,
    /// A defect of the program. Final.
    Defect,
}

impl SourceErrorKind {
    /// Whether another attempt cannot succeed.
    pub fn is_final(self) -> bool {
        match self {
            SourceErrorKind::Unavailable => false,
            SourceErrorKind::Authentication
            | SourceErrorKind::Unsupported
            | SourceErrorKind::Configuration
            | SourceErrorKind::Defect => true,
        }
    }
}

/// A connection's ends of the two channels.
#[derive(Debug)]
pub struct Link {
    /// From the pipeline.
    pub requests: mpsc::Receiver<AddressedRequest>,
    /// To the pipeline.
    pub reports: mpsc::Sender<SourceEvent>,
    /// Ends the connection when it is cancelled.
    pub stop: CancellationToken,
}

/// A connection to an outside system that is watched for changes.
///
/// **Order.** Every event of a transaction is reported before any answer that reflects it, and answers come in the
/// order of their requests.
///
/// **Loss.** A connection that may have missed an event reports [`Input::Disconnected`] or [`Input::Overflow`]; it
/// never continues silently.
///
/// **Requests.** Only requests for the present connection are carried out.
///
/// **End.** `run` returns when asked to stop, when the pipeline has ended, or after a final error was reported.
pub trait Source: Send {
    /// Connects, and stays connected. Not cancel safe: cancel `link.stop` instead.
    fn run(self: Box<Self>, link: Link) -> BoxFuture<'static, ()>;
}
