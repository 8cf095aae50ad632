//! A broker, a topic, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bridge_core::amount::Span;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkErrorKind};
use bridge_core::testing::Arrived;
use bridge_kafka::{KafkaConfig, KafkaSink};
use bridge_servers::Kafka;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::OnceCell;

/// Everything here takes less, also on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// One broker for all tests that do it no harm. It ends with the process.
pub async fn shared_broker() -> &'static Kafka {
    static BROKER: OnceCell<Kafka> = OnceCell::const_new();
    let start = || async {
        let builder = Kafka::builder()
            .property("auto.create.topics.enable", "false")
            // For the tests of compacted topics.
            .property("log.cleaner.backoff.ms", "200");
        builder.start().await.unwrap()
    };
    BROKER.get_or_init(start).await
}

/// A name that no other test uses.
pub fn new_topic_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("changes-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a topic with so many partitions and these settings.
pub async fn create_topic(bootstrap: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = new_topic_name();
    create_topic_named(bootstrap, &name, partitions, settings).await;
    name
}

pub async fn create_topic_named(bootstrap: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let made = admin(bootstrap).create_topics([&new], &AdminOptions::new()).await;
    made.unwrap().remove(0).unwrap();
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap);
    client.create().unwrap()
}

/// The options for one topic.
pub fn config(bootstrap: &str, topic: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(bootstrap);
    config.topic = topic.to_owned();
    config
}

/// The options for one topic at a broker that will fail: short patience.
pub fn hasty_config(bootstrap: &str, topic: &str) -> KafkaConfig {
    let mut config = config(bootstrap, topic);
    // Long enough for a broker that works on a machine that is busy.
    config.timeout = Span::millis(3_000);
    config
}

pub fn sink(config: &KafkaConfig) -> KafkaSink {
    KafkaSink::new(config, "main").unwrap()
}

pub async fn opened(config: &KafkaConfig) -> KafkaSink {
    let mut sink = sink(config);
    open_at_last(&mut sink).await;
    sink
}

pub async fn deliver(sink: &mut KafkaSink, records: &[Arc<Record>]) -> Result<(), DeliverError> {
    let batch = Delivery {
        records: records.to_vec(),
    };
    let delivered = tokio::time::timeout(BOUND, sink.deliver(&batch)).await;
    delivered.expect("the sink answers within the bound")
}

/// Delivers as the engine does: after a failure it opens the sink again, and delivers the deferred records and the rest.
/// Returns the kinds of the errors met.
pub async fn deliver_at_last(sink: &mut KafkaSink, records: &[Arc<Record>]) -> Vec<SinkErrorKind> {
    let mut kinds = Vec::new();
    let mut rest = records.to_vec();
    let give_up = Instant::now() + BOUND;
    loop {
        assert!(Instant::now() < give_up, "not delivered in time: {kinds:?}");
        let Err(failure) = deliver(sink, &rest).await else {
            return kinds;
        };
        assert_eq!(failure.rejected, []);
        let deferred = |record: &&Arc<Record>| failure.deferred.iter().any(|held| held.seq == record.seq);
        let held = rest[..failure.done].iter().filter(deferred);
        rest = held.chain(&rest[failure.done..]).cloned().collect();
        kinds.extend(failure.deferred.iter().map(|held| held.error.kind));
        kinds.extend(failure.error.map(|error| error.kind));
        kinds.extend(open_at_last(sink).await);
    }
}

/// Opens as the engine does, again and again. Returns the kinds of the errors met.
pub async fn open_at_last(sink: &mut KafkaSink) -> Vec<SinkErrorKind> {
    let mut kinds = Vec::new();
    let give_up = Instant::now() + BOUND;
    while let Err(error) = sink.open().await {
        assert!(Instant::now() < give_up, "not opened in time: {error}");
        kinds.push(error.kind);
    }
    kinds
}

/// Opens until the reason is this one. Before it is reported, a client may only know that no connection stays.
pub async fn refused_at_last(sink: &mut KafkaSink, kind: SinkErrorKind) {
    let give_up = Instant::now() + BOUND;
    loop {
        let error = sink.open().await.expect_err("it is refused");
        if error.kind == kind {
            return;
        }
        assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
        assert!(Instant::now() < give_up, "never {kind:?}: {error}");
    }
}

/// One message as it lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub value: Option<Vec<u8>>,
}

impl Message {
    pub fn arrived(&self) -> Option<Arrived> {
        self.value.as_deref().map(Arrived::from_json)
    }

    pub fn seq(&self) -> u64 {
        self.arrived().expect("it has a value").seq.0
    }
}

/// All messages of a topic, each partition from its beginning.
pub async fn messages(bootstrap: &str, topic: &str) -> Vec<Message> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let read = tokio::task::spawn_blocking(move || read_topic(&bootstrap, &topic));
    read.await.unwrap()
}

fn read_topic(bootstrap: &str, topic: &str) -> Vec<Message> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_uncommitted");
    let consumer: BaseConsumer = client.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), BOUND).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let mut list = TopicPartitionList::new();
    let mut left = BTreeMap::new();
    for partition in partitions.iter().map(rdkafka::metadata::MetadataPartition::id) {
        let (low, high) = consumer.fetch_watermarks(topic, partition, BOUND).unwrap();
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
        if high > low {
            left.insert(partition, high);
        }
    }
    consumer.assign(&list).unwrap();
    let mut messages = Vec::new();
    let give_up = Instant::now() + BOUND;
    while !left.is_empty() {
        assert!(Instant::now() < give_up, "{topic} cannot be read in time");
        let Some(polled) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = owned(&polled.unwrap());
        if left.get(&message.partition) == Some(&(message.offset + 1)) {
            left.remove(&message.partition);
        }
        messages.push(message);
    }
    messages.sort_by_key(|message| (message.partition, message.offset));
    messages
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>) -> Message {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = message.headers().map(|headers| {
        let pairs = headers.iter();
        pairs
            .map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())))
            .collect()
    });
    Message {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        headers: headers.unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
    }
}

/// How many messages a topic has.
pub async fn count(bootstrap: &str, topic: &str) -> usize {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let counted = tokio::task::spawn_blocking(move || {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &bootstrap);
        let consumer: BaseConsumer = client.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), BOUND).unwrap();
        let counts = metadata.topics()[0].partitions().iter().map(|partition| {
            let (low, high) = consumer.fetch_watermarks(&topic, partition.id(), BOUND).unwrap();
            usize::try_from(high - low).unwrap()
        });
        counts.sum()
    });
    counted.await.unwrap()
}

/// How many partitions a topic has.
pub async fn count_of_partitions(bootstrap: &str, topic: &str) -> usize {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let counted = tokio::task::spawn_blocking(move || {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &bootstrap);
        let consumer: BaseConsumer = client.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), BOUND).unwrap();
        metadata.topics()[0].partitions().len()
    });
    counted.await.unwrap()
}

/// A setting of a topic, as the broker has it.
pub async fn topic_setting(bootstrap: &str, topic: &str, setting: &str) -> String {
    let admin = admin(bootstrap);
    let described = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new())
        .await;
    let resource = described.unwrap().remove(0).unwrap();
    resource.get(setting).unwrap().value.clone().unwrap()
}

/// The partition that a Java producer chooses for a key.
pub fn partition_of(key: &str, partitions: i32) -> i32 {
    i32::try_from(murmur2(key.as_bytes()) & 0x7fff_ffff).unwrap() % partitions
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap();
    let mut hash = 0x9747_b28c ^ length;
    let words = data.chunks_exact(4);
    let tail = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (at, byte) in tail.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
