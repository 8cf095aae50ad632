//! A record as Kafka messages. Pure: the same record gives the same bytes at every delivery.

use std::borrow::Cow;
use std::sync::Arc;

use bridge_core::format::{Body, Format, Message};
use bridge_core::number::Zxid;
use bridge_core::oversize::{self, Fit};
use bridge_core::record::{Op, Record};
use rdkafka::message::{Header, OwnedHeaders};
use uuid::Uuid;

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
/// The record's `path`; only in the raw form, whose value does not tell it.
pub(crate) const HEADER_PATH: &str = "zkbridge-path";
/// How many bytes the znode holds, where the raw value is only their beginning.
pub(crate) const HEADER_TRUNCATED: &str = "zkbridge-truncated";
/// The media type of an event (CloudEvents Kafka binding 1.0.2, sections 3.2.1 and 3.3.1).
pub(crate) const HEADER_CONTENT_TYPE: &str = "content-type";

/// What the headers of an event's attributes begin with in binary mode (section 3.2.3).
const ATTRIBUTE: &str = "ce_";

/// What the keys of control records begin with. No path begins so, and no cluster has a colon in its name: compaction
/// must not take the record of a root's own znode for an older word of its root's snapshot.
pub(crate) const CONTROL: &str = "control:";

/// What brokers and librdkafka count besides key, value and headers, at most: the frame of a batch of one message
/// (61 bytes), and that of the message (36).
const FRAME_BYTES: usize = 61 + 36;

/// And for each header: the lengths of its name and value.
const HEADER_FRAME_BYTES: usize = 2 * 5;

/// The choices that decide how records become messages.
pub(crate) struct Encoder {
    template: TopicTemplate,
    fixed: Option<Arc<str>>,
    key: KeyBy,
    format: Format,
    tombstones: bool,
}

/// One record as one message, or as two: itself and a tombstone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) topic: Arc<str>,
    pub(crate) key: String,
    pub(crate) headers: Headers,
    /// Headers of the message itself only: with them a tombstone would be a second event of the same id.
    pub(crate) event_headers: Vec<(Cow<'static, str>, String)>,
    /// `None` for a null value.
    pub(crate) payload: Option<Vec<u8>>,
    /// Whether a null value with the same key follows.
    pub(crate) tombstone: bool,
}

/// What the headers of every message of a record say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    id: Uuid,
    op: Op,
    zxid: Option<Zxid>,
    cluster: Arc<str>,
}

/// A record's messages, none of them larger than it may be.
pub(crate) struct Fitted {
    pub(crate) message: Encoded,
    /// Whether data was cut for that.
    pub(crate) is_shrunk: bool,
}

/// Why a record can have no message.
pub(crate) enum Misfit {
    /// It has no topic.
    Topic(String),
    /// It is too large for its topic without any data, too; so large it is with all of it.
    Size { topic: Arc<str>, bytes: usize },
}

impl Encoder {
    pub(crate) fn new(template: TopicTemplate, config: &KafkaConfig, cluster: &str) -> Encoder {
        Encoder {
            fixed: template.fixed(cluster),
            template,
            key: config.key,
            format: config.format,
            tombstones: config.tombstones,
        }
    }

    /// The topic of all records, where there is but one.
    pub(crate) fn fixed_topic(&self) -> Option<&Arc<str>> {
        self.fixed.as_ref()
    }

    /// The record's messages, or why it can have none. `None` where the format has nothing to say of it: it is passed
    /// over.
    pub(crate) fn encode(&self, record: &Record) -> Result<Option<Encoded>, String> {
        self.encode_into(Vec::new(), record)
    }

    /// The same in a buffer that is the payload's then.
    fn encode_into(&self, mut buffer: Vec<u8>, record: &Record) -> Result<Option<Encoded>, String> {
        buffer.clear();
        let message = self.format.encode_into(buffer, record);
        let event_headers = self.event_headers(record, &message);
        let payload = match message.body {
            Body::Bytes(bytes) => Some(bytes),
            Body::Deleted => None,
            Body::Nothing => return Ok(None),
        };
        let topic = match &self.fixed {
            Some(topic) => Arc::clone(topic),
            None => self.template.topic(record)?,
        };
        Ok(Some(Encoded {
            topic,
            key: key(record, self.key),
            headers: Headers::of(record),
            event_headers,
            tombstone: self.tombstones && record.op == Op::Delete && payload.is_some(),
            payload,
        }))
    }

