//! The conversation with the receiver.
//!
//! **Order.** Of each path one request is on its way; the next goes when the receiver has taken that one. A request
//! that was not answered may still be worked on by a slow receiver when it is sent again; it comes under the same
//! `webhook-id`.
//!
//! **Failures.** A failure is that of a path as long as the receiver takes others: the path is deferred, with all of
//! its records in the batch, and the rest goes on. When nothing else is taken, it is the receiver's: the batch ends
//! there, and what was taken behind the first failure is remembered, so that it is not sent again.
//!
//! | answer | what becomes of it |
//! | --- | --- |
//! | 2xx | delivered |
//! | 408, 425, 5xx, none in time, a broken connection | the path is held, or the receiver |
//! | 3xx | the same; nothing is followed |
//! | 410 | the sink ends until an operator switches it on (`disable_on_410`) |
//! | 429, and 503 with `Retry-After` | nothing is sent for so long |
//! | other 4xx | after `reject_after` tries the record is rejected |
//! | no connection | nothing is sent until there is one |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge_core::number::Seq;
use bridge_core::objection::{Gravity, Objection};
use bridge_core::record::Record;
use bridge_core::sink::{Deferred, DeliverError, Delivery, Rejected, Sink, SinkError, SinkErrorKind};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode, Url};
use uuid::Uuid;

use crate::address;
use crate::config::{WebhookConfig, shown};
use crate::encode::{Encoded, Encoder};
use crate::error::{self, Meaning};
use crate::lane::{Lanes, Outcome, Parcel};
use crate::resolve::{Guard, SystemLookup, no_refusal};
use crate::signature::{self, Key};
use crate::way::Way;

/// So much of an answer's body is read, so that the connection can be used again; behind it the connection is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// So many paths that fail one after another, with none that is taken between, are taken for the receiver's failure. At
/// the next attempts it is twice as many each time, so that many bad paths do not hold the good ones for ever.
const FAILURES_IN_A_ROW: usize = 8;

/// And never more: a receiver that is down must not be sent whole batches with every attempt.
const FAILURES_IN_A_ROW_MAX: usize = 256;

/// What is remembered of so many records that failed; beyond that all is forgotten, which costs them further tries.
const SUSPECTS_MAX: usize = 10_000;

/// A service that is called for each change, for the records of one source.
pub struct WebhookSink {
    config: WebhookConfig,
    url: Url,
    guard: Guard,
    /// The proxies that the environment names.
    proxies: Arc<Matcher>,
    desk: Option<Arc<Desk>>,
    /// Whether there has been a connection.
    was_proven: bool,
    memory: Memory,
}

/// What is needed for a request.
struct Desk {
    way: Way,
    url: Url,
    shown: String,
    keys: Vec<Key>,
    encoder: Encoder,
    timeout: Duration,
}

/// What outlives a call of `deliver`.
struct Memory {
    /// The records of the last batch that were settled, where it was not delivered as a whole.
    settled: HashMap<Seq, (Uuid, Outcome)>,
    suspects: HashMap<Seq, Suspect>,
    /// Records that the receiver has taken from this sink.
    accepted: u64,
    /// Whether a failure may be taken for that of a path although nothing is taken beside it: once after each success,
    /// so that a receiver that fails as a whole is not taken for many paths that do.
    has_credit: bool,
    failures_in_a_row: usize,
}

/// A record that failed.
struct Suspect {
    refusals: u32,
    /// What the receiver had taken by the first failure.
    accepted_before: u64,
    was_deferred: bool,
}

/// What became of a request.
enum Answer {
    /// The form has nothing to say of these records.
    Nothing,
    Status(StatusCode, HeaderMap),
    Lost {
        error: SinkError,
        /// Whether others would fare no better.
        is_way: bool,
    },
}

/// One call of `deliver`.
struct Round<'a> {
    records: &'a [Arc<Record>],
    /// Why a record of a path is held, by its position.
    failures: HashMap<usize, Failure>,
    accepted: usize,
    in_a_row: usize,
    /// Why nothing more is sent.
    end: Option<SinkError>,
}

struct Failure {
    error: SinkError,
    of_address: bool,
}

