//! The conversation with the brokers.
//!
//! **Order.** A producer numbers its messages per partition, and the brokers take them in that order or not at all. So
//! nothing is ever sent again by a second producer while the first may still have messages on their way:
//!
//! * Brokers that do not answer fail the delivery after `timeout`, but the messages stay in the queue, and librdkafka
//!   keeps sending them under their numbers. `open` waits until the end of each is known; what became durable meanwhile
//!   is not sent again.
//! * A message that brokers refuse for good stops its producer (`enable.gapless.guarantee`), so that no later one of its
//!   partition passes it. A new producer goes on at the first record that is not durable.
//! * Brokers keep that order only for a producer that they know, so its first message to a partition travels alone.
//!
//! A crash of the process ends all this: brokers may then still take what was under way, as with any producer that is
//! not transactional; it arrives a second time under the same `zkbridge-id`.
//!
//! **Refused records.** Brokers refuse a batch of messages as a whole and do not say for which one. The records under
//! suspicion are then sent one by one, so that only the guilty are rejected. One that is refused for its size alone is
//! sent again with less data ([`bridge_core::oversize`]): before that nobody knows how well it can be compressed.

mod suspects;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::issue::{ConfigIssue, Severity};
use bridge_core::number::Seq;
use bridge_core::outbound::Tally;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use futures::future::BoxFuture;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::config::KafkaConfig;
use crate::encode::{Encoded, Encoder, Fitted, Misfit};
use crate::error::{self, Meaning};
use crate::in_flight::{InFlight, SendOutcome, Settled, Ticket};
use crate::partition::{self, Introduced};
use crate::producer::{ClientEvents, Part, Producer, in_words};
use crate::properties;
use crate::statistics::{self, Meter};
use crate::template::TopicTemplate;
use crate::topics::{ANSWER_BOUND, NoTopic, Topics};

/// How long `close` waits for what is on its way. Nothing that was reported depends on it; it spares duplicates.
const CLOSE_BOUND: Duration = Duration::from_secs(5);

/// A producer that stopped takes messages back into its queue when a connection breaks, and leaves them there.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// Who waits for the ends of many messages looks so often whether the oldest has ended: only when that does not happen
/// within `timeout` has the delivery failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// More than this is not kept of the buffer of a large record: ordinary ones have about 1,000 bytes.
const BUFFER_BYTES: usize = 16 << 10;

/// The property that says how often librdkafka tells its statistics.
const STATISTICS: &str = "statistics.interval.ms";

/// A Kafka cluster as a destination, for the records of one source.
pub struct KafkaSink {
    brokers: Arc<str>,
    timeout: Duration,
    client: ClientConfig,
    encoder: Encoder,
    topics: Topics,
    ears: ClientEvents,
    producer: Option<Producer>,
    /// Whether the producer must not be used again.
    is_spent: bool,
    in_flight: InFlight,
    settled: Settled,
    introduced: Introduced,
    /// The largest message that librdkafka takes (`message.max.bytes`).
    largest: usize,
    /// Records that became durable with less data than they have.
    shrunk: u64,
    /// How long a record waits for company.
    linger: Duration,
    /// Topics that take nothing for now, as far as this call of `deliver` knows.
    failing: HashMap<Arc<str>, (SinkErrorKind, String)>,
    /// Of the last payload, for the next.
    buffer: Vec<u8>,
}

/// How much is worth waking up for.
#[derive(Clone, Copy)]
enum Until {
    /// The end of all that is on its way.
    AllTold,
    /// The end of half of it, when the producer's queue is full.
    HalfTold,
}

/// Why a batch does not go on as it is.
enum Stop {
    /// Nothing more can be delivered now.
    Trouble(SinkError),
    /// One topic of several takes nothing for now. Everything else has come to its end.
    Topic { topic: Arc<str>, error: SinkError },
    /// Some record before this position is refused.
    Suspects { until: usize, code: Code },
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Stop {
        Stop::Trouble(error)
    }
}

