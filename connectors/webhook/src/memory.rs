//! Whose failure a failure is, and what of one call of `deliver` the next one has to know.
//!
//! A failure is that of a path if something else is taken beside it, or was taken since it began; else it may be the
//! receiver's. This module must never defer records because a receiver fails as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::record::Record;
use bridge_core::sink::{Deferred, DeliverError, Extent, Rejected, SinkError, SinkErrorKind};
use uuid::Uuid;

use crate::path_queues::Outcome;

/// So many paths that fail one after another, with none that is taken between, are taken for the receiver's failure. At
/// the next attempts it is twice as many each time, so that many bad paths do not hold the good ones for ever.
const FAILURES_IN_A_ROW: usize = 8;

/// And never more: a receiver that is down must not be sent whole batches with every attempt.
const FAILURES_IN_A_ROW_MAX: usize = 256;

/// What is remembered of so many records that failed; beyond that all is forgotten, which costs them further tries.
const SUSPECTS_MAX: usize = 10_000;

/// What outlives a call of `deliver`.
pub(crate) struct Memory {
    /// The records of the last batch that were settled, where it was not delivered as a whole.
    pub(crate) settled: HashMap<Seq, (Uuid, Outcome)>,
    pub(crate) suspects: HashMap<Seq, Suspect>,
    /// Records that the receiver has taken from this sink.
    pub(crate) accepted: u64,
    /// Whether a failure may be taken for that of a path although nothing is taken beside it: once after each success,
    /// so that a receiver that fails as a whole is not taken for many paths that do.
    pub(crate) has_credit: bool,
    pub(crate) failures_in_a_row: usize,
}

/// A record that failed.
pub(crate) struct Suspect {
    pub(crate) refusals: u32,
    /// What the receiver had taken by the first failure.
    pub(crate) accepted_before: u64,
    pub(crate) was_deferred: bool,
    /// The receiver found larger bodies too large.
    pub(crate) most: Option<usize>,
}

/// One call of `deliver`.
pub(crate) struct Round<'a> {
    pub(crate) records: &'a [Arc<Record>],
    /// Why a record of a path is held, by its position.
    pub(crate) failures: HashMap<usize, Failure>,
    pub(crate) accepted: usize,
    pub(crate) in_a_row: usize,
    /// Why nothing more is sent, and how far that reaches.
    pub(crate) end: Option<(SinkError, Extent)>,
}

pub(crate) struct Failure {
    pub(crate) error: SinkError,
    pub(crate) of_address: bool,
}

