//! Limits of requests and of waiting events, each with its reason.

use std::collections::{HashMap, HashSet};

use crate::path::ZnodePath;

use super::{ReadRequest, Ticket};
use crate::source::SourceRequest;

/// MultiReads under way for following events: eight small ones keep up with 23,000 writes/s at a median of 0.5 ms. With
/// sixteen a storm of values of 1 MB takes 330 MB of memory instead of 190.
const FOLLOW_WINDOW: usize = 8;
/// Znodes in one MultiRead for following events.
const FOLLOW_BATCH: usize = 200;
/// Znodes that have to wait for each MultiRead under way before another is sent: a lone event is read at once, and
/// under load many are read together, as a request costs the server and us as much as some tens of znodes in it.
const FOLLOW_APART: usize = 16;
/// MultiReads under way for a walk: limits its share of the ensemble and of the journal.
const WALK_WINDOW: usize = 4;
/// Znodes in one MultiRead of a walk.
const WALK_BATCH: usize = 500;
/// Bytes of paths in one request: servers close connections that send more than `jute.maxbuffer` (1 MiB).
const REQUEST_BYTES: usize = 512 << 10;
/// Bytes of data expected in one answer: servers do not limit answers.
const ANSWER_BYTES: usize = 4 << 20;
/// Znodes of unknown size in one MultiRead, where no sibling was read: each may measure the 1 MiB that servers accept
/// by default, and a server builds an answer of any length in its memory before it sends it.
const UNREAD_MAX: usize = 16;
/// The same where enough of their siblings were small, because siblings mostly have similar sizes. Not more, because
/// they need not: the client gives up a connection whose server announces an answer of more than 64 MiB.
const UNREAD_AMONG_SMALL_MAX: usize = 60;
/// Znodes of unknown size that may be under way: if all of these measure 1 MiB, their answers take 120 MiB. A request costs
/// the server and us as much as some tens of znodes in it, so two of [`UNREAD_AMONG_SMALL_MAX`] take less than four
/// of half as many.
const UNREAD_UNDER_WAY: usize = 2 * UNREAD_AMONG_SMALL_MAX;
/// A znode with at most this much data counts as small.
pub(crate) const SMALL_BYTES: usize = 4 << 10;
/// Znodes that were written since their size was known, in one MultiRead.
const WRITTEN_MAX: usize = 64;
/// The expected size of a written znode is this many times the largest recent one: where these are small,
/// [`FOLLOW_BATCH`] of them are read at once. A server at full load answers a read after the writes that arrived before
/// it, and a value that is not read by then is overwritten. That many znodes cannot have become large meanwhile: all of
/// them would have been written while the last answer was under way.
const WRITTEN_GROWTH: usize = 64;
/// Events that may wait. With more, the connection is replaced and the tree is compared, so that memory is bounded.
pub(crate) const EVENTS_MAX: usize = 200_000;
/// Bytes of the paths of waiting events. With paths of usual length [`EVENTS_MAX`] is reached first.
pub(crate) const EVENT_BYTES_MAX: usize = 64 << 20;
/// With this many waiting events, a write of a znode replaces the previous one that still waits.
const FOLD_ABOVE: usize = 20_000;
/// Bytes of values that wait for earlier events; with more, older values of a path are dropped for newer ones.
const HELD_BYTES_MAX: usize = 8 << 20;
/// Image rows read at once while a subtree is dropped or the children of a znode are compared; bounds memory.
const PAGE: usize = 1_000;
/// Records of a resnapshot in one step: events are handled between the steps.
const RESNAPSHOT_BATCH: usize = 500;

