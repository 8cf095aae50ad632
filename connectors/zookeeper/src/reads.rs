//! The reads under way on one connection.
//!
//! *Invariant.* Answers come in the order of the requests, and each is of a state that is no older than that of the one
//! before it. A request that the server throttles is sent again, and with it every later one: an answer that came
//! meanwhile is of an older state. As the later ones leave one after another, fewer are in flight then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::capture::{AclOutcome, Input, ReadRequest, Ticket};
use bridge_core::path::ZnodePath;
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep_until};
use zookeeper_client::{Client, Error, MultiReadResult};

use crate::config::AclDigests;
use crate::convert;
use crate::throttle::Throttle;

type Answer<'a> = BoxFuture<'a, Result<Input, Error>>;

/// A read, kept until its answer so that it can be sent again.
#[derive(Clone)]
pub(crate) enum ReadOrder {
    /// Of many znodes in one request.
    Znodes {
        ticket: Ticket,
        reads: Arc<[ReadRequest]>,
    },
    /// Of access control lists, each in a request of its own.
    Acls {
        ticket: Ticket,
        paths: Arc<[ZnodePath]>,
        digests: AclDigests,
    },
}

/// A read and its answer; `None` until it is sent.
struct UnderWay<'a> {
    order: ReadOrder,
    answer: Option<Answer<'a>>,
}

/// Reads under way, in their order.
pub(crate) struct Reads<'a> {
    client: &'a Client,
    under_way: VecDeque<UnderWay<'a>>,
    /// Since when the oldest is the oldest.
    since: Instant,
    /// How long the oldest may take.
    bound: Duration,
    throttle: Throttle,
    /// Nothing is sent again before this.
    throttled_until: Option<Instant>,
}

impl<'a> Reads<'a> {
    pub(crate) fn new(client: &'a Client, bound: Duration) -> Reads<'a> {
        Reads {
            client,
            under_way: VecDeque::new(),
            since: Instant::now(),
            bound,
            throttle: Throttle::default(),
            throttled_until: None,
        }
    }

    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }

    /// Sends a read, or keeps it until the ones before it are sent again.
    ///
    /// # Errors
    ///
    /// If the client library does not take a path.
    pub(crate) fn push(&mut self, order: ReadOrder) -> Result<(), Error> {
        let answer = match self.under_way.back() {
            Some(last) if last.answer.is_none() => None,
            _ => Some(order.send(self.client)?),
        };
        if self.under_way.is_empty() {
            self.since = Instant::now();
        }
        self.under_way.push_back(UnderWay { order, answer });
        Ok(())
    }

    /// The answer to the oldest read; pending without one. Cancel safe: the read stays in the queue until then.
    pub(crate) async fn next(&mut self) -> Result<Input, Error> {
        loop {
            let Some(UnderWay { order, answer }) = self.under_way.front_mut() else {
                return std::future::pending().await;
            };
            let answer = match answer {
                Some(answer) => answer,
                unsent => {
                    if let Some(until) = self.throttled_until {
                        sleep_until(until).await;
                        self.throttled_until = None;
                    }
                    unsent.insert(order.send(self.client)?)
                }
            };
            match answer.await {
                Err(Error::Throttled) => {
                    self.throttled_until = Some(self.throttle.until());
                    for read in &mut self.under_way {
                        read.answer = None;
                    }
                }
                answer => {
                    self.throttle.answered();
                    self.under_way.pop_front();
                    self.since = Instant::now();
                    return answer;
                }
            }
        }
    }

    pub(crate) fn is_overdue(&self) -> bool {
        !self.under_way.is_empty() && self.since.elapsed() > self.bound
    }

    /// Whether the server has answered the oldest read only by throttling it.
    pub(crate) fn is_throttled(&self) -> bool {
        self.throttle.is_throttled()
    }
}

impl ReadOrder {
    /// Sends the read; the client sends when called, so that reads leave in the order of these calls.
    fn send<'a>(&self, client: &'a Client) -> Result<Answer<'a>, Error> {
        match self.clone() {
            ReadOrder::Znodes { ticket, reads } => {
                let results = send_multi_read(client, &reads)?;
                Ok(Box::pin(async move {
                    let outcomes = convert::outcomes(&reads, results.await?)?;
                    Ok(Input::Answer { ticket, outcomes })
                }))
            }
            ReadOrder::Acls {
                ticket,
                paths,
                digests,
            } => Ok(read_acls(client, ticket, paths, digests)),
        }
    }
}

fn send_multi_read<'a>(
    client: &'a Client,
    reads: &[ReadRequest],
) -> Result<BoxFuture<'a, Result<Vec<MultiReadResult>, Error>>, Error> {
    let mut reader = client.new_multi_reader();
    for read in reads {
        reader.add_get_data(&read.path)?;
        if read.children {
            reader.add_get_children(&read.path)?;
        }
    }
    Ok(Box::pin(reader.commit()))
}

/// Asks for lists one by one, as there is no request for many: all leave now, and their answers come in order.
fn read_acls(client: &Client, ticket: Ticket, paths: Arc<[ZnodePath]>, digests: AclDigests) -> Answer<'_> {
    let asked: Vec<_> = paths.iter().map(|path| client.get_acl(path)).collect();
    let answers = join_all(asked);
    Box::pin(async move {
        let answers = answers.await;
        // One list of a later state would come before others of an older one.
        if answers
            .iter()
            .any(|answer| matches!(answer, Err(Error::Throttled)))
        {
            return Err(Error::Throttled);
        }
        let outcomes = answers
            .into_iter()
            .map(|answer| convert::acl_outcome(answer, digests))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut outcomes_of_paths = paths.iter().zip(&outcomes);
        if let Some((path, _)) = outcomes_of_paths.find(|(_, outcome)| **outcome == AclOutcome::Denied) {
            tracing::warn!(
                path = path.as_str(),
                "an access control list may not be read, so that the acl record is without it: grant the bridge the \
                 permission 'r' or 'a'"
            );
        }
        Ok(Input::Acls { ticket, outcomes })
    })
}