impl WebhookSink {
    /// A sink with these options. Reads certificates and connects in `open`.
    ///
    /// # Errors
    ///
    /// The options' [`WebhookConfig::objections`] that are errors.
    pub fn new(config: &WebhookConfig) -> Result<WebhookSink, Vec<Objection>> {
        let mut objections = config.objections();
        objections.retain(|objection| objection.gravity == Gravity::Error);
        if !objections.is_empty() {
            return Err(objections);
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
            desk: None,
            was_proven: false,
            memory: Memory::new(),
        })
    }

    /// The same in a network with other names and other rules.
    #[cfg(test)]
    pub(crate) fn behind(mut self, guard: Guard) -> WebhookSink {
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
        self.desk = None;
        let (config, url, guard) = (self.config.clone(), self.url.clone(), self.guard.clone());
        let proxies = Arc::clone(&self.proxies);
        let made = tokio::task::spawn_blocking(move || Desk::new(&config, url, guard, &proxies)).await;
        let desk = made.unwrap_or_else(|error| {
            Err(
                SinkError::new(SinkErrorKind::Broken, "the thread that reads certificates ended")
                    .because(error),
            )
        })?;
        desk.way.prove(self.was_proven).await?;
        self.was_proven = true;
        for public_key in desk.keys.iter().filter_map(Key::public) {
            tracing::info!(
                receiver = desk.shown,
                public_key,
                "requests are signed with the key of this public key"
            );
        }
        self.desk = Some(Arc::new(desk));
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        let Some(desk) = self.desk.clone() else {
            let error = SinkError::new(SinkErrorKind::Broken, "the sink was not opened");
            return Err(DeliverError::after(0, error));
        };
        let mut lanes = Lanes::new(records, self.memory.recall(records));
        let mut round = Round::new(records);
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < self.config.parallel && round.end.is_none() {
                let alone = |record: &Record| self.memory.suspects.contains_key(&record.seq);
                let Some(parcel) = lanes.next(self.config.batch, alone) else {
                    break;
                };
                in_flight.push(desk.send(parcel, records));
            }
            let Some((parcel, answer)) = in_flight.next().await else {
                break;
            };
            self.settle(&desk, &mut round, &mut lanes, &parcel, answer);
        }
        drop(in_flight);
        self.memory.conclude(round, lanes.into_outcomes())
    }

    fn settle(
        &mut self,
        desk: &Desk,
        round: &mut Round<'_>,
        lanes: &mut Lanes<'_>,
        parcel: &[usize],
        answer: Answer,
    ) {
        let (status, headers) = match answer {
            Answer::Nothing => return lanes.settle(parcel, |_| Some(Outcome::Accepted)),
            Answer::Lost { error, is_way: true } => {
                round.end = Some(error);
                return lanes.settle(parcel, |_| Some(Outcome::Held));
            }
            Answer::Lost { error, is_way: false } => {
                return self.hold(
                    round,
                    lanes,
                    parcel,
                    Failure {
                        error,
                        of_address: false,
                    },
                );
            }
            Answer::Status(status, headers) => (status, headers),
        };
        let waits = error::retry_after(&headers, SystemTime::now()).is_some();
        let about = |kind| error::about_answer(&desk.shown, status, &headers, kind);
        match error::meaning(status, waits, self.config.disable_on_410) {
            Meaning::Accepted => {
                round.took(parcel.len());
                self.memory.took(parcel.iter().map(|at| round.records[*at].seq));
                lanes.settle(parcel, |_| Some(Outcome::Accepted));
            }
            Meaning::Ended(kind) => {
                round.end = Some(about(kind));
                lanes.settle(parcel, |_| Some(Outcome::Held));
            }
            Meaning::Failed { of_address, kind } => {
                let error = about(kind);
                self.hold(round, lanes, parcel, Failure { error, of_address });
            }
            // Which of them is refused, each of them tells when it is sent alone.
            Meaning::Refused {
                of_address: false, ..
            } if parcel.len() > 1 => {
                for at in parcel {
                    self.memory.suspect(round.records[*at].seq);
                }
                lanes.settle(parcel, |_| None);
            }
            Meaning::Refused { of_address, kind } => {
                let failure = Failure {
                    error: about(kind),
                    of_address,
                };
                self.refused(desk, round, lanes, parcel, (status, failure));
            }
        }
    }

    /// The receiver objects to a request of one record, or to the address with one of several.
    fn refused(
        &mut self,
        desk: &Desk,
        round: &mut Round<'_>,
        lanes: &mut Lanes<'_>,
        parcel: &[usize],
        (status, failure): (StatusCode, Failure),
    ) {
        let [at] = parcel else {
            return self.hold(round, lanes, parcel, failure);
        };
        let record = &round.records[*at];
        let accepted = self.memory.accepted;
        let suspect = self.memory.suspect(record.seq);
        suspect.refusals += 1;
        // A wrong path or password refuses everything. It is the record's fault only if others are taken.
        let is_guilty = !failure.of_address || accepted > suspect.accepted_before;
        if suspect.refusals < self.config.reject_after || !is_guilty {
            return self.hold(round, lanes, parcel, failure);
        }
        let refusals = suspect.refusals;
        self.memory.suspects.remove(&record.seq);
        let id = record.id.to_string();
        let reason = error::refusal(&desk.shown, status, refusals, &id);
        lanes.settle(parcel, |_| Some(Outcome::Rejected(reason.clone())));
    }

    /// Holds the paths of a request.
    fn hold(&mut self, round: &mut Round<'_>, lanes: &mut Lanes<'_>, parcel: &[usize], failure: Failure) {
        lanes.settle(parcel, |_| Some(Outcome::Held));
        let first = round.records[parcel[0]].seq;
        // What is known to be the failure of a path says nothing about the receiver.
        if !self.memory.is_of_path(first) {
            round.in_a_row += 1;
        }
        for at in parcel {
            self.memory.suspect(round.records[*at].seq);
        }
        let most = self.memory.failures_in_a_row;
        if round.in_a_row >= most {
            self.memory.failures_in_a_row = (most * 2).min(FAILURES_IN_A_ROW_MAX);
            round.end = Some(failure.error);
            return;
        }
        round.failures.insert(parcel[0], failure);
    }
}

