//! The delivery to the brokers.
//!
//! **Order.** A producer numbers its messages per partition, and the brokers take them in that order or not at all. So
//! nothing is ever sent again by a second producer while the first may still have messages in flight:
//!
//! * Brokers that do not answer fail the delivery after `timeout`, but the messages stay in the queue, and librdkafka
//!   keeps sending them under their numbers. `open` waits until the end of each is known; what became durable meanwhile
//!   is not sent again.
//! * A message that brokers refuse for good stops its producer (`enable.gapless.guarantee`), so that no later one of
//!   its partition passes it. A new producer continues at the first record that is not durable.
//! * Brokers keep that order only for a producer that they know, so its first message to a partition travels alone.
//!
//! **Partitions that take nothing.** If brokers answer and some partitions acknowledge nothing for `timeout`, only the
//! records of these partitions are held (`stalled`): the producer keeps their messages and goes on trying.
//!
//! A crash of the process ends all this: brokers may then still take what was under way, as with any producer that is
//! not transactional; it arrives a second time under the same `zkbridge-id`.
//!
//! **Refused records.** Brokers refuse a batch of messages as a whole and do not say for which one. Its records are
//! then sent one by one, so that only the refused ones are rejected. A record that is refused for its size alone is
//! sent again with less data ([`bridge_core::oversize`]): how well it can be compressed is not known before.

mod stalled;
mod suspects;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::issue::{self, ConfigIssue};
use bridge_core::number::Seq;
use bridge_core::outbound::{MessageTicket, Misfit, NameTemplate, Tally};
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use futures::future::BoxFuture;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::config::KafkaConfig;
use crate::encode::{Encoded, Encoder};
use crate::error::{self, Meaning};
use crate::in_flight::{Ended, InFlight, SendOutcome, Settled};
use crate::lingering::Lingering;
use crate::partition::{self, Introduced, Turn};
use crate::producer::{ClientEvents, Producer, in_words};
use crate::properties;
use crate::statistics::{self, Meter};
use crate::template::TOPIC;
use crate::topics::{ANSWER_BOUND, NoTopic, Topics};

/// How long `close` waits for what is in flight. Nothing that was reported depends on it; it spares duplicates.
const CLOSE_BOUND: Duration = Duration::from_secs(5);

/// A producer that stopped takes messages back into its queue when a connection breaks, and leaves them there.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// Poll interval while waiting for delivery reports: the delivery fails only if the oldest message has no report within
/// `timeout`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The property that says how often librdkafka reports its statistics.
const STATISTICS: &str = "statistics.interval.ms";

/// A Kafka cluster as a destination, for the records of one source.
pub struct KafkaSink {
    brokers: Arc<str>,
    timeout: Duration,
    client: ClientConfig,
    encoder: Encoder,
    topics: Topics,
    events: ClientEvents,
    producer: Option<Producer>,
    /// Whether the producer must not be used again.
    is_spent: bool,
    in_flight: InFlight,
    settled: Settled,
    introduced: Introduced,
    lingering: Lingering,
    /// Since a partition has taken nothing in this call of `deliver`: when the call waits for no other one any more.
    hurry_until: Option<Instant>,
    /// The largest message that librdkafka takes (`message.max.bytes`).
    largest: usize,
    /// Records that became durable with less data than they have.
    shrunk: u64,
    /// How long a record waits for further ones.
    linger: Duration,
    /// Topics that take nothing for now, as far as this call of `deliver` knows.
    failing: HashMap<Arc<str>, (SinkErrorKind, String)>,
}

/// How much is worth waking up for.
#[derive(Clone, Copy)]
enum WakeWhen {
    /// The end of all that is in flight.
    AllReported,
    /// The end of half of it, when the producer's queue is full.
    HalfReported,
}

