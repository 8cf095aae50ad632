//! How far a source has taken the history: one row, which moves in the transaction of the records. With it move the
//! table of the znodes of which the digest of the server's tree is computed, and the one of the ephemeral znodes that are
//! not captured.

use rusqlite::{Connection, OptionalExtension};

use crate::committed::HistoryPosition;
use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;

/// The row of `meta` that says that the table of ephemeral znodes has all of them.
const HAS_UNCAPTURED: &str = "uncaptured";

/// The stored position.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Option<HistoryPosition>> {
    connection
        .prepare_cached(
            "SELECT zxid, payload_crc, digest, epoch, scope,
                EXISTS (SELECT 1 FROM meta WHERE key = 'other_charset') FROM position",
        )?
        .query_row([], |row| {
            Ok(HistoryPosition {
                zxid: Zxid(row.get::<_, i64>(0)?.cast_unsigned()),
                payload_crc: row.get(1)?,
                digest: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
                epoch: row.get(3)?,
                scope: row.get::<_, i64>(4)?.cast_unsigned(),
                is_of_other_charset: row.get(5)?,
            })
        })
        .optional()
}

/// Stores it, or that there is none: then the tables say nothing either.
pub(super) fn store(connection: &Connection, position: Option<&HistoryPosition>) -> rusqlite::Result<()> {
    let Some(position) = position else {
        connection.prepare_cached("DELETE FROM position")?.execute([])?;
        connection.execute("DELETE FROM uncaptured", [])?;
        connection.execute("DELETE FROM meta WHERE key = ?1", [HAS_UNCAPTURED])?;
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
    // A row of its own, which a journal of earlier versions lacks and few have.
    let sql = match position.is_of_other_charset {
        true => "INSERT OR IGNORE INTO meta(key, value) VALUES ('other_charset', 1)",
        false => "DELETE FROM meta WHERE key = 'other_charset'",
    };
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// The ephemeral znodes of a session that are not captured; `None` if the table does not have those of all sessions.
pub(super) fn uncaptured_of(
    connection: &Connection,
    session: SessionId,
) -> rusqlite::Result<Option<Vec<ZnodePath>>> {
    let has_all: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM meta WHERE key = ?1)")?
        .query_row([HAS_UNCAPTURED], |row| row.get(0))?;
    if !has_all {
        return Ok(None);
    }
    let mut statement =
        connection.prepare_cached("SELECT path FROM uncaptured WHERE session = ?1 ORDER BY path")?;
    let rows = statement.query_map([session.0.cast_signed()], |row| {
        let path: String = row.get(0)?;
        ZnodePath::parse(&path).map_err(|_| rusqlite::Error::InvalidQuery)
    })?;
    rows.collect::<rusqlite::Result<_>>().map(Some)
}

/// Stores an ephemeral znode that is not captured, or removes it.
pub(super) fn set_uncaptured(
    connection: &Connection,
    path: &ZnodePath,
    session: Option<SessionId>,
) -> rusqlite::Result<()> {
    let Some(session) = session else {
        let mut delete = connection.prepare_cached("DELETE FROM uncaptured WHERE path = ?1")?;
        return delete.execute([path.as_str()]).map(drop);
    };
    connection
        .prepare_cached("REPLACE INTO uncaptured(path, session) VALUES (?1, ?2)")?
        .execute((path.as_str(), session.0.cast_signed()))
        .map(drop)
}

/// Removes all of them. The table has all that are stored from now on.
pub(super) fn clear_uncaptured(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM uncaptured", [])?;
    connection
        .execute(
            "INSERT OR IGNORE INTO meta(key, value) VALUES (?1, 1)",
            [HAS_UNCAPTURED],
        )
        .map(drop)
}
