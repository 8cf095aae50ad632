//! Exit codes and failures of a command.

use std::fmt;
use std::process::ExitCode;

use bridge_core::journal::{JournalError, ProgressError};
use bridge_query::QueryError;

/// The exit codes; documented in `zkbridge --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something failed at work: 1.
    Runtime,
    /// The configuration or the command line is wrong: 2, which is clap's code for the command line.
    Configuration,
    /// Something that the configuration relies on is missing: 3.
    Environment,
    /// Every source has halted, and only an operator can resume one: 4.
    Halted,
    /// Ended by this signal: 128 and its number.
    Signal(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Runtime => 1,
            Exit::Configuration => 2,
            Exit::Environment => 3,
            Exit::Halted => 4,
            Exit::Signal(number) => 128 + number,
        })
    }
}

/// Why a command ended without success.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The cause and the remedy; empty if they are printed already.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }
}

/// A journal that cannot be used is an environment that does not fit.
impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        Failure::new(Exit::Environment, error.to_string())
    }
}

impl From<ProgressError> for Failure {
    fn from(error: ProgressError) -> Failure {
        match error {
            ProgressError::Journal(error) => error.into(),
            ProgressError::Refused(refused) => Failure::new(Exit::Runtime, refused.to_string()),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        match error {
            QueryError::Journal(error) => error.into(),
            QueryError::OtherSource { .. } => Failure::new(Exit::Environment, error.to_string()),
            QueryError::Busy { .. } | QueryError::Hidden(_) | QueryError::BadCursor(_) => {
                Failure::new(Exit::Runtime, error.to_string())
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
