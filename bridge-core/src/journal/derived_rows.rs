//! The rows of a derivation: those of the writer, in its transaction, and those of a reader.
//!
//! A derivation looks up a few rows for each change, mostly those that it has used just before. These are held in memory.
//! The rows of a batch are written together, each once and in the order of their keys, however often they changed in it.
//!
//! Invariants:
//!
//! * A row in memory is that of the file with the open batch. After a rollback none is held.
//! * A row that waits to be written is found where it waits, also by a list of rows that it could be among.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension};

use super::error::{JournalError, JournalErrorKind};
use super::read::Reader;
use super::rows::Writing;
use crate::derive::{DerivedRow, DerivedState};

const DOING_READ: &str = "reading the state of services";
const DOING_WRITE: &str = "writing the state of services";

const FROM: &str = "SELECT key, row FROM derived WHERE key >= ?1 ORDER BY key";
const AFTER: &str = "SELECT key, row FROM derived WHERE key > ?1 ORDER BY key";

/// In a table without other indexes SQLite replaces a row in one step, where `UPDATE` takes several.
static STORED: LazyLock<Writing> = LazyLock::new(|| Writing::new("REPLACE INTO derived(key, row)", 2));

/// More than the header of a row takes. Its content is counted twice: a page that splits leaves two half empty ones.
const ROW_BYTES: u64 = 32;

/// Rows held in memory: of the instances of a few thousand changes.
const RECENT: usize = 8192;

/// A longer row is not held: with their number this bounds the memory, to 8 MiB.
const HELD_BYTES_MAX: usize = 1024;

/// Bytes of rows that may wait; beyond that they are written before the end of the batch.
const WAITING_BYTES_MAX: usize = 1 << 20;

type Bytes = Arc<[u8]>;

/// The table, as the one writer sees it.
pub(super) struct DerivedTable {
    /// `None` for a key that has no row.
    recent: LruCache<Bytes, Option<Bytes>>,
    /// Rows of the open batch that are not in the file yet; `None` for one that is to be removed.
    waiting: BTreeMap<Bytes, Option<Bytes>>,
    /// Theirs, or more.
    waiting_bytes: usize,
}

impl Default for DerivedTable {
    fn default() -> DerivedTable {
        DerivedTable {
            recent: LruCache::new(RECENT),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
        }
    }
}

impl DerivedTable {
    /// Writes the rows that wait. Must be called before anything else reads the table, and at the end of a batch.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut stored = Vec::with_capacity(self.waiting.len());
        for (key, row) in &self.waiting {
            match row {
                Some(row) => stored.push((key, row)),
                None => remove(connection, key)?,
            }
        }
        STORED.write(connection, &stored, |(key, row), to| {
            to.put(&key[..])?;
            to.put(&row[..])
        })?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Drops all rows from memory, also those that wait to be written.
    pub(super) fn forget(&mut self) {
        *self = DerivedTable::default();
    }