impl KafkaSink {
    /// A sink for the records of this cluster (the name of their source). Connects in `open`.
    ///
    /// # Errors
    ///
    /// The options' [`KafkaConfig::objections`] that are errors.
    pub fn new(config: &KafkaConfig, cluster: &str) -> Result<KafkaSink, Vec<ConfigIssue>> {
        let mut objections = config.objections();
        objections.retain(|objection| objection.gravity == Severity::Error);
        if !objections.is_empty() {
            return Err(objections);
        }
        let template = TopicTemplate::parse(&config.topic).map_err(|objection| vec![objection])?;
        let client = properties::client_config(config);
        let brokers: Arc<str> = config.brokers.as_str().into();
        Ok(KafkaSink {
            timeout: config.timeout.0,
            topics: Topics::new(&client, &brokers, &config.create_topics),
            encoder: Encoder::new(template, config, cluster),
            largest: client
                .get("message.max.bytes")
                .and_then(|bytes| bytes.parse().ok())
                .unwrap_or(usize::MAX),
            shrunk: 0,
            linger: properties::linger(config),
            failing: HashMap::new(),
            buffer: Vec::new(),
            client,
            brokers,
            ears: ClientEvents::default(),
            producer: None,
            is_spent: false,
            in_flight: InFlight::default(),
            settled: Settled::default(),
            introduced: Introduced::default(),
        })
    }

    /// Feeds what librdkafka counts into the metrics of the sink of this name.
    ///
    /// By default only where there is one topic: librdkafka tells about every partition of every topic, and a template
    /// over paths can make very many.
    #[must_use]
    pub fn metered(mut self, name: &str, source: &str) -> KafkaSink {
        self.ears.meter = Meter::of(name, source);
        if self.encoder.fixed_topic().is_some() && self.client.get(STATISTICS).is_none() {
            self.client.set(STATISTICS, statistics::INTERVAL_MS);
        }
        self
    }

    async fn prove(&mut self) -> Result<(), SinkError> {
        self.ears.forget();
        self.topics.forget();
        self.settle().await?;
        if self.producer.is_none() || self.is_spent {
            self.renew().await?;
        }
        let producer = self.producer.as_ref().expect("it was made just now");
        match self.encoder.fixed_topic() {
            Some(topic) => {
                let ensured = self.topics.ensure(topic, producer, &self.ears).await;
                ensured.map_err(NoTopic::into_error)
            }
            None => producer.reach(&self.ears, ANSWER_BOUND).await,
        }
    }

    /// Waits until the end of every message of earlier attempts is known.
    async fn settle(&mut self) -> Result<(), SinkError> {
        let deadline = Instant::now() + self.timeout;
        while let Some((ticket, outcome)) = self.next_before(deadline).await {
            match outcome {
                SendOutcome::Durable if self.settled.has_hole || !ticket.is_last => {}
                SendOutcome::Durable => {
                    self.shrunk += u64::from(ticket.is_shrunk);
                    self.settled.records.push_back((ticket.seq, ticket.id));
                }
                SendOutcome::Passed if self.settled.has_hole => {}
                SendOutcome::Passed => self.settled.records.push_back((ticket.seq, ticket.id)),
                SendOutcome::Refused(_) | SendOutcome::Held(..) => self.settled.has_hole = true,
                SendOutcome::Failed(_) => {
                    self.settled.has_hole = true;
                    self.is_spent = true;
                }
            }
        }
        // A spent producer sends nothing more; what its brokers did not answer for so long they do not have.
        if self.in_flight.is_empty() || self.is_spent {
            return Ok(());
        }
        Err(self.silence())
    }

    /// The end of the oldest message; `None` when there is none, or at the deadline.
    async fn next_before(&mut self, deadline: Instant) -> Option<(Ticket, SendOutcome)> {
        loop {
            let slice = deadline.min(Instant::now() + PURGE_EVERY);
            if let Ok(next) = timeout_at(slice, self.in_flight.next()).await {
                return next;
            }
            if Instant::now() >= deadline {
                return None;
            }
            if let Some(producer) = self.producer.as_ref().filter(|_| self.is_spent) {
                producer.give_up_unsent();
            }
        }
    }

