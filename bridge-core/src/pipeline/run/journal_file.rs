//! The journal's file while the pipeline runs: locked by another program, or gone from its place.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Pipeline;
use crate::journal::{JournalError, JournalErrorKind};
use crate::pipeline::flow::may_pass;

/// The longest wait for another program that keeps the journal locked, while the connection's events wait in their bounded
/// queue. SQLite waits 5 s in each attempt.
const HELD_MAX: Duration = Duration::from_secs(60);

/// A journal that another program keeps locked.
pub(super) struct HeldJournal {
    since: Instant,
    trouble: String,
}

impl Pipeline {
    /// Begins the transaction before anything is decided: what a step has decided cannot wait, so that the connection would
    /// have to be made anew. While another program keeps the journal locked, waits for it on this thread, up to [`HELD_MAX`].
    /// After that the step itself fails at the lock, and capture is on hold until the lock is free.
    pub(super) fn begin(&mut self) -> Result<(), JournalError> {
        loop {
            let error = match self.flow.journal().begin() {
                Ok(()) => {
                    self.released();
                    return Ok(());
                }
                Err(error) if error.kind == JournalErrorKind::Held => error,
                // The step fails at the same, and capture is on hold.
                Err(error) if may_pass(error.kind) => return Ok(()),
                Err(error) => return Err(error),
            };
            let held = self.held.get_or_insert_with(|| HeldJournal {
                since: Instant::now(),
                trouble: error.to_string(),
            });
            let waited = held.since.elapsed();
            if self.status.trouble.is_none() {
                let (source, trouble) = (&*self.status.source, &held.trouble);
                tracing::error!(source, trouble, "capture waits for the journal");
                self.status.trouble = Some(trouble.clone());
                self.publish();
            }
            let is_ending = self.reports.as_ref().is_none_or(mpsc::Receiver::is_closed);
            if waited > HELD_MAX || is_ending {
                return Ok(());
            }
        }
    }

    fn released(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let (source, seconds) = (&*self.status.source, held.since.elapsed().as_secs());
        tracing::info!(source, seconds, "the journal is no longer locked");
        if self.status.trouble == Some(held.trouble) {
            self.status.trouble = None;
            self.publish();
        }
    }

    /// Ends the source if its journal is gone from its path or another process has it. Any other failure leaves that
    /// unknown: the next tick looks again.
    pub(super) fn verify_place(&mut self) -> Result<(), JournalError> {
        let Err(error) = self.flow.journal().verify_place() else {
            self.unverified.forget();
            return Ok(());
        };
        if matches!(error.kind, JournalErrorKind::InUse | JournalErrorKind::Moved) {
            return Err(error);
        }
        let (source, error) = (&*self.status.source, error.to_string());
        if let Some(left_out) = self.unverified.say(&error, Instant::now()) {
            tracing::error!(
                source,
                error,
                left_out,
                "whether the journal is still in its place is unknown"
            );
        }
        Ok(())
    }
}
