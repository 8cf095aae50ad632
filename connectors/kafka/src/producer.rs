//! One librdkafka producer, with its errors and logs.
//!
//! Calls of librdkafka that block run on tokio's blocking threads, in slices so short that a shutdown never waits long
//! for one. librdkafka's log lines become structured logs; nothing of it reaches stderr.
//!
//! Its reports are polled on a thread of the producer's own. (`FutureProducer` has such a thread too, which spins for
//! the last millisecond of every 100: most of the processor time of an idle bridge.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bridge_core::sink::{SinkError, SinkErrorKind};
use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext,
    PurgeConfig,
};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::encode::Encoded;
use crate::error;
use crate::properties::without_values;
use crate::reports::Reports;
use crate::statistics::Meter;

/// The longest that one blocking call may keep a thread: what a shutdown may have to wait for.
const SLICE: Duration = Duration::from_secs(2);

/// The first look is short, so that a refused connection or password shows at once.
const FIRST_SLICE: Duration = Duration::from_millis(500);

/// How long the thread that listens to librdkafka waits before it looks whether it is to end: what the end of a producer
/// may have to wait for. librdkafka counts whole milliseconds and the wrapper around it spins for what is left of one, so
/// that a little more than a whole number wakes up once.
const LISTEN: Duration = Duration::from_micros(200_050);

/// The worst that librdkafka has reported about the way to the brokers.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    code: Code,
    reason: String,
}

impl Trouble {
    /// The more specific error has the greater weight: with a refused password the broker is also reported as down.
    fn weight(&self) -> u8 {
        match self.code {
            Code::Authentication | Code::SSL => 3,
            Code::Resolve => 2,
            Code::AllBrokersDown => 0,
            _ => 1,
        }
    }
}

/// Listens to librdkafka.
#[derive(Clone, Default)]
pub(crate) struct ClientEvents {
    trouble: Arc<Mutex<Option<Trouble>>>,
    pub(crate) meter: Meter,
}

impl ClientEvents {
    /// The error of the transport to the brokers, since the last [`ClientEvents::forget`].
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets all events.
    pub(crate) fn forget(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn keep_worst(&self, trouble: Trouble) {
        let mut worst = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if worst
            .as_ref()
            .is_none_or(|known| known.weight() <= trouble.weight())
        {
            *worst = Some(trouble);
        }
    }

    /// Whether the brokers hold their answers back.
    pub(crate) fn is_throttled(&self) -> bool {
        self.meter.throttle().is_some()
    }

    /// Whether waiting longer cannot help: a broker answered, and refused.
    fn is_refused(&self) -> bool {
        self.trouble()
            .is_some_and(|trouble| error::kind(trouble.code) == SinkErrorKind::Authentication)
    }

    /// Why the brokers cannot be used, as far as is known.
    pub(crate) fn explain(&self, brokers: &str, otherwise: impl FnOnce() -> String) -> SinkError {
        match self.trouble() {
            Some(Trouble { code, reason }) => {
                let mut message = format!("brokers {brokers}: {reason} ({code})");
                if let Some(remedy) = error::remedy_of_transport(code, &reason) {
                    message = format!("{message}; {remedy}");
                }
                error::error(code, message)
            }
            None => match self.meter.throttle() {
                Some(pause) => {
                    let message = format!(
                        "{}; the brokers hold their answers back by {}: raise the quota of the sink's user or client id",
                        otherwise(),
                        in_words(pause)
                    );
                    SinkError::new(SinkErrorKind::Throttled, message)
                }
                None => SinkError::new(SinkErrorKind::Unavailable, otherwise()),
            },
        }
    }
}

impl ClientContext for ClientEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, said: &str) {
        if facility == "CONFWARN" {
            // About options that the sink sets itself, with reasons; nothing that an operator could heal.
            tracing::debug!(facility, said, "the Kafka client says");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                // Fatal for a producer, which the sink then replaces: recovered, not lost.
                tracing::warn!(facility, said, "the Kafka client gave up a producer");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(facility, said, "the Kafka client has trouble");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, said, "the Kafka client says");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, said, "the Kafka client says"),
        }
    }

    fn stats(&self, report: Statistics) {
        self.meter.take(&report);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error::code_of_transport(error::code_of(&error), reason);
        tracing::debug!(%code, reason, "the Kafka client reports an error");
        if code != Code::Fatal {
            self.keep_worst(Trouble {
                code,
                reason: reason.to_owned(),
            });
        }
    }
}

/// The callbacks of librdkafka.
struct Listener {
    events: ClientEvents,
    reports: Arc<Reports>,
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, said: &str) {
        self.events.log(level, facility, said);
    }

    fn stats(&self, report: Statistics) {
        self.events.stats(report);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Listener {
    /// The number of the message.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let end = match result {
            Ok(_) => Ok(()),
            Err((failure, _)) => Err(error::code_of(failure)),
        };
        self.reports.report(number, end);
    }
}

