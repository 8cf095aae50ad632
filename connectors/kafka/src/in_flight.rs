//! Messages in flight to the brokers, in the order of the batch.
//!
//! It must never forget a message whose end is not known: a later one could pass it.

use std::collections::VecDeque;
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::outbound::{self, MessageTicket, SendQueue};
use rdkafka::error::RDKafkaErrorCode as Code;
use uuid::Uuid;

use crate::reports::{End, Reports};

/// The result of a message; durable: every in-sync replica has it.
pub(crate) type SendOutcome = outbound::SendOutcome<(), Code>;

/// A message that was handed to the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentMessage {
    /// The number under which the producer reports it.
    pub(crate) number: usize,
    pub(crate) partition: i32,
}

/// A message, or a record without one, that has come to its end.
pub(crate) struct Ended {
    pub(crate) ticket: MessageTicket,
    pub(crate) outcome: SendOutcome,
    /// If it was sent.
    pub(crate) sent: Option<SentMessage>,
}

/// Records that became durable after their delivery had been reported as failed, in order and without a hole.
#[derive(Default)]
pub(crate) struct Settled {
    pub(crate) records: VecDeque<(Seq, Uuid)>,
    /// Whether something was not durable, so that everything after it is sent again.
    pub(crate) has_hole: bool,
}

/// Messages in flight, all of one producer.
#[derive(Default)]
pub(crate) struct InFlight {
    pub(crate) queue: SendQueue<SentMessage, (), Code>,
    reports: Arc<Reports>,
    /// How many messages were handed to the producer.
    handed_over: usize,
}

impl InFlight {
    /// The number under which the producer reports the next message.
    pub(crate) fn number(&self) -> usize {
        self.handed_over
    }

    /// The delivery reports of the producer.
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Adds the message that was handed over under [`InFlight::number`].
    pub(crate) fn sent(&mut self, ticket: MessageTicket, partition: i32) {
        let number = self.handed_over;
        self.handed_over += 1;
        self.queue.sent(ticket, SentMessage { number, partition });
    }

    /// Takes out the oldest message if its end is known.
    pub(crate) fn take(&mut self) -> Option<Ended> {
        let reports = &self.reports;
        let mut handed_over = None;
        let (ticket, outcome) = self.queue.take(|sent| {
            handed_over = Some(*sent);
            Some(match reports.take()? {
                Ok(()) => SendOutcome::Durable(()),
                Err(code) => SendOutcome::Failed(code),
            })
        })?;
        Some(Ended {
            ticket,
            outcome,
            sent: handed_over,
        })
    }

    /// Waits for the end of the oldest message and takes it out; `None` when the queue is empty. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Ended> {
        while !self.queue.is_empty() {
            let reported = self.reports.count();
            if let Some(next) = self.take() {
                return Some(next);
            }
            self.reports.until(reported + 1).await;
        }
        None
    }

    /// Takes everything out: the messages that were sent, in their order, each with its end if it is known. The ends of
    /// the others are reported as late ones ([`Reports::take_late`]).
    pub(crate) fn set_aside(&mut self) -> Vec<(MessageTicket, SentMessage, Option<End>)> {
        let ends = self.reports.set_aside(self.handed_over);
        let sent = self.queue.take_sent();
        // Only messages of the queue have an end that was not taken.
        assert_eq!(ends.len(), sent.len(), "a message and its end are taken together");
        let ended = |((ticket, sent), end)| (ticket, sent, end);
        sent.into_iter().zip(ends).map(ended).collect()
    }

    /// Waits until the end of every message is known, or one has failed. Cancel safe.
    pub(crate) async fn all_reported(&self) {
        self.reports.until(self.handed_over).await;
    }

    /// Waits until the ends of half of those messages are known whose end is not, or one has failed. Cancel safe.
    pub(crate) async fn half_reported(&self) {
        let reported = self.reports.count();
        let more = (self.handed_over - reported).div_ceil(2);
        self.reports.until(reported + more).await;
    }

    /// Forgets all, for a producer that reports here; only right when the one before is gone.
    pub(crate) fn begin(&mut self, reports: Arc<Reports>) {
        *self = InFlight {
            reports,
            ..InFlight::default()
        };
    }
}
