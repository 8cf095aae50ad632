//! How far a source has taken the history: one row, which moves in the transaction of the records.

use rusqlite::{Connection, OptionalExtension};

use crate::committed::HistoryPosition;
use crate::number::Zxid;

/// The stored position.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Option<HistoryPosition>> {
    connection
        .prepare_cached("SELECT zxid, payload_crc, digest, epoch, scope FROM position")?
        .query_row([], |row| {
            Ok(HistoryPosition {
                zxid: Zxid(row.get::<_, i64>(0)?.cast_unsigned()),
                payload_crc: row.get(1)?,
                digest: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
                epoch: row.get(3)?,
                scope: row.get::<_, i64>(4)?.cast_unsigned(),
            })
        })
        .optional()
}

/// Stores it, or that there is none.
pub(super) fn store(connection: &Connection, position: Option<&HistoryPosition>) -> rusqlite::Result<()> {
    let Some(position) = position else {
        connection.prepare_cached("DELETE FROM position")?.execute([])?;
        return Ok(());
    };
    connection
        .prepare_cached(
            "REPLACE INTO position(id, zxid, payload_crc, digest, epoch, scope) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            position.zxid.0.cast_signed(),
            position.payload_crc,
            position.digest.map(u64::cast_signed),
            position.epoch,
            position.scope.cast_signed(),
        ))?;
    Ok(())
}
