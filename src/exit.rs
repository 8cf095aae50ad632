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
    /// A failure of this kind. Its message has one remedy at most.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        let message = message.into();
        debug_assert!(message.matches(HELP).count() <= 1, "{message}");
        Failure { exit, message }
    }
}

/// Between a cause and its remedy.
const HELP: &str = "\nhelp: ";

/// A message as its cause and its remedy.
pub fn cause_and_help(message: &str) -> (&str, Option<&str>) {
    match message.split_once(HELP) {
        Some((cause, help)) => (cause, Some(help)),
        None => (message, None),
    }
}

/// Several messages as one, with all remedies after all causes.
pub fn joined(messages: &[String]) -> String {
    let parts: Vec<_> = messages.iter().map(|message| cause_and_help(message)).collect();
    let causes: Vec<&str> = parts.iter().map(|(cause, _)| *cause).collect();
    let mut helps: Vec<&str> = Vec::new();
    for help in parts.into_iter().filter_map(|(_, help)| help) {
        if !helps.contains(&help) {
            helps.push(help);
        }
    }
    let causes = causes.join("; ");
    match helps.is_empty() {
        true => causes,
        false => format!("{causes}{HELP}{}", helps.join("; ")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_messages_have_one_line_with_their_remedies() {
        let check = |messages: &[&str], expected: &str| {
            let messages: Vec<String> = messages.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(joined(&messages), expected);
        };
        check(&["a", "b"], "a; b");
        check(&["a\nhelp: x"], "a\nhelp: x");
        check(&["a\nhelp: x", "b", "c\nhelp: y"], "a; b; c\nhelp: x; y");
        check(&["a\nhelp: x", "b\nhelp: x"], "a; b\nhelp: x");
    }
}
