//! The bridge's connection to one server: what is on its way in both directions, and the watches that live with it.

use std::collections::VecDeque;

use bridge_core::capture::{AclOutcome, Event, Outcome, ReadRequest, Ticket};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;

/// A request of the client.
#[derive(Clone, Debug)]
pub enum Request {
    /// Add a persistent recursive watch.
    AddWatch(ZnodePath),
    /// Catch up with the leader, then answer.
    Sync {
        /// Entries of the log that the leader had when it was asked; `None` before it was.
        target: Option<usize>,
    },
    /// One MultiRead.
    Read(Ticket, Vec<ReadRequest>),
    /// Access control lists.
    Acls(Ticket, Vec<ZnodePath>),
}

/// The answer of a server, with the zxid of its header.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The watch is armed.
    Watching,
    /// It has caught up, as far as it knows.
    Synced,
    /// A MultiRead.
    Read(Ticket, Vec<Outcome>),
    /// Access control lists.
    Acls(Ticket, Vec<AclOutcome>),
}

/// One message to the client.
#[derive(Clone, Debug)]
pub enum Packet {
    /// A watch fired.
    Event(Event),
    /// A request is answered.
    Reply(Zxid, Reply),
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The server at its other end.
    pub server: usize,
    /// Not yet served.
    pub requests: VecDeque<Request>,
    /// Not yet received.
    pub packets: VecDeque<Packet>,
    /// Armed on this connection.
    pub watches: Vec<ZnodePath>,
    /// Nothing passes any more, and nobody knows it yet.
    pub is_half_open: bool,
}

impl Wire {
    /// A connection to a server, without a watch.
    pub fn new(server: usize) -> Wire {
        Wire {
            server,
            requests: VecDeque::new(),
            packets: VecDeque::new(),
            watches: Vec::new(),
            is_half_open: false,
        }
    }
}
