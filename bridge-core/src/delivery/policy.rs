//! The table of decisions: the action for each kind of failure, and the remedy for the operator. One exhaustive match
//! each, so that a new kind does not compile without a decision.

use super::retry_backoff::Pace;
use crate::journal::JournalErrorKind;
use crate::sink::SinkErrorKind;

/// The decision about a kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The reaction of the engine.
    pub action: Action,
    /// The remedy for the operator, in a sentence.
    pub remedy: &'static str,
}

/// The reaction of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens and delivers again after a wait; the failure is expected to end by itself.
    Retry,
    /// Opens and delivers again after long waits; an operator probably has to act, and no restart is needed.
    RetryAndCall,
    /// Stops this sink until the next start: trying again cannot help.
    Halt,
}

impl Action {
    /// How fast to try again; `None` for never.
    pub fn pace(self) -> Option<Pace> {
        match self {
            Action::Retry => Some(Pace::Growing),
            Action::RetryAndCall => Some(Pace::Slow),
            Action::Halt => None,
        }
    }

    /// Whether an operator probably has to act.
    pub fn calls_operator(self) -> bool {
        match self {
            Action::Retry => false,
            Action::RetryAndCall | Action::Halt => true,
        }
    }
}

/// The decision about a failure at a destination.
pub fn of_sink(kind: SinkErrorKind) -> Policy {
    let (action, remedy) = match kind {
        SinkErrorKind::Unavailable => (
            Action::Retry,
            "check that the destination runs and can be reached from here; nothing is lost, delivery goes on when it answers",
        ),
        SinkErrorKind::Throttled => (
            Action::Retry,
            "the destination asks for fewer requests; raise its limits, or narrow what this sink gets by paths and ops",
        ),
        SinkErrorKind::Authentication => (
            Action::RetryAndCall,
            "check the sink's credentials, and that they have not expired at the destination; after changing them here, restart",
        ),
        SinkErrorKind::Authorization => (
            Action::RetryAndCall,
            "grant the sink's user the permission named in the error; delivery goes on by itself",
        ),
        SinkErrorKind::Missing => (
            Action::RetryAndCall,
            "create what the error names at the destination, or let the sink create it where it has an option for that",
        ),
        SinkErrorKind::Full => (
            Action::RetryAndCall,
            "make room at the destination (disk, quota, stream limit); delivery goes on by itself",
        ),
        SinkErrorKind::Broken => (
            Action::Retry,
            "the connection is made anew; if it keeps coming, look into the destination's own log",
        ),
        SinkErrorKind::Content => (
            Action::RetryAndCall,
            "correct the template, the limits or the znodes that the error names; the destination stays as it is until then",
        ),
        SinkErrorKind::Configuration => (
            Action::Halt,
            "change the sink's options as the error says, and restart; the cursor is kept",
        ),
        SinkErrorKind::Disabled => (
            Action::Halt,
            "switch the destination on again, then let the sink go on with 'zkbridge sink enable NAME', or remove the sink; the \
             cursor is kept",
        ),
        SinkErrorKind::Ended => (
            Action::Halt,
            "restart with a destination that somebody reads; the cursor is kept",
        ),
    };
    Policy { action, remedy }
}

/// The decision about a failure to read the journal.
pub fn of_journal(kind: JournalErrorKind) -> Policy {
    let (action, remedy) = match kind {
        JournalErrorKind::InUse | JournalErrorKind::Held | JournalErrorKind::Storage => (
            Action::Retry,
            "check the disk that holds the journal; reading is tried again",
        ),
        JournalErrorKind::DiskFull | JournalErrorKind::Full => (
            Action::RetryAndCall,
            "make room on the disk that holds the journal",
        ),
        JournalErrorKind::Unwritable => (
            Action::RetryAndCall,
            "give this process permission to read the journal's file and folder",
        ),
        JournalErrorKind::Newer
        | JournalErrorKind::Foreign
        | JournalErrorKind::Damaged
        | JournalErrorKind::Moved
        | JournalErrorKind::OtherSource => (
            Action::Halt,
            "the journal's file cannot be used as it is; see the error, restore or replace the file, and restart",
        ),
    };
    Policy { action, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_remedy_that_is_a_sentence_for_a_person() {
        for &kind in SinkErrorKind::ALL {
            let remedy = of_sink(kind).remedy;
            assert!(remedy.contains(' ') && !remedy.ends_with('.'), "{kind}: {remedy}");
        }
    }

    #[test]
    fn only_what_no_attempt_can_heal_halts_a_sink() {
        let halting: Vec<_> = SinkErrorKind::ALL
            .iter()
            .copied()
            .filter(|kind| of_sink(*kind).action == Action::Halt)
            .collect();
        assert_eq!(
            halting,
            [
                SinkErrorKind::Configuration,
                SinkErrorKind::Disabled,
                SinkErrorKind::Ended
            ]
        );
    }
}
