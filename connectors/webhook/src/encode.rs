//! Records as requests. Pure: the same records give the same bytes and the same ids at every delivery.
//!
//! | format | one record | several (`batch`) |
//! | --- | --- | --- |
//! | `record` | `{"type": …, "timestamp": …, "data": RECORD}` | a JSON array of these |
//! | `cloudevents` | a CloudEvent as JSON | a JSON array of these (the batched mode of CloudEvents) |
//! | `cloudevents-binary` | the record, its attributes as `ce-` headers | not possible |
//! | `raw` | the bytes of the znode | not possible |
//! | `body` | the result of the template | not possible |
//! | `preset` | as its receiver reads it | not possible |

use std::borrow::Cow;
use std::sync::Arc;

use bridge_core::format::{Body, Envelope, Format, Message, event_type, header_value};
use bridge_core::outbound::headers::{self, Header, OP};
use bridge_core::outbound::{self, Fitted, Messages, Misfit, Projection, message_id};
use bridge_core::record::Record;
use reqwest::Url;
use uuid::Uuid;

use crate::config::WebhookConfig;
use crate::preset::PresetMessages;
use crate::written::WrittenParts;

/// Names the ids of requests with several records: the UUIDv5 of `zkbridge.webhook.batch` in the DNS namespace.
const BATCHES: Uuid = Uuid::from_u128(0x2f21_a1b1_1b43_5f7a_a89b_5cd9_bcfa_dc09);

/// The prefix of the attributes of a CloudEvent in binary mode.
pub(crate) const ATTRIBUTE: &str = "ce-";

/// A header with a longer value is left out: receivers take 8 KiB for a line, or for all of them, and the body or the
/// id identifies the record as well.
pub(crate) const HEADER_BYTES_MAX: usize = 4 << 10;

const JSON: &str = "application/json";
const EVENTS: &str = "application/cloudevents-batch+json; charset=utf-8";

/// A request without what belongs to one attempt only: time and signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// `webhook-id`.
    pub(crate) id: Uuid,
    /// Where it goes; `None` for the address of the sink.
    pub(crate) address: Option<Url>,
    pub(crate) content_type: Cow<'static, str>,
    /// Names without upper case, values in visible ASCII.
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no request with some records.
pub(crate) enum Unfit {
    /// They do not go together; each of them may have one.
    Together,
    /// The record can never have one.
    Never(String),
}

/// How records become requests.
pub(crate) struct Encoder {
    format: Format,
    /// Whether a body is a list, also of one.
    is_list: bool,
    written: WrittenParts,
    preset: Option<PresetMessages>,
}

impl Encoder {
    /// For options that were checked.
    pub(crate) fn of(config: &WebhookConfig) -> Encoder {
        Encoder {
            format: config.format,
            is_list: config.batch > 1,
            written: WrittenParts::of(config),
            preset: PresetMessages::of(config),
        }
    }

    /// The requests with these records, in their order, with bodies of at most `most` bytes. A single record is cut to
    /// fit ([`bridge_core::oversize`]); several are not, because each may fit alone.
    pub(crate) fn requests(&self, records: &[Arc<Record>], most: usize) -> Result<Fitted<Encoded>, Unfit> {
        if let [record] = records {
            let fitted = outbound::fit(self, record, self.format, |_| most, Encoded::size);
            return fitted.map_err(|misfit| {
                Unfit::Never(match misfit {
                    Misfit::Refused(reason) => reason,
                    Misfit::TooLarge(request) => crate::error::too_large(request.size()),
                })
            });
        }
        let ids: Vec<u8> = records.iter().flat_map(|record| record.id.into_bytes()).collect();
        let records = records.iter().map(|record| &**record);
        let messages = self.list(Uuid::new_v5(&BATCHES, &ids), records);
        let messages = messages.map_err(|_| Unfit::Together)?;
        if messages.iter().any(|request| request.size() > most) {
            return Err(Unfit::Together);
        }
        let is_shrunk = false;
        Ok(Fitted { messages, is_shrunk })
    }

    /// The size of the body with this record without any data.
    pub(crate) fn least(&self, record: &Record) -> usize {
        outbound::least_size(self, record, self.format, Encoded::size)
    }

