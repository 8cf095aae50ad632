//! The run that is made for one sink, in hand: where it stands, and the page that is under way.
//!
//! It must never be stored as further than what the destination has: its place moves when a page is dealt with as a whole.

use std::sync::Arc;
use std::time::Duration;

use super::failures::ON_REJECT_HALT;
use super::machine::{Machine, MachineState, NextRecords};
use super::options::RejectedPath;
use super::outcome::CheckedOutcome;
use super::steps::StepProgress;
use super::trouble::TroubleKind;
use crate::journal::{RunPage, RunStep, SinkRun};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery};

/// A run and the page of it that is not dealt with; nothing most of the time.
#[derive(Debug, Default)]
pub(super) struct SnapshotCursor {
    run: Option<SinkRun>,
    page: Option<RunPage>,
}

impl SnapshotCursor {
    /// As an earlier life of the process left it.
    pub fn of(run: Option<SinkRun>) -> SnapshotCursor {
        SnapshotCursor { run, page: None }
    }

    /// Begins another one.
    pub fn begin(&mut self, run: SinkRun) -> RunStep {
        self.page = None;
        self.run = Some(run.clone());
        RunStep::At(Box::new(run))
    }

    pub fn is_there(&self) -> bool {
        self.run.is_some()
    }

    /// Where it stands.
    pub fn run(&self) -> Option<&SinkRun> {
        self.run.as_ref()
    }

    /// The run whose next page is needed. It speaks for the position at which its first page is read.
    pub fn wanted(&self, cursor: Seq) -> Box<SinkRun> {
        let mut run = self.run.clone().expect("a page is wanted of a run");
        run.at.get_or_insert(cursor);
        Box::new(run)
    }

    /// The records that are to be delivered next.
    pub fn next_delivery(&self) -> Option<Arc<Delivery>> {
        let records = self.page.as_ref()?.records.clone();
        Some(Arc::new(Delivery { records }))
    }

    /// Takes a page; one without records is dealt with at once.
    pub fn take(&mut self, page: RunPage) -> Option<RunStep> {
        // An order that came meanwhile has put another run in its place, whose pages are read anew.
        let left = page.records.clone();
        self.page = Some(page);
        self.told(left)
    }

    /// What is left of the page.
    pub fn told(&mut self, left: Vec<Arc<Record>>) -> Option<RunStep> {
        let page = self.page.as_mut()?;
        page.records = left;
        if !page.records.is_empty() {
            return None;
        }
        let id = self.run.as_ref()?.id;
        self.run = self.page.take()?.next;
        Some(match &self.run {
            Some(run) => RunStep::At(Box::new(run.clone())),
            None => RunStep::Told(id),
        })
    }
}

impl Machine {
    /// A run is made from now on, as soon as nothing else is in hand.
    pub(super) fn begin_run(&mut self, run: SinkRun) -> StepProgress {
        let mut progress = self.standing();
        progress.run = Some(self.run.begin(run));
        if matches!(self.state, MachineState::Idle | MachineState::FetchingSnapshot) {
            self.state = MachineState::FetchingSnapshot;
        }
        progress
    }

    /// Takes a page of the run. A path whose records wait gets them anyway, and nothing newer may stand before them.
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

    /// Takes the outcome for records of the run. What is refused for now holds it.
    pub(super) fn told(
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
        progress.run = self.run.told(left);
        self.turn = NextRecords::Parked;
        if let Some(first) = halting {
            let message = format!("record {} of the run was rejected: {}", first.seq, first.reason);
            self.halt(TroubleKind::Rejected, (message, ON_REJECT_HALT), None);
            return Some(progress);
        }
        let extent = outcome.extent;
        let deferred = outcome.deferred.into_iter().next().map(|one| one.error);
        match outcome.error.or(deferred) {
            None => {
                self.healed();
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
