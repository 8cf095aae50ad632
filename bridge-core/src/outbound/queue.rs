//! Messages in flight, in the order of the batch.
//!
//! Destinations acknowledge in any order. The queue gives out its front only, so that everything before a durable message
//! is settled.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::{MessagePlace, Tally};
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::SinkError;

/// A message in the queue, or a record without one.
#[derive(Clone, Debug)]
pub struct MessageTicket {
    /// Position of the record in the batch.
    pub at: usize,
    /// The record.
    pub record: Arc<Record>,
    /// Which of the record's messages it is.
    pub place: MessagePlace,
    /// Its topic or subject.
    pub target: Arc<str>,
    /// The size of the message in bytes.
    pub bytes: usize,
    /// Whether data was cut to what the destination takes.
    pub is_shrunk: bool,
}

/// The result of a message: acknowledged with an `A`, or failed with an `F`.
#[derive(Debug)]
pub enum SendOutcome<A, F> {
    /// It is durable at the destination.
    Durable(A),
    /// The record needs no message.
    Passed,
    /// It was not sent and never can be.
    Refused(String),
    /// It was not sent: the destination does not take it for now, or (`None`) a record of its path is held.
    Held(Option<SinkError>),
    /// The destination refused it, or did not answer.
    Failed(F),
}

/// Messages in flight; a `P` is what is known of one that was not acknowledged.
#[derive(Debug)]
pub struct SendQueue<P, A, F> {
    queue: VecDeque<(MessageTicket, Sending<P, A, F>)>,
    /// The paths of records in the queue that are held.
    held: HashSet<Option<ZnodePath>>,
}

#[derive(Debug)]
enum Sending<P, A, F> {
    Sent(P),
    /// Taken with its ticket.
    Ended(Option<SendOutcome<A, F>>),
}

impl MessageTicket {
    /// For a record that has no message yet.
    pub fn of(at: usize, record: &Arc<Record>) -> MessageTicket {
        MessageTicket {
            at,
            record: Arc::clone(record),
            place: MessagePlace::ONLY,
            target: "".into(),
            bytes: 0,
            is_shrunk: false,
        }
    }
}

impl<P, A, F> Default for SendQueue<P, A, F> {
    fn default() -> Self {
        SendQueue {
            queue: VecDeque::new(),
            held: HashSet::new(),
        }
    }
}

impl<P, A, F> SendQueue<P, A, F> {
    /// Whether nothing is in the queue.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many messages and records without one are in the queue.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The oldest of them.
    pub fn front(&self) -> Option<&MessageTicket> {
        self.queue.front().map(|(ticket, _)| ticket)
    }

    /// Whether a record of this path in the queue is held.
    pub fn holds(&self, path: &Option<ZnodePath>) -> bool {
        self.held.contains(path)
    }

    /// Adds a message that was sent.
    pub fn sent(&mut self, ticket: MessageTicket, progress: P) {
        self.queue.push_back((ticket, Sending::Sent(progress)));
    }

    /// Adds a record that was not sent.
    pub fn settled(&mut self, ticket: MessageTicket, outcome: SendOutcome<A, F>) {
        if matches!(outcome, SendOutcome::Held(_)) {
            self.held.insert(ticket.record.path.clone());
        }
        self.queue.push_back((ticket, Sending::Ended(Some(outcome))));
    }

    /// Takes out everything, and returns the messages that were sent, in their order, each with what is known of it.
    pub fn take_sent(&mut self) -> Vec<(MessageTicket, P)> {
        self.held.clear();
        let sent = |(ticket, sending)| match sending {
            Sending::Sent(progress) => Some((ticket, progress)),
            Sending::Ended(_) => None,
        };
        self.queue.drain(..).filter_map(sent).collect()
    }

    /// Takes out the oldest if its end is known. `end` says it of a message that was sent, and is not called again for one
    /// once it did.
    pub fn take(
        &mut self,
        end: impl FnOnce(&mut P) -> Option<SendOutcome<A, F>>,
    ) -> Option<(MessageTicket, SendOutcome<A, F>)> {
        let outcome = match &mut self.queue.front_mut()?.1 {
            Sending::Sent(sent) => Some(end(sent)?),
            Sending::Ended(outcome) => outcome.take(),
        };
        let (ticket, _) = self.queue.pop_front()?;
        let outcome = outcome?;
        if matches!(outcome, SendOutcome::Held(_)) {
            self.held.remove(&ticket.record.path);
        }
        Some((ticket, outcome))
    }
}

impl Tally {
    /// Settles a message, and with its last message its record. Returns the failure, which settles nothing.
    pub fn settle<A, F>(&mut self, ticket: &MessageTicket, outcome: SendOutcome<A, F>) -> Option<F> {
        let at = ticket.at;
        match outcome {
            SendOutcome::Durable(_) => self.durable(ticket),
            SendOutcome::Passed => self.passed(at),
            SendOutcome::Refused(reason) => self.rejected(at, ticket.record.seq, reason),
            SendOutcome::Held(Some(error)) => self.held(at, &ticket.record, error),
            SendOutcome::Held(None) => self.waits(at, &ticket.record),
            SendOutcome::Failed(failure) => return Some(failure),
        }
        None
    }

    /// A message is durable; with the last one its record is.
    pub fn durable(&mut self, ticket: &MessageTicket) {
        if ticket.place.is_last {
            self.shrunk += u64::from(ticket.is_shrunk);
            self.took(ticket.at);
        }
    }
}
