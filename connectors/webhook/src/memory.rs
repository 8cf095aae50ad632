//! Classifies a failure as per-path or receiver-wide, and keeps what one call of `deliver` must know of the previous
//! one.
//!
//! A failure is that of a path if the receiver takes records of other paths meanwhile, or took one since it began;
//! otherwise it may be the receiver's. This module must never defer records because a receiver fails as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::outbound::Tally;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Extent, Rejected, SinkError};
use uuid::Uuid;

use crate::path_queues::Outcome;

/// This many paths that fail one after another, without a success between them, count as a failure of the receiver. The
/// number doubles with each further attempt, so that many failing paths do not hold the others without a limit.
const FAILURES_IN_A_ROW: usize = 8;

/// The limit of that number: a receiver that is down must not be sent whole batches with every attempt.
const FAILURES_IN_A_ROW_MAX: usize = 256;

/// The most failed records to remember; beyond that all are forgotten, which costs them further tries.
const SUSPECTS_MAX: usize = 10_000;

/// The state that outlives a call of `deliver`.
pub(crate) struct Memory {
    /// The records of the last batch that were settled, where it was not delivered as a whole.
    pub(crate) settled: HashMap<Seq, (Uuid, Outcome)>,
    pub(crate) suspects: HashMap<Seq, Suspect>,
    /// Records that the receiver has taken from this sink.
    pub(crate) accepted: u64,
    /// Whether a failure may count as that of a path although no other record was taken: once after each success, so
    /// that the failure of a whole receiver does not count as that of many paths.
    pub(crate) has_credit: bool,
    pub(crate) failures_in_a_row: usize,
}

/// A record that failed.
pub(crate) struct Suspect {
    pub(crate) refusals: u32,
    /// The number of records that the receiver had accepted at the first failure.
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

    /// A request failed: each of its records has the failure, or waits for the first of them.
    pub(crate) fn failed(&mut self, members: &[usize], failure: Failure) {
        let Failure { error, of_address } = failure;
        let first = self.records[members[0]].seq;
        for at in &members[1..] {
            let message = format!("it waits for record {first}, which failed");
            let error = SinkError::new(error.kind, message);
            self.failures.insert(*at, Failure { error, of_address });
        }
        self.failures.insert(members[0], Failure { error, of_address });
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

    /// Returns the state of these records, and forgets that of others.
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
        mut round: Round<'_>,
        outcomes: Vec<Option<Outcome>>,
    ) -> Result<(), DeliverError> {
        let records = round.records;
        let is_settled =
            |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Accepted | Outcome::Rejected { .. }));
        let mut until = outcomes.iter().take_while(|outcome| is_settled(outcome)).count();
        if until < records.len() && self.may_defer(&round) {
            until = records.len();
        }
        let mut tally = Tally::proven();
        for (at, record) in records[..until].iter().enumerate() {
            match &outcomes[at] {
                Some(Outcome::Accepted) => tally.took(at),
                Some(Outcome::Rejected { reason, attempts }) => tally.rejected_after(
                    at,
                    Rejected {
                        seq: record.seq,
                        reason: reason.clone(),
                        attempts: *attempts,
                    },
                ),
                Some(Outcome::Held) | None => {
                    if let Some(suspect) = self.suspects.get_mut(&record.seq) {
                        suspect.was_deferred = true;
                    }
                    match round.failures.remove(&at) {
                        Some(failure) => tally.held(at, record, failure.error),
                        None => tally.waits(at, record),
                    }
                }
            }
        }
        if until == records.len() {
            return tally.ended();
        }
        self.remember(records, outcomes, until);
        let (error, extent) = round.first_error();
        tally.failed(error, extent)
    }

    /// Remembers settled records, also those of the front: if the front is sent again without the accepted records
    /// after it, the receiver keeps an older state.
    pub(crate) fn remember(&mut self, records: &[Arc<Record>], outcomes: Vec<Option<Outcome>>, front: usize) {
        for (at, (record, outcome)) in records.iter().zip(outcomes).enumerate() {
            match outcome {
                // A rejection that was reported is over; an operator may send the record again.
                Some(Outcome::Rejected { .. }) if at < front => {}
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
