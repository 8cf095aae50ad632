//! The rows of a derivation: those of the writer, in its transaction, and those of a reader.
//!
//! A derivation looks up a few rows for each change, mostly those that it has used just before. These are held in memory,
//! and the rows of a batch are written several with one statement.
//!
//! Invariants:
//!
//! * A row in memory is that of the file with the open batch. After a rollback none is held.
//! * A row that waits to be written is found where it waits, and is written before rows are listed that it could be among.

use std::path::Path;
use std::sync::LazyLock;

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension};

use super::error::{JournalError, JournalErrorKind};
use super::read::Reader;
use super::rows::{AT_ONCE, Writing};
use crate::derive::{DerivedRow, DerivedState};

const DOING_READ: &str = "reading the state of services";
const DOING_WRITE: &str = "writing the state of services";

const FROM: &str = "SELECT key, row FROM derived WHERE key >= ?1 ORDER BY key LIMIT ?2";
const AFTER: &str = "SELECT key, row FROM derived WHERE key > ?1 ORDER BY key LIMIT ?2";

/// In a table without other indexes SQLite replaces a row in one step, where `UPDATE` takes several.
static STORED: LazyLock<Writing> = LazyLock::new(|| Writing::new("REPLACE INTO derived(key, row)", 2));

/// More than the header of a row takes. Its content is counted twice: a page that splits leaves two half empty ones.
const ROW_BYTES: u64 = 32;

/// Rows held in memory: of the instances of a few thousand changes.
const RECENT: usize = 8192;

/// A longer row is not held: with their number this bounds the memory, to 8 MiB.
const HELD_BYTES_MAX: usize = 1024;

/// The table, as the one writer sees it.
pub(super) struct DerivedTable {
    /// `None` for a key that has no row.
    recent: LruCache<Box<[u8]>, Option<Box<[u8]>>>,
    waiting: Vec<WaitingRow>,
}

/// A row that waits to be written.
struct WaitingRow {
    key: Box<[u8]>,
    row: Box<[u8]>,
}

impl Default for DerivedTable {
    fn default() -> DerivedTable {
        DerivedTable {
            recent: LruCache::new(RECENT),
            waiting: Vec::new(),
        }
    }
}

impl DerivedTable {
    /// Writes the rows that wait. Must be called before anything else reads the table, and at the end of a batch.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        STORED.write(connection, &self.waiting, |waiting, to| {
            to.put(&*waiting.key)?;
            to.put(&*waiting.row)
        })?;
        self.waiting.clear();
        Ok(())
    }

    /// Drops all rows from memory, also those that wait to be written.
    pub(super) fn forget(&mut self) {
        *self = DerivedTable::default();
    }

    fn get(&mut self, connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
        if let Some(known) = self.recent.get(key) {
            return Ok(known.as_deref().map(<[u8]>::to_vec));
        }
        // A key may wait twice.
        let mut newest_first = self.waiting.iter().rev();
        if let Some(waiting) = newest_first.find(|waiting| *waiting.key == *key) {
            return Ok(Some(waiting.row.to_vec()));
        }
        let found = get(connection, key)?;
        self.hold(key, found.as_deref());
        Ok(found)
    }

    fn put(&mut self, connection: &Connection, key: &[u8], row: Option<&[u8]>) -> rusqlite::Result<()> {
        self.hold(key, row);
        let Some(row) = row else {
            self.write(connection)?;
            let mut remove = connection.prepare_cached("DELETE FROM derived WHERE key = ?1")?;
            return remove.execute([key]).map(drop);
        };
        self.waiting.push(WaitingRow {
            key: key.into(),
            row: row.into(),
        });
        match self.waiting.len() < AT_ONCE {
            true => Ok(()),
            false => self.write(connection),
        }
    }

    fn scan(
        &mut self,
        connection: &Connection,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> rusqlite::Result<Vec<DerivedRow>> {
        if self.waiting.iter().any(|waiting| waiting.key.starts_with(prefix)) {
            self.write(connection)?;
        }
        scan(connection, prefix, after, limit)
    }

    fn hold(&mut self, key: &[u8], row: Option<&[u8]>) {
        match row.map_or(0, <[u8]>::len) + key.len() <= HELD_BYTES_MAX {
            true => drop(self.recent.insert(key.into(), row.map(Box::from))),
            false => drop(self.recent.remove(key)),
        }
    }
}

