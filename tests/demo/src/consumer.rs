//! A Kafka consumer that knows only the topic of the bridge.
//!
//! It keeps the records in the order of arrival, and shows them in the order of seq, because partitions arrive
//! independently. It never skips a message, and it fails on one that is not a record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bridge_console::{Style, format_line};
use bridge_core::record::Record;
use bridge_servers::eventually;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::verdict::Arrival;

/// How long the bridge may take to create the topic.
const TOPIC_BOUND: Duration = Duration::from_secs(30);

/// How long the broker may take to answer a question.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// The scenario makes 40 records; more than this is a fault of the bridge.
const RECORDS_MAX: usize = 10_000;

/// A record is shown out of order once this many wait for a lower seq.
const EARLY_MAX: usize = 1_000;

/// A consumer of all partitions from their beginnings.
pub(crate) struct TopicReader {
    consumer: Arc<StreamConsumer>,
    topic: String,
    arrivals: Vec<Arrival>,
    /// The next offset of each partition.
    positions: BTreeMap<i32, i64>,
    order: SeqOrder,
}

impl TopicReader {
    /// Waits for the topic and reads all its partitions from the start. It commits no offset.
    pub(crate) async fn connect(brokers: &str, topic: &str, partitions: i32) -> Result<TopicReader> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "zkbridge-demo")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .context("a Kafka consumer cannot be made")?;
        let consumer = Arc::new(consumer);
        let what = format!("the topic {topic} with {partitions} partitions");
        eventually(what, TOPIC_BOUND, || has_topic(&consumer, topic, partitions)).await?;
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&all).context("the partitions cannot be taken")?;
        Ok(TopicReader {
            consumer,
            topic: topic.to_owned(),
            arrivals: Vec::new(),
            positions: (0..partitions).map(|partition| (partition, 0)).collect(),
            order: SeqOrder::default(),
        })
    }

    /// Reads one message. Returns the records that can be shown now, in the order of seq. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<Shown>> {
        let message = self.consumer.recv().await.context("reading the topic failed")?;
        if self.arrivals.len() >= RECORDS_MAX {
            bail!("more than {RECORDS_MAX} records arrived, more than the scenario can make");
        }
        let arrival = arrival(&message)?;
        self.positions.insert(arrival.partition, message.offset() + 1);
        let shown = self.order.take(arrival.record.clone());
        self.arrivals.push(arrival);
        Ok(shown)
    }

    /// All that arrived, in the order of arrival.
    pub(crate) fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// Drops all arrivals: the scenario has ended and its verdict is made.
    pub(crate) fn forget(&mut self) {
        self.arrivals.clear();
    }

    /// The records that still wait for a lower seq, which may never arrive.
    pub(crate) fn held_back(&mut self) -> Vec<Shown> {
        self.order.rest()
    }

    /// Whether all messages that are in the topic now have arrived.
    pub(crate) async fn has_all(&self) -> Result<bool> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let positions = self.positions.clone();
        let asked = tokio::task::spawn_blocking(move || {
            for (partition, position) in positions {
                let (_, end) = consumer.fetch_watermarks(&topic, partition, ANSWER_BOUND)?;
                if position < end {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        let answer: rdkafka::error::KafkaResult<bool> = asked.await?;
        answer.context("the broker does not say where the topic ends")
    }
}

async fn has_topic(consumer: &Arc<StreamConsumer>, topic: &str, partitions: i32) -> bool {
    let (consumer, topic) = (Arc::clone(consumer), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = consumer.fetch_metadata(Some(&topic), ANSWER_BOUND).ok()?;
        metadata.topics().first().map(|topic| topic.partitions().len())
    });
    let found = asked.await.ok().flatten();
    found.and_then(|count| i32::try_from(count).ok()) == Some(partitions)
}

fn arrival(message: &BorrowedMessage<'_>) -> Result<Arrival> {
    let place = format!(
        "the message at offset {} of partition {}",
        message.offset(),
        message.partition()
    );
    let key = message.key().with_context(|| format!("{place} has no key"))?;
    let payload = message
        .payload()
        .with_context(|| format!("{place} has no value"))?;
    let record: Record =
        serde_json::from_slice(payload).with_context(|| format!("{place} is no zkbridge.change/1 record"))?;
    Ok(Arrival {
        partition: message.partition(),
        key: String::from_utf8(key.to_vec()).with_context(|| format!("{place} has a key that is no text"))?,
        record,
    })
}

/// A record to show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    record: Record,
    is_again: bool,
}

