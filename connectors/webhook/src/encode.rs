//! Records as the bodies of requests. Pure: the same records give the same bytes and the same id at every delivery.
//!
//! | format | one record | several (`batch`) |
//! | --- | --- | --- |
//! | `record` | `{"type": …, "timestamp": …, "data": RECORD}` | a JSON array of these |
//! | `cloudevents` | a CloudEvent as JSON | a JSON array of these (the batched mode of CloudEvents) |
//! | `cloudevents-binary` | the record, its attributes as `ce-` headers | not possible |
//! | `raw` | the bytes of the znode | not possible |

use std::sync::Arc;

use bridge_core::format::{Body, Format, event_type, header_value};
use bridge_core::oversize::{self, Fit};
use bridge_core::record::Record;
use uuid::Uuid;

/// Names the ids of requests with several records: the UUIDv5 of `zkbridge.webhook.batch` in the DNS namespace.
const BATCHES: Uuid = Uuid::from_u128(0x2f21_a1b1_1b43_5f7a_a89b_5cd9_bcfa_dc09);

const JSON: &str = "application/json";
const EVENTS: &str = "application/cloudevents-batch+json; charset=utf-8";

/// What goes with a delete in the form `raw`, which has no word for it.
pub(crate) const OP: &str = "zkbridge-op";
pub(crate) const PATH: &str = "zkbridge-path";
/// How many bytes the znode holds, where the body is only their beginning.
pub(crate) const TRUNCATED: &str = "zkbridge-truncated";

/// A request without what belongs to one attempt only: time and signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// `webhook-id`.
    pub(crate) id: String,
    pub(crate) content_type: &'static str,
    /// Names without upper case, values in visible ASCII.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A request that is not larger than it may be.
pub(crate) struct Fitted {
    pub(crate) request: Encoded,
    /// Whether data was cut for that.
    pub(crate) is_shrunk: bool,
}

/// Why there is no request of these records that is small enough.
pub(crate) enum TooLarge {
    /// Each of them may have one.
    Together,
    /// The record is too large without any data, too; so large it is with all of it.
    Alone { bytes: usize },
}

/// How records become bodies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    format: Format,
    /// Whether a body is a list, also of one.
    is_list: bool,
}

impl Encoder {
    pub(crate) fn new(format: Format, batch: usize) -> Encoder {
        Encoder {
            format,
            is_list: batch > 1,
        }
    }

    /// The request for these records, in their order; `None` where the form has nothing to say of them.
    ///
    /// # Panics
    ///
    /// Without a record, or with several where the form takes one: the options were not checked.
    pub(crate) fn encode(&self, records: &[Arc<Record>]) -> Option<Encoded> {
        if self.is_list {
            return Some(self.list(records));
        }
        assert_eq!(records.len(), 1, "a request without batch has one record");
        let record = &records[0];
        if self.format == Format::Record {
            return Some(Encoded {
                id: id(records),
                content_type: JSON,
                headers: Vec::new(),
                body: event(record),
            });
        }
        let message = self.format.encode(record);
        let body = match message.body {
            Body::Bytes(bytes) => bytes,
            Body::Deleted => Vec::new(),
            Body::Nothing => return None,
        };
        let attribute = |(name, value): (&str, String)| (format!("ce-{name}"), header_value(&value));
        let mut headers: Vec<_> = message.attributes.into_iter().map(attribute).collect();
        if self.format == Format::Raw {
            headers.extend(about(record));
        }
        Some(Encoded {
            id: id(records),
            content_type: message.content_type,
            headers,
            body,
        })
    }

    /// The same with a body of so many bytes at most. One record is shrunk to them ([`oversize`]); several are not, as
    /// each of them may fit alone.
    pub(crate) fn encode_within(
        &self,
        records: &[Arc<Record>],
        most: usize,
    ) -> Result<Option<Fitted>, TooLarge> {
        let Some(request) = self.encode(records) else {
            return Ok(None);
        };
        if request.body.len() <= most {
            let is_shrunk = false;
            return Ok(Some(Fitted { request, is_shrunk }));
        }
        let [record] = records else {
            return Err(TooLarge::Together);
        };
        match oversize::fit(record, self.format, most, |record| self.bytes(record)) {
            Fit::Shrunk(shrunk) => {
                let request = self.encode(&[Arc::new(*shrunk)]);
                let is_shrunk = true;
                Ok(request.map(|request| Fitted { request, is_shrunk }))
            }
            Fit::Whole | Fit::Never { .. } => Err(TooLarge::Alone {
                bytes: request.body.len(),
            }),
        }
    }

    /// How large the body of a record is without data.
    pub(crate) fn least(&self, record: &Record) -> usize {
        match oversize::fit(record, self.format, 0, |record| self.bytes(record)) {
            Fit::Never { least } => least,
            Fit::Whole | Fit::Shrunk(_) => 0,
        }
    }

    fn bytes(&self, record: &Record) -> usize {
        let request = self.encode(&[Arc::new(record.clone())]);
        request.map_or(0, |request| request.body.len())
    }

    fn list(&self, records: &[Arc<Record>]) -> Encoded {
        let content_type = match self.format {
            Format::Record => JSON,
            Format::Cloudevents => EVENTS,
            Format::CloudeventsBinary | Format::Raw => {
                unreachable!("the options refuse batches of {}", self.format.as_str())
            }
        };
        let mut body = vec![b'['];
        for record in records {
            if body.len() > 1 {
                body.push(b',');
            }
            if self.format == Format::Record {
                body.extend(event(record));
            } else if let Body::Bytes(event) = self.format.encode(record).body {
                body.extend(event);
            }
        }
        body.push(b']');
        Encoded {
            id: id(records),
            content_type,
            headers: Vec::new(),
            body,
        }
    }
}

/// The event of Standard Webhooks around a record.
fn event(record: &Record) -> Vec<u8> {
    let time = record.time.changed.unwrap_or(record.time.captured);
    let mut body = format!(
        r#"{{"type":"{}","timestamp":"{time}","data":"#,
        event_type(record.op)
    )
    .into_bytes();
    body.extend(record.to_json());
    body.push(b'}');
    body
}

/// The bytes of a znode do not say whose they are, and an empty body not whether it was deleted.
fn about(record: &Record) -> Vec<(String, String)> {
    let mut headers = vec![(OP.to_owned(), record.op.as_str().to_owned())];
    if let Some(path) = &record.path {
        headers.push((PATH.to_owned(), header_value(path)));
    }
    if let Some(size) = record.size_if_truncated() {
        headers.push((TRUNCATED.to_owned(), size.to_string()));
    }
    headers
}

/// The id of a request. One record: its own. Several: an id made of all of theirs, never that of one of them. Receivers
/// pass over an id that they know; the same first record may come again with other records behind it, which would then
/// be lost.
fn id(records: &[Arc<Record>]) -> String {
    if let [record] = records {
        return record.id.to_string();
    }
    let ids: Vec<u8> = records.iter().flat_map(|record| record.id.into_bytes()).collect();
    Uuid::new_v5(&BATCHES, &ids).to_string()
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