impl Desk {
    fn new(config: &WebhookConfig, url: Url, guard: Guard, proxies: &Matcher) -> Result<Desk, SinkError> {
        Ok(Desk {
            way: Way::new(config, &url, guard, proxies)?,
            shown: shown(&url),
            url,
            keys: config.keys(),
            encoder: Encoder::new(config.format, config.batch),
            timeout: config.timeout.0,
        })
    }

    async fn send(&self, parcel: Parcel, records: &[Arc<Record>]) -> (Parcel, Answer) {
        let of_parcel: Vec<Arc<Record>> = parcel.iter().map(|at| Arc::clone(&records[*at])).collect();
        let answer = match self.encoder.encode(&of_parcel) {
            Some(encoded) => self.post(encoded).await,
            None => Answer::Nothing,
        };
        (parcel, answer)
    }

    async fn post(&self, encoded: Encoded) -> Answer {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = since.as_secs();
        let mut request = self.way.client.post(self.url.clone());
        if !self.keys.is_empty() {
            let signatures = signature::header(&self.keys, &encoded.id, timestamp, &encoded.body);
            request = request.header("webhook-signature", signatures);
        }
        for (name, value) in encoded.headers {
            request = request.header(name, value);
        }
        let sent = request
            .header("webhook-id", encoded.id)
            .header("webhook-timestamp", timestamp)
            .header(CONTENT_TYPE, encoded.content_type)
            .body(encoded.body)
            .send()
            .await;
        match sent {
            Ok(mut response) => {
                let headers = std::mem::take(response.headers_mut());
                let status = response.status();
                drain(response).await;
                Answer::Status(status, headers)
            }
            Err(error) => {
                let (is_way, error) = error::about_request(&self.shown, error, self.timeout);
                Answer::Lost { error, is_way }
            }
        }
    }
}

/// Reads what belongs to an answer and is of no interest. The status has said it all, so no failure here counts.
async fn drain(mut response: Response) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
        if bytes > ANSWER_BYTES_MAX {
            return;
        }
    }
}

impl<'a> Round<'a> {
    fn new(records: &'a [Arc<Record>]) -> Round<'a> {
        Round {
            records,
            failures: HashMap::new(),
            accepted: 0,
            in_a_row: 0,
            end: None,
        }
    }

    fn took(&mut self, count: usize) {
        self.accepted += count;
        self.in_a_row = 0;
    }

    /// Every record that is held, with its failure or that of the one that it waits for.
    fn deferred(mut self, outcomes: &[Option<Outcome>]) -> Vec<Deferred> {
        let mut first_of: HashMap<Option<&str>, (Seq, SinkErrorKind)> = HashMap::new();
        let mut last = (Seq::ZERO, SinkErrorKind::Unavailable);
        let mut deferred = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            if outcomes[at] != Some(Outcome::Held) {
                continue;
            }
            let path = record.path.as_deref();
            let error = match self.failures.remove(&at) {
                Some(failure) => {
                    last = (record.seq, failure.error.kind);
                    failure.error
                }
                // Behind one of its path, or in the same request as the one before.
                None => {
                    let (seq, kind) = *first_of.get(&path).unwrap_or(&last);
                    SinkError::new(kind, format!("it waits for record {seq}, which failed"))
                }
            };
            first_of.entry(path).or_insert((record.seq, error.kind));
            deferred.push(Deferred {
                seq: record.seq,
                error,
            });
        }
        deferred
    }
}

impl Memory {
    fn new() -> Memory {
        Memory {
            settled: HashMap::new(),
            suspects: HashMap::new(),
            accepted: 0,
            has_credit: true,
            failures_in_a_row: FAILURES_IN_A_ROW,
        }
    }

