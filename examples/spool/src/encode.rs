//! Records as a file. Pure: the same records give the same bytes at every delivery.

use std::sync::Arc;

use bridge_core::amount::Size;
use bridge_core::record::Record;
use bridge_core::sink::Rejected;

/// The content of a file, and what its name says of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// The source's cluster and the range of `seq`: for people. Order is not in it, as a record that was held back comes
    /// after records with higher numbers.
    pub(crate) title: String,
    /// A record on each line.
    pub(crate) lines: Vec<u8>,
    /// Records that can have no line, and why.
    pub(crate) rejected: Vec<Rejected>,
}

/// The file of a batch.
pub(crate) fn encode(batch: &[Arc<Record>], largest: Size) -> Encoded {
    let mut encoded = Encoded::default();
    for record in batch {
        let line = record.to_json();
        if line.len() as u64 > largest.0 {
            let seq = record.seq;
            let reason = format!(
                "the record takes {} bytes, and the option largest allows {largest}: raise it, then retry the record",
                line.len()
            );
            encoded.rejected.push(Rejected::at_once(seq, reason));
        } else {
            encoded.lines.extend(line);
            encoded.lines.push(b'\n');
        }
    }
    if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
        encoded.title = format!("{}-{}-{}", first.cluster, first.seq, last.seq);
    }
    encoded
}