    /// Replaces the producer.
    async fn renew(&mut self) -> Result<(), SinkError> {
        if let Some(producer) = self.producer.take() {
            producer.retire().await;
        }
        self.in_flight = InFlight::default();
        let producer = Producer::start(&self.client, &self.brokers, &self.ears)?;
        self.in_flight.begin(producer.reports());
        self.producer = Some(producer);
        self.is_spent = false;
        self.introduced.forget();
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        self.ears.forget();
        self.failing.clear();
        let mut tally = Tally::after(self.take_settled(records));
        while tally.done() < records.len() {
            let stopped = match self.run(records, &mut tally).await {
                Ok(()) => continue,
                Err(Stop::Trouble(error)) => Err(error),
                Err(Stop::Suspects { until, code }) => {
                    self.question(&records[..until], &mut tally, code).await
                }
                // What was sent of its records comes again, and is held.
                Err(Stop::Topic { topic, error }) => {
                    self.failing.insert(topic, (error.kind, error.message));
                    self.renew().await
                }
            };
            if let Err(error) = stopped {
                return tally.failed(error);
            }
        }
        tally.ended()
    }

    /// How many records from the front of a batch became durable after an earlier attempt had been given up.
    fn take_settled(&mut self, records: &[Arc<Record>]) -> usize {
        let settled = std::mem::take(&mut self.settled);
        let same = |(record, settled): &(&Arc<Record>, (Seq, Uuid))| (record.seq, record.id) == *settled;
        records.iter().zip(settled.records).take_while(same).count()
    }

    /// Sends all records and waits for the end of each.
    async fn run(&mut self, records: &[Arc<Record>], tally: &mut Tally) -> Result<(), Stop> {
        for (at, record) in records.iter().enumerate().skip(tally.done()) {
            self.send(at, record, None, tally).await?;
        }
        self.await_all(tally).await
    }