/// The limits above. A simulator makes them small, so that small trees reach every limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// MultiReads under way for following events.
    pub follow_window: usize,
    /// Znodes in one of them.
    pub follow_batch: usize,
    /// Znodes that have to wait for each of those under way before another is sent.
    pub follow_apart: usize,
    /// MultiReads under way for a walk.
    pub walk_window: usize,
    /// Znodes in one of them.
    pub walk_batch: usize,
    /// Znodes of unknown size in all of them.
    pub unread_under_way: usize,
    /// Bytes of paths in one request.
    pub request_bytes: usize,
    /// Bytes of data expected in one answer.
    pub answer_bytes: usize,
    /// Events that may wait.
    pub events: usize,
    /// Bytes of their paths.
    pub event_bytes: usize,
    /// Waiting events from which on writes of one znode fold.
    pub fold_above: usize,
    /// Bytes of values that may wait.
    pub held_bytes: usize,
    /// Image rows taken at once.
    pub page: usize,
    /// Records of a resnapshot in one step.
    pub resnapshot_batch: usize,
}

impl Limits {
    /// Whether another MultiRead for following events is sent now.
    pub(crate) fn follow_is_due(&self, under_way: usize, waiting: usize) -> bool {
        waiting > 0 && under_way < self.follow_window && waiting >= under_way * self.follow_apart
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            follow_window: FOLLOW_WINDOW,
            follow_batch: FOLLOW_BATCH,
            follow_apart: FOLLOW_APART,
            walk_window: WALK_WINDOW,
            walk_batch: WALK_BATCH,
            unread_under_way: UNREAD_UNDER_WAY,
            request_bytes: REQUEST_BYTES,
            answer_bytes: ANSWER_BYTES,
            events: EVENTS_MAX,
            event_bytes: EVENT_BYTES_MAX,
            fold_above: FOLD_ABOVE,
            held_bytes: HELD_BYTES_MAX,
            page: PAGE,
            resnapshot_batch: RESNAPSHOT_BATCH,
        }
    }
}

/// Why a request was sent.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Read the values of events.
    Follow,
    /// Read the paths of a window of events without zxids.
    Positions,
    /// Read the children that a listing named.
    WalkRead,
    /// Read znodes together with the names of their children.
    WalkList,
    /// Read a few znodes to check that the watch is active.
    Sample,
    /// Read known znodes to identify the ensemble.
    Lineage,
    /// Read the canary, to notice if the event of its write is missing.
    Canary,
}

/// A request under way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) purpose: Purpose,
    pub(crate) reads: Vec<ReadRequest>,
    /// Every event before this position had arrived when the request was sent.
    pub(crate) covers: u64,
    /// For a request that checks the watch: the paths of the events that arrived since. The answer may be older than
    /// these events, so it proves nothing about their paths.
    pub(crate) touched: Option<HashSet<ZnodePath>>,
}

impl Request {
    /// A request whose answer changes the image.
    pub(crate) fn new(purpose: Purpose, reads: Vec<ReadRequest>, covers: u64) -> Request {
        Request {
            purpose,
            reads,
            covers,
            touched: None,
        }
    }

    /// A request whose answer is only compared with the image, while events arrive.
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
    /// Continues the numbers of an earlier connection, so that a late answer matches no new request.
    pub(crate) fn after(earlier: &Requests) -> Requests {
        Requests {
            next: earlier.next,
            open: HashMap::new(),
        }
    }

    /// A number for a request that is not stored here.
    pub(crate) fn next_ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        ticket
    }

    /// The request of an answer that has arrived.
    pub(crate) fn asked(&self, ticket: Ticket) -> Option<&Request> {
        self.open.get(&ticket)
    }

    pub(crate) fn send(&mut self, request: Request, requests: &mut Vec<SourceRequest>) {
        let ticket = self.next_ticket();
        requests.push(SourceRequest::Read {
            ticket,
            reads: request.reads.clone(),
        });
        self.open.insert(ticket, request);
    }

    /// The request that an answer belongs to; `None` for one of an earlier connection.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Request> {
        self.open.remove(&ticket)
    }

    /// Notes an event of this path.
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

/// How long the data of a znode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// As when it was last read.
    Known(usize),
    /// It was written since: estimated from other recent values.
    Written(usize),
    /// It was never read: estimated from other recent values.
    Unread {
        /// The average of other values.
        bytes: usize,
        /// How many of its siblings were read in a row and were small.
        small: usize,
    },
}

