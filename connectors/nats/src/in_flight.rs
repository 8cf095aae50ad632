//! Messages in flight, in the order of the batch.
//!
//! It must never hold two messages of one key: servers of a cluster may lose the first and take the second, and the
//! stream would keep that order.

use std::collections::HashSet;
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::publish::PublishAck;
use bridge_core::outbound::{self, MessageTicket, SendQueue};
use bridge_core::path::ZnodePath;
use futures::FutureExt;
use futures::future::BoxFuture;

/// The key by which messages stay in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OrderKey {
    /// The records of a path; of none: control records.
    Path(Option<ZnodePath>),
    /// All messages of a subject.
    Subject(Arc<str>),
}

/// The result of a message; durable: the stream has it.
pub(crate) type SendOutcome = outbound::SendOutcome<PublishAck, PublishError>;

type Ack = BoxFuture<'static, Result<PublishAck, PublishError>>;

/// Messages in flight.
#[derive(Default)]
pub(crate) struct InFlight {
    queue: SendQueue<(OrderKey, Ack), PublishAck, PublishError>,
    keys: HashSet<OrderKey>,
}

impl InFlight {
    /// How many messages wait for their acknowledgement.
    pub(crate) fn waiting(&self) -> usize {
        self.keys.len()
    }

    /// Whether a message of this key is in flight.
    pub(crate) fn holds(&self, key: &OrderKey) -> bool {
        self.keys.contains(key)
    }

    /// Adds a message that was sent.
    pub(crate) fn sent(&mut self, ticket: MessageTicket, key: OrderKey, ack: PublishAckFuture) {
        let is_first = self.keys.insert(key.clone());
        assert!(is_first, "two messages of {key:?} in flight");
        self.queue.sent(ticket, (key, ack.into_future()));
    }

    /// Adds a record that was not sent.
    pub(crate) fn settled(&mut self, ticket: MessageTicket, outcome: SendOutcome) {
        self.queue.settled(ticket, outcome);
    }

    /// Waits for the end of the oldest record and takes it out; `None` when the queue is empty. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(MessageTicket, SendOutcome)> {
        poll_fn(|context| match self.take(context) {
            None if !self.queue.is_empty() => Poll::Pending,
            next => Poll::Ready(next),
        })
        .await
    }

    fn take(&mut self, context: &mut Context<'_>) -> Option<(MessageTicket, SendOutcome)> {
        let keys = &mut self.keys;
        self.queue.take(|(key, ack)| {
            let Poll::Ready(answer) = ack.poll_unpin(context) else {
                return None;
            };
            keys.remove(key);
            Some(answer.map_or_else(SendOutcome::Failed, SendOutcome::Durable))
        })
    }
}
