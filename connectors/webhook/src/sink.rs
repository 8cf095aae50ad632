//! The delivery to the receiver.
//!
//! **Order.** One request of each path is in flight; the next is sent when the receiver has taken that one. A slow
//! receiver may still process a request without an answer when it is sent again; both have the same `webhook-id`.
//!
//! **Failures.** A failure is that of a path as long as the receiver takes others: the path is deferred, with all of
//! its records in the batch, and the others continue. When nothing else is taken, it is the receiver's: the batch ends
//! there, and what was taken after the first failure is remembered, so that it is not sent again.
//!
//! | answer | effect |
//! | --- | --- |
//! | 2xx | delivered |
//! | 408, 425, 5xx, none in time, a broken connection | the path is held, or the receiver |
//! | 3xx | the same; nothing is followed |
//! | 410 | the sink ends until an operator switches it on (`disable_on_410`) |
//! | 429, and 503 with `Retry-After` | nothing is sent for the requested time |
//! | 413 | the record is sent again with less data, at once, as long as it has any |
//! | other 4xx, and an answer that cannot be read | after `reject_after` tries the record is rejected |
//! | no connection | nothing is sent until there is one |

use std::sync::Arc;
use std::time::SystemTime;

use bridge_core::issue::{self, ConfigIssue};
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Extent, Sink, SinkError, SinkErrorKind};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{StatusCode, Url};
use tokio::time::Instant;

use crate::address;
use crate::config::WebhookConfig;
use crate::consent::Grant;
use crate::encode::Unfit;
use crate::error::{self, Loss, LossCause, Meaning};
use crate::http_sender::{Answer, HttpSender, Reply};
use crate::memory::{Failure, Memory, Round};
use crate::path_queues::{Outcome, PathQueues};
use crate::resolve::{Guard, SystemLookup, no_refusal};
use crate::signature::SigningKey;
use crate::transport::malformed_proxies;

/// A service that is called for each change, for the records of one source.
pub struct WebhookSink {
    config: WebhookConfig,
    url: Url,
    guard: Guard,
    /// The proxies that the environment names.
    proxies: Arc<Matcher>,
    sender: Option<Arc<HttpSender>>,
    /// The consent of the receiver, until it objects to the address.
    grant: Option<Grant>,
    /// Whether there has been a connection.
    was_proven: bool,
    memory: Memory,
    /// No body may be larger.
    max_body: usize,
    /// Records that were taken with less data than they have.
    shrunk: u64,
    /// The last answer that took records.
    answer: Option<String>,
}

impl WebhookSink {
    /// A sink with these options. Reads certificates and connects in `open`.
    ///
    /// # Errors
    ///
    /// The options' [`WebhookConfig::objections`] that are errors.
    ///
    /// # Panics
    ///
    /// Never: valid options give a valid client.
    pub fn new(config: &WebhookConfig) -> Result<WebhookSink, Vec<ConfigIssue>> {
        issue::no_error(config.objections())?;
        let malformed = malformed_proxies(|name| std::env::var(name).ok());
        if !malformed.is_empty() {
            return Err(malformed);
        }
        let url = config.parsed_url().expect("the options were checked just now");
        Ok(WebhookSink {
            config: config.clone(),
            url,
            guard: Guard {
                lookup: Arc::new(SystemLookup),
                rule: match config.allow_private_addresses {
                    true => no_refusal,
                    false => address::refusal,
                },
            },
            proxies: Arc::new(Matcher::from_env()),
            sender: None,
            grant: None,
            was_proven: false,
            memory: Memory::new(),
            max_body: config
                .max_body
                .map_or(usize::MAX, |most| usize::try_from(most.0).unwrap_or(usize::MAX)),
            shrunk: 0,
            answer: None,
        })
    }

    /// The same in a network with other names and other rules.
    #[cfg(test)]
    pub(crate) fn in_network(mut self, guard: Guard) -> WebhookSink {
        self.guard = guard;
        self
    }

    /// The same in another environment.
    #[cfg(test)]
    pub(crate) fn through(mut self, proxies: Matcher) -> WebhookSink {
        self.proxies = Arc::new(proxies);
        self
    }

