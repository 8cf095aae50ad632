//! Records as lines on the standard input of a command. Pure.

use bridge_core::outbound::{LineProjection, Projection};
use bridge_core::record::Record;

use crate::config::ExecConfig;

/// The lines of options that were checked.
pub(crate) fn line_projection(config: &ExecConfig) -> LineProjection {
    let (body, media_type) = (config.body.as_deref(), config.content_type.as_deref());
    LineProjection::of_checked(config.format, body, media_type)
}

/// The lines of a record, each with its line feed; empty if it has none.
///
/// # Errors
///
/// Why it can never have one.
pub(crate) fn lines_of(projection: &LineProjection, record: &Record) -> Result<Vec<u8>, String> {
    let messages = projection.project(record)?;
    let length = messages.iter().map(|line| line.len() + 1).sum();
    let mut lines = Vec::with_capacity(length);
    for line in messages.iter() {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    Ok(lines)
}
