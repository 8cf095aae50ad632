//! The topic of a subject: created, watched and counted from outside.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bridge_servers::eventually;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::writer;

/// Partitions of each topic, as in the benchmark of the sinks.
pub const PARTITIONS: i32 = 6;

/// How long an answer of the broker may take on a busy machine.
const ANSWER_BOUND: Duration = Duration::from_secs(30);
/// How long the partitions of a new topic may take to have leaders on a busy machine.
const LEADERS_BOUND: Duration = Duration::from_secs(120);
/// How long one question about a leader may take: the next one asks the broker again.
const LEADER_BOUND: Duration = Duration::from_secs(5);
/// How long the read of an existing message may take.
const MESSAGE_BOUND: Duration = Duration::from_secs(30);
/// Poll interval for the end of the topic: long enough to cost nothing measurable.
const LOOK: Duration = Duration::from_millis(2);
/// Poll interval for fills that take seconds.
const LOOK_SELDOM: Duration = Duration::from_millis(20);
/// How long a follower waits for the next message before it checks whether to stop.
const FOLLOW: Duration = Duration::from_millis(100);

/// A topic of its own for one round.
#[derive(Clone, Debug)]
pub struct Topic {
    bootstrap: String,
    name: String,
}

/// The state of a topic after its last message.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// The time at which the last message became durable.
    pub at: Instant,
    /// The number of messages.
    pub messages: i64,
}

/// The precision with which the end of a topic is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// To some milliseconds.
    Closely,
    /// To some tens of milliseconds.
    Loosely,
}

/// A position in a topic: the end of each partition at some time.
#[derive(Clone, Debug, Default)]
pub struct TopicEnd(Vec<i64>);