    /// The same where a topic takes so many bytes: where they do not suffice, the messages of the record as it is shrunk
    /// to them ([`oversize`]). The buffer becomes the payload's.
    pub(crate) fn encode_within(
        &self,
        buffer: Vec<u8>,
        record: &Record,
        most: impl Fn(&str) -> usize,
    ) -> Result<Option<Fitted>, Misfit> {
        let Some(message) = self.encode_into(buffer, record).map_err(Misfit::Topic)? else {
            return Ok(None);
        };
        let most = most(&message.topic);
        if message.bytes() <= most {
            let is_shrunk = false;
            return Ok(Some(Fitted { message, is_shrunk }));
        }
        let bytes = |record: &Record| match self.encode(record) {
            Ok(Some(message)) => message.bytes(),
            Ok(None) | Err(_) => 0,
        };
        let Fit::Shrunk(shrunk) = oversize::fit(record, self.format, most, bytes) else {
            let (topic, bytes) = (Arc::clone(&message.topic), message.bytes());
            return Err(Misfit::Size { topic, bytes });
        };
        let message = self.encode(&shrunk).map_err(Misfit::Topic)?;
        let is_shrunk = true;
        Ok(message.map(|message| Fitted { message, is_shrunk }))
    }

    fn event_headers(&self, record: &Record, message: &Message) -> Vec<(Cow<'static, str>, String)> {
        match self.format {
            Format::Record => Vec::new(),
            Format::Cloudevents | Format::CloudeventsBinary => {
                let content_type = (HEADER_CONTENT_TYPE.into(), message.content_type.to_owned());
                let attributes = message.attributes.iter();
                let attributes =
                    attributes.map(|(name, value)| (format!("{ATTRIBUTE}{name}").into(), value.clone()));
                std::iter::once(content_type).chain(attributes).collect()
            }
            Format::Raw => raw_headers(record),
        }
    }
}

/// What the value does not tell: whose it is, and that it is only a beginning.
fn raw_headers(record: &Record) -> Vec<(Cow<'static, str>, String)> {
    let path = record
        .path
        .as_ref()
        .map(|path| (HEADER_PATH.into(), path.to_string()));
    let truncated = record.size_if_truncated();
    let truncated = truncated.map(|size| (HEADER_TRUNCATED.into(), size.to_string()));
    path.into_iter().chain(truncated).collect()
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

impl Headers {
    /// How many there are at most.
    const MOST: usize = 5;

    fn of(record: &Record) -> Headers {
        Headers {
            id: record.id,
            op: record.op,
            zxid: record.zxid,
            cluster: Arc::clone(&record.cluster),
        }
    }

    /// Names and values, in order, one after the other.
    pub(crate) fn tell(&self, mut to: impl FnMut(&'static str, &str)) {
        let mut id = Uuid::encode_buffer();
        to(HEADER_ID, self.id.hyphenated().encode_lower(&mut id));
        to(HEADER_OP, self.op.as_str());
        if let Some(zxid) = self.zxid {
            to(HEADER_ZXID, &zxid.to_string());
        }
        to(HEADER_CLUSTER, &self.cluster);
        to(HEADER_SCHEMA, bridge_core::record::SCHEMA);
    }
}

impl Encoded {
    /// The headers of the message itself as librdkafka takes them.
    pub(crate) fn kafka_headers(&self) -> OwnedHeaders {
        let event = self.event_headers.iter();
        event.fold(self.tombstone_headers(), |headers, (key, value)| {
            let value = Some(value.as_str());
            headers.insert(Header { key, value })
        })
    }

    /// The headers of the tombstone that follows it.
    pub(crate) fn tombstone_headers(&self) -> OwnedHeaders {
        let mut all = Some(OwnedHeaders::new_with_capacity(
            Headers::MOST + self.event_headers.len(),
        ));
        self.headers.tell(|key, value| {
            let value = Some(value);
            all = all.take().map(|headers| headers.insert(Header { key, value }));
        });
        all.unwrap_or_default()
    }

    /// What the message itself takes before it is compressed, or a little more than that.
    pub(crate) fn bytes(&self) -> usize {
        let header = |key: &str, value: &str| key.len() + value.len() + HEADER_FRAME_BYTES;
        let mut own = 0;
        self.headers.tell(|key, value| own += header(key, value));
        let event = self.event_headers.iter();
        let event: usize = event.map(|(key, value)| header(key, value)).sum();
        let payload = self.payload.as_ref().map_or(0, Vec::len);
        FRAME_BYTES + self.key.len() + own + event + payload
    }
}
