//! A record as a message. Pure: the same record gives the same bytes at every delivery.

use std::sync::Arc;

use bridge_core::format::{Body, Envelope, Format, Message, header_value};
use bridge_core::outbound::headers::{self, CONTENT_TYPE, Header, RecordHeaders};
use bridge_core::outbound::{
    self, BodyTemplate, Fitted, Messages, Misfit, NameTemplate, Projection, message_id,
};
use bridge_core::record::Record;

use crate::bucket;

/// The message's id; JetStream stores no second message with the same one within its duplicate window.
pub(crate) const HEADER_MESSAGE_ID: &str = "Nats-Msg-Id";
/// The stream that must take the message; no other then does.
pub(crate) const HEADER_STREAM: &str = "Nats-Expected-Stream";
/// The position of the last message of the same subject; without it, the message is refused.
pub(crate) const HEADER_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// The prefix of the attributes of a CloudEvent in binary mode (CloudEvents binding for NATS, section 3.1.3).
const ATTRIBUTE: &str = "ce-";

/// The choices that decide how records become messages.
pub(crate) struct Encoder {
    subjects: NameTemplate,
    stream: Arc<str>,
    format: Format,
    /// Writes the payloads in the place of the format.
    body: Option<BodyTemplate>,
    /// Whether the messages are entries of a bucket.
    is_bucket: bool,
}

/// A message of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) subject: Arc<str>,
    pub(crate) headers: Vec<Header>,
    pub(crate) payload: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(subjects: NameTemplate, stream: &str, format: Format) -> Encoder {
        Encoder {
            subjects,
            stream: stream.into(),
            format,
            body: None,
            is_bucket: false,
        }
    }

    /// The same with payloads of a template.
    #[must_use]
    pub(crate) fn with_body(mut self, body: Option<BodyTemplate>) -> Encoder {
        self.body = body;
        self
    }

    /// The same with entries of a bucket.
    #[must_use]
    pub(crate) fn of_bucket(mut self, is_bucket: bool) -> Encoder {
        self.is_bucket = is_bucket;
        self
    }

    /// The record's messages for a stream with this size limit ([`bridge_core::oversize`]).
    pub(crate) fn encode_within(
        &self,
        record: &Record,
        most: usize,
    ) -> Result<Fitted<Encoded>, Misfit<Encoded>> {
        outbound::fit(self, record, self.format, |_| most, Encoded::bytes)
    }

    /// The message with a payload of the template.
    fn written(
        &self,
        record: &Record,
        body: &BodyTemplate,
        subject: &Arc<str>,
    ) -> Result<Messages<Encoded>, String> {
        Ok(body.project(record)?.map(|index, payload| {
            let mut headers = self.common_headers(record, index);
            headers.push((CONTENT_TYPE.into(), body.media_type().to_owned()));
            let subject = Arc::clone(subject);
            Encoded {
                subject,
                headers,
                payload,
            }
        }))
    }

    /// The headers of a message in every format.
    fn common_headers(&self, record: &Record, index: usize) -> Vec<Header> {
        let mut all: Vec<Header> = vec![
            (HEADER_MESSAGE_ID.into(), message_id(record, index).to_string()),
            (HEADER_STREAM.into(), self.stream.to_string()),
        ];
        RecordHeaders::of(record).for_each(|name, value| all.push((name.into(), value.to_owned())));
        all.extend(headers::path(record, header_value));
        all
    }

    fn headers(&self, record: &Record, index: usize, message: &Message) -> Vec<Header> {
        let mut all = self.common_headers(record, index);
        if self.format == Format::Raw {
            all.extend(headers::truncated(record));
        }
        if self.is_bucket {
            all.extend(bucket::headers(record));
        }
        if self.format.envelope() != Envelope::None {
            all.push((CONTENT_TYPE.into(), message.content_type.to_owned()));
        }
        all.extend(headers::attributes(message, ATTRIBUTE, header_value));
        all
    }
}

impl Projection for Encoder {
    type Message = Encoded;

    fn project(&self, record: &Record) -> Result<Messages<Encoded>, String> {
        if let Some(body) = &self.body {
            return self.written(record, body, &self.subjects.name(record)?);
        }
        let messages = self.format.project(record)?;
        if messages.is_empty() {
            return Ok(Messages::None);
        }
        let subject = self.subjects.name(record)?;
        Ok(messages.map(|index, message| Encoded {
            subject: Arc::clone(&subject),
            headers: self.headers(record, index, &message),
            payload: match message.body {
                Body::Bytes(bytes) => bytes,
                // JetStream knows no null; `zkbridge-op` differs from that of an empty value.
                Body::Deleted | Body::Nothing => Vec::new(),
            },
        }))
    }
}

impl Encoded {
    /// The bytes that count against the limits of servers and streams.
    pub(crate) fn bytes(&self) -> usize {
        // `NATS/1.0` and the line ends around the block of headers.
        const FRAME: usize = 12;
        let line = |(name, value): &Header| name.len() + value.len() + 4;
        FRAME + self.headers.iter().map(line).sum::<usize>() + self.payload.len()
    }
}