impl TopicEnd {
    /// The number of messages before it.
    pub fn messages(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Whether a record was appended after this position. After the default position everything is.
    pub fn is_before(&self, record: &TopicRecord) -> bool {
        let (partition, offset) = record.position;
        let end = usize::try_from(partition).ok().and_then(|at| self.0.get(at));
        end.is_none_or(|end| offset >= *end)
    }
}

/// The fields of a message that are compared.
#[derive(Debug, Deserialize)]
pub struct TopicRecord {
    /// Its partition and offset.
    #[serde(skip)]
    pub position: (i32, i64),
    /// The time since 1970 at which the broker appended it, in whole milliseconds.
    #[serde(skip)]
    pub appended: Option<Duration>,
    /// The znode; null in control records.
    pub path: Option<String>,
    /// The operation.
    #[serde(default)]
    pub op: String,
    /// The number of unread versions since the path's last message.
    #[serde(default)]
    pub missed: Option<u64>,
    /// The new state.
    #[serde(default)]
    pub after: Option<After>,
}

/// The state of a znode.
#[derive(Debug, Deserialize)]
pub struct After {
    /// Its value.
    #[serde(default)]
    pub data: Option<Data>,
    /// Its numbers.
    #[serde(default)]
    pub stat: Option<Stat>,
}

/// The value of a znode.
#[derive(Debug, Deserialize)]
pub struct Data {
    /// As text.
    #[serde(default)]
    pub value: Option<String>,
}

/// The numbers of a znode that are compared.
#[derive(Debug, Deserialize)]
pub struct Stat {
    /// The transaction that created it, in hexadecimal.
    pub czxid: String,
    /// The transaction that wrote it last, in hexadecimal.
    pub mzxid: String,
    /// Its version.
    pub version: i64,
}

impl Topic {
    /// Creates it.
    ///
    /// # Errors
    ///
    /// If the broker refuses it.
    pub async fn create(bootstrap: &str, name: &str) -> Result<Topic> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        // The time of a message is then that of its append, by the clock of this machine.
        let new = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_BOUND));
        for outcome in admin.create_topics([&new], &options).await? {
            outcome.map_err(|(topic, code)| anyhow::anyhow!("make the topic {topic}: {code}"))?;
        }
        let this = Topic {
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
        };
        // Partitions get leaders some time after their creation.
        let consumer = this.consumer()?;
        let is_led = || std::future::ready(this.ends(&consumer, LEADER_BOUND).is_ok());
        eventually("leaders of a new topic", LEADERS_BOUND, is_led).await?;
        Ok(this)
    }

    /// Removes it, so that the broker's disk does not fill over a long run.
    ///
    /// # Errors
    ///
    /// If the broker refuses it.
    pub async fn remove(self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()?;
        admin.delete_topics(&[&self.name], &AdminOptions::new()).await?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("fetch.message.max.bytes", "4194304")
            .create();
        consumer.context("make a consumer")
    }

    fn ends(&self, consumer: &BaseConsumer, bound: Duration) -> Result<Vec<i64>> {
        let end = |partition| {
            let marks = consumer.fetch_watermarks(&self.name, partition, bound);
            Ok(marks.context("ask for the end of the topic")?.1)
        };
        (0..PARTITIONS).map(end).collect()
    }

    /// Waits until there are at least `least` messages and no more arrive for `quiet`. A message counts once it is durable
    /// according to the producer's `acks`.
    ///
    /// # Errors
    ///
    /// If that takes longer than `bound`.
    pub async fn rest(&self, least: i64, quiet: Duration, bound: Duration, watch: Watch) -> Result<Rest> {
        let this = self.clone();
        let look = match watch {
            Watch::Closely => LOOK,
            Watch::Loosely => LOOK_SELDOM,
        };
        let waiting = tokio::task::spawn_blocking(move || {
            let consumer = this.consumer()?;
            let began = Instant::now();
            let mut rest = Rest {
                at: began,
                messages: -1,
            };
            loop {
                let asked = Instant::now();
                let messages = this.ends(&consumer, ANSWER_BOUND)?.iter().sum();
                if messages != rest.messages {
                    rest = Rest {
                        at: asked.max(began),
                        messages,
                    };
                }
                if messages >= least && rest.at.elapsed() >= quiet {
                    return Ok(rest);
                }
                ensure!(
                    began.elapsed() < bound,
                    "{messages} messages of at least {least} after {} s",
                    bound.as_secs()
                );
                std::thread::sleep(look);
            }
        });
        waiting.await?
    }

    /// The current end.
    ///
    /// # Errors
    ///
    /// If the broker does not answer.
    pub async fn end(&self) -> Result<TopicEnd> {
        let this = self.clone();
        let ends = move || this.ends(&this.consumer()?, ANSWER_BOUND);
        Ok(TopicEnd(tokio::task::spawn_blocking(ends).await??))
    }

    /// Reads all messages, in order for each key.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub async fn read(&self) -> Result<Vec<TopicRecord>> {
        self.read_after(&TopicEnd::default()).await
    }

    /// Reads the messages after a position, in order for each key.
    ///
    /// # Errors
    ///
    /// As [`Topic::read`].
    pub async fn read_after(&self, position: &TopicEnd) -> Result<Vec<TopicRecord>> {
        let this = self.clone();
        let begin = |partition: usize| position.0.get(partition).copied().unwrap_or_default();
        let begins: Vec<i64> = (0..)
            .take(PARTITIONS.unsigned_abs() as usize)
            .map(begin)
            .collect();
        tokio::task::spawn_blocking(move || {
            let consumer = this.consumer()?;
            let ends: i64 = this.ends(&consumer, ANSWER_BOUND)?.iter().sum();
            let mut waiting = ends - begins.iter().sum::<i64>();
            let mut list = TopicPartitionList::new();
            for (partition, begin) in (0..PARTITIONS).zip(&begins) {
                list.add_partition_offset(&this.name, partition, Offset::Offset(*begin))?;
            }
            consumer.assign(&list)?;
            let mut records = Vec::new();
            while waiting > 0 {
                let message = consumer.poll(MESSAGE_BOUND);
                let message = message.with_context(|| format!("{waiting} messages did not come"))??;
                records.extend(parsed(&message)?);
                waiting -= 1;
            }
            Ok(records)
        })
        .await?
    }

    /// Follows the topic from its current end and records the age of each value at its arrival.
    ///
    /// # Errors
    ///
    /// If the consumer cannot be created.
    pub fn follow(&self) -> Result<Follower> {
        let consumer = self.consumer()?;
        let mut list = TopicPartitionList::new();
        for (partition, end) in (0..PARTITIONS).zip(self.ends(&consumer, ANSWER_BOUND)?) {
            list.add_partition_offset(&self.name, partition, Offset::Offset(end))?;
        }
        consumer.assign(&list)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::task::spawn_blocking(move || {
            let mut ages = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Some(message) = consumer.poll(FOLLOW) else {
                    continue;
                };
                let message = message?;
                let now = writer::now();
                let issued = parsed(&message)?.and_then(|record| record.issued());
                ages.extend(issued.map(|issued| now.saturating_sub(issued)));
            }
            Ok(ages)
        });
        Ok(Follower { stop, task })
    }
}

