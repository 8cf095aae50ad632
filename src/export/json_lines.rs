//! Whole records as lines of JSON.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bridge_core::record::Record;

use super::{ExportOutput, ExportWriter};
use crate::command::json_line;

/// Writes a line for each record.
pub(super) struct JsonLines {
    out: BufWriter<ExportOutput>,
}

impl JsonLines {
    pub(super) fn new(out: ExportOutput) -> JsonLines {
        JsonLines {
            out: BufWriter::new(out),
        }
    }
}

impl ExportWriter for JsonLines {
    fn records(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let mut lines = records.iter().map(|record| json_line(record));
        lines.try_for_each(|line| self.out.write_all(line.as_bytes()))
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}
