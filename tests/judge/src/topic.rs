//! Reads a topic as any consumer does: all partitions, keys, headers and values.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

/// More than one, because order holds per path, not per topic.
pub const PARTITIONS: i32 = 3;

/// Larger than two values of 1 MB and their record.
const MESSAGE_BYTES_MAX: &str = "8388608";

/// How long the broker may take to create a topic.
const CREATE_BOUND: Duration = Duration::from_secs(30);

/// How long one question to a broker may take.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// How long all partitions may take to have a leader again after their broker was killed, on a busy machine: librdkafka
/// goes on with what it knew of a topic, "unknown partition", until its metadata are refreshed.
const RETURN_BOUND: Duration = Duration::from_secs(120);

/// How long reading up to the ends may take once they are known.
const READ_BOUND: Duration = Duration::from_secs(60);

/// After this time without an answer another consumer asks: one may hold a topic for unknown although its broker serves it
/// again to others.
const FRESH_AFTER: Duration = Duration::from_secs(20);

/// Between two questions to a broker that has no answer yet.
const RETRY_PACE: Duration = Duration::from_millis(100);

/// A record as it was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The message's key.
    pub key: String,
    /// The message's headers.
    pub headers: BTreeMap<String, String>,
    /// The message's value.
    pub record: Value,
}

/// A topic being read from its beginning.
pub struct Topic {
    name: String,
    brokers: String,
    consumer: BaseConsumer,
    /// Consumers that no longer got answers.
    retired: Vec<BaseConsumer>,
    is_assigned: bool,
    next: BTreeMap<i32, i64>,
    /// The deliveries so far, in the order of offsets for each partition.
    pub deliveries: Vec<Delivery>,
}

/// Creates a topic; with room for the largest values if asked.
///
/// # Panics
///
/// If the broker does not create it.
pub async fn create(brokers: &str, name: &str, large: bool) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("an admin client");
    let mut topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    if large {
        topic = topic.set("max.message.bytes", MESSAGE_BYTES_MAX);
    }
    let created = admin.create_topics(
        [&topic],
        &AdminOptions::new().operation_timeout(Some(CREATE_BOUND)),
    );
    for outcome in created.await.expect("the broker answers") {
        outcome.expect("the topic is created");
    }
}

impl Topic {
    /// Starts to read.
    ///
    /// # Panics
    ///
    /// If no consumer can be made.
    pub fn open(brokers: &str, name: &str) -> Topic {
        Topic {
            name: name.to_owned(),
            brokers: brokers.to_owned(),
            consumer: consumer_of(brokers),
            retired: Vec::new(),
            next: (0..PARTITIONS).map(|partition| (partition, 0)).collect(),
            is_assigned: false,
            deliveries: Vec::new(),
        }
    }

    /// Reads up to the current end of every partition. Blocks.
    ///
    /// # Panics
    ///
    /// If the broker does not answer in time, or a message is not a record.
    pub fn read_on(&mut self) {
        let ends = self.ends();
        self.assign_once();
        let deadline = Instant::now() + READ_BOUND;
        while let Some((partition, end)) = ends.iter().find(|(partition, end)| self.next[*partition] < **end)
        {
            assert!(
                Instant::now() < deadline,
                "partition {partition} of the topic {} is read up to {} of {end} within {READ_BOUND:?}",
                self.name,
                self.next[partition]
            );
            // Errors are ignored: the broker may come back before the deadline.
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) {
                let delivery = delivery(&message);
                self.next.insert(delivery.partition, delivery.offset + 1);
                self.deliveries.push(delivery);
            }
        }
    }
}

fn consumer_of(brokers: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "end-to-end")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("a consumer")
}

impl Topic {
    /// The ends of all partitions. A partition has no leader for a moment after its broker came back.
    fn ends(&mut self) -> BTreeMap<i32, i64> {
        let deadline = Instant::now() + RETURN_BOUND;
        let mut fresh_at = Instant::now() + FRESH_AFTER;
        let mut ends = BTreeMap::new();
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        for partition in partitions {
            loop {
                match self
                    .consumer
                    .fetch_watermarks(&self.name, partition, ANSWER_BOUND)
                {
                    Ok((_, end)) => {
                        ends.insert(partition, end);
                        break;
                    }
                    Err(error) => assert!(
                        Instant::now() < deadline,
                        "no broker returns the end of partition {partition} of {} within {RETURN_BOUND:?}: {error}",
                        self.name
                    ),
                }
                // The known metadata of the topic may be of a broker that had not loaded it yet. No answer is no error
                // here: the next question shows it.
                let _ = self.consumer.fetch_metadata(Some(&self.name), ANSWER_BOUND);
                if Instant::now() >= fresh_at {
                    self.begin_anew();
                    fresh_at = Instant::now() + FRESH_AFTER;
                }
                std::thread::sleep(RETRY_PACE);
            }
        }
        ends
    }

    /// Goes on with another consumer. The one before is kept, as ending it can abort the process.
    fn begin_anew(&mut self) {
        let before = std::mem::replace(&mut self.consumer, consumer_of(&self.brokers));
        self.retired.push(before);
        self.is_assigned = false;
    }

    /// Assigns all partitions from the next record on. Once only: librdkafka aborts if partitions are unassigned while they still
    /// stop (librdkafka issue 5573, up to 2.15.0).
    fn assign_once(&mut self) {
        if std::mem::replace(&mut self.is_assigned, true) {
            return;
        }
        let mut from = TopicPartitionList::new();
        for (partition, next) in &self.next {
            from.add_partition_offset(&self.name, *partition, Offset::Offset(*next))
                .expect("an offset");
        }
        self.consumer.assign(&from).expect("partitions are assigned");
    }
}

fn delivery(message: &impl Message) -> Delivery {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let headers = message.headers().map(|headers| {
        let pairs = headers.iter();
        let pairs = pairs.map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())));
        pairs.collect()
    });
    let payload = message.payload().expect("a record, no tombstone");
    Delivery {
        partition: message.partition(),
        offset: message.offset(),
        key: text(message.key().expect("a key")),
        headers: headers.unwrap_or_default(),
        record: serde_json::from_slice(payload).expect("JSON"),
    }
}