    /// Puts the messages of a record into the queue, made so small, or as it is known that they have to be.
    async fn send(
        &mut self,
        at: usize,
        record: &Arc<Record>,
        most: Option<usize>,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let mut ticket = Ticket::without_message(at, record);
        if tally.holds(&record.path).is_some() || self.in_flight.holds(&record.path) {
            self.in_flight.held(ticket, record, None);
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let room = |topic: &str| most.unwrap_or_else(|| self.room(topic));
        let message = match self.encoder.encode_within(buffer, record, room) {
            Ok(Some(Fitted { message, is_shrunk })) => {
                ticket.is_shrunk = is_shrunk;
                message
            }
            Ok(None) => {
                self.in_flight.passed(ticket);
                return Ok(());
            }
            Err(misfit) => {
                self.in_flight.refused(ticket, reason(misfit));
                return Ok(());
            }
        };
        match self.ensure(&message.topic).await {
            Ok(()) => {}
            Err(NoTopic::Name(reason)) if !self.has_one_topic() => {
                self.in_flight.refused(ticket, reason);
                return Ok(());
            }
            Err(NoTopic::Topic(error)) if !self.has_one_topic() => {
                self.in_flight
                    .held(ticket, record, Some((error.kind, error.message)));
                return Ok(());
            }
            Err(failure) => {
                // What was sent before is not concerned.
                self.await_all(tally).await?;
                return Err(failure.into_error().into());
            }
        }
        ticket.topic = Arc::clone(&message.topic);
        ticket.bytes = message.bytes();
        ticket.is_last = !message.tombstone;
        let is_sent = self
            .hand_over(&message, Part::Itself, ticket.clone(), tally)
            .await?;
        if message.tombstone && is_sent {
            ticket.is_last = true;
            self.hand_over(&message, Part::Tombstone, ticket, tally).await?;
        }
        self.buffer = message.payload.unwrap_or_default();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    /// How large a message for a topic may be, as far as that is known before it is sent: brokers measure what was
    /// compressed.
    fn room(&self, topic: &str) -> usize {
        let is_compressed = self.client.get("compression.type") != Some("none");
        let of_topic = self.topics.largest(topic).filter(|_| !is_compressed);
        of_topic.map_or(self.largest, |most| most.min(self.largest))
    }

    fn has_one_topic(&self) -> bool {
        self.encoder.fixed_topic().is_some()
    }

    async fn ensure(&mut self, topic: &Arc<str>) -> Result<(), NoTopic> {
        if let Some((kind, message)) = self.failing.get(topic) {
            return Err(NoTopic::Topic(SinkError::new(*kind, message.clone())));
        }
        let Some(producer) = &self.producer else {
            return Err(not_opened().into());
        };
        let ensured = self.topics.ensure(topic, producer, &self.ears).await;
        if let Err(NoTopic::Topic(error)) = &ensured {
            self.failing
                .insert(Arc::clone(topic), (error.kind, error.message.clone()));
        }
        ensured
    }

    /// Hands one message to the producer, waiting for room; false when it can never be sent.
    async fn hand_over(
        &mut self,
        message: &Encoded,
        part: Part,
        mut ticket: Ticket,
        tally: &mut Tally,
    ) -> Result<bool, Stop> {
        let partition = partition::of_key(message.key.as_bytes(), self.topics.partitions(&message.topic));
        let may_follow = self.introduced.may_follow(&message.topic, partition);
        if !may_follow {
            self.await_all(tally).await?;
        }
        loop {
            let producer = self.producer.as_ref().ok_or_else(not_opened)?;
            match producer.send(message, partition, part, self.in_flight.number()) {
                Ok(()) => {
                    self.in_flight.sent(ticket);
                    if !may_follow {
                        self.await_all(tally).await?;
                        self.introduced.met(&message.topic, partition);
                    }
                    return Ok(true);
                }
                Err(Code::QueueFull) if !self.in_flight.is_empty() => {
                    self.advance(Until::HalfTold, tally).await?;
                }
                Err(code) if error::meaning(code) == Meaning::Record => {
                    let reason = error::refusal(code, &ticket.topic, ticket.bytes);
                    ticket.is_last = true;
                    self.in_flight.refused(ticket, reason);
                    return Ok(false);
                }
                Err(code) => return Err(self.stopped(code, &ticket).await),
            }
        }
    }

    /// Waits for the end of the oldest message; false when there is none.
    async fn advance(&mut self, until: Until, tally: &mut Tally) -> Result<bool, Stop> {
        let deadline = Instant::now() + self.timeout;
        let (ticket, outcome) = loop {
            if let Some(next) = self.in_flight.take() {
                break next;
            }
            if self.in_flight.is_empty() {
                return Ok(false);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.silence().into());
            }
            let slice = deadline.min(now + LOOK_EVERY);
            // However it ends: what was told meanwhile is taken first.
            let _ = match until {
                Until::AllTold => timeout_at(slice, self.in_flight.all_told()).await,
                Until::HalfTold => timeout_at(slice, self.in_flight.half_told()).await,
            };
        };
        match outcome {
            SendOutcome::Durable if ticket.is_last => {
                self.shrunk += u64::from(ticket.is_shrunk);
                tally.took(ticket.at);
            }
            SendOutcome::Durable => {}
            SendOutcome::Passed => tally.passed(ticket.at),
            SendOutcome::Refused(reason) => tally.rejected(ticket.at, ticket.seq, reason),
            SendOutcome::Held(record, Some((kind, message))) => {
                tally.held(ticket.at, &record, SinkError::new(kind, message));
            }
            SendOutcome::Held(record, None) => tally.waits(ticket.at, &record),
            SendOutcome::Failed(code) => return Err(self.stopped(code, &ticket).await),
        }
        Ok(true)
    }

    /// A message failed: lets all others come to their end, and says what it was.
    async fn stopped(&mut self, code: Code, ticket: &Ticket) -> Stop {
        self.is_spent = true;
        let mut failures = vec![(code, ticket.clone())];
        let deadline = Instant::now() + self.timeout;
        while let Some((ticket, outcome)) = self.next_before(deadline).await {
            if let SendOutcome::Failed(code) = outcome {
                failures.push((code, ticket));
            }
        }
        let cause = failures
            .iter()
            .find(|(code, _)| error::meaning(*code) != Meaning::Aftermath);
        let Some((code, ticket)) = cause else {
            return Stop::Trouble(self.fatal(code));
        };
        let is_trouble = matches!(error::meaning(*code), Meaning::Trouble(_));
        let is_of_topic = error::is_about_topic(*code) && !self.has_one_topic();
        if is_trouble && !is_of_topic {
            return Stop::Trouble(error::about_topic(*code, &self.brokers, &ticket.topic));
        }
        if !self.in_flight.is_empty() {
            // Other brokers still owe an answer; a new producer must not begin before.
            return Stop::Trouble(self.silence());
        }
        if is_trouble {
            return Stop::Topic {
                topic: Arc::clone(&ticket.topic),
                error: error::about_topic(*code, &self.brokers, &ticket.topic),
            };
        }
        let suspects = failures
            .iter()
            .filter(|(code, _)| error::meaning(*code) == Meaning::Record);
        let last = suspects.map(|(_, ticket)| ticket.at).max().unwrap_or(ticket.at);
        Stop::Suspects {
            until: last + 1,
            code: *code,
        }
    }

    fn fatal(&self, code: Code) -> SinkError {
        let fatal = self.producer.as_ref().and_then(Producer::fatal);
        let (code, reason) = fatal.unwrap_or_else(|| (code, "the producer gave its messages up".to_owned()));
        let mut message = format!(
            "the producer for {} cannot go on ({code}): {reason}",
            self.brokers
        );
        if error::kind(code) == SinkErrorKind::Authorization {
            message = format!("{message}; {}", error::RIGHT_TO_PRODUCE);
        }
        error::error(code, message)
    }

    async fn await_all(&mut self, tally: &mut Tally) -> Result<(), Stop> {
        while self.advance(Until::AllTold, tally).await? {}
        Ok(())
    }

    /// Nothing was acknowledged in time.
    fn silence(&self) -> SinkError {
        self.ears.explain(&self.brokers, || {
            format!(
                "brokers {}: no acknowledgement for {}, {} messages wait, the first for topic '{}'; look whether the \
                 brokers run and whether enough replicas are in sync (min.insync.replicas)",
                self.brokers,
                in_words(self.timeout),
                self.in_flight.len(),
                self.in_flight.first_topic().unwrap_or_default(),
            )
        })
    }

    async fn let_go(&mut self) {
        let flushed = async { while self.in_flight.next().await.is_some() {} };
        if timeout(CLOSE_BOUND, flushed).await.is_err() {
            let left = self.in_flight.len();
            tracing::warn!(brokers = %self.brokers, left, "closing without an answer for messages; they are sent again");
        }
        if let Some(producer) = self.producer.take() {
            producer.retire().await;
        }
        self.in_flight = InFlight::default();
    }
}

/// Why a record that can have no message can never be delivered.
fn reason(misfit: Misfit) -> String {
    match misfit {
        Misfit::Topic(reason) => reason,
        Misfit::Size { topic, bytes } => error::refusal(Code::MessageSizeTooLarge, &topic, bytes),
    }
}

fn not_opened() -> SinkError {
    SinkError::new(SinkErrorKind::Broken, "the sink was not opened")
}

impl Sink for KafkaSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.prove())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.deliver_batch(&batch.records))
    }

    fn linger(&self) -> Duration {
        self.linger
    }

    fn take_shrunk(&mut self) -> u64 {
        std::mem::take(&mut self.shrunk)
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            self.let_go().await;
            Ok(())
        })
    }
}
