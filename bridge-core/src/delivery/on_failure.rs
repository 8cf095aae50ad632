//! The reaction of the machine to a failure: a wait or a halt, with the failure in the status.

use std::time::Duration;

use super::dead_letters::DEAD_LETTERS_MAX;
use super::machine::{AfterWait, Machine, MachineState, NextRecords};
use super::policy::{self, Policy};
use super::retry_backoff::{Pace, RETRY_AFTER_MAX};
use super::retry_queue::PARKED_MAX;
use super::sink_failure::{SinkFailure, SinkFailureKind, with_causes};
use super::steps::FetchedBatch;
use crate::journal::{JournalError, Switch};
use crate::sink::{Extent, SinkError, SinkErrorKind};

/// A failure and the reaction to it.
struct Failure {
    kind: SinkFailureKind,
    message: String,
    policy: Policy,
    /// The wait that the destination requested.
    not_before: Option<Duration>,
}

impl Machine {
    pub(super) fn sink_failed(
        &mut self,
        error: SinkError,
        extent: Extent,
        left: Option<FetchedBatch>,
        now: Duration,
    ) {
        self.probe.failed(extent, &error, now);
        let failure = Failure {
            kind: SinkFailureKind::Sink(error.kind),
            message: with_causes(&error),
            policy: policy::of_sink(error.kind),
            not_before: error.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX)),
        };
        if error.kind == SinkErrorKind::Disabled {
            let reason = failure.message.clone();
            self.switch = Some(Switch::Disabled { reason });
        }
        self.failed(failure, AfterWait::Open { left }, now);
    }

    pub(super) fn journal_failed(&mut self, error: &JournalError, left: Option<FetchedBatch>, now: Duration) {
        let failure = Failure {
            kind: SinkFailureKind::Journal,
            message: with_causes(error),
            policy: policy::of_journal(error.kind),
            not_before: None,
        };
        self.failed(failure, AfterWait::GoOn { left }, now);
    }

    fn failed(&mut self, failure: Failure, then: AfterWait, now: Duration) {
        let Failure {
            kind,
            message,
            policy,
            not_before,
        } = failure;
        let pace = match kind {
            // Other options do not help if only one path fails.
            SinkFailureKind::Sink(SinkErrorKind::Configuration) if self.is_probing() => Some(Pace::Slow),
            _ => policy.action.pace(),
        };
        let Some(pace) = pace else {
            return self.halt(kind, (message, policy.remedy), then.left());
        };
        let Some(delay) = self.backoff.failed(pace, now, &mut self.random) else {
            let message = format!("gave up after retry.give_up_after: {message}");
            return self.halt(kind, (message, GAVE_UP), then.left());
        };
        let delay = delay.max(not_before.unwrap_or_default());
        self.state = MachineState::BackingOff {
            delay,
            until: now + delay,
            then,
        };
        self.failure = Some(SinkFailure {
            kind,
            message,
            remedy: policy.remedy,
            calls_operator: policy.action.calls_operator(),
            failures: self.backoff.failures(),
            retry_after_seconds: not_before.map(whole_seconds),
        });
    }

    /// Waits until a parked record is delivered: [`PARKED_MAX`] records are parked, so no fresh one may be tried.
    pub(super) fn wait_for_room(&mut self, left: FetchedBatch, now: Duration) {
        let due = self.parked.due().expect("what takes all room is to be tried");
        if due <= now {
            return self.recall(Some(left), now);
        }
        self.state = MachineState::BackingOff {
            delay: due - now,
            until: due,
            then: AfterWait::GoOn { left: Some(left) },
        };
        self.turn = NextRecords::Parked;
        let next = self.parked.next_queues(1).pop();
        let reason = next.map(|next| next.reason).unwrap_or_default();
        self.failure = Some(SinkFailure {
            kind: SinkFailureKind::ParkedFull,
            message: format!(
                "{PARKED_MAX} records of {} paths wait for their destination, which is the limit: {reason}",
                self.parked.paths()
            ),
            remedy: "check what the paths of the parked records have in common at the destination; delivery goes on \
                     when one of them is delivered",
            calls_operator: true,
            failures: self.backoff.failures(),
            retry_after_seconds: None,
        });
    }

    pub(super) fn has_room(&mut self) {
        if matches!(&self.failure, Some(failure) if failure.kind == SinkFailureKind::ParkedFull) {
            self.failure = None;
        }
    }

    pub(super) fn halt(
        &mut self,
        kind: SinkFailureKind,
        (message, remedy): (String, &'static str),
        left: Option<FetchedBatch>,
    ) {
        self.state = MachineState::Halted { left };
        self.failure = Some(SinkFailure {
            kind,
            message,
            remedy,
            calls_operator: true,
            failures: self.backoff.failures(),
            retry_after_seconds: None,
        });
    }

    pub(super) fn take_failed_paths(&mut self) -> Vec<SinkErrorKind> {
        std::mem::take(&mut self.failed_paths)
    }

    pub(super) fn recovered(&mut self) {
        self.backoff.succeeded();
        self.probe.recovered();
        self.failure = None;
    }

    /// The sink is open, and nothing waits for it.
    pub(super) fn recovered_at_rest(&mut self) {
        if matches!(self.state, MachineState::Idle | MachineState::FetchingSnapshot) {
            self.recovered();
        }
    }

    /// Clears the failure of a failed read, and no other: `open` clears the failure of a failed delivery.
    pub(super) fn journal_answered(&mut self) {
        if matches!(&self.failure, Some(failure) if failure.kind == SinkFailureKind::Journal) {
            self.recovered();
        }
    }
}

const GAVE_UP: &str = "see to the destination, then let the sink go on with 'zkbridge sink enable NAME' or a restart; the \
                       cursor is kept";

pub(super) const ON_REJECT_HALT: &str = "correct the destination or the sink's options so that the record can be accepted, or set \
                              on_reject = \"dead_letter\", and restart; the record is kept";

pub(super) fn too_many_letters() -> (String, &'static str) {
    (
        format!("there are more than {DEAD_LETTERS_MAX} dead letters"),
        "the destination rejects nearly everything: correct the cause, retry or drop the dead letters, and restart",
    )
}

/// Rounded up: an attempt that is a moment early is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
