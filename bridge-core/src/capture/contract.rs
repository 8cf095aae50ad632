//! The watch machine as the pipeline sees it: [`SourceMachine`] for [`Capture`].

use super::machine::{Capture, EpochState, LAG_ATTEMPTS_MAX};
use super::roots::Root;
use super::{Halt, Input, StepError, StepResult};
use crate::image_txn::ImageTxn;
use crate::machine::{CaptureState, Counters, Fulfilled, SourceMachine, StepOutcome};
use crate::number::{Epoch, Zxid};
use crate::path::ZnodePath;
use crate::record::Timestamp;

impl SourceMachine for Capture {
    fn step(&mut self, now: Timestamp, input: Input, image: &mut dyn ImageTxn) -> StepResult<StepOutcome> {
        let mut outcome = StepOutcome::default();
        let mut next = self.lists.admit(input, &self.options.limits)?;
        while let Some(input) = next {
            self.take(now, input, image, &mut outcome)?;
            next = self.lists.next_held();
        }
        if let EpochState::Attached(attached) = &self.state
            && attached.follow.is_settled()
        {
            self.lists.settled();
        }
        Ok(outcome)
    }

    fn committed(&mut self) {
        self.fulfilled = Fulfilled::default();
    }

    fn reset(&mut self, error: &StepError) -> Result<(), Halt> {
        self.rolled_back();
        let evidence = match error {
            StepError::Lagging(evidence) => evidence,
            StepError::Doubt(reason) => {
                self.detach(Some(*reason));
                return Ok(());
            }
            StepError::Unproved(_) => unreachable!("a watched tree has no history to prove"),
            StepError::Journal(_) => {
                self.detach(None);
                return Ok(());
            }
        };
        self.detach(None);
        self.lag_attempts += 1;
        if self.lag_attempts < LAG_ATTEMPTS_MAX {
            return Ok(());
        }
        self.state = EpochState::Halted;
        Err(Halt::WentBack {
            cluster: self.options.cluster.clone(),
            evidence: evidence.clone(),
        })
    }

    fn state(&self) -> CaptureState {
        match &self.state {
            EpochState::Detached => CaptureState::Detached,
            EpochState::Arming { .. } => CaptureState::Arming,
            EpochState::Attached(attached) if attached.walk.as_ref().is_some_and(|walk| !walk.is_audit) => {
                CaptureState::Walking
            }
            EpochState::Attached(attached) if attached.roots.iter().all(Root::is_watched) => {
                CaptureState::Live
            }
            EpochState::Attached(_) => CaptureState::Walking,
            EpochState::Halted => CaptureState::Halted,
        }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn unreadable(&self, most: usize) -> Vec<ZnodePath> {
        self.unreadable.named().take(most).cloned().collect()
    }

    fn unreadable_total(&self) -> u64 {
        self.unreadable.total()
    }

    fn waiting(&self) -> usize {
        match &self.state {
            EpochState::Attached(attached) => attached.follow.len(),
            _ => 0,
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        match &self.state {
            EpochState::Arming { epoch, .. } => Some(*epoch),
            EpochState::Attached(attached) => Some(attached.epoch),
            EpochState::Detached | EpochState::Halted => None,
        }
    }

    fn reported(&self) -> Option<Zxid> {
        match &self.state {
            EpochState::Attached(attached) => attached.roots.iter().map(Root::reported_zxid).min(),
            _ => None,
        }
    }
}
