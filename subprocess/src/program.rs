//! Finds the program of a command as a start of it would, and sorts the reasons why none starts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bridge_core::sink::{SinkError, SinkErrorKind};
use nix::unistd::{AccessFlags, access};

use crate::command::ChildCommand;

/// The kernel knows no way to run a file.
const ENOEXEC: i32 = 8;

impl ChildCommand {
    /// The absolute path of the program: a file that this user may execute. Reads the file system, so call it where that
    /// may block.
    ///
    /// # Errors
    ///
    /// The program or the working directory is not there or cannot be used; the error has its path.
    pub fn find(&self) -> Result<PathBuf, SinkError> {
        if !self.directory.is_dir() {
            return Err(SinkError::new(
                SinkErrorKind::Missing,
                format!(
                    "the working directory {} is missing or no folder: create it, or name another one",
                    self.directory.display()
                ),
            ));
        }
        let name = self.words.first().map_or("", String::as_str);
        if name.contains('/') {
            let program = PathBuf::from(name);
            examine(&program)?;
            return Ok(program);
        }
        let mut refused = None;
        for folder in self.folders().split(':').filter(|folder| folder.starts_with('/')) {
            let program = Path::new(folder).join(name);
            match examine(&program) {
                Ok(()) => return Ok(program),
                Err(found) if found.kind == SinkErrorKind::Missing => {}
                Err(found) => refused = refused.or(Some(found)),
            }
        }
        let missing =
            "no folder of PATH has it: install it, give its absolute path, or set PATH among its variables";
        Err(refused.unwrap_or_else(|| unusable(Path::new(name), SinkErrorKind::Missing, missing)))
    }
}

fn examine(program: &Path) -> Result<(), SinkError> {
    let metadata = fs::metadata(program).map_err(|cause| unstartable(program, cause))?;
    if !metadata.is_file() {
        let reason = "it is not a file: give the path of a program";
        return Err(unusable(program, SinkErrorKind::Configuration, reason));
    }
    access(program, AccessFlags::X_OK).map_err(|_| {
        let reason = "this user may not execute it: change its mode";
        unusable(program, SinkErrorKind::Authorization, reason)
    })
}

fn unusable(program: &Path, kind: SinkErrorKind, reason: &str) -> SinkError {
    SinkError::new(kind, format!("cannot run {}: {reason}", program.display()))
}

/// A start that failed, or a program that cannot be examined.
pub(crate) fn unstartable(program: &Path, error: io::Error) -> SinkError {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::NotFound => SinkErrorKind::Missing,
        Io::PermissionDenied => SinkErrorKind::Authorization,
        Io::NotADirectory | Io::InvalidInput | Io::InvalidFilename | Io::ArgumentListTooLong => {
            SinkErrorKind::Configuration
        }
        _ if error.raw_os_error() == Some(ENOEXEC) => SinkErrorKind::Configuration,
        // No process, memory or file is free, or the program is being written: a later attempt may do.
        _ => SinkErrorKind::Unavailable,
    };
    let hint = match kind {
        SinkErrorKind::Missing if program.exists() => {
            "; the interpreter of its first line, or the working directory, is missing"
        }
        SinkErrorKind::Configuration if error.raw_os_error() == Some(ENOEXEC) => {
            "; a script begins with a line such as #!/bin/sh"
        }
        _ => "",
    };
    SinkError::new(kind, format!("cannot run {}: {error}{hint}", program.display())).because(error)
}
