//! Checks that a topic exists before the first message is sent to it, and creates it if the options allow that.
//!
//! A message to a topic that does not exist would wait in librdkafka for half a minute and then fail alone; asking
//! first gives the right error at once and keeps the queue free of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::sink::{SinkError, SinkErrorKind};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::config::{CreateTopics, TopicSettings};
use crate::error;
use crate::producer::{ClientEvents, Producer};
use crate::template::STRICT;

/// How long brokers may take for one question.
pub(crate) const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// How long a topic that was just created, by us or by the brokers at our first question, may take to be seen.
const APPEARS_BOUND: Duration = Duration::from_secs(5);

/// Between two questions for it.
const APPEARS_EVERY: Duration = Duration::from_millis(50);

/// The most topics to remember; beyond that all are checked again. A template over paths can make very many.
const KNOWN_MAX: usize = 10_000;

/// How a broker says "as I have it by default" in a request to create a topic (KIP-464).
const BROKERS_DEFAULT: i32 = -1;

/// The setting of a topic that says how much a batch of messages may take, as it was compressed.
const LARGEST: &str = "max.message.bytes";

/// Why a topic cannot be used.
#[derive(Debug)]
pub(crate) enum NoTopic {
    /// The brokers do not answer, or refuse more than this topic.
    Destination(SinkError),
    /// It is not there, or the sink may not use it: other topics may do.
    Topic(SinkError),
    /// The brokers will never take its name.
    Name(String),
}

impl NoTopic {
    /// The same where all records go to this topic.
    pub(crate) fn into_error(self) -> SinkError {
        match self {
            NoTopic::Destination(error) | NoTopic::Topic(error) => error,
            NoTopic::Name(reason) => SinkError::new(SinkErrorKind::Configuration, reason),
        }
    }
}

impl From<SinkError> for NoTopic {
    fn from(error: SinkError) -> NoTopic {
        NoTopic::Destination(error)
    }
}

/// The topics that are known to be there.
pub(crate) struct Topics {
    client: ClientConfig,
    brokers: Arc<str>,
    create: CreateTopics,
    known: HashMap<Arc<str>, i32>,
    /// How much those take that refused a message for its size.
    largest: HashMap<Arc<str>, usize>,
}

impl Topics {
    pub(crate) fn new(client: &ClientConfig, brokers: &Arc<str>, create: &CreateTopics) -> Topics {
        Topics {
            client: client.clone(),
            brokers: Arc::clone(brokers),
            create: create.clone(),
            known: HashMap::new(),
            largest: HashMap::new(),
        }
    }

