//! The client's errors as kinds, each with what an operator can do.

use bridge_core::source::{SourceError, SourceErrorKind};
use zookeeper_client::Error;

/// The meaning of a failed request for the connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection was lost during the request; the session's state decides.
    Lost,
    /// An error to report, and to try again or not.
    Trouble(SourceError),
}

/// Sorts the error of a request. Requests that die with a silent connection come back as `Error::Custom`, not as a
/// connection loss, so that is what `Custom` is taken for.
pub(crate) fn of_request(what: &str, error: &Error) -> Failure {
    match error {
        Error::ConnectionLoss
        | Error::SessionExpired
        | Error::SessionMoved
        | Error::ClientClosed
        | Error::Timeout
        | Error::Custom(_) => Failure::Lost,
        Error::AuthFailed => Failure::Trouble(authentication()),
        Error::Unimplemented => Failure::Trouble(too_old("does not know the request")),
        Error::MarshallingError => Failure::Trouble(SourceError {
            kind: SourceErrorKind::Unsupported,
            message: format!(
                "the server refused {what} as malformed (error -5): it runs with \
                 zookeeper.watchManagerName=WatchManagerOptimized, which has no recursive watches; remove that \
                 setting on the servers"
            ),
        }),
        other => Failure::Trouble(SourceError {
            kind: SourceErrorKind::Unavailable,
            message: format!(
                "{what} failed: {}; it is tried again on a new connection",
                words(other)
            ),
        }),
    }
}

/// The error as an operator can read it: without names of types of the client library.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::UnmarshalError { .. } => {
            "the answer is shorter than it announces, or no answer of ZooKeeper".to_owned()
        }
        other => other.to_string(),
    }
}

pub(crate) fn authentication() -> SourceError {
    SourceError {
        kind: SourceErrorKind::Authentication,
        message: "the ensemble refused the credentials of [source.auth]: check user, password and scheme, and that \
                  the servers know them"
            .into(),
    }
}

pub(crate) fn too_old(evidence: &str) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Unsupported,
        message: format!(
            "the server {evidence}: persistent recursive watches need ZooKeeper 3.6 or newer; upgrade the ensemble"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_names_a_type_of_the_client_library() {
        let error = Error::UnmarshalError {
            entity: "zookeeper_client::proto::GetDataResponse",
            reason: &"insufficient buf",
        };
        let Failure::Trouble(trouble) = of_request("a read", &error) else {
            panic!("it is reported")
        };
        assert!(
            trouble.message.contains("a read failed: the answer is shorter"),
            "{}",
            trouble.message
        );
        assert!(!trouble.message.contains("::"), "{}", trouble.message);
    }
}
