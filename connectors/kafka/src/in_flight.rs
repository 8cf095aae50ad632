//! Messages in flight to the brokers, in the order of the batch.
//!
//! It must never forget a message whose end is not known: a later one could pass it.

use std::collections::VecDeque;
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::outbound::{self, MessageTicket, SendQueue};
use rdkafka::error::RDKafkaErrorCode as Code;
use uuid::Uuid;

use crate::reports::Reports;

/// The result of a message; durable: every in-sync replica has it.
pub(crate) type SendOutcome = outbound::SendOutcome<(), Code>;

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
    pub(crate) queue: SendQueue<(), (), Code>,
    reports: Arc<Reports>,
    /// How many messages were handed to the producer.
    handed_over: usize,
}

impl InFlight {
    /// The number under which the producer reports the next message.
    pub(crate) fn number(&self) -> usize {
        self.handed_over
    }

    /// Adds the message that was handed over under [`InFlight::number`].
    pub(crate) fn sent(&mut self, ticket: MessageTicket) {
        self.handed_over += 1;
        self.queue.sent(ticket, ());
    }

    /// Takes out the oldest message if its end is known.
    pub(crate) fn take(&mut self) -> Option<(MessageTicket, SendOutcome)> {
        let reports = &self.reports;
        self.queue.take(|()| {
            Some(match reports.take()? {
                Ok(()) => SendOutcome::Durable(()),
                Err(code) => SendOutcome::Failed(code),
            })
        })
    }

    /// Waits for the end of the oldest message and takes it out; `None` when the queue is empty. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(MessageTicket, SendOutcome)> {
        while !self.queue.is_empty() {
            let reported = self.reports.count();
            if let Some(next) = self.take() {
                return Some(next);
            }
            self.reports.until(reported + 1).await;
        }
        None
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