/// One producer: one identity at the brokers, one sequence of messages in each partition. Dropping it waits for its
/// thread.
pub(crate) struct Producer {
    inner: Arc<BaseProducer<Listener>>,
    brokers: Arc<str>,
    reports: Arc<Reports>,
    is_ended: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Producer {
    /// Starts a producer. Connects in the background.
    pub(crate) fn start(
        client: &ClientConfig,
        brokers: &Arc<str>,
        events: &ClientEvents,
    ) -> Result<Producer, SinkError> {
        let reports = Arc::new(Reports::default());
        let listener = Listener {
            events: events.clone(),
            reports: Arc::clone(&reports),
        };
        let inner: BaseProducer<Listener> = client
            .create_with_context(listener)
            .map_err(|refused| refused_options(&refused, client))?;
        let mut producer = Producer {
            inner: Arc::new(inner),
            brokers: Arc::clone(brokers),
            reports,
            is_ended: Arc::new(AtomicBool::new(false)),
            listening: None,
        };
        producer.listen()?;
        Ok(producer)
    }

    fn listen(&mut self) -> Result<(), SinkError> {
        let (inner, is_ended) = (Arc::clone(&self.inner), Arc::clone(&self.is_ended));
        let listening = thread::Builder::new().name("kafka-reports".to_owned());
        let listening = listening.spawn(move || {
            while !is_ended.load(Ordering::Relaxed) {
                inner.poll(LISTEN);
            }
        });
        let listening = listening.map_err(|error| {
            let message = format!("no thread for the producer: {error}; raise the limit of threads");
            SinkError::new(SinkErrorKind::Unavailable, message).because(error)
        })?;
        self.listening = Some(listening);
        Ok(())
    }

    /// The delivery reports of its messages.
    pub(crate) fn reports(&self) -> Arc<Reports> {
        Arc::clone(&self.reports)
    }

    /// Hands one message over; what becomes of it is reported under its number.
    ///
    /// Never waits: a full queue is an error, because to wait here for one message would let the next pass it.
    pub(crate) fn send(&self, message: &Encoded, partition: i32, number: usize) -> Result<(), Code> {
        let record = BaseRecord {
            topic: &message.topic,
            partition: Some(partition),
            payload: message.payload.as_deref(),
            key: Some(message.key.as_bytes()),
            timestamp: message.timestamp,
            headers: Some(message.kafka_headers()),
            delivery_opaque: number,
        };
        self.inner
            .send(record)
            .map_err(|(error, _)| error::code_of(&error))
    }

    /// Why this producer can never send again, if so.
    pub(crate) fn fatal(&self) -> Option<(Code, String)> {
        self.inner.client().fatal_error()
    }

    /// Waits until some broker has let us in.
    pub(crate) async fn reach(&self, events: &ClientEvents, bound: Duration) -> Result<(), SinkError> {
        let asked = self
            .ask(events, bound, |producer, slice| {
                producer
                    .client()
                    .fetch_cluster_id(slice)
                    .ok_or(Code::OperationTimedOut)
            })
            .await;
        asked.map(drop).map_err(|_| self.unreachable(events, bound))
    }

    /// Asks for a topic: the code that the brokers have for it, and how many partitions it has.
    pub(crate) async fn look_up(
        &self,
        topic: &str,
        events: &ClientEvents,
        bound: Duration,
    ) -> Result<(Code, i32), SinkError> {
        let name = topic.to_owned();
        let asked = self
            .ask(events, bound, move |producer, slice| {
                let metadata = producer
                    .client()
                    .fetch_metadata(Some(&name), slice)
                    .map_err(|error| error::code_of(&error))?;
                let found = metadata.topics().iter().find(|found| found.name() == name);
                Ok(match found {
                    Some(found) => {
                        let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                        (found.error().map_or(Code::NoError, Code::from), partitions)
                    }
                    None => (Code::UnknownTopicOrPartition, 0),
                })
            })
            .await;
        asked.map_err(|_| self.unreachable(events, bound))
    }

    /// Asks again until there is an answer, the bound is reached, or the answer is known to be no.
    async fn ask<T, F>(&self, events: &ClientEvents, bound: Duration, question: F) -> Result<T, Code>
    where
        T: Send + 'static,
        F: Fn(&BaseProducer<Listener>, Duration) -> Result<T, Code> + Clone + Send + 'static,
    {
        let deadline = Instant::now() + bound;
        let mut slice = FIRST_SLICE.min(bound);
        loop {
            let (producer, question) = (Arc::clone(&self.inner), question.clone());
            let asked = spawn_blocking(move || question(&producer, slice)).await;
            let code = match asked {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(code)) => code,
                Err(_) => Code::Fail,
            };
            if Instant::now() >= deadline || events.is_refused() {
                return Err(code);
            }
            slice = SLICE.min(deadline - Instant::now());
        }
    }

    fn unreachable(&self, events: &ClientEvents, bound: Duration) -> SinkError {
        events.explain(&self.brokers, || {
            format!("brokers {}: no answer within {}", self.brokers, in_words(bound))
        })
    }

    /// Reports the messages that were not sent as given up. Those under way can still be acknowledged.
    pub(crate) fn give_up_unsent(&self) {
        self.inner.purge(PurgeConfig::default().queue().non_blocking());
    }

    /// Ends the producer; what it still has is given up.
    pub(crate) async fn retire(self) {
        // Joins threads. Fails only when the runtime ends, and then the producer ends with it.
        let _ = spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        if let Some(listening) = self.listening.take() {
            // It panics only with a defect, which the log has by then; nothing is reported from here on.
            let _ = listening.join();
        }
        self.reports.end();
    }
}

/// A length of time as people write it.
pub(crate) fn in_words(time: Duration) -> String {
    bridge_core::amount::Span(time).to_string()
}

fn refused_options(refused: &KafkaError, client: &ClientConfig) -> SinkError {
    let message = match refused {
        // The value may be a secret, and librdkafka's reason may repeat it.
        KafkaError::ClientConfig(_, _, key, _) => {
            format!("librdkafka refuses the value of properties.\"{key}\"")
        }
        other => {
            let reason = without_values(&other.to_string(), client);
            format!("librdkafka refuses the sink's options: {reason}")
        }
    };
    SinkError::new(SinkErrorKind::Configuration, message)
}
