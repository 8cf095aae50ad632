//! A SQLite database with the tables `change` and `znode`.
//!
//! The tables are not STRICT, so that SQLite before 3.37 reads them. Numbers and flags are integers, times are RFC 3339,
//! which SQLite's functions of dates take. A value that is text or JSON is a text, any other one a blob of its bytes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bridge_core::record::{DataValue, Record};
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use super::ExportWriter;
use super::column::{CHANGE, Cell, Column, ColumnType, ZNODE, ZnodeRow};

/// The file is thrown away unless it is completed: a journal of changes to it would only cost time.
const PRAGMAS: &str = "
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
";

/// Made at the end, which is faster than with each row.
const INDEXES: &str = "
CREATE UNIQUE INDEX change_seq ON change(source, seq);
CREATE INDEX change_path ON change(path, seq);
CREATE UNIQUE INDEX znode_path ON znode(source, path);
";

/// Writes a row for each record and each znode.
pub(super) struct SqliteWriter {
    connection: Connection,
}

impl SqliteWriter {
    pub(super) fn new(file: &Path) -> io::Result<SqliteWriter> {
        let connection =
            Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(io::Error::other)?;
        let tables = format!("{PRAGMAS}{};{};", table("change", CHANGE), table("znode", ZNODE));
        connection.execute_batch(&tables).map_err(io::Error::other)?;
        Ok(SqliteWriter { connection })
    }

    fn insert<'a, R: 'a>(
        &mut self,
        name: &str,
        columns: &[Column<R>],
        rows: impl Iterator<Item = &'a R>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let places = vec!["?"; columns.len()].join(", ");
            let mut insert = transaction.prepare_cached(&format!("INSERT INTO {name} VALUES ({places})"))?;
            for row in rows {
                insert.execute(params_from_iter(columns.iter().map(|column| (column.cell)(row))))?;
            }
        }
        transaction.commit()
    }
}

fn table<R>(name: &str, columns: &[Column<R>]) -> String {
    let columns = columns.iter().map(|column| {
        let affinity = match column.holds {
            ColumnType::Number | ColumnType::Flag => " INTEGER",
            ColumnType::Text | ColumnType::Time => " TEXT",
            // A text stays a text, and a blob a blob.
            ColumnType::Value => "",
        };
        format!("{}{affinity}", column.name)
    });
    format!("CREATE TABLE {name}({})", columns.collect::<Vec<_>>().join(", "))
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = |text: String| ToSqlOutput::Owned(SqlValue::Text(text));
        Ok(match self {
            Cell::Null => ToSqlOutput::Owned(SqlValue::Null),
            Cell::Number(number) => ToSqlOutput::Owned(SqlValue::Integer(*number)),
            Cell::Flag(flag) => ToSqlOutput::Owned(SqlValue::Integer(i64::from(*flag))),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Cell::Time(time) => text(time.to_string()),
            Cell::Value(data) => match data.value() {
                DataValue::Json(document) => text(document.get().to_owned()),
                DataValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
                DataValue::Base64(_) => ToSqlOutput::Borrowed(ValueRef::Blob(&data.bytes)),
            },
        })
    }
}

impl ExportWriter for SqliteWriter {
    fn records(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let rows = records.iter().map(|record| &**record);
        self.insert("change", CHANGE, rows).map_err(io::Error::other)
    }

    fn takes_znodes(&self) -> bool {
        true
    }

    fn znodes(&mut self, znodes: &[ZnodeRow]) -> io::Result<()> {
        self.insert("znode", ZNODE, znodes.iter())
            .map_err(io::Error::other)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.connection.execute_batch(INDEXES).map_err(io::Error::other)?;
        let closed = self.connection.close();
        closed.map_err(|(_, error)| io::Error::other(error))
    }
}
