//! The dead letters of a sink, in memory: which paths wait for a rejected record (`rejected_path = "block"`), and how
//! many dead letters there are.
//!
//! The records are in the journal only, and their number has a bound.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::number::Seq;
use crate::path::ZnodePath;

/// More dead letters than this mean that the destination rejects nearly everything: the sink then halts instead of turning
/// the whole stream into dead letters. A few MB of memory.
pub const DEAD_LETTERS_MAX: usize = 10_000;

/// The dead letters of one sink.
#[derive(Clone, Debug, Default)]
pub struct DeadLetters {
    paths: BTreeMap<Seq, Option<ZnodePath>>,
    by_path: HashMap<ZnodePath, BTreeSet<Seq>>,
}

impl DeadLetters {
    /// A collection of these dead letters.
    pub fn of(letters: impl IntoIterator<Item = (Seq, Option<ZnodePath>)>) -> DeadLetters {
        let mut all = DeadLetters::default();
        for (seq, path) in letters {
            all.add(seq, path);
        }
        all
    }

    /// The number of dead letters.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether there are more than [`DEAD_LETTERS_MAX`].
    pub fn is_over_limit(&self) -> bool {
        self.paths.len() > DEAD_LETTERS_MAX
    }

    /// Whether this record is a dead letter.
    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.paths.contains_key(&seq)
    }

    /// Adds a dead letter.
    pub(super) fn add(&mut self, seq: Seq, path: Option<ZnodePath>) {
        if let Some(path) = path.clone() {
            self.by_path.entry(path).or_default().insert(seq);
        }
        self.paths.insert(seq, path);
    }

    /// Removes a dead letter and returns its path; `None` if it was none.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Option<ZnodePath>> {
        let path = self.paths.remove(&seq)?;
        if let Some(path) = &path
            && let Some(seqs) = self.by_path.get_mut(path)
        {
            seqs.remove(&seq);
            if seqs.is_empty() {
                self.by_path.remove(path);
            }
        }
        Some(path)
    }

    /// Why a record of this path has to wait with `rejected_path = "block"`; `None` if it does not.
    pub(super) fn why_waits(&self, path: &ZnodePath) -> Option<String> {
        let first = self.by_path.get(path)?.first()?;
        Some(format!(
            "waits for rejected record {first} of the same path (rejected_path = \"block\"): retry or drop the dead \
             letters of {path:?}"
        ))
    }

    /// The dead letters that have to be retried with this one, so that it overtakes none of its path; itself last.
    pub(super) fn up_to(&self, seq: Seq) -> Vec<Seq> {
        let of_path = match self.paths.get(&seq) {
            Some(Some(path)) => self.by_path.get(path),
            Some(None) => return vec![seq],
            None => return Vec::new(),
        };
        of_path.map_or_else(Vec::new, |seqs| seqs.range(..=seq).copied().collect())
    }
}
