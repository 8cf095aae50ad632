//! A record as Kafka messages. Pure: the same record gives the same bytes at every delivery.

use std::sync::Arc;

use bridge_core::format::{Body, Envelope, Format, Message};
use bridge_core::outbound::headers::{self, CONTENT_TYPE, Header, RecordHeaders};
use bridge_core::outbound::{self, BodyTemplate, Fitted, Messages, Misfit, NameTemplate, Projection};
use bridge_core::record::{Op, Record, Timestamp};
use rdkafka::message::{self, OwnedHeaders};

use crate::config::{KafkaConfig, KeyBy, TimestampBy};

/// The prefix of the attributes of an event in binary mode (CloudEvents Kafka binding 1.0.2, section 3.2.3).
const ATTRIBUTE: &str = "ce_";

/// The prefix of the keys of control records. No path begins so, and no cluster has a colon in its name: compaction
/// must not take the record of a root's own znode for an older state of its root's snapshot.
const CONTROL: &str = "control:";

/// The most that brokers and librdkafka count in addition to key, value and headers: the frame of a batch of one
/// message (61 bytes), and that of the message (36).
const FRAME_BYTES: usize = 61 + 36;

/// And for each header: the lengths of its name and value.
const HEADER_FRAME_BYTES: usize = 2 * 5;

/// The choices that decide how records become messages.
pub(crate) struct Encoder {
    topics: NameTemplate,
    key: KeyBy,
    format: Format,
    /// Writes the values in the place of the format.
    body: Option<BodyTemplate>,
    timestamp: TimestampBy,
    tombstones: bool,
}

/// The headers of the format and the value of a message; `None` for a null value.
type Content = (Vec<Header>, Option<Vec<u8>>);

/// A message of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) topic: Arc<str>,
    pub(crate) key: Arc<str>,
    pub(crate) headers: RecordHeaders,
    /// Headers of the format. A tombstone has none: it would be a second event of the same id.
    pub(crate) event_headers: Vec<Header>,
    /// `None` for a null value.
    pub(crate) payload: Option<Vec<u8>>,
    /// Milliseconds since 1970; `None` for the moment at which it is sent.
    pub(crate) timestamp: Option<i64>,
}

impl Encoder {
    pub(crate) fn new(topics: NameTemplate, config: &KafkaConfig) -> Encoder {
        let (body, media_type) = (config.body.as_deref(), config.content_type.as_deref());
        Encoder {
            topics,
            key: config.key,
            format: config.format,
            body: BodyTemplate::of_checked(body, media_type, config.format),
            timestamp: config.timestamp,
            tombstones: config.tombstones,
        }
    }

    /// The topic of all records, if it is the same.
    pub(crate) fn fixed_topic(&self) -> Option<&Arc<str>> {
        self.topics.fixed()
    }

    /// The record's messages, none of them larger than its topic has room for ([`bridge_core::oversize`]).
    pub(crate) fn encode_within(
        &self,
        record: &Record,
        room: impl Fn(&Encoded) -> usize,
    ) -> Result<Fitted<Encoded>, Misfit<Encoded>> {
        outbound::fit(self, record, self.format, room, Encoded::bytes)
    }

    fn event_headers(&self, record: &Record, message: &Message) -> Vec<Header> {
        match self.format.envelope() {
            Envelope::None => Vec::new(),
            // Sections 3.2.1 and 3.3.1 of the binding.
            Envelope::Structured | Envelope::Binary => {
                let content_type = (CONTENT_TYPE.into(), message.content_type.to_owned());
                let attributes = headers::attributes(message, ATTRIBUTE, str::to_owned);
                std::iter::once(content_type).chain(attributes).collect()
            }
            Envelope::Raw => {
                let path = headers::path(record, str::to_owned).into_iter();
                path.chain(headers::truncated(record)).collect()
            }
        }
    }
}

impl Encoder {
    fn contents(&self, record: &Record) -> Result<Messages<Content>, String> {
        let Some(body) = &self.body else {
            let messages = self.format.project(record)?;
            return Ok(messages.map(|_, message| {
                let headers = self.event_headers(record, &message);
                match message.body {
                    Body::Bytes(bytes) => (headers, Some(bytes)),
                    Body::Deleted | Body::Nothing => (headers, None),
                }
            }));
        };
        let content_type = || vec![(CONTENT_TYPE.into(), body.media_type().to_owned())];
        Ok(body
            .project(record)?
            .map(|_, bytes| (content_type(), Some(bytes))))
    }

    /// Whether a null value follows the messages of a record, which has a value or a body that says nothing of it.
    fn buries(&self, record: &Record, messages: &Messages<Content>) -> bool {
        let has_value = messages.iter().any(|(_, payload)| payload.is_some());
        self.tombstones && record.op == Op::Delete && (has_value || self.body.is_some())
    }
}

impl Projection for Encoder {
    type Message = Encoded;

    fn project(&self, record: &Record) -> Result<Messages<Encoded>, String> {
        let messages = self.contents(record)?;
        let is_buried = self.buries(record, &messages);
        if messages.is_empty() && !is_buried {
            return Ok(Messages::None);
        }
        let tombstone = Encoded {
            topic: self.topics.name(record)?,
            key: key(record, self.key).into(),
            headers: RecordHeaders::of(record),
            event_headers: Vec::new(),
            payload: None,
            timestamp: timestamp(record, self.timestamp),
        };
        let messages = messages.map(|_, (event_headers, payload)| Encoded {
            event_headers,
            payload,
            ..tombstone.clone()
        });
        Ok(match is_buried {
            true => messages.followed_by(tombstone),
            false => messages,
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

/// Kafka takes no time before 1970.
fn timestamp(record: &Record, by: TimestampBy) -> Option<i64> {
    let Timestamp(millis) = match by {
        TimestampBy::Sent => return None,
        TimestampBy::Changed => record.time.changed.unwrap_or(record.time.captured),
        TimestampBy::Captured => record.time.captured,
    };
    Some(millis.max(0))
}

impl Encoded {
    /// Calls a function with the name and value of each header, in order.
    pub(crate) fn for_each_header(&self, mut to: impl FnMut(&str, &str)) {
        self.headers.for_each(&mut to);
        for (name, value) in &self.event_headers {
            to(name, value);
        }
    }

    /// The headers as librdkafka takes them.
    pub(crate) fn kafka_headers(&self) -> OwnedHeaders {
        let count = RecordHeaders::MAX + self.event_headers.len();
        let mut all = Some(OwnedHeaders::new_with_capacity(count));
        self.for_each_header(|key, value| {
            let value = Some(value);
            all = all
                .take()
                .map(|headers| headers.insert(message::Header { key, value }));
        });
        all.unwrap_or_default()
    }

    /// The size of the message before compression, or a little more.
    pub(crate) fn bytes(&self) -> usize {
        let of_event = self
            .event_headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + HEADER_FRAME_BYTES);
        let headers = self.headers.bytes(HEADER_FRAME_BYTES) + of_event.sum::<usize>();
        let payload = self.payload.as_ref().map_or(0, Vec::len);
        FRAME_BYTES + self.key.len() + headers + payload
    }
}
