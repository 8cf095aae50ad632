//! A record as a message. Pure: the same record gives the same bytes at every delivery.

use std::borrow::Cow;
use std::sync::Arc;

use bridge_core::format::{Body, Format, Message, header_value};
use bridge_core::outbound::{self, Fitted, MessagePlace, Messages, Misfit, Projection};
use bridge_core::record::Record;

use crate::template::SubjectTemplate;

/// The record's `id`; JetStream stores no second message with the same one within its duplicate window.
pub(crate) const HEADER_MESSAGE_ID: &str = "Nats-Msg-Id";
/// The stream that must take the message; no other then does.
pub(crate) const HEADER_STREAM: &str = "Nats-Expected-Stream";
/// The position of the last message of the same subject; without it, the message is refused.
pub(crate) const HEADER_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// The record's `id`.
pub(crate) const HEADER_ID: &str = "zkbridge-id";
/// The record's `op`.
pub(crate) const HEADER_OP: &str = "zkbridge-op";
/// The record's `path`, with what is not visible ASCII percent-encoded; left out where the record has none.
pub(crate) const HEADER_PATH: &str = "zkbridge-path";
/// The record's `zxid`; left out where the record has none.
pub(crate) const HEADER_ZXID: &str = "zkbridge-zxid";
/// The record's `cluster`.
pub(crate) const HEADER_CLUSTER: &str = "zkbridge-cluster";
/// The record's `schema`.
pub(crate) const HEADER_SCHEMA: &str = "zkbridge-schema";
/// How many bytes the znode holds, where the bytes of the form `raw` are only their beginning.
pub(crate) const HEADER_TRUNCATED: &str = "zkbridge-truncated";
/// The media type of the body, where that is not the record itself.
const HEADER_CONTENT_TYPE: &str = "content-type";
/// What the attributes of a CloudEvent in binary mode begin with (CloudEvents binding for NATS, section 3.1.3).
const PREFIX_CLOUDEVENTS: &str = "ce-";

/// The choices that decide how records become messages.
pub(crate) struct Encoder {
    template: SubjectTemplate,
    fixed: Option<Arc<str>>,
    stream: Arc<str>,
    format: Format,
}

/// A message of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) subject: Arc<str>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) payload: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(template: SubjectTemplate, stream: &str, format: Format, cluster: &str) -> Encoder {
        Encoder {
            fixed: template.fixed(cluster),
            template,
            stream: stream.into(),
            format,
        }
    }

    /// The record's messages for a stream that takes so many bytes: where they do not suffice, those of the record as it
    /// is shrunk to them.
    pub(crate) fn encode_within(&self, record: &Record, most: usize) -> Result<Fitted<Encoded>, Misfit> {
        outbound::fit(self, record, self.format, most, Encoded::bytes)
    }

    fn message(&self, record: &Record, subject: &Arc<str>, message: Message) -> Encoded {
        let mut headers = self.headers(record);
        if self.format != Format::Record {
            headers.push((HEADER_CONTENT_TYPE.into(), message.content_type.to_owned()));
        }
        for (name, value) in &message.attributes {
            let name = format!("{PREFIX_CLOUDEVENTS}{name}");
            headers.push((name.into(), header_value(value)));
        }
        Encoded {
            subject: Arc::clone(subject),
            headers,
            payload: match message.body {
                Body::Bytes(bytes) => bytes,
                // JetStream knows no null; `zkbridge-op` tells it from an empty value.
                Body::Deleted | Body::Nothing => Vec::new(),
            },
        }
    }

    fn headers(&self, record: &Record) -> Vec<(Cow<'static, str>, String)> {
        let mut headers = vec![
            (HEADER_STREAM.into(), self.stream.to_string()),
            (HEADER_ID.into(), record.id.to_string()),
            (HEADER_OP.into(), record.op.as_str().to_owned()),
        ];
        if let Some(path) = &record.path {
            headers.push((HEADER_PATH.into(), header_value(path)));
        }
        if let Some(zxid) = record.zxid {
            headers.push((HEADER_ZXID.into(), zxid.to_string()));
        }
        headers.push((HEADER_CLUSTER.into(), record.cluster.to_string()));
        headers.push((HEADER_SCHEMA.into(), bridge_core::record::SCHEMA.to_owned()));
        if self.format == Format::Raw
            && let Some(size) = record.size_if_truncated()
        {
            headers.push((HEADER_TRUNCATED.into(), size.to_string()));
        }
        headers
    }
}

impl Projection for Encoder {
    type Message = Encoded;

    fn project(&self, record: &Record) -> Result<Messages<Encoded>, String> {
        let messages = self.format.project(record)?;
        if messages.is_empty() {
            return Ok(Messages::None);
        }
        let subject = match &self.fixed {
            Some(subject) => Arc::clone(subject),
            None => self.template.subject(record)?,
        };
        let mut at = 0..;
        Ok(messages.map(|message| {
            let index = at.next().unwrap_or_default();
            let place = MessagePlace {
                index,
                is_last: false,
            };
            let mut message = self.message(record, &subject, message);
            let id = (HEADER_MESSAGE_ID.into(), place.id(record).to_string());
            message.headers.insert(0, id);
            message
        }))
    }
}

impl Encoded {
    /// The bytes that count against the limits of servers and streams.
    pub(crate) fn bytes(&self) -> usize {
        // `NATS/1.0` and the line ends around the block of headers.
        const FRAME: usize = 12;
        let line = |(name, value): &(Cow<'static, str>, String)| name.len() + value.len() + 4;
        FRAME + self.headers.iter().map(line).sum::<usize>() + self.payload.len()
    }
}