    async fn prove(&mut self) -> Result<(), SinkError> {
        self.sender = None;
        let (config, url, guard) = (self.config.clone(), self.url.clone(), self.guard.clone());
        let proxies = Arc::clone(&self.proxies);
        let made = tokio::task::spawn_blocking(move || HttpSender::new(&config, url, guard, &proxies)).await;
        let mut sender = made.unwrap_or_else(|error| {
            Err(
                SinkError::new(SinkErrorKind::Broken, "the thread that reads certificates ended")
                    .because(error),
            )
        })?;
        sender.transport.prove(self.was_proven).await?;
        self.was_proven = true;
        if let Some(consent) = &self.config.consent {
            let granted = match self.grant.take() {
                Some(grant) => grant,
                None => sender.ask(consent).await?,
            };
            sender.grant = Some(granted.clone());
            self.grant = Some(granted);
        }
        for public_key in sender.keys.iter().filter_map(SigningKey::public) {
            tracing::info!(
                receiver = sender.shown,
                public_key,
                "requests are signed with the key of this public key"
            );
        }
        self.sender = Some(Arc::new(sender));
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        let Some(sender) = self.sender.clone() else {
            return Err(DeliverError::after(0, SinkError::not_opened()));
        };
        let known = self.memory.recall(records);
        let mut round = Round::new(records, &known);
        let is_suspect = |record: &Record| self.memory.suspects.contains_key(&record.seq);
        let mut queues = PathQueues::new(records, known, is_suspect).within(self.max_body);
        let mut in_flight = FuturesUnordered::new();
        let began = Instant::now();
        loop {
            while in_flight.len() < self.config.parallel_requests() && round.end.is_none() {
                let pause = sender.pause(began);
                if pause.is_some() && !in_flight.is_empty() {
                    break;
                }
                let alone = |record: &Record| self.memory.suspects.contains_key(&record.seq);
                let Some(members) = queues.next(self.config.batch, alone) else {
                    break;
                };
                if let Some(error) = pause {
                    round.end = Some((error, Extent::Destination));
                    queues.settle(&members, |_| Some(Outcome::Held));
                    break;
                }
                let most = self.most(&records[members[0]]);
                in_flight.push(sender.send(members, records, most, sender.turn()));
            }
            let Some(reply) = in_flight.next().await else {
                break;
            };
            self.settle(&sender, &mut round, &mut queues, reply);
        }
        drop(in_flight);
        self.memory.conclude(round, queues.into_outcomes())
    }

    /// How large a body may be that holds this record alone, or it and those after it.
    fn most(&self, record: &Record) -> usize {
        let suspect = self.memory.suspects.get(&record.seq);
        let known = suspect.and_then(|suspect| suspect.most);
        known.map_or(self.max_body, |most| most.min(self.max_body))
    }

    fn settle(
        &mut self,
        sender: &HttpSender,
        round: &mut Round<'_>,
        queues: &mut PathQueues<'_>,
        reply: Reply,
    ) {
        let (members, bytes, is_shrunk) = (&reply.members[..], reply.bytes, reply.is_shrunk);
        let response = match reply.answer {
            Answer::Nothing => return queues.settle(members, |_| Some(Outcome::Accepted)),
            Answer::Unfit(Unfit::Together) => return self.take_apart(round, queues, members),
            Answer::Unfit(Unfit::Never(reason)) => {
                return queues.settle(members, |_| {
                    Some(Outcome::Rejected {
                        reason: reason.clone(),
                        attempts: 1,
                    })
                });
            }
            Answer::Lost(Loss { error, cause }) => {
                let failure = Failure {
                    error,
                    of_address: false,
                };
                return match cause {
                    LossCause::Transport => {
                        round.end = Some((failure.error, Extent::Destination));
                        queues.settle(members, |_| Some(Outcome::Held));
                    }
                    LossCause::NoAnswer => self.hold(round, queues, members, failure),
                    // It may be that of one of them.
                    LossCause::Unreadable(_) if members.len() > 1 => self.take_apart(round, queues, members),
                    LossCause::Unreadable(fault) => {
                        let reason = |tries, id: &str| error::unreadable(&sender.shown, &fault, tries, id);
                        self.refused(round, queues, members, failure, reason);
                    }
                };
            }
            Answer::Status(response) => response,
        };
        let (status, now) = (response.status, SystemTime::now());
        let waits = response.wait(now).is_some();
        let about = |kind| error::about_answer(&sender.shown, &response, kind, now);
        let special = sender
            .preset
            .and_then(|preset| preset.meaning(status, &response.text));
        match special.unwrap_or_else(|| error::meaning(status, waits, self.config.disable_on_410)) {
            Meaning::Accepted => {
                self.answer = Some(error::said(&response));
                round.took(members.len());
                self.shrunk += u64::from(is_shrunk);
                self.memory.took(members.iter().map(|at| round.records[*at].seq));
                queues.settle(members, |_| Some(Outcome::Accepted));
            }
            Meaning::Ended(kind) => {
                // It may allow another rate from now on.
                self.grant = None;
                round.end = Some((about(kind), Extent::Destination));
                queues.settle(members, |_| Some(Outcome::Held));
            }
            Meaning::Failed { of_address, kind } => {
                let error = about(kind);
                self.hold(round, queues, members, Failure { error, of_address });
            }
            // Sending each alone shows which one is refused.
            Meaning::Refused {
                of_address: false, ..
            } if members.len() > 1 => self.take_apart(round, queues, members),
            Meaning::Refused { .. }
                if status == StatusCode::PAYLOAD_TOO_LARGE
                    && self.may_shrink(sender, round, members, bytes) =>
            {
                queues.settle(members, |_| None);
            }
            Meaning::Refused { of_address, kind } => {
                if of_address {
                    self.grant = None;
                }
                let failure = Failure {
                    error: about(kind),
                    of_address,
                };
                let reason = |tries, id: &str| error::refusal(&sender.shown, &response, tries, id);
                self.refused(round, queues, members, failure, reason);
            }
        }
    }