/// How many znodes of unknown size one MultiRead has where so many of their siblings were small.
pub(crate) fn unread_at_once(small: usize) -> usize {
    small.clamp(UNREAD_MAX, UNREAD_AMONG_SMALL_MAX)
}

/// RequestBudget in one request.
#[derive(Debug)]
pub(crate) struct RequestBudget {
    is_empty: bool,
    reads: usize,
    request_bytes: usize,
    answer_bytes: usize,
    /// The size limit of an answer.
    whole_bytes: usize,
}

impl RequestBudget {
    pub(crate) fn new(reads: usize, limits: &Limits) -> RequestBudget {
        RequestBudget {
            is_empty: true,
            reads,
            request_bytes: limits.request_bytes,
            answer_bytes: limits.answer_bytes,
            whole_bytes: limits.answer_bytes,
        }
    }

    /// Reserves room for one read; `false` if there is none left. The first read always fits.
    pub(crate) fn take(&mut self, path: &str, length: Length) -> bool {
        let request = path.len() + 16;
        let expected_bytes = match length {
            Length::Known(bytes) => bytes,
            Length::Written(bytes) => {
                let (least, most) = (self.whole_bytes / FOLLOW_BATCH, self.whole_bytes / WRITTEN_MAX);
                bytes.max((bytes.saturating_mul(WRITTEN_GROWTH)).clamp(least, most))
            }
            Length::Unread { bytes, small } => bytes.max(self.whole_bytes / unread_at_once(small)),
        };
        if !self.is_empty
            && (self.reads == 0 || self.request_bytes < request || self.answer_bytes < expected_bytes)
        {
            return false;
        }
        self.is_empty = false;
        self.reads = self.reads.saturating_sub(1);
        self.request_bytes = self.request_bytes.saturating_sub(request);
        self.answer_bytes = self.answer_bytes.saturating_sub(expected_bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(budget: &mut RequestBudget, length: Length) -> usize {
        (0..1_000).take_while(|_| budget.take("/a", length)).count()
    }

    #[test]
    fn a_lone_event_is_read_at_once_and_under_load_many_are_read_together() {
        let limits = Limits::default();
        let check = |under_way, waiting, expected| {
            let is_due = limits.follow_is_due(under_way, waiting);
            assert_eq!(is_due, expected, "{under_way} under way, {waiting} waiting");
        };
        check(0, 0, false);
        check(0, 1, true);
        check(1, 1, false);
        check(1, 16, true);
        check(7, 64, false);
        check(7, 112, true);
        check(FOLLOW_WINDOW, 10_000, false);
    }

    #[test]
    fn of_znodes_of_unknown_size_as_many_are_asked_for_at_once_as_their_neighbours_make_safe() {
        let unread = |bytes, small| Length::Unread { bytes, small };
        let limits = Limits::default();
        let check = |length, expected| {
            let mut budget = RequestBudget::new(limits.walk_batch, &limits);
            assert_eq!(reads(&mut budget, length), expected, "{length:?}");
        };
        check(unread(0, 0), UNREAD_MAX);
        check(unread(100, 0), UNREAD_MAX);
        check(unread(100, 24), 24);
        check(unread(100, 10_000), UNREAD_AMONG_SMALL_MAX);
        check(unread(1 << 20, 0), 4);
        check(unread(1 << 20, 10_000), 4);
        check(Length::Written(0), FOLLOW_BATCH);
        check(Length::Written(100), FOLLOW_BATCH);
        check(Length::Written(500), 131);
        check(Length::Written(2_000), WRITTEN_MAX);
        check(Length::Written(60_000), WRITTEN_MAX);
        check(Length::Written(1 << 20), 4);
        check(Length::Known(100), WALK_BATCH);
        check(Length::Known(1 << 20), 4);
        check(Length::Known(5 << 20), 1);
    }
}
