//! Messages on their way, in the order of the batch.
//!
//! Acknowledgements may come in any order; the queue looks only at its front, so that what lies behind it is durable
//! without a hole. It must never hold two messages of one key: servers of a cluster may lose the first and take the
//! second, and the stream would keep that order for ever.

use std::collections::{HashSet, VecDeque};
use std::future::IntoFuture;
use std::sync::Arc;

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::publish::PublishAck;
use bridge_core::number::Seq;
use bridge_core::outbound::MessagePlace;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use futures::future::BoxFuture;

/// What must stay in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OrderKey {
    /// The records of a path; of none: control records.
    Path(Option<ZnodePath>),
    /// All that goes to a subject.
    Subject(Arc<str>),
}

/// A record in the queue.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// Its position in the batch.
    pub(crate) at: usize,
    /// The record's.
    pub(crate) seq: Seq,
    /// Which of the record's messages it is.
    pub(crate) place: MessagePlace,
    /// Where it goes.
    pub(crate) subject: Arc<str>,
    /// The size of its message.
    pub(crate) bytes: usize,
    /// Whether its data was cut to what the stream takes.
    pub(crate) is_shrunk: bool,
}

impl Ticket {
    /// Of a record that is not sent.
    pub(crate) fn without_message(at: usize, record: &Record) -> Ticket {
        Ticket {
            at,
            seq: record.seq,
            place: MessagePlace {
                index: 0,
                is_last: true,
            },
            subject: "".into(),
            bytes: 0,
            is_shrunk: false,
        }
    }
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum SendOutcome {
    /// The stream has it.
    Durable(PublishAck),
    /// There is nothing to send of it.
    Passed,
    /// It can never be sent.
    Refused(String),
    /// A record of its path is held.
    Held,
    /// No acknowledgement, or a refusal.
    Failed(PublishError),
}

enum Report {
    Awaited(BoxFuture<'static, Result<PublishAck, PublishError>>),
    Known(SendOutcome),
}

struct Entry {
    ticket: Ticket,
    key: Option<OrderKey>,
    report: Report,
}

/// Messages on their way.
#[derive(Default)]
pub(crate) struct InFlight {
    queue: VecDeque<Entry>,
    keys: HashSet<OrderKey>,
}

impl InFlight {
    /// How many messages wait for their acknowledgement.
    pub(crate) fn waiting(&self) -> usize {
        self.keys.len()
    }

    /// Whether a message of this key is on its way.
    pub(crate) fn holds(&self, key: &OrderKey) -> bool {
        self.keys.contains(key)
    }

    /// Adds a message that was sent.
    pub(crate) fn sent(&mut self, ticket: Ticket, key: OrderKey, ack: PublishAckFuture) {
        let is_first = self.keys.insert(key.clone());
        assert!(is_first, "two messages of {key:?} on their way");
        self.queue.push_back(Entry {
            ticket,
            key: Some(key),
            report: Report::Awaited(ack.into_future()),
        });
    }

    /// Adds a record without a message.
    pub(crate) fn settled(&mut self, ticket: Ticket, outcome: SendOutcome) {
        self.queue.push_back(Entry {
            ticket,
            key: None,
            report: Report::Known(outcome),
        });
    }

    /// Waits for the end of the oldest record and takes it out; `None` when the queue is empty. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(Ticket, SendOutcome)> {
        let entry = self.queue.front_mut()?;
        if let Report::Awaited(ack) = &mut entry.report {
            let answer = ack.await;
            entry.report = Report::Known(answer.map_or_else(SendOutcome::Failed, SendOutcome::Durable));
        }
        let Entry { ticket, key, report } = self.queue.pop_front().expect("its front was looked at");
        if let Some(key) = &key {
            self.keys.remove(key);
        }
        match report {
            Report::Known(outcome) => Some((ticket, outcome)),
            Report::Awaited(_) => unreachable!("what was awaited is known"),
        }
    }
}
