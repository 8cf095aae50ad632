//! Writes the records of a journal for other programs: JSON lines, CSV, a SQLite database, Parquet.
//!
//! Invariants:
//!
//! * A file appears whole under its name or not at all, and only its owner may read it ([`NewFile`]).
//! * The memory does not depend on the number of records.
//! * The flat formats have the columns of [`column`](mod@column), which `docs/export.md` describes. A column may be added
//!   at the end; none is removed or gets another meaning.

mod column;
mod csv;
mod json_lines;
mod new_file;
mod parquet;
mod sqlite;

use std::io::{self, Write};
use std::sync::Arc;

use bridge_core::record::Record;
use clap::ValueEnum;

pub use column::ZnodeRow;
pub use csv::CsvTexts;
pub use new_file::NewFile;

/// Output that an export can write to from any thread.
pub type ExportOutput = Box<dyn Write + Send>;

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Whole records, one JSON object a line
    Jsonl,
    /// A line of columns for each record
    Csv,
    /// The same columns as an Apache Parquet file
    Parquet,
    /// A SQLite database with the tables change and znode
    Sqlite,
}

/// Writes records, in order.
pub trait ExportWriter {
    /// Writes a page of records.
    ///
    /// # Errors
    ///
    /// If they cannot be written; nothing more can be written then.
    fn records(&mut self, records: &[Arc<Record>]) -> io::Result<()>;

    /// Whether the format has a place for znodes.
    fn takes_znodes(&self) -> bool {
        false
    }

    /// Writes znodes as they are at the end of the range. Only for formats that take them.
    ///
    /// # Errors
    ///
    /// As [`ExportWriter::records`].
    fn znodes(&mut self, _: &[ZnodeRow]) -> io::Result<()> {
        Ok(())
    }

    /// Writes the rest.
    ///
    /// # Errors
    ///
    /// As [`ExportWriter::records`].
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A writer of a format other than SQLite.
///
/// # Errors
///
/// If the beginning cannot be written.
///
/// # Panics
///
/// For SQLite, which writes into a file that it opens itself ([`of_database`]).
pub fn of_stream(
    format: ExportFormat,
    out: ExportOutput,
    texts: CsvTexts,
) -> io::Result<Box<dyn ExportWriter>> {
    Ok(match format {
        ExportFormat::Jsonl => Box::new(json_lines::JsonLines::new(out)),
        ExportFormat::Csv => Box::new(csv::CsvWriter::new(out, texts)?),
        ExportFormat::Parquet => Box::new(parquet::ParquetWriter::new(out)?),
        ExportFormat::Sqlite => panic!("a database is no stream"),
    })
}

/// A writer of a SQLite database into a file that exists and is empty.
///
/// # Errors
///
/// If the tables cannot be made.
pub fn of_database(file: &NewFile) -> io::Result<Box<dyn ExportWriter>> {
    Ok(Box::new(sqlite::SqliteWriter::new(file.part())?))
}

#[cfg(test)]
mod tests;
