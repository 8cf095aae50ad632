//! Records as lines. Pure.

use bridge_core::outbound::LineProjection;

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

/// The lines of options that were checked.
pub(crate) fn line_projection(config: &FileConfig) -> LineProjection {
    let (body, media_type) = (config.body.as_deref(), config.content_type.as_deref());
    LineProjection::of_checked(config.format, body, media_type)
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

/// The lines of these records.
#[cfg(test)]
pub(crate) fn lines(
    records: &[std::sync::Arc<bridge_core::record::Record>],
    format: bridge_core::format::Format,
) -> Vec<u8> {
    bridge_core::outbound::lines(&LineProjection::Form(format), records).0
}
