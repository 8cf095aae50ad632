//! The paths whose records wait as dead letters behind a rejected one (`rejected_path = "block"`).
//!
//! The records themselves wait in the journal, never here; what is kept is one entry for each path, and their number
//! has a bound.

use std::collections::HashMap;

use super::letters::LETTERS_AT_ONCE;
use crate::journal::{JournalError, Reader};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::sink::Rejected;

/// More blocked paths than this mean that the destination rejects everything: the sink then halts instead of turning
/// the whole stream into dead letters. A few MB of memory.
pub const BLOCKED_PATHS_MAX: usize = 10_000;

/// The blocked paths of one sink, each with the rejected record that its later ones wait behind.
#[derive(Clone, Debug, Default)]
pub struct Blocked {
    behind: HashMap<ZnodePath, Seq>,
}

impl Blocked {
    /// Takes up the dead letters that the journal holds, so that a restart lets nothing overtake.
    pub fn of(dead_letters: impl IntoIterator<Item = (ZnodePath, Seq)>) -> Blocked {
        let mut blocked = Blocked::default();
        for (path, seq) in dead_letters {
            blocked.add(path, seq);
        }
        blocked
    }

    /// Takes up a sink's dead letters from its journal. Stops at the limit, which the sink then halts at.
    pub fn load(reader: &mut Reader, sink: &str) -> Result<Blocked, JournalError> {
        let mut blocked = Blocked::default();
        let mut after = Seq::ZERO;
        while !blocked.is_over_limit() {
            let letters = reader.rejected(sink, after, LETTERS_AT_ONCE)?;
            let Some(last) = letters.last() else { break };
            after = last.seq;
            for letter in &letters {
                if let Some(path) = &letter.record.path {
                    blocked.add(path.clone(), letter.seq);
                }
            }
        }
        Ok(blocked)
    }

    /// Blocks a path behind a rejected record; the first one stays.
    pub fn add(&mut self, path: ZnodePath, seq: Seq) {
        let first = self.behind.entry(path).or_insert(seq);
        *first = seq.min(*first);
    }

    /// Why a record of this path has to wait; `None` if it has not.
    pub fn why(&self, path: &ZnodePath, seq: Seq) -> Option<Rejected> {
        let first = self.behind.get(path)?;
        Some(Rejected {
            seq,
            reason: format!(
                "waits behind rejected record {first} of the same path (rejected_path = \"block\"): \
                 retry or drop the dead letters of {path:?}"
            ),
        })
    }

    /// Whether there are more than a sink may have.
    pub fn is_over_limit(&self) -> bool {
        self.behind.len() > BLOCKED_PATHS_MAX
    }
}
