//! A record as a message. Pure: the same record gives the same bytes at every delivery.

use std::borrow::Cow;
use std::sync::Arc;

use bridge_core::format::{Body, Format, header_value};
use bridge_core::oversize::{self, Fit};
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

/// One record as one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) subject: Arc<str>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) payload: Vec<u8>,
}

/// A record's message that is not larger than it may be.
pub(crate) struct Fitted {
    pub(crate) message: Encoded,
    /// Whether data was cut for that.
    pub(crate) is_shrunk: bool,
}

/// Why a record can have no message.
pub(crate) enum Misfit {
    /// It has no subject.
    Subject(String),
    /// It is too large without any data, too; so large it is with all of it.
    Size { bytes: usize },
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

    /// The record's message; `None` where the format has nothing to say of it, or why it can have none.
    pub(crate) fn encode(&self, record: &Record) -> Result<Option<Encoded>, String> {
        let message = self.format.encode(record);
        let payload = match message.body {
            Body::Bytes(bytes) => bytes,
            // JetStream knows no null; `zkbridge-op` tells it from an empty value.
            Body::Deleted => Vec::new(),
            Body::Nothing => return Ok(None),
        };
        let subject = match &self.fixed {
            Some(subject) => Arc::clone(subject),
            None => self.template.subject(record)?,
        };
        let mut headers = self.headers(record);
        if self.format != Format::Record {
            headers.push((HEADER_CONTENT_TYPE.into(), message.content_type.to_owned()));
        }
        for (name, value) in &message.attributes {
            let name = format!("{PREFIX_CLOUDEVENTS}{name}");
            headers.push((name.into(), header_value(value)));
        }
        Ok(Some(Encoded {
            subject,
            headers,
            payload,
        }))
    }

    /// The same for a stream that takes so many bytes: where they do not suffice, the message of the record as it is
    /// shrunk to them ([`oversize`]).
    pub(crate) fn encode_within(&self, record: &Record, most: usize) -> Result<Option<Fitted>, Misfit> {
        let Some(message) = self.encode(record).map_err(Misfit::Subject)? else {
            return Ok(None);
        };
        if message.bytes() <= most {
            let is_shrunk = false;
            return Ok(Some(Fitted { message, is_shrunk }));
        }
        let bytes = |record: &Record| match self.encode(record) {
            Ok(Some(message)) => message.bytes(),
            Ok(None) | Err(_) => 0,
        };
        let Fit::Shrunk(shrunk) = oversize::fit(record, self.format, most, bytes) else {
            let bytes = message.bytes();
            return Err(Misfit::Size { bytes });
        };
        let message = self.encode(&shrunk).map_err(Misfit::Subject)?;
        let is_shrunk = true;
        Ok(message.map(|message| Fitted { message, is_shrunk }))
    }

    fn headers(&self, record: &Record) -> Vec<(Cow<'static, str>, String)> {
        let id = record.id.to_string();
        let mut headers = vec![
            (HEADER_MESSAGE_ID.into(), id.clone()),
            (HEADER_STREAM.into(), self.stream.to_string()),
            (HEADER_ID.into(), id),
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

impl Encoded {
    /// The bytes that count against the limits of servers and streams.
    pub(crate) fn bytes(&self) -> usize {
        // `NATS/1.0` and the line ends around the block of headers.
        const FRAME: usize = 12;
        let line = |(name, value): &(Cow<'static, str>, String)| name.len() + value.len() + 4;
        FRAME + self.headers.iter().map(line).sum::<usize>() + self.payload.len()
    }
}
