//! The files that a command line names: as they are, or the logs of a folder.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bridge_transactions::compression::Compression;
use bridge_transactions::log_file::{LOG_MAGIC, zxid_of_log};
use bridge_transactions::snapshot::{SNAPSHOT_MAGIC, zxid_of_snapshot};
use bridge_zookeeper::txnlog::{FolderError, LogFolder};

use crate::exit::{Exit, Failure};

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction log.
    Log,
    /// A snapshot.
    Snapshot(Compression),
}

/// A file to read.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file.
    pub path: PathBuf,
    /// Its kind.
    pub kind: Kind,
    /// The zxid in its name, if the name has one.
    pub zxid: Option<i64>,
    /// The folder that was named; `None` if the file itself was.
    pub folder: Option<PathBuf>,
}

impl Input {
    /// Whether a folder was named and not this file.
    pub fn is_of_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// The failure of a file that cannot be read.
    pub fn unreadable(&self, cause: &io::Error) -> Failure {
        unreadable(&self.path, cause)
    }
}

fn unreadable(path: &Path, cause: &io::Error) -> Failure {
    let message = format!(
        "{}: {cause}\nhelp: name a file or folder of ZooKeeper that this user may read",
        path.display()
    );
    Failure::new(Exit::Environment, message)
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Failure {
        Failure::new(Exit::Environment, error.to_string())
    }
}

/// The files of a command line, in its order; those of a folder in the order of their zxids.
pub fn resolve(named: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in named {
        let meta = std::fs::metadata(path).map_err(|cause| unreadable(path, &cause))?;
        if meta.is_file() {
            inputs.push(of_file(path)?);
            continue;
        }
        // A pipe or a device would be waited for.
        if !meta.is_dir() {
            let cause = io::Error::other("neither a regular file nor a folder");
            return Err(unreadable(path, &cause));
        }
        let folder = LogFolder::new(path);
        let logs = folder.logs()?;
        if logs.is_empty() {
            let message = format!(
                "{}: no transaction log is in this folder\nhelp: name the server's dataLogDir, or its dataDir if there is none",
                folder.path().display()
            );
            return Err(Failure::new(Exit::Environment, message));
        }
        inputs.extend(logs.into_iter().map(|log| Input {
            path: log.path,
            kind: Kind::Log,
            zxid: Some(log.first),
            folder: Some(folder.path().to_owned()),
        }));
    }
    Ok(inputs)
}

/// The one folder that a command line names.
pub fn only_folder(named: &[PathBuf]) -> Result<LogFolder, Failure> {
    match named {
        [folder] if folder.is_dir() => Ok(LogFolder::new(folder)),
        _ => Err(Failure::new(
            Exit::Configuration,
            "--follow: a server goes on in new files\nhelp: name one folder and no file",
        )),
    }
}

/// A file by its name, and where the name says nothing, by its first bytes.
fn of_file(path: &Path) -> Result<Input, Failure> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let (kind, zxid) = match (zxid_of_log(name), zxid_of_snapshot(name)) {
        (Some(first), _) => (Kind::Log, Some(first)),
        (_, Some((zxid, compression))) => (Kind::Snapshot(compression), Some(zxid)),
        (None, None) => (by_content(path, name)?, None),
    };
    Ok(Input {
        path: path.to_owned(),
        kind,
        zxid,
        folder: None,
    })
}

fn by_content(path: &Path, name: &str) -> Result<Kind, Failure> {
    let mut begin = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(8).read_to_end(&mut begin));
    read.map_err(|cause| unreadable(path, &cause))?;
    let kind = match begin.as_slice() {
        begin if begin.starts_with(&LOG_MAGIC) => Kind::Log,
        begin if begin.starts_with(&SNAPSHOT_MAGIC) => Kind::Snapshot(Compression::Plain),
        [0x1f, 0x8b, ..] => Kind::Snapshot(Compression::Gzip),
        begin if begin.starts_with(b"\x82SNAPPY") => Kind::Snapshot(Compression::Snappy),
        other => {
            let begin = match other {
                [] => "is empty".to_owned(),
                some => format!("begins with {some:02x?}"),
            };
            let message = format!(
                "{}: neither a transaction log nor a snapshot: '{name}' is no name of one, and it {begin}\n\
                 help: name a file of ZooKeeper, such as version-2/log.100000001",
                path.display()
            );
            return Err(Failure::new(Exit::Environment, message));
        }
    };
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_refused_and_not_waited_for_and_an_empty_file_is_called_so() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, empty) = (folder.path().join("pipe"), folder.path().join("empty"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        std::fs::write(&empty, "").unwrap();
        for (path, reason) in [
            (pipe, "neither a regular file nor a folder"),
            (empty, "and it is empty"),
        ] {
            let refused = resolve(&[path]).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
