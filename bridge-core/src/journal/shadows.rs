//! The table of what the digest of the server's tree needs of each znode.
//!
//! A transaction changes a row or two of it. The rows that were used last are held in memory, so that a znode that
//! changes often is looked for once, and those of a batch are written several with one statement.
//!
//! Invariants:
//!
//! * A row in memory is that of the file with the open batch. After a rollback none is held.
//! * A row that waits to be written is found in memory: it is written before so many others were used since that memory
//!   could have dropped it.

use std::sync::LazyLock;

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension};

use super::rows::{AT_ONCE, Writing};
use crate::committed::{RAW_STAT_BYTES, ShadowKey, ShadowNode, decode_raw_stat, encode_raw_stat};

/// Rows held in memory, of about 150 bytes each.
const RECENT: usize = 8192;

/// In a table without other indexes SQLite replaces a row in one step, where `UPDATE` takes several.
static STORED: LazyLock<Writing> = LazyLock::new(|| Writing::new("REPLACE INTO shadow(path, crc, stat)", 3));

/// The table, as the one writer sees it.
pub(super) struct Shadows {
    /// `None` for a znode that has no row.
    recent: LruCache<ShadowKey, Option<ShadowNode>>,
    waiting: Vec<(ShadowKey, ShadowNode)>,
    /// Rows read from the file since the oldest one waits.
    read: usize,
}

impl Default for Shadows {
    fn default() -> Shadows {
        Shadows {
            recent: LruCache::new(RECENT),
            waiting: Vec::with_capacity(AT_ONCE),
            read: 0,
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
        if self.read + self.waiting.len() + 1 >= RECENT {
            self.write(connection)?;
        }
        self.read += 1;
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
                self.waiting.push((*key, *node));
                match self.waiting.len() < AT_ONCE {
                    true => Ok(()),
                    false => self.write(connection),
                }
            }
            None => {
                self.write(connection)?;
                let mut delete = connection.prepare_cached("DELETE FROM shadow WHERE path = ?1")?;
                delete.execute([key.0.as_slice()]).map(drop)
            }
        }
    }

    /// Writes the rows that wait. Must be called before anything else reads the table, and at the end of a batch.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        STORED.write(connection, &self.waiting, |(key, node), to| {
            to.put(key.0.as_slice())?;
            to.put(node.crc)?;
            to.put(encode_raw_stat(&node.stat).as_slice())
        })?;
        self.waiting.clear();
        self.read = 0;
        Ok(())
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

    #[test]
    fn lookups_do_not_write_the_rows_that_wait_one_by_one() {
        let (connection, mut shadows) = (table(), Shadows::default());
        for at in 0..AT_ONCE - 1 {
            let key = ShadowKey::of(&at.to_string());
            assert_eq!(shadows.find(&connection, &key).unwrap(), None, "{at}");
            shadows.store(&connection, &key, Some(&node(1))).unwrap();
        }
        assert_eq!(connection.changes(), 0, "rows written before {AT_ONCE} waited");
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
