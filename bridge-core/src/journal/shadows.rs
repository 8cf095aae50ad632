//! The table of what the digest of the server's tree needs of each znode.
//!
//! A transaction changes a row or two of it. The rows that were used last are held in memory, so that a znode that
//! changes often is looked for once. Changed rows wait, and are written together in the order of their keys: each page
//! is changed once, while it and the pages above it are still in SQLite's cache. Their keys are hashes, so that the rows
//! of a batch are all over a table that is much larger than that cache.
//!
//! Invariants:
//!
//! * A row that waits or is held in memory is that of the file with the open batch. After a rollback there is none.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension};

use super::rows::Writing;
use crate::committed::{RAW_STAT_BYTES, ShadowKey, ShadowNode, decode_raw_stat, encode_raw_stat};

/// Rows held in memory, of about 150 bytes each.
const RECENT: usize = 8192;

/// Rows that wait to be written. Each is on a page of its own: with those of the image, twice as many would not fit into
/// the default page cache.
const WAITING_ROWS: usize = 2048;

/// In a table without other indexes SQLite replaces a row in one step, where `UPDATE` takes several.
static STORED: LazyLock<Writing> = LazyLock::new(|| Writing::new("REPLACE INTO shadow(path, crc, stat)", 3));

/// The table, as the one writer sees it.
pub(super) struct Shadows {
    /// `None` for a znode that has no row.
    recent: LruCache<ShadowKey, Option<ShadowNode>>,
    waiting: BTreeMap<ShadowKey, ShadowNode>,
}

impl Default for Shadows {
    fn default() -> Shadows {
        Shadows {
            recent: LruCache::new(RECENT),
            waiting: BTreeMap::new(),
        }
    }
}

