//! Records as a file. Pure: the same records give the same name and the same bytes at every delivery.

use std::sync::Arc;

use bridge_core::amount::Size;
use bridge_core::record::Record;
use bridge_core::sink::Rejected;
use uuid::Uuid;

/// The name and the content of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Names of one source sort in the order of `seq`. Other records give another name, also between the same two.
    pub(crate) name: String,
    /// A record on each line.
    pub(crate) lines: Vec<u8>,
    /// Records that can have no line, and why.
    pub(crate) rejected: Vec<Rejected>,
}

/// The file of a batch.
pub(crate) fn encode(batch: &[Arc<Record>], largest: Size) -> Encoded {
    let mut encoded = Encoded::default();
    let mut ids = Vec::new();
    for record in batch {
        let line = record.to_json();
        if line.len() as u64 > largest.0 {
            let seq = record.seq;
            let reason = format!(
                "the record takes {} bytes, and the option largest allows {largest}: raise it, then retry the record",
                line.len()
            );
            encoded.rejected.push(Rejected { seq, reason });
        } else {
            encoded.lines.extend(line);
            encoded.lines.push(b'\n');
            ids.extend(record.id.into_bytes());
        }
    }
    if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
        let id = Uuid::new_v5(&first.id, &ids);
        let (cluster, from, to) = (&first.cluster, first.seq.0, last.seq.0);
        encoded.name = format!("{cluster}-{from:020}-{to:020}-{id}.jsonl");
    }
    encoded
}
