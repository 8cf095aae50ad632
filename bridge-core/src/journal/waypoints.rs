//! Waypoints: every 32nd record of a path, in an index by path. From one of them a walk from record to record reaches a
//! moment of a long history in few steps.
//!
//! ```text
//! newest ─▶ … ─▶ waypoint ─▶ … ─▶ waypoint ─▶ … ─▶ oldest       records of one path, each naming the one before it
//!                    ▲                  │
//!               enter here         a moment
//! ```
//!
//! Invariants:
//!
//! * A waypoint is a record of its path. It has no meaning beyond that: an answer is the same without any.
//! * Two neighbouring waypoints have fewer than [`EVERY`] records of the path between them. A record that goes into a later
//!   one ([`super::folding`]) passes its waypoint on to it; retention removes waypoints with their records.
//! * The part of a history that an older format has written has none. Nothing adds them later.

use rusqlite::Connection;

use super::error::JournalError;
use super::image_reader::place_of;
use super::read::Reader;
use crate::number::Seq;
use crate::path::ZnodePath;

/// Records of a path from one waypoint to the next: the longest walk. Few in tests, so that their short histories have
/// some.
pub(super) const EVERY: u8 = if cfg!(test) { 4 } else { 32 };

/// Counts records of one path from waypoint to waypoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaypointSteps(u8);

impl WaypointSteps {
    /// From the column of the image. A number that no writer stores is damage that only moves a waypoint.
    pub(super) fn of_column(number: Option<i64>) -> WaypointSteps {
        let number = number.and_then(|number| u8::try_from(number).ok());
        WaypointSteps(number.filter(|number| *number < EVERY).unwrap_or_default())
    }

    /// The column of the image; null where it takes no byte.
    pub(super) fn column(self) -> Option<u8> {
        (self.0 > 0).then_some(self.0)
    }

    /// Counts the next record. Returns `true` if it is a waypoint.
    pub(super) fn count(&mut self) -> bool {
        self.0 += 1;
        let is_waypoint = self.0 == EVERY;
        if is_waypoint {
            self.0 = 0;
        }
        is_waypoint
    }
}

/// Stores a waypoint.
pub(super) fn insert(connection: &Connection, seq: Seq, path: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO waypoint(seq, path) VALUES (?1, ?2)")?
        .execute((seq.0.cast_signed(), path))
        .map(drop)
}

/// A record went into a later one of its path.
pub(super) fn pass_on(connection: &Connection, first: Seq, then: Seq) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE OR REPLACE waypoint SET seq = ?2 WHERE seq = ?1")?
        .execute((first.0.cast_signed(), then.0.cast_signed()))
        .map(drop)
}

/// Removes the waypoints up to a record.
pub(super) fn remove_until(connection: &Connection, last: Seq) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM waypoint WHERE seq <= ?1")?
        .execute([last.0.cast_signed()])
        .map(drop)
}

impl Reader {
    /// The waypoints of a path after a record, the oldest first, at most `limit`. None is there for a short history, and
    /// for what an older format has written. Callers must check that a record is still one of the path: the file may be
    /// damaged, and the record may have gone into a later one since.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn waypoints(
        &mut self,
        path: &ZnodePath,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Seq>, JournalError> {
        self.within("looking for waypoints of a path", |connection| {
            let Some(place) = place_of(connection, path)? else {
                return Ok(Vec::new());
            };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            connection
                .prepare_cached(
                    "SELECT seq FROM waypoint WHERE path = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                )?
                .query_map((place.id, after.0.cast_signed(), limit), |row| {
                    Ok(Seq(row.get::<_, i64>(0)?.cast_unsigned()))
                })?
                .collect()
        })
    }
}