    /// Asks for every topic again.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
        self.largest.clear();
    }

    pub(crate) fn knows(&self, topic: &str) -> bool {
        self.known.contains_key(topic)
    }

    /// How many partitions a topic had when it was asked for. Partitions added later are used from the next `open` on:
    /// until then the keys stay where they are.
    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        self.known.get(topic).copied().unwrap_or(1)
    }

    /// Makes sure that a topic is there.
    pub(crate) async fn ensure(
        &mut self,
        topic: &Arc<str>,
        producer: &Producer,
        events: &ClientEvents,
    ) -> Result<(), NoTopic> {
        if self.knows(topic) {
            return Ok(());
        }
        let (mut code, mut partitions) = producer.look_up(topic, events, ANSWER_BOUND).await?;
        if is_missing(code) {
            if let CreateTopics::Yes(settings) = &self.create {
                self.create(topic, settings, events).await?;
            }
            (code, partitions) = self.await_appearance(topic, producer, events).await?;
        }
        // A partition without a leader is there: its messages wait for one.
        let is_there = partitions > 0 && matches!(code, Code::NoError | Code::LeaderNotAvailable);
        if !is_there {
            return Err(self.refused(code, topic, error::about_topic(code, &self.brokers, topic)));
        }
        if self.known.len() >= KNOWN_MAX {
            self.forget();
        }
        self.known.insert(Arc::clone(topic), partitions);
        Ok(())
    }

    fn refused(&self, code: Code, topic: &str, error: SinkError) -> NoTopic {
        match code {
            Code::InvalidTopic => NoTopic::Name(self.invalid_name(topic)),
            _ if error::is_about_topic(code) => NoTopic::Topic(error),
            _ => NoTopic::Destination(error),
        }
    }

    /// Brokers refuse a name that differs from another topic's only in '.' and '_', as their metrics could not tell the
    /// two apart.
    fn invalid_name(&self, topic: &str) -> String {
        let same = |text: &str| text.replace('.', "_");
        let other = self.known.keys().find(|known| same(known) == same(topic));
        let collision = match other {
            Some(other) => format!("it collides with topic '{other}'"),
            None => "it may collide with a topic that differs only in '.' and '_'".to_owned(),
        };
        format!(
            "{} refuses topic '{topic}' ({}): {collision}; write what may hold '.' or '_' with the filter {STRICT}, as in \
             \"{{{{ names | {STRICT} }}}}\", whose names never collide, then retry the record",
            self.brokers,
            Code::InvalidTopic,
        )
    }

    /// How much a topic takes, as far as it was asked for.
    pub(crate) fn largest(&self, topic: &str) -> Option<usize> {
        self.largest.get(topic).copied()
    }

    /// Asks how much a topic takes. That needs a right (DESCRIBE_CONFIGS) that nothing else does: without it nobody
    /// knows.
    pub(crate) async fn ask_largest(&mut self, topic: &Arc<str>, events: &ClientEvents) -> Option<usize> {
        if let Some(largest) = self.largest(topic) {
            return Some(largest);
        }
        let admin: AdminClient<ClientEvents> = self.client.create_with_context(events.clone()).ok()?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_BOUND));
        let described = admin
            .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
            .await;
        // Joins a thread. Fails only when the runtime ends.
        let _ = spawn_blocking(move || drop(admin)).await;
        let resource = described.ok()?.pop()?.ok()?;
        let largest = resource.get(LARGEST)?.value.as_ref()?.parse().ok()?;
        tracing::info!(
            topic = &**topic,
            largest,
            "records are cut to what the topic takes"
        );
        self.largest.insert(Arc::clone(topic), largest);
        Some(largest)
    }

    /// Brokers that create topics by themselves say that there is none when they are first asked.
    async fn await_appearance(
        &self,
        topic: &str,
        producer: &Producer,
        events: &ClientEvents,
    ) -> Result<(Code, i32), SinkError> {
        let deadline = Instant::now() + APPEARS_BOUND;
        loop {
            let (code, partitions) = producer.look_up(topic, events, ANSWER_BOUND).await?;
            if !is_missing(code) || Instant::now() >= deadline {
                return Ok((code, partitions));
            }
            sleep(APPEARS_EVERY).await;
        }
    }

    async fn create(
        &self,
        topic: &str,
        settings: &TopicSettings,
        events: &ClientEvents,
    ) -> Result<(), NoTopic> {
        let admin: AdminClient<ClientEvents> =
            self.client
                .create_with_context(events.clone())
                .map_err(|refused| {
                    let message = format!("the client that creates topics cannot start: {refused}");
                    SinkError::new(SinkErrorKind::Configuration, message)
                })?;
        let replication = settings.replication.unwrap_or(BROKERS_DEFAULT);
        let partitions = settings.partitions.unwrap_or(BROKERS_DEFAULT);
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
        for (key, value) in settings.config.iter() {
            new = new.set(key, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(ANSWER_BOUND))
            .operation_timeout(Some(ANSWER_BOUND));
        let created = admin.create_topics([&new], &options).await;
        // Joins a thread. Fails only when the runtime ends.
        let _ = spawn_blocking(move || drop(admin)).await;
        let code = match created {
            Ok(results) => results
                .into_iter()
                .find_map(|result| result.err().map(|(_, code)| code)),
            Err(failure) => Some(error::code_of(&failure)),
        };
        match code {
            None => {
                tracing::info!(topic, partitions, replication, "created the topic");
                Ok(())
            }
            // Another instance, or the brokers, were faster.
            Some(Code::TopicAlreadyExists) => Ok(()),
            Some(code) => {
                let error = self.not_created(code, topic, partitions, replication);
                Err(self.refused(code, topic, error))
            }
        }
    }

    fn not_created(&self, code: Code, topic: &str, partitions: i32, replication: i32) -> SinkError {
        let remedy = match error::kind(code) {
            SinkErrorKind::Authorization => {
                "grant the sink's user CREATE on the topic or the cluster, or create it yourself"
            }
            SinkErrorKind::Configuration => {
                "change create_topics to what the cluster can do, or create the topic yourself"
            }
            _ => "create the topic yourself, or try again",
        };
        let message = format!(
            "topic '{topic}' cannot be created at {} with {} partitions and {} copies ({code}): {remedy}",
            self.brokers,
            count_in_words(partitions),
            count_in_words(replication),
        );
        error::error(code, message)
    }
}

fn is_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition)
}

fn count_in_words(count: i32) -> String {
    if count == BROKERS_DEFAULT {
        return "the brokers' default of".to_owned();
    }
    count.to_string()
}
