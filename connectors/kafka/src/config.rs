//! The options of a Kafka sink: typed, documented, checked.
//!
//! Only what can be known without a connection is decided here. Nothing in this module opens a file or a socket.

use std::fmt;

use bridge_core::amount::Span;
use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::{BodyTemplate, NameTemplate};
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use strum::IntoStaticStr;

use crate::properties::{self, Properties};
use crate::template::TOPIC;

/// Below this no produce request survives an ordinary change of a partition's leader.
const TIMEOUT_MIN: Span = Span::millis(100);

/// The options of a sink of type `kafka`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// The first brokers to connect to: `a:9092,b:9092`. They name the others.
    pub brokers: String,
    /// The topic of a record: a template over `cluster`, `root`, `path`, `op` and `names` (the names of the path, from
    /// the top). Control records have no path; theirs is that of their root. The filter `topic` writes any text with
    /// the characters that Kafka allows: `{{ names | topic }}`; `topic_strict` also makes no names that differ only in `.`
    /// and `_`.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// The key of the messages. It decides the partition, and so the order, and which messages compaction keeps.
    #[serde(default)]
    pub key: KeyBy,
    /// Send a message with the same key and a null value after each delete, for compacted topics. With `format = "raw"`
    /// the delete itself is one.
    #[serde(default)]
    pub tombstones: bool,
    /// Whether the sink creates missing topics, and with which settings.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub create_topics: CreateTopics,
    /// The compression of batches of messages.
    #[serde(default)]
    pub compression: Compression,
    /// The content of a message. `record`: the change record. `cloudevents`, `cloudevents-binary`: a CloudEvent 1.0 in
    /// structured or binary mode, as in its Kafka binding. `connect-json`: the record in the envelope of Kafka Connect's
    /// JsonConverter, with its schema. `flat`: a row for tables. `raw`: the bytes of the znode, or a null value for a delete;
    /// records without a value (control, acl, creates that were not read in time) are not sent.
    #[serde(default)]
    pub format: Format,
    /// A template for the content of a message in the place of the format, which is then `record` or `service`: over the
    /// fields of the record or the event, see docs/messages.md. Nothing is sent where its result is empty.
    #[serde(default)]
    pub body: Option<String>,
    /// The media type of `body`, sent as the header `content-type`. In JSON each value is written as JSON.
    #[serde(default)]
    #[schemars(extend("default" = "application/json"))]
    pub content_type: Option<String>,
    /// The timestamp of the messages. Brokers delete and compact by it.
    #[serde(default)]
    pub timestamp: TimestampBy,
    /// A delivery fails after this time without an acknowledgement, and is retried. For that alone no message in flight is
    /// sent twice.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Properties of librdkafka, such as `security.protocol` and `sasl.password`. Properties that would break the order
    /// or lose records are refused.
    #[serde(default)]
    pub properties: Properties,
}

/// The content of a message's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyBy {
    /// The path: `/services/a`. Control records: `control:` and the root.
    #[default]
    Path,
    /// The cluster and the path, for topics that several sources share: `main/services/a`. Control records: `control:`,
    /// the cluster and the root.
    ClusterPath,
}

/// The timestamp of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampBy {
    /// When it is sent.
    #[default]
    Sent,
    /// When ZooKeeper made the change; where that is not known, when it was captured.
    Changed,
    /// When the change was captured.
    Captured,
}

/// The compression of batches of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Compression {
    /// Small and fast; needs brokers from 2.1.
    #[default]
    Zstd,
    /// Fastest.
    Lz4,
    /// For old consumers.
    Snappy,
    /// For old consumers.
    Gzip,
    /// No compression.
    None,
}

impl Compression {
    /// The word in librdkafka's properties.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Whether the sink creates missing topics.
#[derive(Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[schemars(untagged)]
pub enum CreateTopics {
    /// It does not; the brokers may (`auto.create.topics.enable`).
    #[default]
    #[schemars(
        with = "bool",
        description = "Whether it does, with the settings of the brokers."
    )]
    No,
    /// It does, with these settings.
    Yes(TopicSettings),
}

/// The settings of a new topic.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// Partitions; left out: the brokers' default (`num.partitions`).
    #[schemars(range(min = 1))]
    pub partitions: Option<i32>,
    /// Copies of each partition; left out: the brokers' default (`default.replication.factor`).
    #[schemars(range(min = 1))]
    pub replication: Option<i32>,
    /// The topic's own settings, such as `"cleanup.policy" = "compact"`.
    pub config: Properties,
}

