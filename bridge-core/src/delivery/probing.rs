//! Retries that determine the extent of a failure.
//!
//! A sink that calls a service for each record does not always know whether one path failed or the whole destination
//! ([`Extent::Unknown`]). Only records of other paths can show it. An idle bridge has none in the batch that failed, so
//! a batch that waits for its retry is extended by the records that arrive meanwhile.
//!
//! *Invariants.* Records are added in the order of `seq`, after those of the batch, and never while a run for the sink
//! is under way, whose records are older. The size of one retry has a bound. At most one batch is parked without a
//! proof that the destination takes other records, until it takes one. Records that are parked already stay so: a
//! failure of unknown extent is one of their paths, whose waits grow.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::Attempt;
use super::machine::{AfterWait, Machine, MachineState};
use super::outcome::CheckedOutcome;
use super::sink_failure::with_causes;
use super::steps::FetchedBatch;
use crate::journal::ReadLimit;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Deferred, Extent, SinkError, SinkErrorKind};

/// The most records in one retry if the extent of the failure is unknown, or further records may correct the content: two
/// batches of ordinary size.
pub const RETRY_RECORDS_MAX: usize = 2_000;

/// The most bytes of znode data in such a retry. The batch that exceeds it is still added.
pub const RETRY_BYTES_MAX: usize = 8 << 20;

/// The wait before a failure of unknown extent is tried again, if there are records of another path, and one of the
/// content, if there are records that may correct it. Long enough that a destination that fails as a whole gets one such
/// retry a second at most.
pub const PROBE_AFTER: Duration = Duration::from_secs(1);

/// More paths than this that all fail are taken for a failure of the destination.
const SUSPECT_PATHS_MAX: usize = 256;

/// The known extent of the present failure.
#[derive(Debug)]
pub(super) struct Probe {
    /// The extent of the last failure; `Destination` if there is none.
    pub extent: Extent,
    /// The earliest time of the next retry if there is a record of another path.
    earliest: Option<Duration>,
    /// The same if there is a record that may correct the content that failed.
    earliest_corrected: Option<Duration>,
    /// Whether the next batch that is added has such a record.
    is_corrected: bool,
    /// Whether records may be parked without a proof: once after each success.
    has_credit: bool,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            extent: Extent::Destination,
            earliest: None,
            earliest_corrected: None,
            is_corrected: false,
            has_credit: true,
        }
    }
}

impl Probe {
    /// The sink failed at `now`.
    pub fn failed(&mut self, extent: Extent, error: &SinkError, now: Duration) {
        // Frequent attempts do harm if they can lock an account, or if the destination asked for time.
        let may_hurry = extent == Extent::Unknown
            && error.retry_after.is_none()
            && error.kind != SinkErrorKind::Authentication;
        self.extent = extent;
        self.earliest = may_hurry.then_some(now + PROBE_AFTER);
        let is_of_content = error.kind == SinkErrorKind::Content;
        self.earliest_corrected = is_of_content.then_some(now + PROBE_AFTER);
    }

    /// Notes the end of the failure.
    pub fn recovered(&mut self) {
        self.extent = Extent::Destination;
        self.earliest = None;
        self.earliest_corrected = None;
    }

    /// The destination took a record.
    pub fn took(&mut self) {
        self.has_credit = true;
    }
}

impl Machine {
    /// Whether the records that wait for a retry may be extended by the next batch ([`WorkerInput::More`]). `limit` is that of
    /// the batches that the driver reads.
    ///
    /// [`WorkerInput::More`]: super::WorkerInput::More
    pub fn wants_more(&self, limit: ReadLimit) -> bool {
        let MachineState::BackingOff { then, .. } = &self.state else {
            return false;
        };
        if self.run.is_there() {
            return false;
        }
        self.has_space(then.batch(), limit)
    }

    fn has_space(&self, left: Option<&FetchedBatch>, limit: ReadLimit) -> bool {
        let looks_further = self.is_probing() || self.probe.earliest_corrected.is_some();
        let most = match looks_further {
            true => RETRY_RECORDS_MAX,
            false => limit.records.min(RETRY_RECORDS_MAX),
        };
        let records = left.map_or(0, |batch| batch.records.len());
        records < most.min(self.parked.room()) && left.map_or(0, FetchedBatch::bytes) < RETRY_BYTES_MAX
    }

