//! Errors of an output stream as kinds of failure.

use std::io;

use bridge_core::sink::{SinkError, SinkErrorKind};

/// An error of the output.
pub(crate) fn of_write(error: io::Error) -> SinkError {
    let (kind, message) = match error.kind() {
        io::ErrorKind::BrokenPipe => (
            SinkErrorKind::Ended,
            "nobody reads the standard output any more".to_owned(),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => (
            SinkErrorKind::Full,
            format!("cannot write to the standard output: {error}"),
        ),
        _ => (
            SinkErrorKind::Unavailable,
            format!("cannot write to the standard output: {error}"),
        ),
    };
    SinkError::new(kind, message).because(error)
}
