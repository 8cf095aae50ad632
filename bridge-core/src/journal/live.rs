//! How far capture is known to have been live, in time.
//!
//! A record says when it was captured, and a quiet tree has none. So the writer also stores the last moment at which
//! capture was live, every ten seconds and at the end: after a restart the `gap_begin` names it, and a question about a
//! moment after it has no certain answer.

use rusqlite::{Connection, OptionalExtension};

use super::contract::JournalWriter;
use super::error::JournalError;
use super::read::Reader;
use super::writer::Journal;
use crate::number::Seq;
use crate::record::{GapReason, Op, Timestamp};

/// The key in `meta`. Journals of earlier versions have no such row.
const LIVE: &str = "live";

/// Records before the begin of a gap that are looked at for the time of a capture.
const LOOK_BACK: u32 = 10_000;

/// The last moment at which capture was live.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LiveUntil {
    known: Option<Timestamp>,
    /// When the last batch was committed: what was captured after that is lost if the open one is rolled back.
    committed: Option<Timestamp>,
    stored: Option<Timestamp>,
}

impl LiveUntil {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<LiveUntil> {
        let stored = stored(connection)?;
        Ok(LiveUntil {
            known: stored,
            committed: stored,
            stored,
        })
    }

    pub(super) fn known(self) -> Option<Timestamp> {
        self.known
    }

    pub(super) fn committed(&mut self) {
        self.committed = self.known;
    }

    pub(super) fn rolled_back(&mut self) {
        self.known = self.committed;
    }

    /// Takes the moment, also if the clock was put back: then the times of records go back, too.
    pub(super) fn set(&mut self, now: Timestamp) {
        self.known = Some(now);
    }
}

/// The `since` of a gap.
pub(super) fn begin_of_gap(reason: GapReason, live: Option<Timestamp>) -> Option<Timestamp> {
    live.filter(|_| reason.begins_where_live_ended())
}

fn stored(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let stored: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([LIVE], |row| row.get(0))
        .optional()?;
    Ok(stored.map(Timestamp))
}

impl Journal {
    pub(super) fn write_live(&mut self) -> Result<(), JournalError> {
        let LiveUntil { known, stored, .. } = self.live;
        let Some(now) = known.filter(|_| known != stored) else {
            return Ok(());
        };
        let written = self.write("storing how far capture is live", |journal| {
            journal
                .connection
                .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?
                .execute((LIVE, now.0))
                .map(drop)
        });
        match written.and_then(|()| self.commit()) {
            Ok(_) => {
                self.live.stored = known;
                Ok(())
            }
            Err(error) => {
                self.rollback()?;
                Err(error)
            }
        }
    }
}

impl Reader {
    /// The last moment, by the bridge's clock, at which capture is known to have been live; `None` if the journal does
    /// not say it. While a bridge captures it is some seconds ago.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn live_until(&mut self) -> Result<Option<Timestamp>, JournalError> {
        self.within("reading how far capture was live", stored)
    }

    /// When the last record before another one was captured, heartbeats left out: they are written without a connection,
    /// too. `None` if none is kept, or none is near.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn captured_before(&mut self, seq: Seq) -> Result<Option<Timestamp>, JournalError> {
        let heartbeat = super::row::op_number(Op::Heartbeat);
        self.within("reading the time of a record", |connection| {
            let sql = "SELECT captured FROM (SELECT seq, op, captured FROM record WHERE seq < ?1
                ORDER BY seq DESC LIMIT ?3) WHERE op <> ?2 ORDER BY seq DESC LIMIT 1";
            let found: Option<i64> = connection
                .prepare_cached(sql)?
                .query_row((seq.0.cast_signed(), heartbeat, LOOK_BACK), |row| row.get(0))
                .optional()?;
            Ok(found.map(Timestamp))
        })
    }
}