impl Shadows {
    /// The row of a znode.
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        key: &ShadowKey,
    ) -> rusqlite::Result<Option<ShadowNode>> {
        if let Some(known) = self.recent.get(key) {
            return Ok(*known);
        }
        if let Some(waiting) = self.waiting.get(key) {
            return Ok(Some(*waiting));
        }
        let found = connection
            .prepare_cached("SELECT crc, stat FROM shadow WHERE path = ?1")?
            .query_row([key.0.as_slice()], |row| {
                let stat: [u8; RAW_STAT_BYTES] = row.get(1)?;
                let stat = decode_raw_stat(&stat).ok_or(rusqlite::Error::InvalidQuery)?;
                Ok(ShadowNode {
                    crc: row.get(0)?,
                    stat,
                })
            })
            .optional()?;
        self.recent.insert(*key, found);
        Ok(found)
    }

    /// Stores the row of a znode, or removes it.
    pub(super) fn store(
        &mut self,
        connection: &Connection,
        key: &ShadowKey,
        node: Option<&ShadowNode>,
    ) -> rusqlite::Result<()> {
        self.recent.insert(*key, node.copied());
        match node {
            Some(node) => {
                self.waiting.insert(*key, *node);
                match self.waiting.len() < WAITING_ROWS {
                    true => Ok(()),
                    false => self.write(connection),
                }
            }
            None => {
                self.waiting.remove(key);
                let mut delete = connection.prepare_cached("DELETE FROM shadow WHERE path = ?1")?;
                delete.execute([key.0.as_slice()]).map(drop)
            }
        }
    }

    /// Writes the rows that wait. Must be called before anything else reads the table, and at the end of a batch.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let rows: Vec<(ShadowKey, ShadowNode)> = std::mem::take(&mut self.waiting).into_iter().collect();
        STORED.write(connection, &rows, |(key, node), to| {
            to.put(key.0.as_slice())?;
            to.put(node.crc)?;
            to.put(encode_raw_stat(&node.stat).as_slice())
        })
    }

    /// Removes all rows.
    pub(super) fn clear(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.forget();
        connection
            .prepare_cached("DELETE FROM shadow")?
            .execute([])
            .map(drop)
    }

    /// Drops all rows from memory, also those that wait to be written.
    pub(super) fn forget(&mut self) {
        *self = Shadows::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committed::RawStat;

    fn node(version: i32) -> ShadowNode {
        ShadowNode {
            crc: 7,
            stat: RawStat {
                version,
                ..RawStat::default()
            },
        }
    }

    fn table() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let schema = "CREATE TABLE shadow(path BLOB PRIMARY KEY, crc INTEGER NOT NULL, stat BLOB NOT NULL)
            STRICT, WITHOUT ROWID";
        connection.execute_batch(schema).unwrap();
        connection
    }

    #[test]
    fn more_rows_than_are_held_are_all_found_as_they_were_stored_last() {
        let (connection, mut shadows) = (table(), Shadows::default());
        let keys: Vec<_> = (0..RECENT + 1_000)
            .map(|at| ShadowKey::of(&at.to_string()))
            .collect();
        for version in 1..=2 {
            for key in &keys {
                shadows.store(&connection, key, Some(&node(version))).unwrap();
            }
        }
        shadows.store(&connection, &keys[5], None).unwrap();
        for (at, key) in keys.iter().enumerate() {
            let expected = (at != 5).then(|| node(2));
            assert_eq!(shadows.find(&connection, key).unwrap(), expected, "{at}");
        }
        shadows.write(&connection).unwrap();
        let count: i64 = connection
            .query_row("SELECT count(*) FROM shadow WHERE crc = 7", [], |row| row.get(0))
            .unwrap();
        assert_eq!(usize::try_from(count).unwrap(), keys.len() - 1);
        shadows.clear(&connection).unwrap();
        assert_eq!(shadows.find(&connection, &keys[0]).unwrap(), None);
    }

    #[test]
    fn a_row_that_waits_is_found_after_more_lookups_than_memory_holds() {
        let (connection, mut shadows) = (table(), Shadows::default());
        let waits = ShadowKey::of("/waits");
        shadows.store(&connection, &waits, Some(&node(1))).unwrap();
        for at in 0..RECENT + 1_000 {
            let key = ShadowKey::of(&at.to_string());
            assert_eq!(shadows.find(&connection, &key).unwrap(), None, "{at}");
        }
        assert_eq!(shadows.find(&connection, &waits).unwrap(), Some(node(1)));
    }

    /// A table that keeps each write of a row, too, in their order.
    fn watched_table() -> Connection {
        let connection = table();
        let watch = "CREATE TABLE written(path BLOB NOT NULL);
            CREATE TRIGGER watch AFTER INSERT ON shadow BEGIN INSERT INTO written(path) VALUES (new.path); END";
        connection.execute_batch(watch).unwrap();
        connection
    }

    fn written(connection: &Connection) -> Vec<Vec<u8>> {
        let mut statement = connection
            .prepare("SELECT path FROM written ORDER BY rowid")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn the_rows_of_a_batch_are_written_once_each_in_the_order_of_their_keys() {
        let (connection, mut shadows) = (watched_table(), Shadows::default());
        let keys: Vec<_> = (0..WAITING_ROWS - 1)
            .map(|at| ShadowKey::of(&at.to_string()))
            .collect();
        for version in 1..=3 {
            for key in &keys {
                shadows.find(&connection, key).unwrap();
                shadows.store(&connection, key, Some(&node(version))).unwrap();
            }
        }
        assert_eq!(
            written(&connection),
            [[0_u8; 0]; 0],
            "before the end of the batch"
        );
        shadows.store(&connection, &keys[0], None).unwrap();
        shadows.write(&connection).unwrap();
        let mut expected: Vec<_> = keys[1..].iter().map(|key| key.0.to_vec()).collect();
        expected.sort();
        assert_eq!(written(&connection), expected);
        shadows.write(&connection).unwrap();
        assert_eq!(written(&connection).len(), expected.len());
    }

    #[test]
    fn a_batch_of_many_rows_is_written_before_its_end() {
        let (connection, mut shadows) = (watched_table(), Shadows::default());
        for at in 0..WAITING_ROWS {
            let key = ShadowKey::of(&at.to_string());
            shadows.store(&connection, &key, Some(&node(1))).unwrap();
        }
        assert_eq!(written(&connection).len(), WAITING_ROWS);
        assert!(shadows.waiting.is_empty());
    }

    #[test]
    fn a_row_that_waits_is_found_and_nothing_is_after_a_rollback() {
        let (connection, mut shadows) = (table(), Shadows::default());
        let (known, new) = (ShadowKey::of("/a"), ShadowKey::of("/b"));
        shadows.store(&connection, &known, Some(&node(1))).unwrap();
        shadows.write(&connection).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        shadows.store(&connection, &known, Some(&node(2))).unwrap();
        shadows.store(&connection, &new, Some(&node(1))).unwrap();
        assert_eq!(shadows.find(&connection, &known).unwrap(), Some(node(2)));
        assert_eq!(shadows.find(&connection, &new).unwrap(), Some(node(1)));
        connection.execute_batch("ROLLBACK").unwrap();
        shadows.forget();
        assert_eq!(shadows.find(&connection, &known).unwrap(), Some(node(1)));
        assert_eq!(shadows.find(&connection, &new).unwrap(), None);
    }
}
