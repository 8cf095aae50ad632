//! Classifies NATS's errors as kinds of failure.

use std::error::Error as _;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode as Code};
use async_nats::{ConnectError, ConnectErrorKind, ServerError};
use bridge_core::sink::{SinkError, SinkErrorKind};

/// The classification of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something is wrong with the destination or the way to it.
    Trouble(SinkErrorKind),
    /// Something is wrong with the subject, or with the stream as a whole: messages of other subjects show it.
    Subject(SinkErrorKind),
    /// Something is wrong with the record.
    Record,
    /// The last message of the subject is not the one that the fence knows.
    Conflict,
}

/// Classifies the answer to a message.
pub(crate) fn of_publish(error: &PublishError) -> Meaning {
    match error.kind() {
        // No stream takes the subject.
        PublishErrorKind::StreamNotFound => Meaning::Subject(SinkErrorKind::Missing),
        PublishErrorKind::WrongLastSequence => Meaning::Conflict,
        PublishErrorKind::MaxPayloadExceeded => Meaning::Record,
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            Meaning::Trouble(SinkErrorKind::Unavailable)
        }
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::MaxAckPending => {
            Meaning::Trouble(SinkErrorKind::Broken)
        }
        PublishErrorKind::Other => match cause(error) {
            Some(cause) => of_jetstream(cause),
            None => Meaning::Trouble(SinkErrorKind::Broken),
        },
    }
}

/// JetStream's own error below.
fn cause(error: &PublishError) -> Option<&JetStreamError> {
    error.source()?.downcast_ref()
}

/// Classifies a code of JetStream. Servers may add codes; an unknown one is tried again.
pub(crate) fn of_jetstream(error: &JetStreamError) -> Meaning {
    const CONSTANT: Code = Code::STREAM_WRONG_LAST_SEQUENCE_CONSTANT;
    match error.error_code() {
        Code::STREAM_MESSAGE_EXCEEDS_MAXIMUM | Code::STREAM_HEADER_EXCEEDS_MAXIMUM => Meaning::Record,
        Code::STREAM_WRONG_LAST_SEQUENCE | CONSTANT => Meaning::Conflict,
        // Another stream takes the subject.
        Code::STREAM_NOT_MATCH => Meaning::Subject(SinkErrorKind::Configuration),
        // An earlier message of the same id is being stored, or the last one of the subject is.
        Code::STREAM_DUPLICATE_MESSAGE_CONFLICT | Code::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY => {
            Meaning::Subject(SinkErrorKind::Unavailable)
        }
        // A stream with max_msgs_per_subject, discard = new and discard_new_per_subject.
        Code::STREAM_STORE_FAILED if error.to_string().contains("per subject") => {
            Meaning::Subject(SinkErrorKind::Full)
        }
        code => Meaning::Trouble(kind_of(code, &error.to_string())),
    }
}

fn kind_of(code: Code, said: &str) -> SinkErrorKind {
    match code {
        // Its words tell a limit of the stream from a disk without room and from a store that is closing.
        Code::STREAM_STORE_FAILED if said.contains("closed") => SinkErrorKind::Unavailable,
        Code::STREAM_STORE_FAILED
        | Code::ACCOUNT_RESOURCES_EXCEEDED
        | Code::INSUFFICIENT_RESOURCES
        | Code::STORAGE_RESOURCES_EXCEEDED
        | Code::MEMORY_RESOURCES_EXCEEDED
        | Code::MAXIMUM_STREAMS_LIMIT
        | Code::STREAM_MAX_STREAM_BYTES_EXCEEDED => SinkErrorKind::Full,
        Code::STREAM_TOO_MANY_REQUESTS => SinkErrorKind::Throttled,
        Code::STREAM_NOT_FOUND
        | Code::JETSTREAM_NOT_ENABLED
        | Code::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        | Code::NO_ACCOUNT => SinkErrorKind::Missing,
        code if is_configuration(code) => SinkErrorKind::Configuration,
        code if is_unavailable(code) => SinkErrorKind::Unavailable,
        _ if said.contains("too many requests") => SinkErrorKind::Throttled,
        _ => SinkErrorKind::Broken,
    }
}

fn is_unavailable(code: Code) -> bool {
    matches!(
        code,
        Code::CLUSTER_NOT_AVAILABLE
            | Code::CLUSTER_NOT_ACTIVE
            | Code::CLUSTER_NOT_LEADER
            | Code::CLUSTER_NOT_ASSIGNED
            | Code::CLUSTER_INCOMPLETE
            | Code::RAFT_GENERAL
            | Code::STREAM_OFFLINE
            | Code::STREAM_OFFLINE_REASON
    )
}

