//! The small tables of a journal: roots with their progress, origins, single numbers.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::row::mode_number;
use crate::image_txn::{OpenRun, Progress};
use crate::number::Zxid;
use crate::path::{Hasher, ZnodePath};
use crate::record::{GapReason, Mode};

/// The roots in use; as many as the configuration has.
#[derive(Default)]
pub(super) struct Roots {
    numbers: HashMap<ZnodePath, i64, Hasher>,
    /// Moves with most records, and is written with the batch.
    unwritten: HashMap<i64, Progress>,
}

impl Roots {
    /// The number of a root, which gets one with its first record.
    pub(super) fn id(
        &mut self,
        connection: &Connection,
        root: Option<&ZnodePath>,
    ) -> rusqlite::Result<Option<i64>> {
        let Some(root) = root else { return Ok(None) };
        if let Some(id) = self.numbers.get(root) {
            return Ok(Some(*id));
        }
        let known = connection
            .query_row("SELECT id FROM root WHERE path = ?1", [root.as_str()], |row| {
                row.get(0)
            })
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => connection.query_row(
                "INSERT INTO root(path, reported, listed) VALUES (?1, 0, 0) RETURNING id",
                [root.as_str()],
                |row| row.get(0),
            )?,
        };
        self.numbers.insert(root.clone(), id);
        Ok(Some(id))
    }

    /// Takes in how far a root has come, under its number.
    pub(super) fn set_progress(&mut self, root: i64, progress: &Progress) {
        self.unwritten.insert(root, progress.clone());
    }

    /// Writes the buffered progress. Must be called before it is read, and at the end of a batch.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for (root, progress) in self.unwritten.drain() {
            set_progress(connection, root, &progress)?;
        }
        Ok(())
    }
}

/// The number of the present mode and server.
#[derive(Default)]
pub(super) struct Origins(Option<i64>);

impl Origins {
    /// The number has to be looked up again.
    pub(super) fn changed(&mut self) {
        self.0 = None;
    }

    /// The number of a mode and server.
    pub(super) fn id(
        &mut self,
        connection: &Connection,
        mode: Mode,
        server: Option<&Arc<str>>,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.0 {
            return Ok(id);
        }
        let wanted = (mode_number(mode), server.map(|server| &**server));
        let known = connection
            .query_row(
                "SELECT id FROM origin WHERE mode = ?1 AND server IS ?2",
                wanted,
                |row| row.get(0),
            )
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => connection.query_row(
                "INSERT INTO origin(mode, server) VALUES (?1, ?2) RETURNING id",
                wanted,
                |row| row.get(0),
            )?,
        };
        self.0 = Some(id);
        Ok(id)
    }
}

/// The progress of a root; the default for an unknown one.
pub(super) fn progress(connection: &Connection, root: &ZnodePath) -> rusqlite::Result<Progress> {
    let known = connection
        .prepare_cached("SELECT reported, listed, run, run_index FROM root WHERE path = ?1")?
        .query_row([root.as_str()], |row| {
            let id: Option<[u8; 16]> = row.get(2)?;
            let index: Option<i64> = row.get(3)?;
            Ok(Progress {
                reported: Zxid(row.get::<_, i64>(0)?.cast_unsigned()),
                listed: row.get(1)?,
                run: id.zip(index).map(|(id, index)| OpenRun {
                    id: Uuid::from_bytes(id),
                    index: index.cast_unsigned(),
                }),
            })
        })
        .optional()?;
    Ok(known.unwrap_or_default())
}

/// The root with records that covers a path.
pub(super) fn root_above(connection: &Connection, path: &ZnodePath) -> rusqlite::Result<Option<ZnodePath>> {
    let mut known = connection.prepare_cached("SELECT 1 FROM root WHERE path = ?1")?;
    for above in std::iter::once(path.clone()).chain(path.ancestors()) {
        if known.exists([above.as_str()])? {
            return Ok(Some(above));
        }
    }
    Ok(None)
}

fn set_progress(connection: &Connection, root: i64, progress: &Progress) -> rusqlite::Result<()> {
    let run = progress.run.as_ref();
    connection
        .prepare_cached("UPDATE root SET reported = ?2, listed = ?3, run = ?4, run_index = ?5 WHERE id = ?1")?
        .execute((
            root,
            progress.reported.0.cast_signed(),
            progress.listed,
            run.map(|run| run.id.as_bytes().as_slice()),
            run.map(|run| run.index.cast_signed()),
        ))?;
    Ok(())
}

/// A number that the file has from its creation.
pub(super) fn number(connection: &Connection, key: &str) -> rusqlite::Result<u64> {
    let stored: i64 = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))?;
    Ok(stored.cast_unsigned())
}

/// Stores it.
pub(super) fn set_number(connection: &Connection, key: &str, number: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1")?
        .execute((key, number.cast_signed()))?;
    Ok(())
}

/// The key in `meta` of the gap that is due. Few journals have such a row, and only for a moment.
const DUE_GAP: &str = "due_gap";

/// Why the next comparison is a gap of an unknown begin.
pub(super) fn due_gap(connection: &Connection) -> rusqlite::Result<Option<GapReason>> {
    let stored: Option<String> = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([DUE_GAP], |row| row.get(0))
        .optional()?;
    let reason = |word: String| {
        serde_json::from_value(serde_json::Value::String(word)).map_err(|_| rusqlite::Error::InvalidQuery)
    };
    stored.map(reason).transpose()
}

/// Stores it, or that nothing is due.
pub(super) fn set_due_gap(connection: &Connection, reason: Option<GapReason>) -> rusqlite::Result<()> {
    match reason {
        Some(reason) => connection
            .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?
            .execute((DUE_GAP, reason.as_str())),
        None => connection
            .prepare_cached("DELETE FROM meta WHERE key = ?1")?
            .execute([DUE_GAP]),
    }
    .map(drop)
}
