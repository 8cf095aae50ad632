//! CSV as RFC 4180 describes it: commas, CRLF, quotes that are doubled inside of quotes, and a line of names first.
//!
//! A null is an empty field, an empty text is `""`. Numbers are decimal, flags `true` or `false`, times RFC 3339.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bridge_core::record::{DataValue, Record};

use super::column::{CHANGE, Cell};
use super::{ExportOutput, ExportWriter};

/// A text that begins with one of these is a formula for a spreadsheet, which may send the sheet to others or run a
/// program. The last one marks texts that got it in front.
const FORMULAS: [char; 12] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠', MARK];

/// A spreadsheet takes the text after it for a text.
const MARK: char = '\'';

/// A field with one of these is quoted. Some spreadsheets separate fields by the last two.
const QUOTED: [char; 6] = ['"', ',', '\r', '\n', ';', '\t'];

/// How texts are written that a spreadsheet would take for formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvTexts {
    /// They get a `'` in front, as do texts that begin with one, so that a program can take it away again.
    Guarded,
    /// They are written as they are.
    Exact,
}

/// Writes a line for each record.
pub(super) struct CsvWriter {
    out: BufWriter<ExportOutput>,
    texts: CsvTexts,
    line: String,
}

impl CsvWriter {
    pub(super) fn new(out: ExportOutput, texts: CsvTexts) -> io::Result<CsvWriter> {
        let mut out = BufWriter::new(out);
        let names: Vec<&str> = CHANGE.iter().map(|column| column.name).collect();
        write!(out, "{}\r\n", names.join(","))?;
        Ok(CsvWriter {
            out,
            texts,
            line: String::new(),
        })
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.line.clear();
        for (at, column) in CHANGE.iter().enumerate() {
            if at > 0 {
                self.line.push(',');
            }
            match (column.cell)(record) {
                Cell::Null => {}
                Cell::Number(number) => self.line.push_str(&number.to_string()),
                Cell::Flag(flag) => self.line.push_str(if flag { "true" } else { "false" }),
                Cell::Time(time) => self.line.push_str(&time.to_string()),
                Cell::Text(text) => self.text(&text),
                Cell::Value(data) => match data.value() {
                    DataValue::Json(document) => self.text(document.get()),
                    DataValue::Text(text) => self.text(text),
                    DataValue::Base64(text) => self.text(&text),
                },
            }
        }
        self.line.push_str("\r\n");
        self.out.write_all(self.line.as_bytes())
    }

    fn text(&mut self, text: &str) {
        let is_guarded = self.texts == CsvTexts::Guarded && text.starts_with(FORMULAS);
        let is_quoted = is_guarded
            || text.is_empty()
            || text.contains(QUOTED)
            || text.starts_with(' ')
            || text.ends_with(' ');
        if !is_quoted {
            self.line.push_str(text);
            return;
        }
        self.line.push('"');
        if is_guarded {
            self.line.push(MARK);
        }
        for (at, part) in text.split('"').enumerate() {
            if at > 0 {
                self.line.push_str("\"\"");
            }
            self.line.push_str(part);
        }
        self.line.push('"');
    }
}

impl ExportWriter for CsvWriter {
    fn records(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        records.iter().try_for_each(|record| self.record(record))
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}
