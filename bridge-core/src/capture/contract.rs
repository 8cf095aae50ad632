//! The watch machine as the pipeline sees it: [`SourceMachine`] for [`Capture`].

use super::machine::{Capture, LAG_ATTEMPTS_MAX, State};
use super::roots::Root;
use super::{Halt, Input, Step, StepError};
use crate::image_txn::ImageTxn;
use crate::machine::{CaptureState, Counters, SourceMachine, StepOutcome};
use crate::number::{Epoch, Zxid};
use crate::path::ZnodePath;
use crate::record::Timestamp;

impl SourceMachine for Capture {
    fn step(&mut self, now: Timestamp, input: Input, image: &mut dyn ImageTxn) -> Step<StepOutcome> {
        let mut outcome = StepOutcome::default();
        let mut next = self.lists.admit(input, &self.options.limits)?;
        while let Some(input) = next {
            self.take(now, input, image, &mut outcome)?;
            next = self.lists.next_held();
        }
        if let State::Attached(attached) = &self.state
            && attached.follow.has_told_all()
        {
            self.lists.settled();
        }
        Ok(outcome)
    }

    fn reset(&mut self, error: &StepError) -> Result<(), Halt> {
        let evidence = match error {
            StepError::Lagging(evidence) => evidence,
            StepError::Doubt(reason) => {
                self.detach(Some(*reason));
                return Ok(());
            }
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
        self.state = State::Halted;
        Err(Halt::WentBack {
            cluster: self.options.cluster.clone(),
            evidence: evidence.clone(),
        })
    }

    fn state(&self) -> CaptureState {
        match &self.state {
            State::Detached => CaptureState::Detached,
            State::Arming { .. } => CaptureState::Arming,
            State::Attached(attached) if attached.walk.as_ref().is_some_and(|walk| !walk.is_audit) => {
                CaptureState::Walking
            }
            State::Attached(attached) if attached.roots.iter().all(Root::is_watched) => CaptureState::Live,
            State::Attached(_) => CaptureState::Walking,
            State::Halted => CaptureState::Halted,
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
            State::Attached(attached) => attached.follow.len(),
            _ => 0,
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        match &self.state {
            State::Arming { epoch, .. } => Some(*epoch),
            State::Attached(attached) => Some(attached.epoch),
            State::Detached | State::Halted => None,
        }
    }

    fn reported(&self) -> Option<Zxid> {
        match &self.state {
            State::Attached(attached) => attached.roots.iter().map(Root::reported_zxid).min(),
            _ => None,
        }
    }
}
