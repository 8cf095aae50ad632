//! The dead letters and the retry queue of a sink, as the model of the journal has them.

use std::collections::BTreeMap;

use crate::journal::{BacklogChange, Letter, ParkedRecord};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Timestamp;

/// The backlog of one sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelBacklog {
    /// Its dead letters.
    pub letters: BTreeMap<Seq, Letter>,
    /// Its parked records.
    pub parked: BTreeMap<Seq, ParkedRecord>,
}

impl ModelBacklog {
    /// Takes in what became of one record. `is_new`: the sink's cursor passes it now; what is before it was stored
    /// already. Records before `kept_from` are gone.
    pub fn take(&mut self, change: &BacklogChange, is_new: bool, kept_from: Seq, at: Timestamp) {
        match change {
            BacklogChange::Rejected {
                seq,
                path,
                reason,
                attempts: tried,
            } => {
                let attempts = match self.parked.remove(seq) {
                    Some(parked) => parked.attempts,
                    None if is_new => 0,
                    None => return,
                };
                self.letters.entry(*seq).or_insert_with(|| Letter {
                    seq: *seq,
                    reason: reason.clone(),
                    attempts: Letter::attempts_of(attempts, *tried),
                    at: Some(at),
                    path: path.clone(),
                });
            }
            BacklogChange::Parked {
                seq,
                path,
                reason,
                attempts,
                wait,
            } => {
                if is_new {
                    self.parked
                        .entry(*seq)
                        .or_insert_with(|| fresh(*seq, path.clone(), at));
                }
                if let Some(row) = self.parked.get_mut(seq) {
                    row.reason.clone_from(reason);
                    row.attempts = *attempts;
                    row.since = row.since.or((*attempts > 0).then_some(at));
                    row.due = Timestamp(at.0 + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                }
            }
            BacklogChange::Released(seq) => drop(self.parked.remove(seq)),
            BacklogChange::Retried(seq) => {
                if let Some(letter) = self.letters.remove(seq) {
                    self.parked.entry(*seq).or_insert_with(|| ParkedRecord {
                        reason: letter.reason,
                        attempts: letter.attempts,
                        ..fresh(*seq, letter.path, at)
                    });
                }
            }
            BacklogChange::Dropped(seq) => drop(self.letters.remove(seq)),
            BacklogChange::Replayed { seq, path } => {
                if *seq >= kept_from {
                    self.parked
                        .entry(*seq)
                        .or_insert_with(|| fresh(*seq, path.clone(), at));
                }
            }
        }
    }
}

/// To be tried at once.
fn fresh(seq: Seq, path: Option<ZnodePath>, at: Timestamp) -> ParkedRecord {
    ParkedRecord {
        seq,
        path,
        reason: String::new(),
        attempts: 0,
        since: None,
        due: at,
    }
}