/// Follows a topic until its result is requested.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Vec<Duration>>>,
}

impl Follower {
    /// The age of each value at its arrival.
    ///
    /// # Errors
    ///
    /// If the topic could not be read.
    pub async fn ages(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

impl TopicRecord {
    fn issued(&self) -> Option<Duration> {
        let value = self.after.as_ref()?.data.as_ref()?.value.as_ref()?;
        writer::issued(value)
    }

    /// The time from the write of its value until the broker appended it, to a millisecond; `None` without a value.
    pub fn age(&self) -> Option<Duration> {
        Some(self.appended?.saturating_sub(self.issued()?))
    }

    /// The version, if the message has its value.
    pub fn version(&self) -> Option<(&str, i64)> {
        let after = self.after.as_ref()?;
        after.data.as_ref()?;
        Some((self.path.as_deref()?, after.stat.as_ref()?.version))
    }
}

/// `None` for a message without a value.
fn parsed(message: &BorrowedMessage<'_>) -> Result<Option<TopicRecord>> {
    let Some(payload) = message.payload() else {
        return Ok(None);
    };
    let record = serde_json::from_slice(payload);
    let mut record: TopicRecord =
        record.with_context(|| format!("no record: {}", String::from_utf8_lossy(payload)))?;
    record.position = (message.partition(), message.offset());
    record.appended = message.timestamp().to_millis().and_then(|millis| {
        let millis = u64::try_from(millis).ok()?;
        Some(Duration::from_millis(millis))
    });
    Ok(Some(record))
}

/// The number of different versions that have a value in the topic after a position, and of those declared as
/// overwritten.
pub fn versions(records: &[TopicRecord], since: &TopicEnd) -> (usize, u64) {
    let mut seen: HashMap<&str, Vec<i64>> = HashMap::new();
    let mut missed = 0;
    let counted = |record: &&TopicRecord| record.op != "snapshot" && since.is_before(record);
    for record in records.iter().filter(counted) {
        if let Some((path, version)) = record.version() {
            seen.entry(path).or_default().push(version);
        }
        missed += record.missed.unwrap_or_default();
    }
    let count = seen.values_mut().map(|versions| {
        versions.sort_unstable();
        versions.dedup();
        versions.len()
    });
    (count.sum(), missed)
}

/// The ages of the values after a position, in ascending order.
pub fn ages(records: &[TopicRecord], since: &TopicEnd) -> Vec<Duration> {
    let counted = |record: &&TopicRecord| record.op != "snapshot" && since.is_before(record);
    let mut ages: Vec<Duration> = records
        .iter()
        .filter(counted)
        .filter_map(TopicRecord::age)
        .collect();
    ages.sort_unstable();
    ages
}

/// A percentile of ascending ages, in ms; `None` without ages.
pub fn percentile(ages: &[Duration], percent: usize) -> Option<f64> {
    let last = ages.len().checked_sub(1)?;
    Some(ages[last * percent / 100].as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An update of `/a` in partition 0, written 1 s and appended `age` ms later.
    fn record(offset: i64, version: i64, age: u64) -> TopicRecord {
        let value = format!("{:020} xx", 1_000_000_000);
        let stat = Stat {
            czxid: "0x1".to_owned(),
            mzxid: "0x2".to_owned(),
            version,
        };
        TopicRecord {
            position: (0, offset),
            appended: Some(Duration::from_millis(1_000 + age)),
            path: Some("/a".to_owned()),
            op: "update".to_owned(),
            missed: None,
            after: Some(After {
                data: Some(Data { value: Some(value) }),
                stat: Some(stat),
            }),
        }
    }

    #[test]
    fn only_what_follows_a_position_counts() {
        let records = [record(0, 1, 900), record(1, 2, 20), record(2, 3, 10)];
        let all = TopicEnd::default();
        assert_eq!(versions(&records, &all), (3, 0));
        assert_eq!(percentile(&ages(&records, &all), 100), Some(900.0));

        let since = TopicEnd(vec![1]);
        assert_eq!(versions(&records, &since), (2, 0));
        let ages = ages(&records, &since);
        assert_eq!(
            (percentile(&ages, 0), percentile(&ages, 100)),
            (Some(10.0), Some(20.0))
        );
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_record_without_a_value_has_no_age() {
        let mut deleted = record(0, 1, 5);
        deleted.after = None;
        assert_eq!(deleted.age(), None);
    }
}