/// Why a batch cannot continue as it is.
enum Stop {
    /// Nothing more can be delivered now.
    Trouble(SinkError),
    /// One topic of several takes nothing for now. Everything else has come to its end.
    Topic { topic: Arc<str>, error: SinkError },
    /// Some partitions take nothing for now. Their messages linger.
    Stalled,
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
        issue::no_error(config.objections())?;
        let topics = NameTemplate::parse(&TOPIC, &config.topic).map_err(|objection| vec![objection])?;
        let client = properties::client_config(config);
        let brokers: Arc<str> = config.brokers.as_str().into();
        Ok(KafkaSink {
            timeout: config.timeout.0,
            topics: Topics::new(&client, &brokers, &config.create_topics),
            encoder: Encoder::new(topics.of_cluster(cluster), config),
            largest: client
                .get("message.max.bytes")
                .and_then(|bytes| bytes.parse().ok())
                .unwrap_or(usize::MAX),
            shrunk: 0,
            linger: properties::linger(config),
            failing: HashMap::new(),
            client,
            brokers,
            events: ClientEvents::default(),
            producer: None,
            is_spent: false,
            in_flight: InFlight::default(),
            settled: Settled::default(),
            introduced: Introduced::default(),
            lingering: Lingering::default(),
            hurry_until: None,
        })
    }

    /// Feeds what librdkafka counts into the metrics of the sink of this name.
    ///
    /// By default only where there is one topic: librdkafka reports every partition of every topic, and a template
    /// over paths can make very many.
    #[must_use]
    pub fn metered(mut self, name: &str, source: &str) -> KafkaSink {
        self.events.meter = Meter::of(name, source);
        if self.encoder.fixed_topic().is_some() && self.client.get(STATISTICS).is_none() {
            self.client.set(STATISTICS, statistics::INTERVAL_MS);
        }
        self
    }

    async fn prove(&mut self) -> Result<(), SinkError> {
        self.events.forget();
        self.topics.forget();
        self.settle().await?;
        if self.producer.is_none() || self.is_spent {
            self.renew().await?;
        }
        let producer = self.producer.as_ref().expect("it was made just now");
        match self.encoder.fixed_topic() {
            Some(topic) => {
                let ensured = self.topics.ensure(topic, producer, &self.events).await;
                ensured.map_err(NoTopic::into_error)
            }
            None => producer.reach(&self.events, ANSWER_BOUND).await,
        }
    }

    /// Waits until the end of every message of earlier attempts is known.
    async fn settle(&mut self) -> Result<(), SinkError> {
        let deadline = Instant::now() + self.timeout;
        while let Some((ticket, outcome)) = self.next_before(deadline).await {
            match outcome {
                SendOutcome::Durable(()) if !ticket.place.is_last => {}
                SendOutcome::Durable(()) | SendOutcome::Passed if self.settled.has_hole => {}
                SendOutcome::Durable(()) | SendOutcome::Passed => {
                    self.shrunk += u64::from(ticket.is_shrunk);
                    let settled = (ticket.record.seq, ticket.record.id);
                    self.settled.records.push_back(settled);
                }
                SendOutcome::Refused(_) | SendOutcome::Held(..) => self.settled.has_hole = true,
                SendOutcome::Failed(_) => {
                    self.settled.has_hole = true;
                    self.is_spent = true;
                }
            }
        }
        // A spent producer sends nothing more, and its brokers do not have messages that they left unanswered for this
        // time.
        if self.in_flight.queue.is_empty() || self.is_spent {
            return Ok(());
        }
        Err(self.silence())
    }

    /// The end of the oldest message; `None` when there is none, or at the deadline.
    async fn next_before(&mut self, deadline: Instant) -> Option<(MessageTicket, SendOutcome)> {
        loop {
            let slice = deadline.min(Instant::now() + PURGE_EVERY);
            if let Ok(next) = timeout_at(slice, self.in_flight.next()).await {
                return next.map(|ended| (ended.ticket, ended.outcome));
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
        self.give_up_lingering().await?;
        if let Some(producer) = self.producer.take() {
            producer.retire().await;
        }
        self.in_flight = InFlight::default();
        let client = self.client.clone();
        let checked = spawn_blocking(move || properties::check_files(&client)).await;
        checked.unwrap_or(Ok(()))?;
        let producer = Producer::start(&self.client, &self.brokers, &self.events)?;
        self.in_flight.begin(producer.reports());
        self.producer = Some(producer);
        self.is_spent = false;
        self.introduced.forget();
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        self.events.forget();
        self.failing.clear();
        self.hurry_until = None;
        let mut tally = Tally::after(self.take_settled(records));
        let delivered = self.deliver_all(records, &mut tally).await;
        self.shrunk += tally.shrunk();
        tally.finish(delivered)
    }

    async fn deliver_all(&mut self, records: &[Arc<Record>], tally: &mut Tally) -> Result<(), SinkError> {
        while tally.done() < records.len() {
            match self.run(records, tally).await {
                Ok(()) => {}
                // The records of these partitions are held from now on.
                Err(Stop::Stalled) => {}
                Err(Stop::Trouble(error)) => return Err(error),
                Err(Stop::Suspects { until, code }) => self.question(&records[..until], tally, code).await?,
                // Its records that were already sent are sent again later, after the topic works.
                Err(Stop::Topic { topic, error }) => {
                    self.failing.insert(topic, (error.kind, error.message));
                    self.renew().await?;
                }
            }
        }
        Ok(())
    }

    /// How many records from the front of a batch became durable after an earlier attempt had been given up.
    fn take_settled(&mut self, records: &[Arc<Record>]) -> usize {
        let settled = std::mem::take(&mut self.settled);
        let same = |(record, settled): &(&Arc<Record>, (Seq, Uuid))| (record.seq, record.id) == *settled;
        let taken: Vec<_> = records.iter().zip(settled.records).take_while(same).collect();
        for (_, (seq, id)) in &taken {
            self.lingering.forget(*seq, *id);
        }
        taken.len()
    }

    /// Sends all records and waits for the end of each.
    async fn run(&mut self, records: &[Arc<Record>], tally: &mut Tally) -> Result<(), Stop> {
        for (at, record) in records.iter().enumerate().skip(tally.done()) {
            self.send(at, record, None, tally).await?;
        }
        self.leave_time_for_the_last();
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
        let mut ticket = MessageTicket::of(at, record);
        if tally.holds(&record.path).is_some() || self.in_flight.queue.holds(&record.path) {
            self.in_flight.queue.settled(ticket, SendOutcome::Held(None));
            return Ok(());
        }
        if let Some(outcome) = self.late_end(&mut ticket) {
            self.in_flight.queue.settled(ticket, outcome);
            return Ok(());
        }
        let room = |message: &Encoded| most.unwrap_or_else(|| self.room(&message.topic));
        let fitted = match self.encoder.encode_within(record, room) {
            Ok(fitted) if fitted.messages.is_empty() => {
                self.in_flight.queue.settled(ticket, SendOutcome::Passed);
                return Ok(());
            }
            Ok(fitted) => fitted,
            Err(misfit) => {
                let refused = SendOutcome::Refused(reason(misfit));
                self.in_flight.queue.settled(ticket, refused);
                return Ok(());
            }
        };
        ticket.is_shrunk = fitted.is_shrunk;
        for (place, message) in fitted.messages.placed() {
            ticket.place = place;
            ticket.target = Arc::clone(&message.topic);
            ticket.bytes = message.bytes();
            if !self.send_one(&message, &ticket, tally).await? {
                break;
            }
        }
        Ok(())
    }

    /// Puts one message of a record into the queue; false if it cannot be sent, and its record with it.
    async fn send_one(
        &mut self,
        message: &Encoded,
        ticket: &MessageTicket,
        tally: &mut Tally,
    ) -> Result<bool, Stop> {
        let outcome = match self.ensure(&message.topic).await {
            Ok(()) => return self.hand_over(message, ticket, tally).await,
            Err(NoTopic::Name(reason)) if !self.has_one_topic() => SendOutcome::Refused(reason),
            Err(NoTopic::Topic(error)) if !self.has_one_topic() => SendOutcome::Held(Some(error)),
            Err(failure) => {
                // Messages that were sent before are not affected.
                self.await_all(tally).await?;
                return Err(failure.into_error().into());
            }
        };
        self.in_flight.queue.settled(ticket.clone(), outcome);
        Ok(false)
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
            return Err(SinkError::not_opened().into());
        };
        let ensured = self.topics.ensure(topic, producer, &self.events).await;
        if let Err(NoTopic::Topic(error)) = &ensured {
            self.failing
                .insert(Arc::clone(topic), (error.kind, error.message.clone()));
        }
        ensured
    }

    /// Hands one message to the producer, waiting for room; false when it is not sent.
    async fn hand_over(
        &mut self,
        message: &Encoded,
        ticket: &MessageTicket,
        tally: &mut Tally,
    ) -> Result<bool, Stop> {
        let partition = partition::of_key(message.key.as_bytes(), self.topics.partitions(&message.topic));
        if self.lingering.holds(&message.topic, partition) {
            let held = SendOutcome::Held(Some(self.takes_nothing(&message.topic, partition)));
            self.in_flight.queue.settled(ticket.clone(), held);
            return Ok(false);
        }
        let turn = self.await_turn(&message.topic, partition, tally).await?;
        loop {
            let producer = self.producer.as_ref().ok_or_else(SinkError::not_opened)?;
            let number = self.in_flight.number();
            match producer.send(message, partition, number) {
                Ok(()) => {
                    self.in_flight.sent(ticket.clone(), partition);
                    if turn != Turn::Now {
                        self.introduced.began(&message.topic, partition, number);
                    }
                    return Ok(true);
                }
                Err(Code::QueueFull) if !self.in_flight.queue.is_empty() => {
                    self.advance(WakeWhen::HalfReported, tally).await?;
                }
                Err(code) if error::meaning(code) == Meaning::Record => {
                    let reason = error::refusal(code, &ticket.target, ticket.bytes);
                    let refused = SendOutcome::Refused(reason);
                    self.in_flight.queue.settled(ticket.clone(), refused);
                    return Ok(false);
                }
                Err(code) => return Err(self.stopped(code, ticket).await),
            }
        }
    }

    /// Waits until a message to this partition may be sent.
    async fn await_turn(&mut self, topic: &str, partition: i32, tally: &mut Tally) -> Result<Turn, Stop> {
        loop {
            match self.introduced.turn(topic, partition) {
                Turn::FirstAlone => {
                    self.await_all(tally).await?;
                    return Ok(Turn::FirstAlone);
                }
                Turn::AfterFirst if self.advance(WakeWhen::AllReported, tally).await? => {}
                // The first one has ended without an acknowledgement, and this one is the first.
                Turn::AfterFirst => return Ok(Turn::First),
                turn => return Ok(turn),
            }
        }
    }

    /// Waits for the end of the oldest message; false when there is none.
    async fn advance(&mut self, until: WakeWhen, tally: &mut Tally) -> Result<bool, Stop> {
        let deadline = Instant::now() + self.patience();
        let ended = loop {
            if let Some(next) = self.in_flight.take() {
                break next;
            }
            if self.in_flight.queue.is_empty() {
                return Ok(false);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.stalled().await);
            }
            let slice = deadline.min(now + LOOK_EVERY);
            // However it ends: what was reported meanwhile is taken first.
            let _ = match until {
                WakeWhen::AllReported => timeout_at(slice, self.in_flight.all_reported()).await,
                WakeWhen::HalfReported => timeout_at(slice, self.in_flight.half_reported()).await,
            };
        };
        let Ended {
            ticket,
            outcome,
            sent,
        } = ended;
        match (&outcome, sent) {
            (SendOutcome::Durable(()), Some(sent)) => {
                self.introduced
                    .acknowledged(&ticket.target, sent.partition, sent.number);
            }
            (SendOutcome::Durable(()), None) => self.lingering.forget(ticket.record.seq, ticket.record.id),
            _ => {}
        }
        match tally.settle(&ticket, outcome) {
            None => Ok(true),
            Some(code) => Err(self.stopped(code, &ticket).await),
        }
    }

    /// A message failed: lets all others come to their end, and says what it was.
    async fn stopped(&mut self, code: Code, ticket: &MessageTicket) -> Stop {
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
            return Stop::Trouble(error::about_topic(*code, &self.brokers, &ticket.target));
        }
        if !self.in_flight.queue.is_empty() {
            // Other brokers still owe an answer; a new producer must not begin before.
            return Stop::Trouble(self.silence());
        }
        if is_trouble {
            return Stop::Topic {
                topic: Arc::clone(&ticket.target),
                error: error::about_topic(*code, &self.brokers, &ticket.target),
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
        while self.advance(WakeWhen::AllReported, tally).await? {}
        Ok(())
    }

    /// Nothing was acknowledged in time.
    fn silence(&self) -> SinkError {
        self.events.explain(&self.brokers, || {
            format!(
                "brokers {}: no acknowledgement for {}, {} messages wait, the first for topic '{}'; look whether the \
                 brokers run and whether enough replicas are in sync (min.insync.replicas)",
                self.brokers,
                in_words(self.timeout),
                self.in_flight.queue.len(),
                self.in_flight.queue.front().map_or("", |ticket| &ticket.target),
            )
        })
    }

    async fn let_go(&mut self) {
        let flushed = async { while self.in_flight.next().await.is_some() {} };
        if timeout(CLOSE_BOUND, flushed).await.is_err() {
            let left = self.in_flight.queue.len();
            tracing::warn!(brokers = %self.brokers, left, "closing without an answer for messages; they are sent again");
        }
        if let Some(producer) = self.producer.take() {
            producer.retire().await;
        }
        self.in_flight = InFlight::default();
    }
}

/// Why a record that can have no message can never be delivered.
fn reason(misfit: Misfit<Encoded>) -> String {
    match misfit {
        Misfit::Refused(reason) => reason,
        Misfit::TooLarge(message) => {
            error::refusal(Code::MessageSizeTooLarge, &message.topic, message.bytes())
        }
    }
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

    fn forget_deferred(&mut self, records: &[Seq]) {
        self.lingering.give_up(records);
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            self.let_go().await;
            Ok(())
        })
    }
}
