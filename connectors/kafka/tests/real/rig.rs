//! A broker, a topic, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink};
use bridge_core::testing::Arrived;
use bridge_kafka::{KafkaConfig, KafkaSink};
use bridge_servers::Kafka;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
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
        let builder = Kafka::builder().property("auto.create.topics.enable", "false");
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
    let mut new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let made = admin(bootstrap).create_topics([&new], &AdminOptions::new()).await;
    made.unwrap().remove(0).unwrap();
    name
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

pub fn sink(config: &KafkaConfig) -> KafkaSink {
    KafkaSink::new(config, "main").unwrap()
}

pub async fn opened(config: &KafkaConfig) -> KafkaSink {
    let mut sink = sink(config);
    sink.open().await.unwrap();
    sink
}

pub async fn deliver(sink: &mut KafkaSink, records: &[Arc<Record>]) -> Result<(), DeliverError> {
    let batch = Delivery {
        records: records.to_vec(),
    };
    let delivered = tokio::time::timeout(BOUND, sink.deliver(&batch)).await;
    delivered.expect("the sink answers within the bound")
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
