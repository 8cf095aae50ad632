//! Finds a place near a position in the history of a path that has many records after it.
//!
//! A path with few records is walked from its newest record. A path with many has waypoints: the first one after the
//! position is the place. Records of an older format have none; there a path with many records has one soon after any
//! position, so that a search through the records after the position finds it. Neither is known before, so walk and search
//! are done in turns, each twice as far as before: the cost is at most twice that of the better one.

use bridge_core::journal::{ReadLimit, Side};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Op;

use crate::as_of::AsOfQuery;
use crate::error::QueryError;
use crate::journal::JournalQuery;

/// Versions that are walked before the first search: about as long as the search takes. Few in tests, so that their short
/// histories are searched, too.
const WALK: usize = if cfg!(test) { 3 } else { 100 };

/// Versions that are walked before the waypoints are looked at: a shorter history has none.
const WALK_TO_WAYPOINT: usize = if cfg!(test) { 3 } else { 32 };

/// Records that the first search reads: a millisecond.
const SEARCH: u64 = if cfg!(test) { 5 } else { 8_000 };

/// Records of the path near the position that may be of an unclear side.
const UNCLEAR_MAX: usize = 16;

/// The progress of walk and search.
#[derive(Debug)]
pub(crate) struct EntrySearch {
    /// Whether the waypoints are still to be looked at.
    has_waypoints: bool,
    /// Versions walked since the last search, and how many are walked before the next.
    walked: usize,
    walk: usize,
    /// The last record that was searched; `None` before the first search.
    after: Option<Seq>,
    /// Records that the next search reads.
    width: u64,
    is_over: bool,
}

impl Default for EntrySearch {
    fn default() -> EntrySearch {
        EntrySearch {
            has_waypoints: true,
            walked: 0,
            walk: WALK,
            after: None,
            width: SEARCH,
            is_over: false,
        }
    }
}

impl EntrySearch {
    /// Every record is walked.
    #[cfg(test)]
    pub(crate) fn over() -> EntrySearch {
        EntrySearch {
            has_waypoints: false,
            is_over: true,
            ..EntrySearch::default()
        }
    }

    /// Where the walk goes on after `walked` more versions, none of which is before the position: at `next`, the next
    /// older one, or at one that is certainly after the position, too, and nearer to it.
    pub(crate) fn go_on(
        &mut self,
        journal: &JournalQuery,
        path: &ZnodePath,
        query: &AsOfQuery,
        walked: usize,
        next: Seq,
    ) -> Result<Seq, QueryError> {
        self.walked += walked;
        if self.has_waypoints && self.walked >= WALK_TO_WAYPOINT {
            self.has_waypoints = false;
            if let Some(waypoint) = self.waypoint(journal, path, query, next)? {
                self.is_over = true;
                return Ok(waypoint);
            }
        }
        if self.is_over || self.walked < self.walk {
            return Ok(next);
        }
        (self.walked, self.walk) = (0, self.walk * 2);
        let after = match self.after {
            Some(after) => after,
            None => journal.cut(query.position())?.seq,
        };
        let found = self.search(journal, path, query, (after, next))?;
        self.is_over |= found.is_some();
        Ok(found.unwrap_or(next))
    }

    /// The first waypoint of the path before `next` that is certainly after the position.
    fn waypoint(
        &mut self,
        journal: &JournalQuery,
        path: &ZnodePath,
        query: &AsOfQuery,
        next: Seq,
    ) -> Result<Option<Seq>, QueryError> {
        let after = journal.cut(query.position())?.seq;
        self.after = Some(after);
        let waypoints = journal.reader()?.waypoints(path, after, UNCLEAR_MAX)?;
        for seq in waypoints.into_iter().take_while(|seq| *seq < next) {
            if is_entry(journal, path, query, seq)? {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    /// The first record of the path after `after` and before `next` that is certainly after the position.
    fn search(
        &mut self,
        journal: &JournalQuery,
        path: &ZnodePath,
        query: &AsOfQuery,
        (mut after, next): (Seq, Seq),
    ) -> Result<Option<Seq>, QueryError> {
        let until = Seq(after.0.saturating_add(self.width)).min(Seq(next.0.saturating_sub(1)));
        self.width *= 2;
        for _ in 0..UNCLEAR_MAX {
            let Some(seq) = journal.reader()?.first_of_path(path, after, until)? else {
                self.after = Some(until);
                self.is_over = until >= Seq(next.0.saturating_sub(1));
                return Ok(None);
            };
            if is_entry(journal, path, query, seq)? {
                return Ok(Some(seq));
            }
            after = seq;
        }
        self.is_over = true;
        Ok(None)
    }
}

/// Whether a record is one of the path that is certainly after the position. One that was compacted meanwhile is none.
fn is_entry(
    journal: &JournalQuery,
    path: &ZnodePath,
    query: &AsOfQuery,
    seq: Seq,
) -> Result<bool, QueryError> {
    let one = ReadLimit {
        records: 1,
        bytes: 1 << 20,
    };
    let record = journal.reader()?.read(Seq(seq.0 - 1), one)?.into_iter().next();
    Ok(record.is_some_and(|record| {
        record.seq == seq
            && record.path.as_ref() == Some(path)
            && record.op != Op::Acl
            && query.side_of(&record) == Side::After
    }))
}