fn get(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT row FROM derived WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn scan(
    connection: &Connection,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> rusqlite::Result<Vec<DerivedRow>> {
    let (sql, from) = match after {
        Some(after) => (AFTER, after),
        None => (FROM, prefix),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((from, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: Vec<u8> = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        found.push((key, row.get(1)?));
    }
    Ok(found)
}

/// The rows of a derivation in the open transaction.
pub(super) struct DerivedTxn<'a> {
    table: &'a mut DerivedTable,
    connection: &'a Connection,
    file: &'a Path,
    grown: u64,
}

impl<'a> DerivedTxn<'a> {
    pub(super) fn new(
        table: &'a mut DerivedTable,
        connection: &'a Connection,
        file: &'a Path,
    ) -> DerivedTxn<'a> {
        DerivedTxn {
            table,
            connection,
            file,
            grown: 0,
        }
    }

    /// Bytes that the journal has grown by, or more.
    pub(super) fn grown(&self) -> u64 {
        self.grown
    }

    fn fault(&self, doing: &str, error: rusqlite::Error) -> JournalError {
        JournalError::of_sqlite(self.file, doing, error)
    }
}

impl DerivedState for DerivedTxn<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let found = self.table.get(self.connection, key);
        found.map_err(|error| self.fault(DOING_READ, error))
    }

    fn put(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), JournalError> {
        let bytes = key.len() + row.map_or(0, <[u8]>::len);
        self.grown += ROW_BYTES + 2 * bytes as u64;
        let written = self.table.put(self.connection, key, row);
        written.map_err(|error| self.fault(DOING_WRITE, error))
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, JournalError> {
        let found = self.table.scan(self.connection, prefix, after, limit);
        found.map_err(|error| self.fault(DOING_READ, error))
    }
}

impl Reader {
    /// The rows of the derivation, to be read.
    pub fn derived(&mut self) -> DerivedReader<'_> {
        DerivedReader(self)
    }
}

/// The rows of a derivation, on a connection that only reads. Each call is a transaction of its own.
pub struct DerivedReader<'a>(&'a mut Reader);

impl DerivedState for DerivedReader<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.0.within(DOING_READ, |connection| get(connection, key))
    }

    fn put(&mut self, _: &[u8], _: Option<&[u8]>) -> Result<(), JournalError> {
        let message = "a reader was asked to change the state of services, which only the bridge may do";
        Err(JournalError::new(
            JournalErrorKind::Storage,
            self.0.file(),
            message,
        ))
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, JournalError> {
        self.0
            .within(DOING_READ, |connection| scan(connection, prefix, after, limit))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn below(rows: &Rows, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<DerivedRow> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let found = rows.range::<[u8], _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        found.map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// Three kinds of rows, some too long to be held.
    fn any_key(random: &mut StdRng) -> Vec<u8> {
        vec![random.random_range(0..3), random.random_range(0..40)]
    }

    fn any_row(random: &mut StdRng) -> Vec<u8> {
        let length = match random.random_range(0..10) {
            0 => 2 * HELD_BYTES_MAX,
            _ => random.random_range(0..20),
        };
        vec![random.random(); length]
    }

    #[test]
    fn rows_are_those_of_a_map_through_any_batches_and_rollbacks() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let connection = Connection::open_in_memory().unwrap();
        let schema = "CREATE TABLE derived(key BLOB PRIMARY KEY, row BLOB NOT NULL) STRICT, WITHOUT ROWID";
        connection.execute_batch(schema).unwrap();
        // Far fewer than there are keys.
        let mut table = DerivedTable {
            recent: LruCache::new(12),
            waiting: Vec::new(),
        };
        let file = Path::new("a.journal");
        let (mut rows, mut committed) = (Rows::new(), Rows::new());
        for _ in 0..200 {
            connection.execute_batch("BEGIN").unwrap();
            for _ in 0..random.random_range(1..60) {
                let key = any_key(&mut random);
                let mut txn = DerivedTxn::new(&mut table, &connection, file);
                match random.random_range(0..5) {
                    0 | 1 => {
                        let row = any_row(&mut random);
                        txn.put(&key, Some(&row)).unwrap();
                        rows.insert(key, row);
                    }
                    2 => {
                        txn.put(&key, None).unwrap();
                        rows.remove(&key);
                    }
                    3 => assert_eq!(txn.get(&key).unwrap().as_ref(), rows.get(&key)),
                    _ => {
                        let (prefix, limit) = (&key[..1], random.random_range(1..30));
                        let after = random.random_bool(0.5).then_some(&key[..]);
                        let found = txn.scan(prefix, after, limit).unwrap();
                        assert_eq!(found, below(&rows, prefix, after, limit));
                    }
                }
            }
            if random.random_bool(0.3) {
                connection.execute_batch("ROLLBACK").unwrap();
                table.forget();
                rows.clone_from(&committed);
            } else {
                table.write(&connection).unwrap();
                connection.execute_batch("COMMIT").unwrap();
                committed.clone_from(&rows);
                assert_eq!(
                    scan(&connection, &[], None, usize::MAX).unwrap(),
                    below(&rows, &[], None, usize::MAX)
                );
            }
        }
    }
}
