//! Buffers rows and writes several with one statement, because a statement costs about as much as a row.
//!
//! Callers must write buffered rows before their table is read, and at the latest with the batch.

use rusqlite::{Connection, Statement, ToSql};

/// Rows in one statement. More of them make the batch little cheaper, and statements that take more memory.
pub(super) const AT_ONCE: usize = 16;

/// Rows that wait to be written together: statements are found by their text, which is long, and so seldom.
pub(super) const WAITING: usize = 4 * AT_ONCE;

/// The statements that write one row of a table, and [`AT_ONCE`] of them.
pub(super) struct Writing {
    one: String,
    many: String,
}

impl Writing {
    /// `into` is all of it before `VALUES`.
    pub(super) fn new(into: &str, columns: usize) -> Writing {
        let row = format!("({})", vec!["?"; columns].join(","));
        Writing {
            one: format!("{into} VALUES {row}"),
            many: format!("{into} VALUES {}", vec![row; AT_ONCE].join(",")),
        }
    }

    /// Writes rows in their order; `bind` gives the columns of one.
    pub(super) fn write<T>(
        &self,
        connection: &Connection,
        rows: &[T],
        bind: impl Fn(&T, &mut Columns<'_, '_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (together, rest) = rows.split_at(rows.len() - rows.len() % AT_ONCE);
        for (sql, rows, at_once) in [(&self.many, together, AT_ONCE), (&self.one, rest, 1)] {
            if rows.is_empty() {
                continue;
            }
            let mut statement = connection.prepare_cached(sql)?;
            for rows in rows.chunks(at_once) {
                let mut columns = Columns {
                    statement: &mut statement,
                    bound: 0,
                };
                for row in rows {
                    bind(row, &mut columns)?;
                }
                statement.raw_execute()?;
            }
        }
        Ok(())
    }
}

/// The columns of a statement, from the first on.
pub(super) struct Columns<'a, 'c> {
    statement: &'a mut Statement<'c>,
    bound: usize,
}

impl Columns<'_, '_> {
    /// Gives the next column its value.
    pub(super) fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}
