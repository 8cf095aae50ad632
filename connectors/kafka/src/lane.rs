//! Messages on their way to the brokers, in the order of the batch.
//!
//! Reports may come in any order; the lane looks only at its front, so that what lies behind it is durable without a
//! hole. It must never forget a message whose end is not known: a later one could pass it.

use std::collections::VecDeque;
use std::sync::Arc;

use bridge_core::number::Seq;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::DeliveryFuture;
use uuid::Uuid;

use crate::error;

/// A message in the lane: whose it is and where it goes.
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

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every in-sync replica has it.
    Durable,
    /// It was never sent, and never can be.
    Refused(String),
    /// It was given up, or refused by the brokers.
    Failed(Code),
}

enum Report {
    Awaited(DeliveryFuture),
    Known(Outcome),
}

/// Records that became durable after their delivery had been reported as failed, in order and without a hole.
#[derive(Default)]
pub(crate) struct Settled {
    pub(crate) records: VecDeque<(Seq, Uuid)>,
    /// Whether something was not durable, so that what comes behind it is sent again.
    pub(crate) has_hole: bool,
}

/// Messages on their way.
#[derive(Default)]
pub(crate) struct Lane {
    queue: VecDeque<(Ticket, Report)>,
}

impl Lane {
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

    /// Adds a message that was handed over.
    pub(crate) fn sent(&mut self, ticket: Ticket, report: DeliveryFuture) {
        self.queue.push_back((ticket, Report::Awaited(report)));
    }

    /// Adds a record that can have no message.
    pub(crate) fn refused(&mut self, ticket: Ticket, reason: String) {
        self.queue
            .push_back((ticket, Report::Known(Outcome::Refused(reason))));
    }

    /// Adds a record that needs no message: it is done once those before it are.
    pub(crate) fn passed(&mut self, ticket: Ticket) {
        self.queue.push_back((ticket, Report::Known(Outcome::Durable)));
    }

    /// Waits for the end of the oldest message and takes it out; `None` when the lane is empty. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(Ticket, Outcome)> {
        let (_, report) = self.queue.front_mut()?;
        let outcome = match report {
            Report::Known(outcome) => outcome.clone(),
            Report::Awaited(report) => match report.await {
                Ok(Ok(_)) => Outcome::Durable,
                Ok(Err((failure, _))) => Outcome::Failed(error::code_of(&failure)),
                // The producer is gone, and the message with it.
                Err(_) => Outcome::Failed(Code::PurgeInflight),
            },
        };
        let (ticket, _) = self.queue.pop_front().expect("its front was looked at");
        Some((ticket, outcome))
    }

    /// Forgets all; only right when their producer is gone.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}
