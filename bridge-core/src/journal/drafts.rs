//! The records of the open batch: completed, and not stored yet.
//!
//! *Invariant.* They are written together, with their values, waypoints and ended incarnations, and handed over after
//! that.

use rusqlite::Connection;

use super::ended::{self, EndedIncarnation};
use super::hydrate::Named;
use super::row::{Stored, insert_records, insert_values};
use super::rows::WAITING;
use super::tail_cache::TailCache;
use super::waypoints;
use crate::number::Seq;
use crate::record::Data;

/// A completed append, before it is stored.
pub(super) struct Draft {
    /// The row of the record.
    pub(super) stored: Stored,
    /// The bytes of its detail, until they are written: an event has a kilobyte, and is encoded once.
    pub(super) detail: Option<Vec<u8>>,
    /// The value that it brings, stored under its seq.
    pub(super) brings: Option<Data>,
    /// Whether it is a waypoint of its path.
    pub(super) is_waypoint: bool,
    /// The incarnation that it ends.
    pub(super) ended: Option<EndedIncarnation>,
}

impl Draft {
    /// A record that brings no value and has no part in the history of a path.
    pub(super) fn bare(stored: Stored) -> Draft {
        Draft {
            detail: stored.detail.bytes(),
            stored,
            brings: None,
            is_waypoint: false,
            ended: None,
        }
    }
}

/// Bytes of values that may be buffered; beyond that they are written.
const BYTES_WAITING: usize = 64 << 10;

/// Records of the open batch that wait to be written together.
#[derive(Default)]
pub(super) struct Drafts {
    waiting: Vec<(Draft, Option<Named>)>,
    bytes: usize,
}

impl Drafts {
    /// Takes the next one, with its names where it is to be handed over.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        draft: (Draft, Option<Named>),
        tail_cache: &mut TailCache,
    ) -> rusqlite::Result<()> {
        self.bytes += draft.0.brings.as_ref().map_or(0, |data| data.bytes.len());
        self.waiting.push(draft);
        match self.waiting.len() >= WAITING || self.bytes > BYTES_WAITING {
            true => self.write(connection, tail_cache),
            false => Ok(()),
        }
    }

    /// Writes all that wait, and hands them over.
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        tail_cache: &mut TailCache,
    ) -> rusqlite::Result<()> {
        let brought = self
            .waiting
            .iter()
            .filter_map(|(draft, _)| draft.stored.value.zip(draft.brings.as_ref()));
        let values: Vec<(i64, &Data)> = brought.collect();
        insert_values(connection, &values)?;
        let records = self.waiting.iter().map(|(draft, _)| draft);
        insert_records(
            connection,
            records.map(|draft| (&draft.stored, draft.detail.as_deref())),
        )?;
        for (draft, _) in self.waiting.iter().filter(|(draft, _)| draft.is_waypoint) {
            let path = draft.stored.path.expect("a waypoint is a record of a path");
            waypoints::insert(connection, draft.stored.seq, path)?;
        }
        let ended = self.waiting.iter().map(|(draft, _)| draft);
        let ended: Vec<(Seq, EndedIncarnation)> = ended
            .filter_map(|draft| Some((draft.stored.seq, draft.ended?)))
            .collect();
        ended::insert(connection, &ended)?;
        tail_cache.take(self.waiting.drain(..).map(|(mut draft, named)| {
            draft.detail = None;
            (draft, named)
        }));
        self.bytes = 0;
        Ok(())
    }
}