    fn get(&mut self, connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Bytes>> {
        if let Some(known) = self.recent.get(key) {
            return Ok(known.clone());
        }
        if let Some(waiting) = self.waiting.get(key) {
            return Ok(waiting.clone());
        }
        let found: Option<Bytes> = get(connection, key)?.map(Bytes::from);
        self.hold(key.into(), found.clone());
        Ok(found)
    }

    fn put(&mut self, connection: &Connection, key: &[u8], row: Option<&[u8]>) -> rusqlite::Result<()> {
        let (key, row) = (Bytes::from(key), row.map(Bytes::from));
        self.waiting_bytes += key.len() + row.as_ref().map_or(0, |row| row.len());
        self.hold(Arc::clone(&key), row.clone());
        self.waiting.insert(key, row);
        match self.waiting_bytes <= WAITING_BYTES_MAX {
            true => Ok(()),
            false => self.write(connection),
        }
    }

    fn scan(
        &self,
        connection: &Connection,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> rusqlite::Result<Vec<DerivedRow>> {
        scan(connection, &self.waiting, prefix, after, limit)
    }

    fn hold(&mut self, key: Bytes, row: Option<Bytes>) {
        match row.as_ref().map_or(0, |row| row.len()) + key.len() <= HELD_BYTES_MAX {
            true => drop(self.recent.insert(key, row)),
            false => drop(self.recent.remove(&key)),
        }
    }
}

fn get(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT row FROM derived WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn remove(connection: &Connection, key: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM derived WHERE key = ?1")?
        .execute([key])
        .map(drop)
}

/// The rows of the file, with those that wait in their places.
fn scan(
    connection: &Connection,
    waiting: &BTreeMap<Bytes, Option<Bytes>>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> rusqlite::Result<Vec<DerivedRow>> {
    let (sql, from, bound) = match after {
        Some(after) => (AFTER, after, Bound::Excluded(after)),
        None => (FROM, prefix, Bound::Included(prefix)),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([from])?;
    let mut stored = || -> rusqlite::Result<Option<DerivedRow>> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let key: Vec<u8> = row.get(0)?;
        match key.starts_with(prefix) {
            true => Ok(Some((key, row.get(1)?))),
            false => Ok(None),
        }
    };
    let waiting = waiting.range::<[u8], _>((bound, Bound::Unbounded));
    let mut waiting = waiting.take_while(|(key, _)| key.starts_with(prefix)).peekable();
    let mut found = Vec::new();
    let mut next = stored()?;
    while found.len() < limit {
        let key = next.as_ref().map(|(key, _)| &key[..]);
        let is_first = |waiting: &(&Bytes, &Option<Bytes>)| key.is_none_or(|key| waiting.0[..] <= *key);
        match waiting.next_if(is_first) {
            Some((key, row)) => {
                if next.as_ref().is_some_and(|(stored, _)| stored[..] == key[..]) {
                    next = stored()?;
                }
                found.extend(row.as_ref().map(|row| (key.to_vec(), row.to_vec())));
            }
            None => {
                let Some(row) = next.take() else { break };
                found.push(row);
                next = stored()?;
            }
        }
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
    fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, JournalError> {
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
    fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, JournalError> {
        let found = self.0.within(DOING_READ, |connection| get(connection, key))?;
        Ok(found.map(Arc::from))
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
        self.0.within(DOING_READ, |connection| {
            scan(connection, &BTreeMap::new(), prefix, after, limit)
        })
    }
}

#[cfg(test)]
mod tests {
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
            ..DerivedTable::default()
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
                    3 => assert_eq!(
                        txn.get(&key).unwrap().as_deref(),
                        rows.get(&key).map(Vec::as_slice)
                    ),
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
                assert!(table.waiting.is_empty());
                assert_eq!(
                    table.scan(&connection, &[], None, usize::MAX).unwrap(),
                    below(&rows, &[], None, usize::MAX)
                );
            }
        }
    }

    #[test]
    fn a_row_that_changes_many_times_in_a_batch_is_written_once_and_lists_write_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        let schema = "CREATE TABLE derived(key BLOB PRIMARY KEY, row BLOB NOT NULL) STRICT, WITHOUT ROWID";
        connection.execute_batch(schema).unwrap();
        let written = || -> i64 {
            let sql = "SELECT total_changes()";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let mut table = DerivedTable::default();
        for change in 0..50_u8 {
            let mut txn = DerivedTxn::new(&mut table, &connection, Path::new("a.journal"));
            for key in [[1, 1], [1, 2]] {
                txn.put(&key, Some(&[change])).unwrap();
            }
            let all = vec![(vec![1, 1], vec![change]), (vec![1, 2], vec![change])];
            assert_eq!(txn.scan(&[1], None, 10).unwrap(), all);
        }
        assert_eq!(written(), 0);
        table.write(&connection).unwrap();
        assert_eq!(written(), 2);
    }
}
