//! Records as lines. Pure.

use std::sync::Arc;

use bridge_core::format::{Body, Format};
use bridge_core::record::Record;

/// Every line begins with one of these, whatever the record and the format.
pub(crate) const LINE_STARTS: [&[u8]; 2] = [
    br#"{"schema":"zkbridge.change/1","#,
    br#"{"specversion":"1.0","id":""#,
];

/// As long as the longest of them.
pub(crate) const LINE_START_MAX: usize = 32;

/// What a record of a small value takes: room for so much spares growing, and costs nothing where it is wrong.
const LINE_GUESS: usize = 800;

/// The lines of these records, each with its line feed. JSON escapes line feeds inside, so none stands in a line.
pub(crate) fn lines(records: &[Arc<Record>], format: Format) -> Vec<u8> {
    let mut text = Vec::with_capacity(records.len() * LINE_GUESS);
    for record in records {
        if let Body::Bytes(line) = format.encode(record).body {
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
    }
    text
}