    /// What is known of these records; what is known of others is forgotten.
    fn recall(&mut self, records: &[Arc<Record>]) -> Vec<Option<Outcome>> {
        let mut settled = std::mem::take(&mut self.settled);
        let known = |record: &Arc<Record>| match settled.remove(&record.seq) {
            Some((id, outcome)) if id == record.id => Some(outcome),
            _ => None,
        };
        records.iter().map(known).collect()
    }

    fn took(&mut self, records: impl Iterator<Item = Seq>) {
        for seq in records {
            self.suspects.remove(&seq);
            self.accepted += 1;
        }
        self.has_credit = true;
        self.failures_in_a_row = FAILURES_IN_A_ROW;
    }

    fn suspect(&mut self, seq: Seq) -> &mut Suspect {
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains_key(&seq) {
            self.suspects.clear();
        }
        let accepted_before = self.accepted;
        self.suspects.entry(seq).or_insert(Suspect {
            refusals: 0,
            accepted_before,
            was_deferred: false,
        })
    }

    /// Whether a record failed before, and others were taken since or it was set aside for that.
    fn is_of_path(&self, seq: Seq) -> bool {
        let suspect = self.suspects.get(&seq);
        suspect.is_some_and(|suspect| suspect.was_deferred || suspect.accepted_before < self.accepted)
    }

    /// The report of a call, and what is to be known at the next.
    fn conclude(&mut self, round: Round<'_>, outcomes: Vec<Option<Outcome>>) -> Result<(), DeliverError> {
        let records = round.records;
        let is_settled =
            |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Accepted | Outcome::Rejected(_)));
        let front = outcomes.iter().take_while(|outcome| is_settled(outcome)).count();
        let rejected = |until: usize| rejected(&records[..until], &outcomes);
        if front == records.len() {
            let rejected = rejected(front);
            return match rejected.is_empty() {
                true => Ok(()),
                false => Err(DeliverError {
                    done: front,
                    rejected,
                    ..DeliverError::default()
                }),
            };
        }
        if self.may_defer(&round) {
            return Err(DeliverError {
                done: records.len(),
                rejected: rejected(records.len()),
                deferred: self.deferred(round, &outcomes),
                error: None,
            });
        }
        let rejected = rejected(front);
        self.remember(records, outcomes, front);
        Err(DeliverError {
            done: front,
            rejected,
            error: Some(round.first_error()),
            ..DeliverError::default()
        })
    }

    /// Keeps what was settled. Also of the front: whoever delivers it again must not find it repeated without what was
    /// taken behind it.
    fn remember(&mut self, records: &[Arc<Record>], outcomes: Vec<Option<Outcome>>, front: usize) {
        for (at, (record, outcome)) in records.iter().zip(outcomes).enumerate() {
            match outcome {
                // A rejection that was reported is over; an operator may send the record again.
                Some(Outcome::Rejected(_)) if at < front => {}
                Some(Outcome::Held) | None => {}
                Some(outcome) => drop(self.settled.insert(record.seq, (record.id, outcome))),
            }
        }
    }

    /// Whether the failures of a call are those of paths.
    fn may_defer(&mut self, round: &Round<'_>) -> bool {
        if round.end.is_some() {
            return false;
        }
        if round.accepted > 0 {
            return true;
        }
        let mut failed = round.failures.keys().map(|at| round.records[*at].seq);
        if failed.all(|seq| self.is_of_path(seq)) {
            return true;
        }
        let is_of_path = round.failures.values().all(|failure| !failure.of_address);
        is_of_path && std::mem::take(&mut self.has_credit)
    }

    fn deferred(&mut self, round: Round<'_>, outcomes: &[Option<Outcome>]) -> Vec<Deferred> {
        let deferred = round.deferred(outcomes);
        for one in &deferred {
            if let Some(suspect) = self.suspects.get_mut(&one.seq) {
                suspect.was_deferred = true;
            }
        }
        deferred
    }
}

impl Round<'_> {
    /// Why the batch ends: what ended it, or else the failure of its first record that failed.
    fn first_error(mut self) -> SinkError {
        let first = self.failures.keys().min().copied();
        let failure = first.and_then(|at| self.failures.remove(&at));
        let error = self.end.or(failure.map(|failure| failure.error));
        error.expect("a record is held only by a failure")
    }
}

fn rejected(records: &[Arc<Record>], outcomes: &[Option<Outcome>]) -> Vec<Rejected> {
    let of = |(record, outcome): (&Arc<Record>, &Option<Outcome>)| match outcome {
        Some(Outcome::Rejected(reason)) => Some(Rejected {
            seq: record.seq,
            reason: reason.clone(),
        }),
        _ => None,
    };
    records.iter().zip(outcomes).filter_map(of).collect()
}

impl Sink for WebhookSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.prove())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.deliver_batch(&batch.records))
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            self.desk = None;
            Ok(())
        })
    }
}
