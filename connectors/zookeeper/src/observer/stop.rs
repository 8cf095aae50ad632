//! Why the driver ends a connection, and what the machine and the operator hear of it.

use std::time::Duration;

use bridge_core::source::{Input, SourceError, SourceErrorKind, SourceEvent};

use super::attempts::failed_server;
use super::conversation::ConversationEnd;
use super::driver::RefusedTree;
use super::members::QuorumAddress;
use super::refusal;
use super::spool::SpoolError;
use super::stage::StageError;
use crate::reconnects::STEADY;

/// Why the driver ends a connection.
pub(super) enum Stop {
    /// The conversation has ended by itself.
    Ended(ConversationEnd),
    /// The machine asked for another connection.
    Replace(Duration),
    /// The leader would send its tree, and logs may have what is missing.
    TreeRefused(RefusedTree),
    /// Logs were read in its place; the leader is asked again.
    Filled,
    /// A stage failed.
    Stage(StageError),
    /// The tree stays contradicted.
    Contradicted,
    /// Something cannot be read; tried again or not.
    Unreadable(SourceErrorKind, String),
    /// The spool cannot be read.
    Spool(SpoolError),
    /// The bridge stops, or the pipeline has ended.
    Asked,
}

impl Stop {
    /// The server that ended the attempt, if one did.
    pub(super) fn failed_server(&self) -> Option<&QuorumAddress> {
        match self {
            Stop::Ended(end) => failed_server(end),
            _ => None,
        }
    }

    /// The input that ends the connection, an event for the operator, and the wait before the next connection if it is
    /// not the growing one; `None`: the driver ends. `lasted` is the time that the connection was of use.
    pub(super) fn outcome(self, lasted: Duration) -> Option<(Input, Option<SourceEvent>, Option<Duration>)> {
        Some(match self {
            Stop::Asked => return None,
            Stop::Replace(after) => (Input::Disconnected, None, Some(after)),
            Stop::TreeRefused(_) | Stop::Filled => (Input::Disconnected, None, Some(Duration::ZERO)),
            Stop::Spool(error) | Stop::Ended(ConversationEnd::Overflow(error)) => {
                let event = trouble(SourceErrorKind::Unavailable, refusal::overflow(&error));
                (Input::Overflow, Some(event), None)
            }
            Stop::Ended(ConversationEnd::Lost {
                was_following: true,
                leader,
                error,
            }) if lasted >= STEADY => {
                tracing::info!(%leader, %error, "the leader has ended the connection; the next one is looked for");
                (Input::Disconnected, None, Some(Duration::ZERO))
            }
            Stop::Ended(end @ ConversationEnd::Silent { .. }) => {
                let (kind, message) = refusal::explain(&end);
                (Input::Unanswered, Some(trouble(kind, message)), None)
            }
            Stop::Ended(end) => {
                let (kind, message) = refusal::explain(&end);
                (Input::Disconnected, Some(trouble(kind, message)), None)
            }
            Stop::Contradicted => {
                let message =
                    "the tree that the leader sent is not exact yet, and nothing changes: it is requested \
                               again"
                        .to_owned();
                let event = trouble(SourceErrorKind::Unavailable, message);
                (Input::Disconnected, Some(event), None)
            }
            Stop::Stage(StageError::Stopped) => return None,
            Stop::Stage(error) => {
                let event = trouble(SourceErrorKind::Unavailable, error.to_string());
                (Input::Disconnected, Some(event), None)
            }
            Stop::Unreadable(kind, message) => (Input::Disconnected, Some(trouble(kind, message)), None),
        })
    }
}

pub(super) fn trouble(kind: SourceErrorKind, message: String) -> SourceEvent {
    SourceEvent::Trouble(SourceError { kind, message })
}

pub(super) fn unsupported(message: String) -> Stop {
    Stop::Unreadable(SourceErrorKind::Unsupported, message)
}
