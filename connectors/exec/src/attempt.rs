//! The records of one call of `deliver`, and what became of each.
//!
//! Records have their turn in the order of the batch, but those of *suspects*, the paths that failed before, come after
//! the others: a path whose command takes all the time of a call keeps no other from its turn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::outbound::{LineProjection, Tally};
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Extent, SinkError};
use tokio::time::Instant;

use crate::encode::lines_of;
use crate::error::{self, Answer};

/// Paths that failed; `None` is that of control records.
pub(crate) type Suspects = HashSet<Option<ZnodePath>>;

/// The most paths that are remembered as suspects. The engine parks no more records than that.
const SUSPECTS_MAX: usize = 10_000;

/// One call of `deliver`.
pub(crate) struct Attempt<'a> {
    records: &'a [Arc<Record>],
    /// The lines of each record.
    lines: Vec<Vec<u8>>,
    outcomes: Vec<Option<Outcome>>,
    /// Paths of which a record failed in this call.
    held: Suspects,
    /// The first failure, also that of a run that is repeated record by record.
    first_failure: Option<String>,
    started: Instant,
}

/// The result of a record.
enum Outcome {
    Took,
    /// It has no line.
    Passed,
    Rejected(String),
    Held(SinkError),
}

impl Attempt<'_> {
    /// The call begins. Records that can have no line, or have none, are settled.
    pub(crate) fn new<'a>(records: &'a [Arc<Record>], projection: &LineProjection) -> Attempt<'a> {
        let (mut lines, mut outcomes) = (
            Vec::with_capacity(records.len()),
            Vec::with_capacity(records.len()),
        );
        for record in records {
            let (text, outcome) = match lines_of(projection, record) {
                Ok(text) if text.is_empty() => (text, Some(Outcome::Passed)),
                Ok(text) => (text, None),
                Err(reason) => (Vec::new(), Some(Outcome::Rejected(reason))),
            };
            lines.push(text);
            outcomes.push(outcome);
        }
        Attempt {
            records,
            lines,
            outcomes,
            held: HashSet::new(),
            first_failure: None,
            started: Instant::now(),
        }
    }

    /// The records that need a run, in the order of their turns.
    pub(crate) fn turns(&self, suspects: &Suspects) -> Vec<usize> {
        let undecided = (0..self.records.len()).filter(|at| self.outcomes[*at].is_none());
        let (last, mut turns): (Vec<usize>, Vec<usize>) =
            undecided.partition(|at| suspects.contains(&self.records[*at].path));
        turns.extend(last);
        turns
    }

    /// Whether a run has failed, and so much time has passed that no further record has its turn.
    pub(crate) fn is_late(&self, limit: Duration) -> bool {
        self.has_failed() && self.started.elapsed() >= limit
    }

    /// Whether a run has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.first_failure.is_some()
    }

    /// Those of these records whose path is not held.
    pub(crate) fn free(&self, turns: &[usize]) -> Vec<usize> {
        let is_free = |at: &usize| !self.held.contains(&self.records[*at].path);
        turns.iter().copied().filter(is_free).collect()
    }

    /// The input of a run with these records.
    pub(crate) fn input(&self, members: &[usize]) -> Vec<u8> {
        let lines: Vec<&[u8]> = members.iter().map(|at| &*self.lines[*at]).collect();
        lines.concat()
    }

    /// A run with these records was successful.
    pub(crate) fn took(&mut self, members: &[usize]) {
        for at in members {
            self.outcomes[*at] = Some(Outcome::Took);
        }
    }

    /// A run with this record alone ended so.
    pub(crate) fn settle(&mut self, at: usize, answer: Answer) {
        let outcome = match answer {
            Answer::Took => Outcome::Took,
            Answer::Refused(reason) => Outcome::Rejected(reason),
            Answer::Failed(error) => {
                self.failed(&error);
                self.held.insert(self.records[at].path.clone());
                Outcome::Held(error)
            }
        };
        self.outcomes[at] = Some(outcome);
    }

    /// A run failed.
    pub(crate) fn failed(&mut self, error: &SinkError) {
        self.first_failure.get_or_insert_with(|| error.message.clone());
    }

    /// Adds the paths that failed in this call, and removes those that did not.
    pub(crate) fn update(&self, suspects: &mut Suspects) {
        for (record, outcome) in self.records.iter().zip(&self.outcomes) {
            if outcome.is_some() && !self.held.contains(&record.path) {
                suspects.remove(&record.path);
            }
        }
        if suspects.len() + self.held.len() > SUSPECTS_MAX {
            suspects.clear();
        }
        suspects.extend(self.held.iter().cloned());
    }

    /// The report of the call. `stopped` has the reason if no command can be run at all.
    pub(crate) fn report(
        self,
        suspects: &Suspects,
        stopped: Result<(), SinkError>,
    ) -> Result<(), DeliverError> {
        let has_taken = self.outcomes.iter().any(|one| matches!(one, Some(Outcome::Took)));
        let mut tally = match has_taken {
            true => Tally::proven(),
            false => Tally::default(),
        };
        for (at, (record, outcome)) in self.records.iter().zip(self.outcomes).enumerate() {
            match outcome {
                Some(Outcome::Took) => tally.took(at),
                Some(Outcome::Passed) => tally.passed(at),
                Some(Outcome::Rejected(reason)) => tally.rejected(at, record.seq, reason),
                Some(Outcome::Held(error)) => tally.held(at, record, error),
                None if tally.holds(&record.path).is_some() => tally.waits(at, record),
                None if suspects.contains(&record.path) => tally.held(at, record, error::no_turn()),
                None => {
                    let cause = self.first_failure.as_deref().unwrap_or_default();
                    return match stopped {
                        Err(error) => tally.failed(error, Extent::Destination),
                        Ok(()) => tally.failed(error::no_time_left(cause), Extent::Unknown),
                    };
                }
            }
        }
        match stopped {
            Err(error) => tally.failed(error, Extent::Destination),
            Ok(()) => tally.ended(),
        }
    }
}
