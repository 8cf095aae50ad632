//! A record as Kafka messages. Pure: the same record gives the same bytes at every delivery.

use std::sync::Arc;

use bridge_core::record::Record;
use rdkafka::message::{Header, OwnedHeaders};

use crate::config::{KafkaConfig, KeyBy};
use crate::template::TopicTemplate;

/// The record's `id`.
pub(crate) const HEADER_ID: &str = "zkbridge-id";
/// The record's `op`.
pub(crate) const HEADER_OP: &str = "zkbridge-op";
/// The record's `zxid`; left out where the record has none.
pub(crate) const HEADER_ZXID: &str = "zkbridge-zxid";
/// The record's `cluster`.
pub(crate) const HEADER_CLUSTER: &str = "zkbridge-cluster";
/// The record's `schema`.
pub(crate) const HEADER_SCHEMA: &str = "zkbridge-schema";

/// What the keys of control records begin with. No path begins so, and no cluster has a colon in its name: compaction
/// must not take the record of a root's own znode for an older word of its root's snapshot.
pub(crate) const CONTROL: &str = "control:";

/// The choices that decide how records become messages.
pub(crate) struct Encoder {
    template: TopicTemplate,
    fixed: Option<Arc<str>>,
    key: KeyBy,
    tombstones: bool,
}

/// One record as one message, or as two: itself and a tombstone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) topic: Arc<str>,
    pub(crate) key: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Vec<u8>,
    /// Whether a null value with the same key follows.
    pub(crate) tombstone: bool,
}

impl Encoder {
    pub(crate) fn new(template: TopicTemplate, config: &KafkaConfig, cluster: &str) -> Encoder {
        Encoder {
            fixed: template.fixed(cluster),
            template,
            key: config.key,
            tombstones: config.tombstones,
        }
    }

    /// The topic of all records, where there is but one.
    pub(crate) fn fixed_topic(&self) -> Option<&Arc<str>> {
        self.fixed.as_ref()
    }

    /// The record's messages, or why it can have none.
    pub(crate) fn encode(&self, record: &Record) -> Result<Encoded, String> {
        let topic = match &self.fixed {
            Some(topic) => Arc::clone(topic),
            None => self.template.topic(record)?,
        };
        Ok(Encoded {
            topic,
            key: key(record, self.key),
            headers: headers(record),
            payload: record.to_json(),
            tombstone: self.tombstones && record.op == bridge_core::record::Op::Delete,
        })
    }
}

fn key(record: &Record, by: KeyBy) -> String {
    let cluster = match by {
        KeyBy::Path => "",
        KeyBy::ClusterPath => &*record.cluster,
    };
    match &record.path {
        Some(path) => format!("{cluster}{path}"),
        None => format!("{CONTROL}{cluster}{}", record.root.as_deref().unwrap_or_default()),
    }
}

fn headers(record: &Record) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (HEADER_ID, record.id.to_string()),
        (HEADER_OP, record.op.as_str().to_owned()),
    ];
    if let Some(zxid) = record.zxid {
        headers.push((HEADER_ZXID, zxid.to_string()));
    }
    headers.push((HEADER_CLUSTER, record.cluster.to_string()));
    headers.push((HEADER_SCHEMA, bridge_core::record::SCHEMA.to_owned()));
    headers
}

impl Encoded {
    /// The headers as librdkafka takes them.
    pub(crate) fn kafka_headers(&self) -> OwnedHeaders {
        let empty = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers.iter().fold(empty, |headers, (key, value)| {
            let value = Some(value.as_str());
            headers.insert(Header { key, value })
        })
    }
}
