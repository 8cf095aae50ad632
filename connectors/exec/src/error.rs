//! The ends of a command as answers about the records on its input.

use std::path::Path;

use bridge_core::sink::{SinkError, SinkErrorKind};
use bridge_subprocess::{FinishedRun, RunEnd};

/// The result of a run for the records on its input.
#[derive(Debug)]
pub(crate) enum Answer {
    /// They are delivered.
    Took,
    /// They can never be delivered.
    Refused(String),
    /// They are not delivered now.
    Failed(SinkError),
}

/// The answer of a run that has ended.
pub(crate) fn answer(program: &Path, finished: &FinishedRun, refuse_status: u8) -> Answer {
    match finished.end {
        RunEnd::Status(0) => Answer::Took,
        RunEnd::Status(status) if status == i32::from(refuse_status) => Answer::Refused(format!(
            "{}: correct the cause, then retry the record",
            finished.sentence(program)
        )),
        RunEnd::Status(_)
        | RunEnd::Signal(_)
        | RunEnd::TimedOut(_)
        | RunEnd::TooMuchOutput
        | RunEnd::GivenUp => Answer::Failed(unavailable(finished.sentence(program))),
    }
}

/// A path that failed in the last call and had no turn in this one, as others took its time.
pub(crate) fn no_turn() -> SinkError {
    unavailable("its last run failed, and other records took the time of this attempt".to_owned())
}

/// Records that had no turn after `cause`.
pub(crate) fn no_time_left(cause: &str) -> SinkError {
    unavailable(format!("{cause}; no time was left for the records after it"))
}

fn unavailable(message: String) -> SinkError {
    SinkError::new(SinkErrorKind::Unavailable, message)
}
