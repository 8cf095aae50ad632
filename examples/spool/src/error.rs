//! The file system's errors as kinds of the engine.

use std::io;
use std::path::Path;

use bridge_core::sink::{SinkError, SinkErrorKind};

/// An error of the file system at a path, with what was tried.
pub(crate) fn at(path: &Path, tried: &str, error: io::Error) -> SinkError {
    let message = format!("cannot {tried} {}: {error}", path.display());
    SinkError::new(kind(&error), message).because(error)
}

fn kind(error: &io::Error) -> SinkErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => SinkErrorKind::Missing,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => SinkErrorKind::Authorization,
        Io::StorageFull | Io::QuotaExceeded => SinkErrorKind::Full,
        Io::AlreadyExists | Io::NotADirectory | Io::InvalidFilename => SinkErrorKind::Configuration,
        // Input and output errors, stale handles of network file systems: a later attempt may do.
        _ => SinkErrorKind::Unavailable,
    }
}

/// The sink was used before it was opened, or its thread is gone: opening it again heals both.
pub(crate) fn broken(message: &str) -> SinkError {
    SinkError::new(SinkErrorKind::Broken, message)
}

/// The file with the number of the last file holds something else.
pub(crate) fn no_number(path: &Path, text: &str) -> SinkError {
    let message = format!(
        "{} holds {text:?} and no number: write there the highest number that a file in `new` ever had",
        path.display()
    );
    SinkError::new(SinkErrorKind::Configuration, message)
}
