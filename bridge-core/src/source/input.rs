//! The inputs of a machine that follows a watched tree, and the words that requests and answers share. Closed: a simulator
//! can make each of them.

use std::sync::Arc;

use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Acl, Stat};

#[cfg(doc)]
use super::SourceRequest;

/// One input of the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A session is connected; no watch is armed yet on this connection.
    Connected {
        /// What became of the session.
        session: SessionFate,
    },
    /// The answer to [`SourceRequest::Arm`]: all watches are armed, and a `sync` sent after them was answered.
    Armed,
    /// The connection is gone.
    Disconnected,
    /// The driver had to throw events away and has dropped the connection.
    Overflow,
    /// A request was not answered in time, and the driver has dropped the connection: pings alone prove no watch.
    Unanswered,
    /// Watch events in the order of the connection (of several roots: merged by zxid).
    Events(Vec<Event>),
    /// The answer to [`SourceRequest::Read`]. Answers come in the order of the requests.
    Answer {
        /// Of the request.
        ticket: Ticket,
        /// One for each read of the request.
        outcomes: Vec<Outcome>,
    },
    /// The answer to [`SourceRequest::ReadAcls`].
    Acls {
        /// Of the request.
        ticket: Ticket,
        /// One for each path of the request.
        outcomes: Vec<AclOutcome>,
    },
    /// The answer to [`SourceRequest::WriteCanary`].
    CanaryWritten {
        /// Of the write.
        mark: CanaryMark,
        /// The transaction; `None` where the write failed, or nobody knows what became of it.
        zxid: Option<Zxid>,
    },
    /// Time passes: about once a second.
    Tick,
    /// The machine said that it has more to do, and no other input waits.
    Continue,
}

/// What became of the session between two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFate {
    /// The same session goes on.
    Kept,
    /// It is a new one.
    New,
}

/// One event of a persistent recursive watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The znode that changed.
    pub path: ZnodePath,
    /// How.
    pub kind: EventKind,
    /// Of the transaction; `None` from servers before 3.9 (ZOOKEEPER-4655).
    pub zxid: Option<Zxid>,
}

/// The events that a recursive watch gives (it gives no `NodeChildrenChanged`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `NodeCreated`
    Created,
    /// `NodeDataChanged`, also when the data is the same as before.
    Changed,
    /// `NodeDeleted`
    Deleted,
}

/// Names a write of the canary until its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanaryMark(pub u64);

/// Names a request until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One read inside a MultiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Which znode.
    pub path: ZnodePath,
    /// Whether its children's names are wanted too.
    pub children: bool,
}

/// What came of one read.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The znode is there.
    Found {
        /// Its Stat.
        stat: Stat,
        /// Its data.
        data: Arc<[u8]>,
        /// The names of its children in any order, if they were asked for.
        children: Option<Vec<Box<str>>>,
    },
    /// It is not there.
    Missing,
    /// It may not be read.
    Denied,
}

/// What came of reading one access control list.
#[derive(Clone, Debug, PartialEq)]
pub enum AclOutcome {
    /// It was read.
    Found {
        /// The Stat that it came with.
        stat: Stat,
        /// Its entries.
        acl: Vec<Acl>,
    },
    /// The znode is not there.
    Missing,
    /// It may not be read.
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
