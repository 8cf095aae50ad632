//! The contract between the pipeline of a source and its connection to the outside system.
//!
//! The pipeline owns the capture machine and the journal, on a thread of its own; the connection owns the sockets.
//! Between them run two bounded channels: requests outward, reports inward. Neither waits for the other while it
//! holds something: the pipeline sends requests only as far as the machine's windows allow, and a connection whose
//! reports are not taken keeps reading its socket into a bounded buffer, and gives the connection up when that is full.

mod input;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::path::ZnodePath;

pub use input::{AclOutcome, CanaryMark, Event, EventKind, Input, Outcome, ReadRequest, SessionFate, Ticket};

/// What a machine asks of the connection of its source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceRequest {
    /// Add a persistent recursive watch on each of these, then `sync`; report [`Input::Armed`].
    Arm(Vec<ZnodePath>),
    /// One MultiRead; report [`Input::Answer`].
    Read {
        /// Names the answer.
        ticket: Ticket,
        /// What to read.
        reads: Vec<ReadRequest>,
    },
    /// Read these access control lists, behind all reads asked for before; report [`Input::Acls`].
    ReadAcls {
        /// Names the answer.
        ticket: Ticket,
        /// Of which znodes.
        paths: Vec<ZnodePath>,
    },
    /// Write the canary, over a session apart; report [`Input::CanaryWritten`].
    WriteCanary {
        /// Names the answer.
        mark: CanaryMark,
        /// The znode, which is created where it is missing.
        path: ZnodePath,
    },
    /// Drop the connection at once, wait, and make a new one, to another server where there are several.
    Reconnect {
        /// How long to wait.
        after: Duration,
    },
}

/// Counts the connections of a source, from 1; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection(pub u64);

impl Connection {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Connection {
        Connection(self.0 + 1)
    }
}

/// A request with the connection that it is meant for. Another connection must not follow it: it would add its watches
/// a second time, in place of those that may have reported events already.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressedRequest {
    /// The last that the pipeline knew of.
    pub connection: Connection,
    /// What to do.
    pub request: SourceRequest,
}

/// What a connection reports to the pipeline.
#[derive(Debug)]
pub enum SourceEvent {
    /// There is a connection: [`Input::Connected`].
    Connected {
        /// Which.
        connection: Connection,
        /// What became of the session.
        session: SessionFate,
    },
    /// Any other input of the machine.
    Input(Input),
    /// The version of the server, where it tells.
    Server(Option<Arc<str>>),
    /// The connection cannot be made or kept. It is tried again unless the kind says that this is in vain.
    Trouble(SourceError),
}

/// Why a source has no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Decides whether it is tried again.
    pub kind: SourceErrorKind,
    /// What happened, with the value, and what to do.
    pub message: String,
}

/// The kinds of [`SourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// Nobody answers, or not in time. Tried again without limit.
    Unavailable,
    /// The credentials are refused. Final.
    Authentication,
    /// The server cannot do what is needed. Final.
    Unsupported,
    /// The options cannot work. Final.
    Configuration,
    /// The program itself is wrong. Final.
    Defect,
}

impl SourceErrorKind {
    /// Whether another attempt can help.
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
    /// Asks the connection to end.
    pub stop: CancellationToken,
}

/// A connection to an outside system that is watched for changes.
///
/// **Order.** Every event of a transaction is reported before any answer that reflects it, and answers come in the
/// order of their requests.
///
/// **Loss.** A connection that may have missed an event reports [`Input::Disconnected`] or [`Input::Overflow`]; it never
/// goes on in silence.
///
/// **Requests.** Only those that name the present connection are followed.
///
/// **End.** `run` returns when asked to stop, when the pipeline is gone, or after a final error was reported.
pub trait Source: Send {
    /// Connects, and stays connected.
    fn run(self: Box<Self>, link: Link) -> BoxFuture<'static, ()>;
}
