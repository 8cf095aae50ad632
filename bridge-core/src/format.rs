//! The forms in which a sink writes a record: the record itself, a CloudEvent or an envelope with its schema around it, or
//! the bare data of the znode.
//!
//! All sinks that offer a choice use these forms, so that a form means the same at every destination. A sink adds the
//! parts of its destination (topics, subjects, keys, signatures) itself. Pure: the same record gives the same bytes at
//! every delivery.

mod cloudevents;
mod connect;
mod flat;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::record::{Op, Record};

pub use cloudevents::header_value;

/// The form of a delivered record.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Format {
    /// The change record as JSON.
    #[default]
    Record,
    /// A CloudEvent 1.0 as JSON, with the record as its data (structured mode).
    Cloudevents,
    /// The record as JSON, with the attributes of a CloudEvent 1.0 as headers (binary mode).
    CloudeventsBinary,
    /// The bytes of the znode, and nothing for a delete. Records without a value (control records, changes of the
    /// access control list, creates that were not read in time) are not delivered.
    Raw,
    /// The record in the envelope of Kafka Connect's JsonConverter: `{"schema": …, "payload": …}`. A value that is a JSON
    /// document is its text there.
    ConnectJson,
    /// A flat row as JSON, for tables: `path`, `value`, `op`, `zxid`, `version`, `deleted` and `changed`. Records that
    /// change no row (control records, changes of the access control list) are not delivered.
    Flat,
    /// The service events of the source as JSON, `zkbridge.service/1`, and nothing else.
    Service,
    /// Its service events, each a CloudEvent 1.0 as JSON (structured mode).
    ServiceCloudevents,
    /// Its service events as JSON, with the attributes of a CloudEvent 1.0 as headers (binary mode).
    ServiceCloudeventsBinary,
}

/// A record in the form that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The media type of the body.
    pub content_type: &'static str,
    /// The attributes of a CloudEvent in binary mode, by name and without a prefix; none in other forms. A destination
    /// whose headers take visible ASCII only writes the values by [`header_value`].
    pub attributes: Vec<(&'static str, String)>,
    /// The content.
    pub body: Body,
}

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The znode was deleted and the form cannot say that: an empty body, or a null value if the destination has one.
    Deleted,
    /// The form has no message for this record. The sink skips it, and the cursor moves on.
    Nothing,
}

const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
const BYTES: &str = "application/octet-stream";

impl Format {
    /// Every form, in the order of the documentation.
    pub const ALL: &[Format] = Format::VARIANTS;

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether it delivers service events, and no changes.
    pub fn is_of_services(self) -> bool {
        matches!(
            self,
            Format::Service | Format::ServiceCloudevents | Format::ServiceCloudeventsBinary
        )
    }

    /// The form around the content.
    pub fn envelope(self) -> Envelope {
        match self {
            Format::Record | Format::ConnectJson | Format::Flat | Format::Service => Envelope::None,
            Format::Cloudevents | Format::ServiceCloudevents => Envelope::Structured,
            Format::CloudeventsBinary | Format::ServiceCloudeventsBinary => Envelope::Binary,
            Format::Raw => Envelope::Raw,
        }
    }

    /// The record in this form.
    pub fn encode(self, record: &Record) -> Message {
        if self.is_of_services() {
            return self.encode_event(record);
        }
        if record.op == Op::Service {
            return Message::nothing();
        }
        let json = || Body::Bytes(record.to_json());
        let (content_type, attributes, body) = match self {
            Format::Record => (JSON, Vec::new(), json()),
            Format::Cloudevents => (
                STRUCTURED,
                Vec::new(),
                Body::Bytes(cloudevents::structured(record)),
            ),
            Format::CloudeventsBinary => (JSON, cloudevents::attributes(record), json()),
            Format::Raw => (BYTES, Vec::new(), raw(record)),
            Format::ConnectJson => (JSON, Vec::new(), Body::Bytes(connect::envelope(record))),
            Format::Flat => (JSON, Vec::new(), flat::row(record)),
            Format::Service | Format::ServiceCloudevents | Format::ServiceCloudeventsBinary => {
                return Message::nothing();
            }
        };
        Message {
            content_type,
            attributes,
            body,
        }
    }

    /// The service event of a record; nothing if it has none.
    fn encode_event(self, record: &Record) -> Message {
        let Some(event) = &record.event else {
            return Message::nothing();
        };
        match self.envelope() {
            Envelope::Structured => Message {
                content_type: STRUCTURED,
                attributes: Vec::new(),
                body: Body::Bytes(cloudevents::structured_event(record, event)),
            },
            Envelope::Binary => Message {
                content_type: JSON,
                attributes: cloudevents::event_attributes(record, event),
                body: Body::Bytes(event.to_json()),
            },
            Envelope::None | Envelope::Raw => Message {
                content_type: JSON,
                attributes: Vec::new(),
                body: Body::Bytes(event.to_json()),
            },
        }
    }
}

/// The form around a record or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// None.
    None,
    /// A CloudEvent with the content as its data.
    Structured,
    /// The attributes of a CloudEvent as headers.
    Binary,
    /// None, and only the bytes of a znode inside.
    Raw,
}

impl Message {
    fn nothing() -> Message {
        Message {
            content_type: BYTES,
            attributes: Vec::new(),
            body: Body::Nothing,
        }
    }
}

fn raw(record: &Record) -> Body {
    match record.op {
        Op::Delete => Body::Deleted,
        Op::Create | Op::Update | Op::Snapshot => {
            let data = record.after.as_ref().and_then(|state| state.data.as_ref());
            data.map_or(Body::Nothing, |data| Body::Bytes(data.bytes.to_vec()))
        }
        Op::Acl
        | Op::SnapshotBegin
        | Op::SnapshotEnd
        | Op::GapBegin
        | Op::GapEnd
        | Op::Heartbeat
        | Op::Service => Body::Nothing,
    }
}

/// The operation as a dotted name, in the style of event types.
pub fn event_type(op: Op) -> &'static str {
    match op {
        Op::Create => "znode.created",
        Op::Update => "znode.updated",
        Op::Delete => "znode.deleted",
        Op::Acl => "znode.acl_changed",
        Op::Snapshot => "znode.listed",
        Op::SnapshotBegin => "snapshot.begun",
        Op::SnapshotEnd => "snapshot.ended",
        Op::GapBegin => "gap.begun",
        Op::GapEnd => "gap.ended",
        Op::Heartbeat => "bridge.heartbeat",
        // Its event has a type of its own.
        Op::Service => "service.event",
    }
}