impl<'a> Round<'a> {
    /// `known` is what earlier calls with the same records came to: what was taken then shows that the receiver works, too,
    /// as it is not sent again.
    pub(crate) fn new(records: &'a [Arc<Record>], known: &[Option<Outcome>]) -> Round<'a> {
        let is_taken = |known: &&Option<Outcome>| **known == Some(Outcome::Accepted);
        Round {
            records,
            failures: HashMap::new(),
            accepted: known.iter().filter(is_taken).count(),
            in_a_row: 0,
            end: None,
        }
    }

    pub(crate) fn took(&mut self, count: usize) {
        self.accepted += count;
        self.in_a_row = 0;
    }

    /// Every record that is held, with its failure or that of the one that it waits for.
    pub(crate) fn deferred(mut self, outcomes: &[Option<Outcome>]) -> Vec<Deferred> {
        let mut first_of: HashMap<Option<&str>, (Seq, SinkErrorKind)> = HashMap::new();
        let mut last = (Seq::ZERO, SinkErrorKind::Unavailable);
        let mut deferred = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            if outcomes[at] != Some(Outcome::Held) {
                continue;
            }
            let path = record.path.as_deref();
            let error = match self.failures.remove(&at) {
                Some(failure) => {
                    last = (record.seq, failure.error.kind);
                    failure.error
                }
                // Behind one of its path, or in the same request as the one before.
                None => {
                    let (seq, kind) = *first_of.get(&path).unwrap_or(&last);
                    SinkError::new(kind, format!("it waits for record {seq}, which failed"))
                }
            };
            first_of.entry(path).or_insert((record.seq, error.kind));
            deferred.push(Deferred {
                seq: record.seq,
                error,
            });
        }
        deferred
    }
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            settled: HashMap::new(),
            suspects: HashMap::new(),
            accepted: 0,
            has_credit: true,
            failures_in_a_row: FAILURES_IN_A_ROW,
        }
    }

    /// What is known of these records; what is known of others is forgotten.
    pub(crate) fn recall(&mut self, records: &[Arc<Record>]) -> Vec<Option<Outcome>> {
        let mut settled = std::mem::take(&mut self.settled);
        let known = |record: &Arc<Record>| match settled.remove(&record.seq) {
            Some((id, outcome)) if id == record.id => Some(outcome),
            _ => None,
        };
        records.iter().map(known).collect()
    }

    pub(crate) fn took(&mut self, records: impl Iterator<Item = Seq>) {
        for seq in records {
            self.suspects.remove(&seq);
            self.accepted += 1;
        }
        self.has_credit = true;
        self.failures_in_a_row = FAILURES_IN_A_ROW;
    }

    pub(crate) fn suspect(&mut self, seq: Seq) -> &mut Suspect {
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains_key(&seq) {
            self.suspects.clear();
        }
        let accepted_before = self.accepted;
        self.suspects.entry(seq).or_insert(Suspect {
            refusals: 0,
            accepted_before,
            was_deferred: false,
            most: None,
        })
    }

    /// After a call that met too many failures: the next one goes further.
    pub(crate) fn be_more_patient(&mut self) {
        self.failures_in_a_row = (self.failures_in_a_row * 2).min(FAILURES_IN_A_ROW_MAX);
    }

    /// Whether a record failed before, and others were taken since or it was set aside for that.
    pub(crate) fn is_of_path(&self, seq: Seq) -> bool {
        let suspect = self.suspects.get(&seq);
        suspect.is_some_and(|suspect| suspect.was_deferred || suspect.accepted_before < self.accepted)
    }

    /// The report of a call, and what is to be known at the next.
    pub(crate) fn conclude(
        &mut self,
        round: Round<'_>,
        outcomes: Vec<Option<Outcome>>,
    ) -> Result<(), DeliverError> {
        let records = round.records;
        let is_settled =
            |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Accepted | Outcome::Rejected(_)));
        let front = outcomes.iter().take_while(|outcome| is_settled(outcome)).count();
        let rejected = |until: usize| rejected(&records[..until], &outcomes);
        if front == records.len() {
            let rejected = rejected(front);
            return match rejected.is_empty() {
                true => Ok(()),
                false => Err(DeliverError {
                    done: front,
                    rejected,
                    ..DeliverError::default()
                }),
            };
        }
        if self.may_defer(&round) {
            return Err(DeliverError {
                done: records.len(),
                rejected: rejected(records.len()),
                deferred: self.deferred(round, &outcomes),
                ..DeliverError::default()
            });
        }
        let rejected = rejected(front);
        self.remember(records, outcomes, front);
        let (error, extent) = round.first_error();
        Err(DeliverError {
            done: front,
            rejected,
            error: Some(error),
            extent,
            ..DeliverError::default()
        })
    }

    /// Keeps what was settled. Also of the front: whoever delivers it again must not find it repeated without what was
    /// taken behind it.
    pub(crate) fn remember(&mut self, records: &[Arc<Record>], outcomes: Vec<Option<Outcome>>, front: usize) {
        for (at, (record, outcome)) in records.iter().zip(outcomes).enumerate() {
            match outcome {
                // A rejection that was reported is over; an operator may send the record again.
                Some(Outcome::Rejected(_)) if at < front => {}
                Some(Outcome::Held) | None => {}
                Some(outcome) => drop(self.settled.insert(record.seq, (record.id, outcome))),
            }
        }
    }

    /// Whether the failures of a call are those of paths.
    pub(crate) fn may_defer(&mut self, round: &Round<'_>) -> bool {
        if round.end.is_some() {
            return false;
        }
        if round.accepted > 0 {
            return true;
        }
        let mut failed = round.failures.keys().map(|at| round.records[*at].seq);
        if failed.all(|seq| self.is_of_path(seq)) {
            return true;
        }
        let is_of_path = round.failures.values().all(|failure| !failure.of_address);
        is_of_path && std::mem::take(&mut self.has_credit)
    }

    pub(crate) fn deferred(&mut self, round: Round<'_>, outcomes: &[Option<Outcome>]) -> Vec<Deferred> {
        let deferred = round.deferred(outcomes);
        for one in &deferred {
            if let Some(suspect) = self.suspects.get_mut(&one.seq) {
                suspect.was_deferred = true;
            }
        }
        deferred
    }
}

impl Round<'_> {
    /// Why the batch ends: what ended it, or else the failure of its first record that failed, which may be that of a path.
    fn first_error(mut self) -> (SinkError, Extent) {
        let first = self.failures.keys().min().copied();
        let failure = first.and_then(|at| self.failures.remove(&at));
        let error = self
            .end
            .or(failure.map(|failure| (failure.error, Extent::Unknown)));
        error.expect("a record is held only by a failure")
    }
}

fn rejected(records: &[Arc<Record>], outcomes: &[Option<Outcome>]) -> Vec<Rejected> {
    let of = |(record, outcome): (&Arc<Record>, &Option<Outcome>)| match outcome {
        Some(Outcome::Rejected(reason)) => Some(Rejected {
            seq: record.seq,
            reason: reason.clone(),
        }),
        _ => None,
    };
    records.iter().zip(outcomes).filter_map(of).collect()
}