fn is_configuration(code: Code) -> bool {
    matches!(
        code,
        Code::STREAM_SEALED
            | Code::STREAM_INVALID
            | Code::STREAM_INVALID_CONFIG
            | Code::STREAM_SUBJECT_OVERLAP
            | Code::STREAM_REPLICAS_NOT_SUPPORTED
            | Code::STREAM_MAX_BYTES_REQUIRED
            | Code::CLUSTER_NO_PEERS
            | Code::CLUSTER_REQUIRED
            | Code::NO_LIMITS
            | Code::BAD_REQUEST
    )
}

/// The kind of an error that is about no single record.
pub(crate) fn kind(meaning: Meaning) -> SinkErrorKind {
    match meaning {
        Meaning::Trouble(kind) | Meaning::Subject(kind) => kind,
        Meaning::Record | Meaning::Conflict => SinkErrorKind::Broken,
    }
}

/// The kind of what a server says on a connection (`-ERR '…'`).
pub(crate) fn of_server(said: &str) -> SinkErrorKind {
    let said = said.to_lowercase();
    let holds = |words: &str| said.contains(words);
    if holds("permissions violation") {
        SinkErrorKind::Authorization
    } else if holds("authoriz") || holds("authentic") {
        SinkErrorKind::Authentication
    } else if holds("maximum") {
        SinkErrorKind::Throttled
    } else if holds("tls required") {
        SinkErrorKind::Configuration
    } else {
        SinkErrorKind::Unavailable
    }
}

/// Why no connection came to be.
pub(crate) fn of_connect(error: ConnectError, servers: &str) -> SinkError {
    let (kind, remedy) = match error.kind() {
        ConnectErrorKind::ServerParse => (SinkErrorKind::Configuration, "see the option servers"),
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            (SinkErrorKind::Authentication, "see the options under [sink.auth]")
        }
        ConnectErrorKind::Tls => (SinkErrorKind::Authentication, TLS),
        ConnectErrorKind::Dns => (SinkErrorKind::Unavailable, "see whether the name is right"),
        ConnectErrorKind::TimedOut | ConnectErrorKind::MaxReconnects => (
            SinkErrorKind::Unavailable,
            "see whether the servers run and the network lets it through",
        ),
        ConnectErrorKind::Io => of_io(&error),
    };
    SinkError::new(kind, format!("NATS at {servers}: {error}; {remedy}")).because(error)
}

const TLS: &str =
    "see the options under [sink.tls], and whose authority signed the certificates on both sides";

fn of_io(error: &ConnectError) -> (SinkErrorKind, &'static str) {
    let mut cause = error.source();
    while let Some(below) = cause {
        if below.is::<rustls::Error>() {
            return (SinkErrorKind::Authentication, TLS);
        }
        if let Some(ServerError::Other(said)) = below.downcast_ref() {
            return (of_server(said), "see the server's log");
        }
        // An `io::Error` shows as its source what its own content has below, and not the content.
        cause = match below
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(content) => Some(content),
            None => below.source(),
        };
    }
    (
        SinkErrorKind::Unavailable,
        "see whether the servers run, and whether they and [sink.tls] agree on encryption",
    )
}

/// Why a record that the stream, or the server before it, refuses can never be delivered.
pub(crate) fn refusal(stream: &str, said: &str, bytes: usize) -> String {
    format!(
        "stream '{stream}' does not take the message of {bytes} bytes ({said}): raise the server's max_payload and the \
         stream's maximum message size; then retry the record"
    )
}

/// An error about a message.
pub(crate) fn about(kind: SinkErrorKind, stream: &str, subject: &str, said: &str) -> SinkError {
    let remedy = match kind {
        SinkErrorKind::Missing => {
            "create the stream with a subject that takes it, or add the subject to the stream; create_stream can do the \
             first"
        }
        SinkErrorKind::Full => {
            "raise the limits of the stream, its account or the server's disk, or let the stream remove its oldest \
             messages (discard = old)"
        }
        SinkErrorKind::Configuration => "see the options stream and subject, and the stream's own settings",
        SinkErrorKind::Authorization => "grant the sink's user what the error names",
        _ => "it is tried again",
    };
    SinkError::new(
        kind,
        format!("stream '{stream}', subject '{subject}': {said}: {remedy}"),
    )
}
