//! Finds the records of a few paths in a range, without a look at other records: each record names the one before it of its
//! path, the image names the last one, and a waypoint is near the end of the range.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::cursors;
use super::error::JournalError;
use super::known_children::PathNumber;
use super::read::{Filling, ReadLimit, Reader};
use super::read_connection::Slice;
use super::waypoints::EVERY;
use crate::number::Seq;
use crate::record::Record;

/// Steps between two readings of the clock.
const STEPS_A_LOOK: usize = 64;

/// A path under way, from its newest record on.
#[derive(Clone, Copy)]
struct ChainWalk {
    path: i64,
    next: Seq,
    /// Records after the range that were walked.
    walked: u8,
}

/// The walks over all paths.
struct ChainWalks<'a> {
    paths: std::slice::Iter<'a, (PathNumber, Seq)>,
    walk: Option<ChainWalk>,
    range: (Seq, Seq),
    steps_left: usize,
    found: Vec<Seq>,
}

impl ChainWalks<'_> {
    /// Goes on until the slice is over, which is `None`. `false`: the chains do not lead to the answer, or not soon.
    fn go_on(&mut self, connection: &Connection, slice: &Slice) -> rusqlite::Result<Option<bool>> {
        let (after, until) = self.range;
        let first = cursors::oldest(connection)?.unwrap_or(Seq(1)).max(after.next());
        let mut statement = connection.prepare_cached("SELECT path, previous FROM record WHERE seq = ?1")?;
        loop {
            let Some(walk) = self.walk.or_else(|| self.next_path()) else {
                return Ok(Some(true));
            };
            if walk.next < first {
                self.walk = None;
                continue;
            }
            if self.steps_left == 0 {
                return Ok(Some(false));
            }
            self.steps_left -= 1;
            let row: Option<(Option<i64>, Option<i64>)> = statement
                .query_row([walk.next.0.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            // It went into a later record meanwhile, or the file is damaged.
            let Some((_, previous)) = row.filter(|(path, _)| *path == Some(walk.path)) else {
                return Ok(Some(false));
            };
            let mut next = previous.map(|seq| Seq(seq.cast_unsigned()));
            let mut walked = walk.walked;
            if walk.next <= until {
                self.found.push(walk.next);
            } else if walked <= EVERY {
                walked += 1;
                if walked == EVERY {
                    next = waypoint_after(connection, walk, until)?.or(next);
                }
            }
            self.walk = next.map(|next| ChainWalk { next, walked, ..walk });
            if self.steps_left.is_multiple_of(STEPS_A_LOOK) && slice.is_over() {
                return Ok(None);
            }
        }
    }

    fn next_path(&mut self) -> Option<ChainWalk> {
        let (path, last) = self.paths.next()?;
        self.walk = Some(ChainWalk {
            path: path.number(),
            next: *last,
            walked: 0,
        });
        self.walk
    }
}

/// The first waypoint after the range, if it is nearer than the walk.
fn waypoint_after(connection: &Connection, walk: ChainWalk, until: Seq) -> rusqlite::Result<Option<Seq>> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT seq FROM waypoint WHERE path = ?1 AND seq > ?2 ORDER BY seq LIMIT 1")?
        .query_row((walk.path, until.0.cast_signed()), |row| row.get(0))
        .optional()?;
    Ok(found
        .map(|seq| Seq(seq.cast_unsigned()))
        .filter(|seq| *seq < walk.next))
}

impl Reader {
    /// The records of some paths after the first number, up to and including the second, ascending. `newest` has each path
    /// with its last record. `None`: they are not found in `steps_max` steps, of a microsecond or two, or a record went
    /// into a later one meanwhile.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn seqs_of_paths(
        &mut self,
        newest: &[(PathNumber, Seq)],
        range: (Seq, Seq),
        steps_max: usize,
    ) -> Result<Option<Vec<Seq>>, JournalError> {
        let mut walks = ChainWalks {
            paths: newest.iter(),
            walk: None,
            range,
            steps_left: steps_max,
            found: Vec::new(),
        };
        let read = self
            .connection
            .in_slices(|connection, slice| walks.go_on(connection, slice));
        let is_all = read.map_err(|error| self.fault("walking the records of some paths", error))?;
        walks.found.sort_unstable();
        Ok(is_all.then_some(walks.found))
    }

    /// These records as far as they are kept, within a limit of bytes, but one at least; and how many of the numbers were
    /// looked for. They must be few: they are read in one transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn records(&mut self, seqs: &[Seq], bytes: usize) -> Result<(Vec<Arc<Record>>, usize), JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let limit = ReadLimit {
            records: seqs.len(),
            bytes,
        };
        let read = connection.within(|connection| {
            let (mut found, mut filling) = (Vec::new(), Filling::new(limit));
            for (at, seq) in seqs.iter().enumerate() {
                let Some(record) = names.one(connection, *seq).optional()? else {
                    continue;
                };
                if !filling.takes(&record) {
                    return Ok((found, at));
                }
                found.push(record);
            }
            Ok((found, seqs.len()))
        });
        read.map_err(|error| self.fault("reading single records", error))
    }
}
