//! The run that is made for one sink: its position, and the page that is under way.
//!
//! The stored position is never past the records that the destination has: it moves when a whole page is handled.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{Machine, MachineState, NextRecords};
use super::on_failure::ON_REJECT_HALT;
use super::options::RejectedPath;
use super::outcome::CheckedOutcome;
use super::sink_failure::SinkFailureKind;
use super::steps::StepProgress;
use crate::journal::{RunPage, RunStep, SinkRun};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery};

/// A run and its page that is not handled yet; usually empty.
#[derive(Debug, Default)]
pub(super) struct SnapshotCursor {
    run: Option<SinkRun>,
    page: Option<RunPage>,
}

impl SnapshotCursor {
    /// The run that an earlier process stored.
    pub fn of(run: Option<SinkRun>) -> SnapshotCursor {
        SnapshotCursor { run, page: None }
    }

    /// Begins another run.
    pub fn begin(&mut self, run: SinkRun) -> RunStep {
        self.page = None;
        self.run = Some(run.clone());
        RunStep::At(Box::new(run))
    }

    pub fn is_there(&self) -> bool {
        self.run.is_some()
    }

    /// The present run.
    pub fn run(&self) -> Option<&SinkRun> {
        self.run.as_ref()
    }

    /// The run whose next page is needed. It shows the state at the position at which its first page is read.
    pub fn wanted(&self, cursor: Seq) -> Box<SinkRun> {
        let mut run = self.run.clone().expect("a page is wanted of a run");
        run.at.get_or_insert(cursor);
        Box::new(run)
    }

    /// The records to deliver next.
    pub fn next_delivery(&self) -> Option<Arc<Delivery>> {
        let records = self.page.as_ref()?.records.clone();
        Some(Arc::new(Delivery { records }))
    }

    /// Takes a page; one without records is handled at once.
    pub fn take(&mut self, page: RunPage) -> Option<RunStep> {
        // A request that arrived meanwhile has replaced the run; its pages are read from the start.
        let left = page.records.clone();
        self.page = Some(page);
        self.keep(left)
    }

    /// Sets the remaining records of the page.
    pub fn keep(&mut self, left: Vec<Arc<Record>>) -> Option<RunStep> {
        let page = self.page.as_mut()?;
        page.records = left;
        if !page.records.is_empty() {
            return None;
        }
        let id = self.run.as_ref()?.id;
        self.run = self.page.take()?.next;
        Some(match &self.run {
            Some(run) => RunStep::At(Box::new(run.clone())),
            None => RunStep::Delivered(id),
        })
    }
}

impl Machine {
    /// Begins a run, as soon as no batch is in work.
    pub(super) fn begin_run(&mut self, run: SinkRun) -> StepProgress {
        let mut progress = self.standing();
        progress.run = Some(self.run.begin(run));
        if matches!(self.state, MachineState::Idle | MachineState::FetchingSnapshot) {
            self.state = MachineState::FetchingSnapshot;
        }
        progress
    }

    /// Handles a page of the run. A path whose records wait gets them later, and no newer record may be delivered
    /// before them.
    pub(super) fn restated(&mut self, mut page: RunPage, now: Duration) -> Option<StepProgress> {
        page.records.retain(|record| !self.is_waiting(&record.path));
        let step = self.run.take(page);
        self.turn = NextRecords::Parked;
        let mut progress = self.standing();
        progress.run = step;
        let more = self.go_on(None, now);
        StepProgress::joined(Some(progress), more)
    }

    pub(super) fn is_waiting(&self, path: &Option<ZnodePath>) -> bool {
        let blocks = self.rejects.rejected_path == RejectedPath::Block;
        let is_blocked = |path: &ZnodePath| blocks && self.letters.why_waits(path).is_some();
        self.parked.why_waits(path).is_some() || path.as_ref().is_some_and(is_blocked)
    }

    /// Applies the outcome for records of the run. A temporary refusal stops it.
    pub(super) fn snapshot_delivered(
        &mut self,
        delivery: &Delivery,
        result: Result<(), DeliverError>,
        now: Duration,
    ) -> Option<StepProgress> {
        let outcome = match result {
            Ok(()) => CheckedOutcome::all(delivery.records.len()),
            Err(error) => CheckedOutcome::checked(error, &delivery.records),
        };
        let mut progress = self.standing();
        let halting = outcome.rejected.first().filter(|_| self.halts_on_reject());
        let mut left = Vec::new();
        for (at, record) in delivery.records.iter().enumerate() {
            if at >= outcome.done || halting.is_some_and(|first| first.seq == record.seq) {
                left.push(Arc::clone(record));
            } else if let Some(rejection) = outcome.rejection(record.seq) {
                progress.not_restated.push(rejection.clone());
            } else if outcome.deferral(record.seq).is_some() {
                left.push(Arc::clone(record));
            } else {
                progress.count(record);
            }
        }
        progress.run = self.run.keep(left);
        self.turn = NextRecords::Parked;
        if let Some(first) = halting {
            let message = format!("record {} of the run was rejected: {}", first.seq, first.reason);
            self.halt(SinkFailureKind::Rejected, (message, ON_REJECT_HALT), None);
            return Some(progress);
        }
        let extent = outcome.extent;
        let deferred = outcome.deferred.into_iter().next().map(|one| one.error);
        match outcome.error.or(deferred) {
            None => {
                self.recovered();
                let more = self.go_on(None, now);
                StepProgress::joined(Some(progress), more)
            }
            Some(error) => {
                self.sink_failed(error, extent, None, now);
                Some(progress)
            }
        }
    }
}
