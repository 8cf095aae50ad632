//! Records as lines. Pure.

use std::sync::Arc;

use bridge_core::record::Record;

/// Every line begins with it, whatever the record.
pub(crate) const LINE_START: &[u8] = br#"{"schema":"zkbridge.change/1","#;

/// The lines of these records, each with its line feed. JSON escapes line feeds inside, so none stands in a line.
pub(crate) fn lines(records: &[Arc<Record>]) -> Vec<u8> {
    let mut text = Vec::new();
    for record in records {
        text.extend_from_slice(&record.to_json());
        text.push(b'\n');
    }
    text
}
