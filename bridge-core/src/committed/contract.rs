//! The machine as the pipeline sees it: [`SourceMachine`] for [`Committed`].

use crate::capture::Input;
use crate::image_txn::ImageTxn;
use crate::machine::{
    CaptureState, Counters, Fulfilled, Halt, HistoryReport, ProofReport, SourceMachine, StepError,
    StepOutcome,
};
use crate::number::{Epoch, Zxid};
use crate::path::ZnodePath;
use crate::record::{GapReason, Timestamp};

use super::machine::{Committed, DigestLeftOut, HistoryState, OTHER_HISTORY_MAX};

/// Why nothing is compared.
const NO_DIGESTS: &str =
    "the servers write no digests: they are older than 3.6, or have zookeeper.digest.enabled=false";

/// Why a change of some paths is not compared.
const OTHER_CHARSET: &str = "the leader's JVM encodes paths in another charset than UTF-8, so that changes of paths with other \
                             letters than those of ASCII are not compared: start the servers with \
                             -Dfile.encoding=UTF-8";

impl SourceMachine for Committed {
    fn step(
        &mut self,
        now: Timestamp,
        input: Input,
        image: &mut dyn ImageTxn,
    ) -> Result<StepOutcome, StepError> {
        let mut outcome = StepOutcome::default();
        let written = self.counters.records.total();
        self.take(now, input, image, &mut outcome)?;
        // A transaction without a record is none.
        if let Some(timer) = self.heartbeat.as_mut()
            && self.counters.records.total() > written
        {
            timer.restart();
        }
        Ok(outcome)
    }

    fn committed(&mut self) {
        self.fulfilled = Fulfilled::default();
    }

    fn reset(&mut self, error: &StepError) -> Result<(), Halt> {
        self.rolled_back();
        let evidence = match error {
            StepError::Journal(_) => {
                self.detach(None);
                return Ok(());
            }
            StepError::Doubt(reason) => {
                self.needs_snapshot = true;
                self.detach(Some(*reason));
                return Ok(());
            }
            StepError::Unproved(_) => {
                self.needs_snapshot = true;
                self.detach(Some(GapReason::Unproved));
                return Ok(());
            }
            StepError::Lagging(evidence) => evidence,
        };
        self.detach(None);
        self.other_histories += 1;
        if self.other_histories < OTHER_HISTORY_MAX {
            return Ok(());
        }
        self.state = HistoryState::Halted;
        Err(Halt::WentBack {
            cluster: self.options.capture.cluster.clone(),
            evidence: evidence.clone(),
        })
    }

    fn state(&self) -> CaptureState {
        match &self.state {
            HistoryState::Detached => CaptureState::Detached,
            HistoryState::Resuming { .. } | HistoryState::AwaitingStage { .. } => CaptureState::Arming,
            HistoryState::Staging(_) => CaptureState::Walking,
            HistoryState::Following(_) => CaptureState::Live,
            HistoryState::Halted => CaptureState::Halted,
        }
    }

    fn is_current(&self) -> bool {
        match &self.state {
            HistoryState::Following(history) => history.is_up_to_date(),
            _ => false,
        }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn epoch(&self) -> Option<Epoch> {
        match self.state {
            HistoryState::Staging(_) | HistoryState::Following(_) => self.epoch,
            _ => None,
        }
    }

    fn reported(&self) -> Option<Zxid> {
        match &self.state {
            HistoryState::Following(history) => Some(history.position().zxid),
            _ => None,
        }
    }

    fn waiting(&self) -> usize {
        match &self.state {
            HistoryState::Following(history) => history.held(),
            _ => 0,
        }
    }

    fn unreadable_total(&self) -> u64 {
        0
    }

    fn unreadable(&self, _most: usize) -> Vec<ZnodePath> {
        Vec::new()
    }

    fn history(&self) -> Option<HistoryReport> {
        let proof = &self.proof;
        let left_out = proof.left_out.filter(|_| self.options.proof.compares_digests());
        Some(HistoryReport {
            position: self.reported(),
            proof: ProofReport {
                mode: self.options.proof.as_str(),
                zxid: proof.zxid,
                checked: proof.checked,
                unproven: proof.unproven,
                mismatched: proof.mismatched,
                suspended: left_out.map(|left_out| match left_out {
                    DigestLeftOut::Lacking => NO_DIGESTS,
                    DigestLeftOut::OtherCharset => OTHER_CHARSET,
                }),
            },
            compared: match &self.state {
                HistoryState::Staging(staging) => Some(staging.compared),
                _ => None,
            },
        })
    }
}
