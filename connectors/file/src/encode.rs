//! Records as lines. Pure.

use bridge_core::format::{Body, Format};
use bridge_core::outbound::{Messages, Projection};
use bridge_core::record::Record;

/// Every line begins with one of these, whatever the record and the format.
pub(crate) const LINE_STARTS: [&[u8]; 3] = [
    br#"{"schema":"zkbridge.change/1","#,
    br#"{"specversion":"1.0","id":""#,
    br#"{"schema":"zkbridge.service/1","#,
];

/// As long as the longest of them.
pub(crate) const LINE_START_MAX: usize = 32;

/// Records as lines in this format. JSON escapes line feeds, so a line holds none.
pub(crate) struct Encoder(pub(crate) Format);

impl Projection for Encoder {
    type Message = Vec<u8>;

    fn project(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        if let Some(reason) = reason_against_lines(self.0) {
            return Err(reason.to_owned());
        }
        let messages = self.0.project(record)?;
        Ok(messages.map(|_, message| match message.body {
            Body::Bytes(line) => line,
            Body::Deleted | Body::Nothing => Vec::new(),
        }))
    }
}

/// Why no line can hold this format.
pub(crate) fn reason_against_lines(format: Format) -> Option<&'static str> {
    match format {
        Format::Record | Format::Cloudevents | Format::Service | Format::ServiceCloudevents => None,
        Format::CloudeventsBinary | Format::ServiceCloudeventsBinary => {
            Some("a line has no headers for the attributes of the event")
        }
        Format::ConnectJson => Some("only Kafka Connect reads it"),
        Format::Raw => Some("the data of a znode may hold line feeds, and says nothing of its path"),
    }
}

/// The lines of these records.
#[cfg(test)]
pub(crate) fn lines(records: &[std::sync::Arc<Record>], format: Format) -> Vec<u8> {
    bridge_core::outbound::lines(&Encoder(format), records).0
}
