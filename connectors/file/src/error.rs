//! Errors of the file system as kinds of failure.

use std::path::Path;

pub(crate) use bridge_core::sink::file_error as at;
use bridge_core::sink::{SinkError, SinkErrorKind};

/// A path that no attempt makes right.
pub(crate) fn unusable(path: &Path, reason: &str) -> SinkError {
    SinkError::new(
        SinkErrorKind::Configuration,
        format!(
            "cannot append to {}: {reason}; give the path of another file",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_refusal_of_the_file_system_has_its_kind() {
        let check = |code: i32, expected: SinkErrorKind| {
            let error = at(
                Path::new("/x/y.jsonl"),
                "write to",
                io::Error::from_raw_os_error(code),
            );
            assert_eq!(error.kind, expected, "{error}");
            assert!(
                error.message.starts_with("cannot write to /x/y.jsonl: "),
                "{error}"
            );
        };
        let (enoent, eio, eacces, enotdir, eisdir, efbig, enospc, erofs, edquot) =
            (2, 5, 13, 20, 21, 27, 28, 30, 122);
        check(enoent, SinkErrorKind::Missing);
        check(eacces, SinkErrorKind::Authorization);
        check(erofs, SinkErrorKind::Authorization);
        check(enospc, SinkErrorKind::Full);
        check(edquot, SinkErrorKind::Full);
        check(efbig, SinkErrorKind::Full);
        check(eisdir, SinkErrorKind::Configuration);
        check(enotdir, SinkErrorKind::Configuration);
        check(eio, SinkErrorKind::Unavailable);
    }
}