impl Shown {
    /// Its line, as `zkbridge watch` has it.
    pub(crate) fn line(&self, style: &Style) -> String {
        let line = format_line(&self.record, style);
        if self.is_again {
            return format!("{line}  again");
        }
        line
    }
}

/// Sorts records by seq.
#[derive(Debug, Default)]
struct SeqOrder {
    shown: u64,
    early: BTreeMap<u64, Record>,
}

impl SeqOrder {
    fn take(&mut self, record: Record) -> Vec<Shown> {
        let seq = record.seq.0;
        if seq <= self.shown || self.early.contains_key(&seq) {
            return vec![Shown {
                record,
                is_again: true,
            }];
        }
        self.early.insert(seq, record);
        let mut ready = Vec::new();
        while let Some(record) = self.early.remove(&(self.shown + 1)) {
            self.shown += 1;
            ready.push(first(record));
        }
        if self.early.len() > EARLY_MAX {
            ready.extend(self.rest());
        }
        ready
    }

    fn rest(&mut self) -> Vec<Shown> {
        let early = std::mem::take(&mut self.early);
        self.shown = early.keys().next_back().copied().unwrap_or(self.shown);
        early.into_values().map(first).collect()
    }
}

fn first(record: Record) -> Shown {
    Shown {
        record,
        is_again: false,
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::testing::a_record;

    use super::*;

    fn shown(order: &mut SeqOrder, seq: u64) -> Vec<(u64, bool)> {
        let shown = order.take(a_record().seq(seq).build());
        seqs(&shown)
    }

    fn seqs(shown: &[Shown]) -> Vec<(u64, bool)> {
        shown
            .iter()
            .map(|shown| (shown.record.seq.0, shown.is_again))
            .collect()
    }

    #[test]
    fn records_of_three_partitions_are_shown_in_the_order_of_seq() {
        let mut order = SeqOrder::default();
        assert_eq!(shown(&mut order, 2), []);
        assert_eq!(shown(&mut order, 3), []);
        assert_eq!(shown(&mut order, 1), [(1, false), (2, false), (3, false)]);
        assert_eq!(shown(&mut order, 4), [(4, false)]);
    }

    #[test]
    fn a_repeated_delivery_is_shown_as_one() {
        let mut order = SeqOrder::default();
        shown(&mut order, 1);
        assert_eq!(shown(&mut order, 1), [(1, true)]);
        assert_eq!(shown(&mut order, 3), []);
        assert_eq!(shown(&mut order, 3), [(3, true)]);
        assert!(order.rest()[0].line(&Style::PLAIN).contains("/services/a"));
    }

    #[test]
    fn records_that_wait_for_a_lost_record_are_shown_in_the_end() {
        let mut order = SeqOrder::default();
        shown(&mut order, 3);
        shown(&mut order, 2);
        assert_eq!(seqs(&order.rest()), [(2, false), (3, false)]);
        assert_eq!(shown(&mut order, 4), [(4, false)]);
    }

    #[test]
    fn a_lost_record_is_not_waited_for_without_end() {
        let mut order = SeqOrder::default();
        let count: usize = (2..)
            .take(EARLY_MAX + 1)
            .map(|seq| shown(&mut order, seq).len())
            .sum();
        assert_eq!(count, EARLY_MAX + 1);
        assert_eq!(order.early.len(), 0);
    }
}
