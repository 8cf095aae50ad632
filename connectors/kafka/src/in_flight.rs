//! Messages on their way to the brokers, in the order of the batch.
//!
//! Reports may come in any order; the queue looks only at its front, so that what lies behind it is durable without a
//! hole. It must never forget a message whose end is not known: a later one could pass it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use bridge_core::sink::SinkErrorKind;
use rdkafka::error::RDKafkaErrorCode as Code;
use uuid::Uuid;

use crate::reports::Reports;

/// A message in the queue: whose it is and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// Position of its record in the batch.
    pub(crate) at: usize,
    /// The record's.
    pub(crate) seq: Seq,
    /// The record's.
    pub(crate) id: Uuid,
    /// Whether the record has no further message.
    pub(crate) is_last: bool,
    /// Where it goes.
    pub(crate) topic: Arc<str>,
    /// Its size, for messages.
    pub(crate) bytes: usize,
    /// Whether its data was cut to what the topic takes.
    pub(crate) is_shrunk: bool,
}

impl Ticket {
    /// Of a record without a message so far.
    pub(crate) fn without_message(at: usize, record: &Record) -> Ticket {
        Ticket {
            at,
            seq: record.seq,
            id: record.id,
            is_last: true,
            topic: "".into(),
            bytes: 0,
            is_shrunk: false,
        }
    }
}

/// Why a topic takes nothing for now; `None` for a record that waits for one of its path.
pub(crate) type TopicFailure = Option<(SinkErrorKind, String)>;

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SendOutcome {
    /// Every in-sync replica has it.
    Durable,
    /// There is nothing to send of the record.
    Passed,
    /// It was never sent, and never can be.
    Refused(String),
    /// It was not sent: its topic does not take it for now, or a record of its path waits.
    Held(Arc<Record>, TopicFailure),
    /// It was given up, or refused by the brokers.
    Failed(Code),
}

enum Report {
    /// The next that the producer has not told, or that was not taken.
    Awaited,
    Known(SendOutcome),
}

/// Records that became durable after their delivery had been reported as failed, in order and without a hole.
#[derive(Default)]
pub(crate) struct Settled {
    pub(crate) records: VecDeque<(Seq, Uuid)>,
    /// Whether something was not durable, so that what comes behind it is sent again.
    pub(crate) has_hole: bool,
}

/// Messages on their way, all of one producer.
#[derive(Default)]
pub(crate) struct InFlight {
    queue: VecDeque<(Ticket, Report)>,
    reports: Arc<Reports>,
    /// How many messages were handed to the producer.
    handed_over: usize,
    /// The paths of records in here that wait.
    held: HashSet<Option<ZnodePath>>,
}

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The topic of the oldest message.
    pub(crate) fn first_topic(&self) -> Option<&str> {
        self.queue.front().map(|(ticket, _)| &*ticket.topic)
    }

    /// The number under which the producer reports the next message.
    pub(crate) fn number(&self) -> usize {
        self.handed_over
    }

    /// Adds the message that was handed over under [`InFlight::number`].
    pub(crate) fn sent(&mut self, ticket: Ticket) {
        self.handed_over += 1;
        self.queue.push_back((ticket, Report::Awaited));
    }

    /// Adds a record that can have no message.
    pub(crate) fn refused(&mut self, ticket: Ticket, reason: String) {
        self.queue
            .push_back((ticket, Report::Known(SendOutcome::Refused(reason))));
    }

    /// Adds a record that is not sent now.
    pub(crate) fn held(&mut self, ticket: Ticket, record: &Arc<Record>, failure: TopicFailure) {
        self.held.insert(record.path.clone());
        let outcome = SendOutcome::Held(Arc::clone(record), failure);
        self.queue.push_back((ticket, Report::Known(outcome)));
    }

    /// Whether a record of this path waits in here for its topic.
    pub(crate) fn holds(&self, path: &Option<ZnodePath>) -> bool {
        self.held.contains(path)
    }

    /// Adds a record that needs no message: it is done once those before it are.
    pub(crate) fn passed(&mut self, ticket: Ticket) {
        self.queue.push_back((ticket, Report::Known(SendOutcome::Passed)));
    }

    /// Takes out the oldest message if its end is known.
    pub(crate) fn take(&mut self) -> Option<(Ticket, SendOutcome)> {
        let outcome = match self.queue.front()? {
            (_, Report::Known(outcome)) => outcome.clone(),
            (_, Report::Awaited) => match self.reports.take()? {
                Ok(()) => SendOutcome::Durable,
                Err(code) => SendOutcome::Failed(code),
            },
        };
        let (ticket, _) = self.queue.pop_front()?;
        if let SendOutcome::Held(record, _) = &outcome {
            self.held.remove(&record.path);
        }
        Some((ticket, outcome))
    }

    /// Waits for the end of the oldest message and takes it out; `None` when the queue is empty. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(Ticket, SendOutcome)> {
        while !self.is_empty() {
            let told = self.reports.told();
            if let Some(next) = self.take() {
                return Some(next);
            }
            self.reports.until(told + 1).await;
        }
        None
    }

    /// Waits until the end of every message is known, or one has failed. Cancel safe.
    pub(crate) async fn all_told(&self) {
        self.reports.until(self.handed_over).await;
    }

    /// Waits until the ends of half of those messages are known whose end is not, or one has failed. Cancel safe.
    pub(crate) async fn half_told(&self) {
        let told = self.reports.told();
        let more = (self.handed_over - told).div_ceil(2);
        self.reports.until(told + more).await;
    }

    /// Forgets all, for a producer that tells its reports here; only right when the one before is gone.
    pub(crate) fn begin(&mut self, reports: Arc<Reports>) {
        *self = InFlight {
            reports,
            ..InFlight::default()
        };
    }
}
