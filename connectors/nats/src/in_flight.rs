//! Messages in flight, in the order of the batch.
//!
//! It must never hold two messages of one path, or, with a fence, of one subject: servers of a cluster may lose the
//! first and take the second, and the stream would keep that order.

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

use crate::refused::RefusedSubjects;

/// The result of a message; durable: the stream has it.
pub(crate) type SendOutcome = outbound::SendOutcome<PublishAck, PublishError>;

type Ack = BoxFuture<'static, Result<PublishAck, PublishError>>;

/// A message in flight.
struct Waiting {
    /// Where it is kept in order with others of its subject.
    subject: Option<Arc<str>>,
    ack: Ack,
}

/// Messages in flight.
#[derive(Default)]
pub(crate) struct InFlight {
    queue: SendQueue<Waiting, PublishAck, PublishError>,
    /// Their paths; of none: control records.
    paths: HashSet<Option<ZnodePath>>,
    /// Their subjects, where the messages of a subject are kept in order.
    subjects: HashSet<Arc<str>>,
}

impl InFlight {
    /// How many messages wait for their acknowledgement.
    pub(crate) fn waiting(&self) -> usize {
        self.paths.len()
    }

    /// Whether a message of this path, or of this subject where those are kept in order, is in flight.
    pub(crate) fn holds(&self, path: &Option<ZnodePath>, subject: &Arc<str>) -> bool {
        self.paths.contains(path) || self.subjects.contains(subject)
    }

    /// Adds a message that was sent; with `subject` it is kept in order with others of that one, too.
    pub(crate) fn sent(&mut self, ticket: MessageTicket, subject: Option<Arc<str>>, ack: PublishAckFuture) {
        let path = &ticket.record.path;
        let is_first = self.paths.insert(path.clone())
            && subject
                .as_ref()
                .is_none_or(|subject| self.subjects.insert(Arc::clone(subject)));
        assert!(is_first, "two messages of one path or subject in flight");
        let ack = ack.into_future();
        self.queue.sent(ticket, Waiting { subject, ack });
    }

    /// Adds a record that was not sent.
    pub(crate) fn settled(&mut self, ticket: MessageTicket, outcome: SendOutcome) {
        self.queue.settled(ticket, outcome);
    }

    /// Waits for the end of the oldest record and takes it out; `None` when the queue is empty. A message of a refused
    /// subject has no other end. Cancel safe.
    pub(crate) async fn next(&mut self, refused: &RefusedSubjects) -> Option<(MessageTicket, SendOutcome)> {
        poll_fn(|context| match self.take(refused, context) {
            None if !self.queue.is_empty() => Poll::Pending,
            next => Poll::Ready(next),
        })
        .await
    }

    fn take(
        &mut self,
        refused: &RefusedSubjects,
        context: &mut Context<'_>,
    ) -> Option<(MessageTicket, SendOutcome)> {
        let target = Arc::clone(&self.queue.front()?.target);
        let mut ended = None;
        let (ticket, outcome) = self.queue.take(|waiting| {
            let outcome = match waiting.ack.poll_unpin(context) {
                Poll::Ready(answer) => answer.map_or_else(SendOutcome::Failed, SendOutcome::Durable),
                Poll::Pending => SendOutcome::Held(Some(refused.reason(&target)?)),
            };
            ended = Some(waiting.subject.take());
            Some(outcome)
        })?;
        if let Some(subject) = ended {
            self.paths.remove(&ticket.record.path);
            subject.map(|subject| self.subjects.remove(&subject));
        }
        Some((ticket, outcome))
    }
}
