//! The facts about existing znodes that no Stat has: how long each lasts, and its access control list. `snapshot` records
//! that are made from the image need them.
//!
//! Most znodes of a tree have the same facts as many others. So each content is one row, and a row of the image has its
//! number. Contents that no znode has any more are removed now and then: there are never more than twice those in use,
//! and some.

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension};

use super::code::{FactsCode, encode_facts};
use crate::append::{Change, ChangeKind, NodeFacts};

/// Contents that are held in memory. A few MB where every znode has a list of its own.
const HELD: usize = 4_096;

/// With fewer contents none are removed: to find those in use reads the whole image.
const KEPT_MIN: u64 = 10_000;

/// The contents, as the one writer sees them.
pub(super) struct FactsTable {
    ids: LruCache<Vec<u8>, i64>,
    contents: LruCache<i64, NodeFacts>,
    /// Contents in the table, once they were counted.
    count: Option<u64>,
    /// The count at which those are removed that no znode has.
    full_at: u64,
}

impl Default for FactsTable {
    fn default() -> FactsTable {
        FactsTable {
            ids: LruCache::new(HELD),
            contents: LruCache::new(HELD),
            count: None,
            full_at: KEPT_MIN,
        }
    }
}

impl FactsTable {
    /// The number of facts.
    pub(super) fn id(&mut self, connection: &Connection, facts: &NodeFacts) -> rusqlite::Result<i64> {
        let content = encode_facts(facts);
        if let Some(id) = self.ids.get(&content) {
            return Ok(*id);
        }
        let known = connection
            .prepare_cached("SELECT id FROM fact WHERE content = ?1")?
            .query_row([&content], |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => self.insert(connection, &content)?,
        };
        self.ids.insert(content, id);
        Ok(id)
    }

    fn insert(&mut self, connection: &Connection, content: &[u8]) -> rusqlite::Result<i64> {
        let count = match self.count {
            Some(count) => count,
            None => {
                let count: i64 = connection.query_row("SELECT count(*) FROM fact", [], |row| row.get(0))?;
                self.full_at = self.full_at.max(count.unsigned_abs().saturating_mul(2));
                count.unsigned_abs()
            }
        };
        self.count = Some(count + 1);
        connection
            .prepare_cached("INSERT INTO fact(content) VALUES (?1) RETURNING id")?
            .query_row([content], |row| row.get(0))
    }

    /// The facts of a number.
    pub(super) fn get(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<NodeFacts> {
        if let Some(facts) = self.contents.get(&id) {
            return Ok(facts.clone());
        }
        let facts = facts_of(connection, id)?;
        self.contents.insert(id, facts.clone());
        Ok(facts)
    }

    /// The number for the image after a change of a znode that had another one before.
    pub(super) fn after(
        &mut self,
        connection: &Connection,
        change: &Change,
        before: Option<i64>,
    ) -> rusqlite::Result<Option<i64>> {
        match (&change.kind, &change.facts) {
            (_, Some(facts)) => self.id(connection, facts).map(Some),
            (
                ChangeKind::Created { .. }
                | ChangeKind::CreatedUnread { .. }
                | ChangeKind::Listed { .. }
                | ChangeKind::Deleted { .. },
                None,
            ) => Ok(None),
            (ChangeKind::Updated { .. } | ChangeKind::Restated { .. }, None) => Ok(before),
            (ChangeKind::AclChanged { acl, .. }, None) => before
                .map(|id| {
                    let lifetime = self.get(connection, id)?.lifetime;
                    let acl = acl.clone();
                    self.id(connection, &NodeFacts { lifetime, acl })
                })
                .transpose(),
        }
    }

    /// Whether contents that no znode has are to be removed.
    pub(super) fn is_full(&self) -> bool {
        self.count.is_some_and(|count| count >= self.full_at)
    }

    /// Removes the contents that no row of the image has. All of its rows must be written.
    pub(super) fn remove_unused(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute(
            "DELETE FROM fact WHERE id NOT IN (SELECT facts FROM image WHERE facts IS NOT NULL)",
            [],
        )?;
        *self = FactsTable::default();
        Ok(())
    }
}

/// The facts of a number in the file.
pub(super) fn facts_of(connection: &Connection, id: i64) -> rusqlite::Result<NodeFacts> {
    connection
        .prepare_cached("SELECT content FROM fact WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .map(|FactsCode(facts)| *facts)
}
