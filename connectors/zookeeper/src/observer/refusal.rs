//! Why no leader can be followed, as an operator can act on it.

use bridge_core::source::SourceErrorKind;
use bridge_transactions::quorum::PacketError;

use super::conversation::ConversationEnd;
use super::members::QuorumAddress;
use super::spool::SpoolError;
use super::transport::ConnectFault;

/// The message for the end of a conversation, and whether it can be better the next time.
pub(super) fn explain(end: &ConversationEnd) -> (SourceErrorKind, String) {
    let unavailable = SourceErrorKind::Unavailable;
    match end {
        ConversationEnd::NoLeader(refused) => no_leader(refused),
        ConversationEnd::Lost {
            leader,
            error,
            was_following: true,
        } => (
            unavailable,
            format!("the connection to the leader {leader} was lost: {error}; it is made again"),
        ),
        ConversationEnd::Lost {
            leader,
            error,
            was_following: false,
        } => (
            unavailable,
            format!(
                "{leader} ended the connection before the observer was up to date: {error}. Its log says why: it may \
                 have lost its quorum, require SASL (quorum.auth.serverRequireSasl) or TLS (sslQuorum), or bring too \
                 many servers up to date at once (zookeeper.leader.maxConcurrentSnapSyncs)"
            ),
        ),
        ConversationEnd::Silent { leader, after } => (
            unavailable,
            format!(
                "{leader} sent no whole packet for {} s; if its ticks are longer, raise sync_timeout or init_timeout of \
                 [source.observer]",
                after.as_secs_f64()
            ),
        ),
        ConversationEnd::Fault { leader, message } => {
            (unavailable, format!("{leader} cannot be followed: {message}"))
        }
        ConversationEnd::IdTaken(id) => (
            SourceErrorKind::Configuration,
            format!(
                "the id {} of the observer is the one of a server in the ensemble's configuration; give another \
                 observer.id, greater than 4294967296",
                id.get()
            ),
        ),
        ConversationEnd::Overflow(error) => (unavailable, overflow(error)),
        ConversationEnd::NoRoomForTree(error @ PacketError::TooLarge { .. }) => (
            SourceErrorKind::Configuration,
            format!("{error}; raise observer.max_tree, and see that the journal's folder has the room"),
        ),
        ConversationEnd::NoRoomForTree(error) => {
            (unavailable, format!("{error}; make room in the journal's folder"))
        }
        ConversationEnd::NoPosition { leader, after } => (
            unavailable,
            format!(
                "the pipeline gave no position for the leader {leader} within {} s, so the connection was given up; \
                 the bridge or its disk is overloaded, or raise observer.init_timeout",
                after.as_secs_f64()
            ),
        ),
        ConversationEnd::TreeRefused { leader, zxid } => (
            unavailable,
            format!("{leader} would send its whole tree at 0x{zxid:016x}, in place of which logs are read"),
        ),
        ConversationEnd::Stopped | ConversationEnd::Panicked => {
            (unavailable, "the connection was ended".to_owned())
        }
    }
}

/// The message for a spool that takes nothing more.
pub(super) fn overflow(error: &SpoolError) -> String {
    let remedy = match error {
        SpoolError::Full { .. } => {
            "the journal does not keep up with the ensemble, so the connection was given up; find what holds the \
             journal, or raise observer.spool"
        }
        SpoolError::File { .. } => "check the space and the permissions of that folder",
    };
    format!("{error}: {remedy}")
}

fn no_leader(refused: &[(QuorumAddress, ConnectFault)]) -> (SourceErrorKind, String) {
    let reasons: Vec<String> = refused
        .iter()
        .map(|(server, fault)| format!("{server} {}{fault}", verb(fault)))
        .collect();
    let all_refuse = refused
        .iter()
        .all(|(_, fault)| matches!(fault, ConnectFault::Refused));
    let remedy = match all_refuse {
        true => {
            "check the quorum ports, and that a leader is elected; a standalone server has no quorum port \
             (standaloneEnabled=false gives it one)"
        }
        false => "check the quorum ports, and that firewalls let the bridge reach them",
    };
    (
        SourceErrorKind::Unavailable,
        format!("no server can be followed: {}; {remedy}", reasons.join("; ")),
    )
}

fn verb(fault: &ConnectFault) -> &'static str {
    match fault {
        ConnectFault::Refused => "",
        _ => "cannot be followed: ",
    }
}