    /// Notes that the next batch of [`WorkerInput::More`] may correct the content that failed.
    ///
    /// [`WorkerInput::More`]: super::WorkerInput::More
    pub(super) fn may_be_corrected(&mut self) {
        self.probe.is_corrected = true;
    }

    /// Adds the next batch to the records that wait for a retry, and makes that retry earlier if they can show the
    /// extent of the failure, or may end one of the content. Returns the end of the wait.
    pub(super) fn extended(
        &mut self,
        until: Duration,
        then: AfterWait,
        more: FetchedBatch,
        now: Duration,
    ) -> (Duration, AfterWait) {
        let is_known: HashSet<&Option<ZnodePath>> = then
            .batch()
            .into_iter()
            .flat_map(|batch| &batch.records)
            .map(|record| &record.path)
            .collect();
        let shows_more = |record: &Record| !is_known.contains(&record.path) && !self.is_waiting(&record.path);
        let has_others = more.records.iter().any(|record| shows_more(record));
        let is_corrected = std::mem::take(&mut self.probe.is_corrected);
        let of_others = self.probe.earliest.filter(|_| has_others);
        let of_correction = self.probe.earliest_corrected.filter(|_| is_corrected);
        let hurried = of_others.into_iter().chain(of_correction);
        let until = hurried.fold(until, |until, earliest| until.min(earliest.max(now)));
        let join = |left: Option<FetchedBatch>| match left {
            Some(left) => Some(left.joined(more)),
            None => Some(more),
        };
        let then = match then {
            AfterWait::Open { left } => AfterWait::Open { left: join(left) },
            AfterWait::GoOn { left } => AfterWait::GoOn { left: join(left) },
        };
        (until, then)
    }

    /// Whether a batch has only one record of each path, so that one path cannot keep the records of the others out of
    /// it.
    pub(super) fn is_probing(&self) -> bool {
        self.probe.extent == Extent::Unknown
    }

    /// Treats a failure of unknown extent as one of its paths if nothing else can be tried: for parked records, or for
    /// a batch that is full and has few paths, after the destination took others.
    pub(super) fn judged(
        &mut self,
        outcome: CheckedOutcome,
        attempt: &Attempt,
        left: Option<&FetchedBatch>,
    ) -> CheckedOutcome {
        let records = &attempt.delivery.records;
        let failed = &records[outcome.done..];
        let Some(error) = &outcome.error else {
            return outcome;
        };
        if outcome.extent != Extent::Unknown || failed.is_empty() {
            return outcome;
        }
        if attempt.through.is_some() {
            if !self.may_park(failed, left) {
                return outcome;
            }
            self.probe.has_credit = false;
        }
        let message = with_causes(error);
        let deferred = failed.iter().map(|record| Deferred {
            seq: record.seq,
            error: SinkError {
                retry_after: error.retry_after,
                ..SinkError::new(error.kind, message.clone())
            },
        });
        let deferred = deferred.collect();
        outcome.with_the_rest_deferred(deferred, records.len())
    }

    /// Whether fresh records may be parked without a proof.
    fn may_park(&self, failed: &[Arc<Record>], left: Option<&FetchedBatch>) -> bool {
        let paths: HashSet<&Option<ZnodePath>> = failed.iter().map(|record| &record.path).collect();
        let is_of_paths = !paths.contains(&None) && paths.len() <= SUSPECT_PATHS_MAX;
        let is_full = left
            .is_some_and(|left| left.records.len() >= RETRY_RECORDS_MAX || left.bytes() >= RETRY_BYTES_MAX);
        self.probe.has_credit && is_of_paths && is_full
    }
}

impl AfterWait {
    pub(super) fn batch(&self) -> Option<&FetchedBatch> {
        match self {
            AfterWait::Open { left } | AfterWait::GoOn { left } => left.as_ref(),
        }
    }
}
