//! The files of SQLite beside a journal. They belong to the file of their name: beside another one, SQLite would write
//! their content into it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::folder::remove_if_there;

/// The logs, which have content that the file lacks or has too much. A journal has the first one, and the second one while
/// a file is converted, or beside a file of another program.
pub(super) const LOGS: [&str; 2] = ["-wal", "-journal"];

/// All of them.
pub(super) const COMPANIONS: [&str; 3] = [LOGS[0], "-shm", LOGS[1]];

/// The path of a file with a suffix at the end of its name.
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}

/// A log with content beside a file, which need not be there.
pub fn log_beside(file: &Path) -> Option<PathBuf> {
    let mut logs = LOGS.iter().map(|suffix| beside(file, suffix));
    logs.find(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0))
}

/// Removes the files of SQLite beside a file, for another one that gets its name. No program may have it open to write.
///
/// # Errors
///
/// If one is there and cannot be removed.
pub fn remove_companions(file: &Path) -> io::Result<()> {
    COMPANIONS
        .iter()
        .try_for_each(|suffix| remove_if_there(&beside(file, suffix)))
}