fn default_topic() -> String {
    "zk.{{ cluster }}".to_owned()
}

fn default_timeout() -> Span {
    Span::secs(30)
}

impl KafkaConfig {
    /// The defaults for these brokers.
    pub fn new(brokers: impl Into<String>) -> KafkaConfig {
        KafkaConfig {
            brokers: brokers.into(),
            topic: default_topic(),
            key: KeyBy::default(),
            tombstones: false,
            create_topics: CreateTopics::default(),
            compression: Compression::default(),
            format: Format::default(),
            body: None,
            content_type: None,
            timestamp: TimestampBy::default(),
            timeout: default_timeout(),
            properties: Properties::default(),
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        objections_to_brokers(&self.brokers, &mut found);
        match NameTemplate::parse(&TOPIC, &self.topic) {
            Ok(template) => found.extend(template.objection()),
            Err(objection) => found.push(objection),
        }
        if let CreateTopics::Yes(settings) = &self.create_topics {
            objections_to_settings(settings, &mut found);
        }
        if self.timeout < TIMEOUT_MIN {
            found.push(ConfigIssue::error(
                "timeout",
                format!(
                    "{} is shorter than brokers need for an ordinary acknowledgement",
                    self.timeout
                ),
                "give at least \"100ms\"; \"30s\" suits most clusters",
            ));
        }
        found.extend(properties::objections(&self.properties));
        let (body, media_type) = (self.body.as_deref(), self.content_type.as_deref());
        found.extend(BodyTemplate::objections(body, media_type, self.format));
        found
    }
}

fn objections_to_brokers(brokers: &str, found: &mut Vec<ConfigIssue>) {
    const REMEDY: &str = "give hosts and ports, separated by commas, as in \"a:9092,b:9092\"";
    if brokers.trim().is_empty() {
        found.push(ConfigIssue::error("brokers", "no broker is given", REMEDY));
        return;
    }
    for broker in brokers.split(',') {
        if let Some(reason) = reason_against_broker(broker.trim()) {
            let message = format!("'{}' is not a broker's address: {reason}", broker.trim());
            found.push(ConfigIssue::error("brokers", message, REMEDY));
        }
    }
}

fn reason_against_broker(broker: &str) -> Option<String> {
    if let Some((scheme, _)) = broker.split_once("://") {
        return Some(format!(
            "leave '{scheme}://' out and say it with properties.\"security.protocol\""
        ));
    }
    // An IPv6 address is in brackets and has colons of its own.
    let (host, port) = match broker.rfind(']') {
        Some(end) if broker.starts_with('[') => (&broker[..=end], broker[end + 1..].strip_prefix(':')),
        _ => match broker.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (broker, None),
        },
    };
    if host.is_empty() || host == "[]" {
        return Some("it has no host".to_owned());
    }
    if host.contains(|letter: char| letter.is_whitespace() || letter == '/') {
        return Some("a host has no spaces and no slashes".to_owned());
    }
    match port {
        Some(port) if !matches!(port.parse::<u16>(), Ok(1..)) => {
            Some(format!("'{port}' is not a port between 1 and 65535"))
        }
        _ => None,
    }
}

fn objections_to_settings(settings: &TopicSettings, found: &mut Vec<ConfigIssue>) {
    for (key, value, most) in [
        ("create_topics.partitions", settings.partitions, i32::MAX),
        (
            "create_topics.replication",
            settings.replication,
            i32::from(i16::MAX),
        ),
    ] {
        if let Some(count) = value
            && !(1..=most).contains(&count)
        {
            found.push(ConfigIssue::error(
                key,
                format!("{count} is not a number of copies or partitions that Kafka can make"),
                "give at least 1, or leave it out for the brokers' default",
            ));
        }
    }
}

impl<'de> Deserialize<'de> for CreateTopics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CreateTopicsVisitor)
    }
}

struct CreateTopicsVisitor;

impl<'de> Visitor<'de> for CreateTopicsVisitor {
    type Value = CreateTopics;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("false, true or { partitions = 6, replication = 3, config = { … } }")
    }

    fn visit_bool<E: de::Error>(self, wanted: bool) -> Result<CreateTopics, E> {
        Ok(if wanted {
            CreateTopics::Yes(TopicSettings::default())
        } else {
            CreateTopics::No
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CreateTopics, A::Error> {
        TopicSettings::deserialize(MapAccessDeserializer::new(map)).map(CreateTopics::Yes)
    }
}
