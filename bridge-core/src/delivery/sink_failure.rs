//! The present failure of a sink, as its status shows it to operators and programs.

use crate::sink::SinkErrorKind;

/// The last failure of a sink, until the next success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFailure {
    /// The failed part.
    pub kind: SinkFailureKind,
    /// The failure with its causes.
    pub message: String,
    /// The remedy for the operator.
    pub remedy: &'static str,
    /// Whether an operator probably has to act.
    pub calls_operator: bool,
    /// Failures in a row, including this one if it is tried again.
    pub failures: u32,
    /// The wait that the destination requested, at most [`RETRY_AFTER_MAX`](super::RETRY_AFTER_MAX); null if it
    /// requested none.
    pub retry_after_seconds: Option<u64>,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkFailureKind {
    /// The destination.
    Sink(SinkErrorKind),
    /// Reading the journal.
    Journal,
    /// A record was rejected and the sink is to halt then.
    Rejected,
    /// There are more dead letters than a sink may have.
    TooManyLetters,
    /// As many records are parked as a sink may have, so that it waits for their destination.
    ParkedFull,
    /// The worker itself failed; its message says how.
    Worker,
}

impl SinkFailureKind {
    /// The name in metrics, logs and status.
    pub fn as_str(self) -> &'static str {
        match self {
            SinkFailureKind::Sink(kind) => kind.as_str(),
            SinkFailureKind::Journal => "journal",
            SinkFailureKind::Rejected => "rejected",
            SinkFailureKind::TooManyLetters => "dead_letters_full",
            SinkFailureKind::ParkedFull => "parked_full",
            SinkFailureKind::Worker => "worker",
        }
    }
}

/// An error with the errors below it, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        let words = below.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = below.source();
    }
    text
}