    /// Each goes alone from now on.
    fn take_apart(&mut self, round: &Round<'_>, queues: &mut PathQueues<'_>, members: &[usize]) {
        for at in members {
            self.memory.suspect(round.records[*at].seq);
        }
        queues.settle(members, |_| None);
    }

    /// Whether a record can be sent with less data after a body of `bytes` was too large for the receiver. The size is
    /// halved each time, so that the receiver gets the same bodies after a restart.
    fn may_shrink(
        &mut self,
        sender: &HttpSender,
        round: &Round<'_>,
        members: &[usize],
        bytes: usize,
    ) -> bool {
        let [at] = members else { return false };
        let record = &round.records[*at];
        let least = sender.encoder.least(record);
        let smaller = (bytes > least).then(|| least.max(bytes / 2));
        // After the last one, a further try starts with all of the data again.
        self.memory.suspect(record.seq).most = smaller;
        smaller.is_some()
    }

    /// The receiver objects to a request of one record, or to the address with one of several; or its answer to one record
    /// cannot be read. `reason` says so of a number of tries and an id.
    fn refused(
        &mut self,
        round: &mut Round<'_>,
        queues: &mut PathQueues<'_>,
        members: &[usize],
        failure: Failure,
        reason: impl Fn(u32, &str) -> String,
    ) {
        let [at] = members else {
            return self.hold(round, queues, members, failure);
        };
        let record = &round.records[*at];
        let accepted = self.memory.accepted;
        let suspect = self.memory.suspect(record.seq);
        suspect.refusals += 1;
        // A wrong path, password or clock refuses everything. It is the record's fault only if others are taken: since its
        // first failure, or ever if the receiver objects to the request itself.
        let is_at_fault = accepted
            > if failure.of_address {
                suspect.accepted_before
            } else {
                0
            };
        if suspect.refusals < self.config.reject_after || !is_at_fault {
            return self.hold(round, queues, members, failure);
        }
        let refusals = suspect.refusals;
        self.memory.suspects.remove(&record.seq);
        let reason = reason(refusals, &record.id.to_string());
        queues.settle(members, |_| {
            Some(Outcome::Rejected {
                reason: reason.clone(),
                attempts: refusals,
            })
        });
    }

    /// Holds the paths of a request.
    fn hold(
        &mut self,
        round: &mut Round<'_>,
        queues: &mut PathQueues<'_>,
        members: &[usize],
        failure: Failure,
    ) {
        queues.settle(members, |_| Some(Outcome::Held));
        let first = round.records[members[0]].seq;
        // The failure of one path shows nothing about the receiver.
        if !self.memory.is_of_path(first) {
            round.in_a_row += 1;
        }
        for at in members {
            self.memory.suspect(round.records[*at].seq);
        }
        let most = self.memory.failures_in_a_row;
        if round.in_a_row >= most {
            self.memory.be_more_patient();
            round.end = Some((failure.error, Extent::Unknown));
            return;
        }
        round.failed(members, failure);
    }
}

impl Sink for WebhookSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.prove())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.deliver_batch(&batch.records))
    }

    fn take_answer(&mut self) -> Option<String> {
        self.answer.take()
    }

    fn take_shrunk(&mut self) -> u64 {
        std::mem::take(&mut self.shrunk)
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            self.sender = None;
            Ok(())
        })
    }
}
