//! The headers that messages of a record have at every destination.

use std::borrow::Cow;
use std::sync::Arc;

use uuid::Uuid;

use crate::format::Message;
use crate::number::{Zxid, push_hex};
use crate::record::{self, Op, Record};

/// The record's `id`.
pub const ID: &str = "zkbridge-id";
/// The record's `op`.
pub const OP: &str = "zkbridge-op";
/// The record's `path`; left out where the record has none.
pub const PATH: &str = "zkbridge-path";
/// The record's `zxid`; left out where the record has none.
pub const ZXID: &str = "zkbridge-zxid";
/// The record's `cluster`.
pub const CLUSTER: &str = "zkbridge-cluster";
/// The record's `schema`.
pub const SCHEMA: &str = "zkbridge-schema";
/// How many bytes the znode holds, where the body is only their beginning.
pub const TRUNCATED: &str = "zkbridge-truncated";
/// The media type of the body.
pub const CONTENT_TYPE: &str = "content-type";

/// The length of a zxid as text.
const ZXID_BYTES: usize = 18;

/// A name and a value.
pub type Header = (Cow<'static, str>, String);

/// The headers that identify a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeaders {
    id: Uuid,
    op: Op,
    zxid: Option<Zxid>,
    cluster: Arc<str>,
}

impl RecordHeaders {
    /// How many there are at most.
    pub const MAX: usize = 5;

    /// The headers of this record.
    pub fn of(record: &Record) -> RecordHeaders {
        RecordHeaders {
            id: record.id,
            op: record.op,
            zxid: record.zxid,
            cluster: Arc::clone(&record.cluster),
        }
    }

    /// Calls a function with each name and value, in order.
    pub fn for_each(&self, mut to: impl FnMut(&'static str, &str)) {
        let mut id = Uuid::encode_buffer();
        to(ID, self.id.hyphenated().encode_lower(&mut id));
        to(OP, self.op.as_str());
        if let Some(zxid) = self.zxid {
            let mut text = String::with_capacity(ZXID_BYTES);
            text.push_str("0x");
            push_hex(&mut text, zxid.0);
            to(ZXID, &text);
        }
        to(CLUSTER, &self.cluster);
        to(SCHEMA, self.schema());
    }

    fn schema(&self) -> &'static str {
        match self.op {
            Op::Service => record::SERVICE_SCHEMA,
            _ => record::SCHEMA,
        }
    }

    /// How many bytes all names and values have, with `frame` for each header: what [`RecordHeaders::for_each`] gives,
    /// without writing it.
    pub fn bytes(&self, frame: usize) -> usize {
        let zxid = self.zxid.map_or(0, |_| ZXID.len() + ZXID_BYTES + frame);
        let others = [
            (ID, uuid::fmt::Hyphenated::LENGTH),
            (OP, self.op.as_str().len()),
            (CLUSTER, self.cluster.len()),
            (SCHEMA, self.schema().len()),
        ];
        let others = others.map(|(name, value)| name.len() + value + frame);
        zxid + others.iter().sum::<usize>()
    }
}

/// The path of a record, as the destination's headers take a text.
pub fn path(record: &Record, written: impl Fn(&str) -> String) -> Option<Header> {
    let path = record.path.as_ref()?;
    Some((PATH.into(), written(path)))
}

/// The size of the znode, where the data of the record is only its beginning. For bodies that do not say it.
pub fn truncated(record: &Record) -> Option<Header> {
    let size = record.size_if_truncated()?;
    Some((TRUNCATED.into(), size.to_string()))
}

/// The attributes of a CloudEvent in binary mode, with the prefix of the destination's binding.
pub fn attributes(
    message: &Message,
    prefix: &str,
    written: impl Fn(&str) -> String,
) -> impl Iterator<Item = Header> {
    let attributes = message.attributes.iter();
    attributes.map(move |(name, value)| (format!("{prefix}{name}").into(), written(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a_record;

    #[test]
    fn the_size_of_the_headers_is_that_of_what_is_written() {
        for &op in Op::ALL {
            let record = match op.is_control() {
                true => a_record().control(op).build(),
                false => a_record().op(op).build(),
            };
            for zxid in [None, Some(Zxid(0x3_0000_1a2f))] {
                let headers = RecordHeaders {
                    zxid,
                    ..RecordHeaders::of(&record)
                };
                let mut written = 0;
                headers.for_each(|name, value| written += name.len() + value.len() + 7);
                assert_eq!(headers.bytes(7), written, "{op:?}, {zxid:?}");
            }
        }
    }

    #[test]
    fn a_zxid_is_written_as_in_the_record() {
        let headers = RecordHeaders {
            zxid: Some(Zxid(0x3_0000_1a2f)),
            ..RecordHeaders::of(&a_record().build())
        };
        let mut found = None;
        headers.for_each(|name, value| {
            if name == ZXID {
                found = Some(value.to_owned());
            }
        });
        assert_eq!(found, Some(Zxid(0x3_0000_1a2f).to_string()));
    }
}
