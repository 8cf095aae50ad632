//! Why the next comparison is a gap of an unknown begin: the journal keeps it, because the process may end before the
//! comparison, and the gap of a start begins where capture seemed to be live last.

use super::StepResult;
use super::machine::Capture;
use crate::image_txn::ImageTxn;
use crate::record::GapReason;

impl Capture {
    /// Takes the reason that an earlier process has left.
    pub(super) fn load_reason(&mut self, image: &mut dyn ImageTxn) -> StepResult<()> {
        if self.stored_reason.is_none() {
            let stored = image.due_gap()?;
            self.reason = GapReason::last_of(stored, self.reason);
            self.stored_reason = Some(stored);
        }
        Ok(())
    }

    /// Stores a reason whose gap begins at an unknown moment: after an end of the process the gap would begin where
    /// capture seemed to be live last.
    pub(super) fn store_reason(&mut self, image: &mut dyn ImageTxn) -> StepResult<()> {
        let due = self.reason.filter(|reason| !reason.begins_where_live_ended());
        if self.stored_reason != Some(due) {
            image.set_due_gap(due)?;
            self.stored_reason = Some(due);
        }
        Ok(())
    }
}
