//! The inputs of a machine, and the types that requests and answers share. A simulator can construct each of them.

use std::sync::Arc;

use crate::committed::{CommittedTxn, HistoryPosition, StagePage, SyncAnswer};
use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Acl, Stat};

#[cfg(doc)]
use super::SourceRequest;

/// One input of the machine. [`Input::Armed`] to [`Input::CanaryWritten`] are of sources that watch a tree,
/// [`Input::Synced`] to [`Input::UpToDate`] of those that read transactions.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A session is connected; no watch is armed yet on this connection.
    Connected {
        /// Whether the session is the same.
        session: SessionFate,
    },
    /// The answer to [`SourceRequest::Arm`]: all watches are armed, and a `sync` sent after them was answered.
    Armed,
    /// The connection is closed.
    Disconnected,
    /// The driver discarded events and has dropped the connection.
    Overflow,
    /// A request was not answered in time, and the driver has dropped the connection: pings alone do not prove that the
    /// watch is active.
    Unanswered,
    /// Watch events in the order of the connection (of several roots: merged by zxid).
    Events(Vec<Event>),
    /// The answer to [`SourceRequest::Read`]. Answers come in the order of the requests.
    Answer {
        /// The ticket of the request.
        ticket: Ticket,
        /// One for each read of the request.
        outcomes: Vec<Outcome>,
    },
    /// The answer to [`SourceRequest::ReadAcls`].
    Acls {
        /// The ticket of the request.
        ticket: Ticket,
        /// One for each path of the request.
        outcomes: Vec<AclOutcome>,
    },
    /// The answer to [`SourceRequest::WriteCanary`].
    CanaryWritten {
        /// The mark of the write.
        mark: CanaryMark,
        /// The transaction; `None` if the write failed or its result is unknown.
        zxid: Option<Zxid>,
    },
    /// The answer to [`SourceRequest::Resume`]. After [`SyncKind::Diff`](crate::committed::SyncKind) and `Truncate` the
    /// transactions follow; after `Snapshot` follows [`Input::Staged`].
    Synced(SyncAnswer),
    /// A snapshot is staged: it is the tree at exactly this position. Its transactions are not sent before
    /// [`SourceRequest::Follow`].
    Staged(HistoryPosition),
    /// The answer to [`SourceRequest::ReadStage`].
    StagePage {
        /// The ticket of the request.
        ticket: Ticket,
        /// The znodes.
        page: StagePage,
    },
    /// Committed transactions in the order of the history. They may begin at or before the position; an input has at
    /// least one.
    Transactions(Vec<CommittedTxn>),
    /// Clients and users of sessions, as they become known. Nothing waits for it.
    Sessions(Vec<SessionOwner>),
    /// Everything that was committed when the connection was made was sent.
    UpToDate,
    /// Time passes: about once a second.
    Tick,
    /// The machine has more to do ([`StepOutcome::has_more`](crate::machine::StepOutcome::has_more)), and no other
    /// input waits.
    Continue,
}

/// The owner of a session of the ensemble, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOwner {
    /// The session.
    pub session: SessionId,
    /// `address:port` of its client.
    pub client: Option<Arc<str>>,
    /// Its user, from an audit log.
    pub user: Option<Arc<str>>,
}

/// The session of a connection, compared with the previous connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFate {
    /// The same session.
    Kept,
    /// A new session.
    New,
}

/// One event of a persistent recursive watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The znode that changed.
    pub path: ZnodePath,
    /// The kind of change.
    pub kind: EventKind,
    /// The zxid of the transaction; `None` from servers before 3.9 (ZOOKEEPER-4655).
    pub zxid: Option<Zxid>,
}

/// The kinds of events of a recursive watch (it has no `NodeChildrenChanged`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `NodeCreated`
    Created,
    /// `NodeDataChanged`, also when the data is the same as before.
    Changed,
    /// `NodeDeleted`
    Deleted,
}

/// Identifies a write of the canary and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanaryMark(pub u64);

/// Identifies a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One read inside a MultiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The znode.
    pub path: ZnodePath,
    /// Whether the names of its children are read, too.
    pub children: bool,
}

/// The result of one read.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The znode exists.
    Found {
        /// Its Stat.
        stat: Stat,
        /// Its data.
        data: Arc<[u8]>,
        /// The names of its children in any order, if they were requested.
        children: Option<Vec<Box<str>>>,
    },
    /// The znode does not exist.
    Missing,
    /// The bridge may not read it.
    Denied,
}

/// The result of reading one access control list.
#[derive(Clone, Debug, PartialEq)]
pub enum AclOutcome {
    /// The list was read.
    Found {
        /// The Stat that arrived with it.
        stat: Stat,
        /// Its entries.
        acl: Vec<Acl>,
    },
    /// The znode does not exist.
    Missing,
    /// The bridge may not read it.
    Denied,
}

impl Outcome {
    /// The Stat, if the znode was read.
    pub(crate) fn stat(&self) -> Option<&Stat> {
        match self {
            Outcome::Found { stat, .. } => Some(stat),
            Outcome::Missing | Outcome::Denied => None,
        }
    }
}
