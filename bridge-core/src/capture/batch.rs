//! How much is asked for at once. Limits in one place, each with its reason.

use std::collections::{HashMap, HashSet};

use crate::path::ZnodePath;

use super::{Effect, ReadRequest, Ticket};

/// MultiReads under way for following events: eight small ones keep up with 23,000 writes/s at a median of 0.5 ms.
pub(crate) const FOLLOW_WINDOW: usize = 8;
/// Znodes in one MultiRead for following events.
pub(crate) const FOLLOW_BATCH: usize = 200;
/// MultiReads under way for a walk: paces it, so that the ensemble and the journal keep time for others.
pub(crate) const WALK_WINDOW: usize = 4;
/// Znodes in one MultiRead of a walk.
pub(crate) const WALK_BATCH: usize = 500;
/// Bytes of paths in one request: servers close connections that send more than `jute.maxbuffer` (1 MiB).
pub(crate) const REQUEST_BYTES: usize = 512 << 10;
/// Bytes of data expected in one answer: servers do not limit answers, so we do.
pub(crate) const ANSWER_BYTES: usize = 4 << 20;

/// Why a request was sent.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// To give events their values.
    Follow,
    /// Events without zxids up to this position.
    Positions,
    /// To read the children that a listing named.
    WalkRead,
    /// To read znodes together with the names of their children.
    WalkList,
    /// A few znodes, to prove that the watch lives.
    Sample,
}

/// A request under way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) purpose: Purpose,
    pub(crate) reads: Vec<ReadRequest>,
    /// Every event before this position had been seen when the request was sent.
    pub(crate) covers: u64,
    /// For a request that proves the watch: the paths of the events that came since. Its answer may be older than
    /// these, so it proves nothing about them.
    pub(crate) touched: Option<HashSet<ZnodePath>>,
}

impl Request {
    /// A request whose answer is followed.
    pub(crate) fn new(purpose: Purpose, reads: Vec<ReadRequest>, covers: u64) -> Request {
        Request {
            purpose,
            reads,
            covers,
            touched: None,
        }
    }

    /// A request whose answer is compared with the image while events go on.
    pub(crate) fn proof(purpose: Purpose, reads: Vec<ReadRequest>, covers: u64) -> Request {
        Request {
            purpose,
            reads,
            covers,
            touched: Some(HashSet::new()),
        }
    }
}

/// The requests under way on this connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: u64,
    open: HashMap<Ticket, Request>,
}

impl Requests {
    /// Numbers go on from an earlier connection, so that a late answer is never taken for another.
    pub(crate) fn after(earlier: &Requests) -> Requests {
        Requests {
            next: earlier.next,
            open: HashMap::new(),
        }
    }

    pub(crate) fn send(&mut self, request: Request, effects: &mut Vec<Effect>) {
        let ticket = Ticket(self.next);
        self.next += 1;
        effects.push(Effect::Read {
            ticket,
            reads: request.reads.clone(),
        });
        self.open.insert(ticket, request);
    }

    /// The request that an answer belongs to; `None` for one of an earlier connection.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Request> {
        self.open.remove(&ticket)
    }

    /// An event of this path came.
    pub(crate) fn touch(&mut self, path: &ZnodePath) {
        for touched in self
            .open
            .values_mut()
            .filter_map(|request| request.touched.as_mut())
        {
            touched.insert(path.clone());
        }
    }

    pub(crate) fn under_way(&self, is_counted: impl Fn(&Purpose) -> bool) -> usize {
        self.open
            .values()
            .filter(|request| is_counted(&request.purpose))
            .count()
    }
}

/// Room in one request.
#[derive(Debug)]
pub(crate) struct Room {
    reads: usize,
    request_bytes: usize,
    answer_bytes: usize,
}

impl Room {
    pub(crate) fn new(reads: usize) -> Room {
        Room {
            reads,
            request_bytes: REQUEST_BYTES,
            answer_bytes: ANSWER_BYTES,
        }
    }

    /// Takes room for one read; `false` if there is none left. The first read always finds room.
    pub(crate) fn take(&mut self, path: &str, expected_bytes: usize) -> bool {
        let request = path.len() + 16;
        let first = self.request_bytes == REQUEST_BYTES && self.answer_bytes == ANSWER_BYTES;
        if !first && (self.reads == 0 || self.request_bytes < request || self.answer_bytes < expected_bytes) {
            return false;
        }
        self.reads = self.reads.saturating_sub(1);
        self.request_bytes = self.request_bytes.saturating_sub(request);
        self.answer_bytes = self.answer_bytes.saturating_sub(expected_bytes);
        true
    }
}