    /// The messages of a record.
    fn events(&self, record: &Record) -> Result<Messages<Message>, String> {
        let messages = self.format.project(record)?;
        Ok(match self.format {
            Format::Record | Format::Service => messages.map(|_, message| event(record, message)),
            _ => messages,
        })
    }

    /// One request with all messages of these records, as a list.
    fn list<'a>(
        &self,
        id: Uuid,
        records: impl Iterator<Item = &'a Record>,
    ) -> Result<Messages<Encoded>, String> {
        let mut body = Vec::new();
        for record in records {
            for (_, message) in self.events(record)?.placed() {
                body.push(if body.is_empty() { b'[' } else { b',' });
                body.extend(bytes(message.body));
            }
        }
        if body.is_empty() {
            return Ok(Messages::None);
        }
        body.push(b']');
        let content_type = if self.format.envelope() == Envelope::None {
            JSON
        } else {
            EVENTS
        };
        Ok(Messages::One(Encoded {
            id,
            address: None,
            content_type: content_type.into(),
            headers: Vec::new(),
            body,
        }))
    }

    /// The bytes of a znode do not say whose they are, and an empty body not whether it was deleted.
    fn headers(&self, record: &Record, message: &Message) -> Vec<Header> {
        let mut all: Vec<Header> = headers::attributes(message, ATTRIBUTE, header_value).collect();
        if self.format == Format::Raw {
            all.push((OP.into(), record.op.as_str().to_owned()));
            all.extend(headers::path(record, header_value));
            all.extend(headers::truncated(record));
        }
        all.retain(|(_, value)| value.len() <= HEADER_BYTES_MAX);
        all
    }
}

impl Projection for Encoder {
    type Message = Encoded;

    /// One request with all messages as a list, or one for each message.
    fn project(&self, record: &Record) -> Result<Messages<Encoded>, String> {
        if self.is_list {
            return self.list(record.id, std::iter::once(record));
        }
        if let Some(preset) = &self.preset {
            return preset.project(record);
        }
        let requests = self.contents(record)?;
        if requests.is_empty() {
            return Ok(Messages::None);
        }
        let (address, further) = self.written.place(record)?;
        Ok(requests.map(|index, content| {
            let (content_type, mut headers, body) = content;
            headers.extend(further.iter().cloned());
            Encoded {
                // Receivers pass over an id that they know.
                id: message_id(record, index),
                address: address.clone(),
                content_type,
                headers,
                body,
            }
        }))
    }
}

/// Media type, headers and body of a request.
type Content = (Cow<'static, str>, Vec<Header>, Vec<u8>);

impl Encoder {
    fn contents(&self, record: &Record) -> Result<Messages<Content>, String> {
        if let Some(template) = &self.written.body {
            let media_type = || template.media_type().to_owned().into();
            let bodies = template.project(record)?;
            return Ok(bodies.map(|_, body| (media_type(), Vec::new(), body)));
        }
        Ok(self.events(record)?.map(|_, message| {
            let headers = self.headers(record, &message);
            (message.content_type.into(), headers, bytes(message.body))
        }))
    }
}

impl Encoded {
    /// The bytes of the body.
    fn size(&self) -> usize {
        self.body.len()
    }
}

fn bytes(body: Body) -> Vec<u8> {
    match body {
        Body::Bytes(bytes) => bytes,
        Body::Deleted | Body::Nothing => Vec::new(),
    }
}

/// The event of Standard Webhooks around a record or a service event.
fn event(record: &Record, message: Message) -> Message {
    let time = record.time.changed.unwrap_or(record.time.captured);
    let mut body = format!(
        r#"{{"type":"{}","timestamp":"{time}","data":"#,
        record
            .event
            .as_ref()
            .map_or(event_type(record.op), |event| event.kind.as_str())
    )
    .into_bytes();
    body.extend(bytes(message.body));
    body.push(b'}');
    Message {
        body: Body::Bytes(body),
        ..message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_batches_is_what_its_documentation_says() {
        let expected = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"zkbridge.webhook.batch");
        assert_eq!(BATCHES, expected);
    }
}
