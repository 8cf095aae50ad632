//! Records as lines. Pure.

use bridge_core::format::{Body, Format};
use bridge_core::outbound::{BodyTemplate, Messages, Projection};
use bridge_core::record::Record;

use crate::config::FileConfig;

/// Every line of a format begins with one of these, whatever the record, or is a row.
pub(crate) const LINE_STARTS: [&[u8]; 3] = [
    br#"{"schema":"zkbridge.change/1","#,
    br#"{"specversion":"1.0","id":""#,
    br#"{"schema":"zkbridge.service/1","#,
];

/// A row of the format `flat` begins with this. Lines of other programs may, too, so a line that was cut is a row only
/// where the line before is one.
pub(crate) const ROW_START: &[u8] = br#"{"path":"/"#;

/// As long as the longest of them.
pub(crate) const LINE_START_MAX: usize = 32;

/// Records as lines. JSON escapes line feeds, so a line holds none.
pub(crate) enum Encoder {
    /// In this format.
    Form(Format),
    /// As a template writes them.
    Own(Box<BodyTemplate>),
}

impl Encoder {
    /// For options that were checked.
    pub(crate) fn of(config: &FileConfig) -> Encoder {
        let (body, media_type) = (config.body.as_deref(), config.content_type.as_deref());
        match BodyTemplate::of_checked(body, media_type, config.format) {
            Some(body) => Encoder::Own(Box::new(body)),
            None => Encoder::Form(config.format),
        }
    }
}

/// The beginning of every line that a template writes, as far as it is the same; empty if values come first.
pub(crate) fn line_start_of(template: &str) -> &[u8] {
    let text = template.trim_start();
    let values = ["{{", "{%", "{#"].iter().filter_map(|tag| text.find(tag)).min();
    let fixed = &text[..values.unwrap_or(text.len())];
    // A line feed becomes a space, and `{{-` takes the white space before it away.
    let fixed = fixed.lines().next().unwrap_or_default().trim_end();
    &fixed.as_bytes()[..fixed.len().min(LINE_START_MAX)]
}

impl Projection for Encoder {
    type Message = Vec<u8>;

    fn project(&self, record: &Record) -> Result<Messages<Vec<u8>>, String> {
        let format = match self {
            Encoder::Own(body) => return body.line(record),
            Encoder::Form(format) => *format,
        };
        if let Some(reason) = reason_against_lines(format) {
            return Err(reason.to_owned());
        }
        let messages = format.project(record)?;
        Ok(messages.map(|_, message| match message.body {
            Body::Bytes(line) => line,
            Body::Deleted | Body::Nothing => Vec::new(),
        }))
    }
}

/// Why no line can hold this format.
pub(crate) fn reason_against_lines(format: Format) -> Option<&'static str> {
    match format {
        Format::Record
        | Format::Flat
        | Format::Cloudevents
        | Format::Service
        | Format::ServiceCloudevents => None,
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
    bridge_core::outbound::lines(&Encoder::Form(format), records).0
}
