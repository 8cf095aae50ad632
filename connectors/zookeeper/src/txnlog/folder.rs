//! The files of a folder with transaction logs and snapshots, by the zxids in their names.

use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};

use bridge_transactions::compression::Compression;
use bridge_transactions::log_file::zxid_of_log;
use bridge_transactions::snapshot::zxid_of_snapshot;

/// The folder below `dataDir` and `dataLogDir` in which servers write.
const VERSION_FOLDER: &str = "version-2";

/// Files of a folder at most. A server with `autopurge` keeps a few, one without some thousands.
const FILES_MAX: usize = 1_000_000;

/// A folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be listed.
    #[error(
        "folder of transaction logs: {}: {cause}\nhelp: name the server's dataLogDir (or dataDir), and let this user read it",
        folder.display()
    )]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// It has more files than any server writes.
    #[error(
        "folder of transaction logs: {}: more than {FILES_MAX} files\nhelp: name the server's dataLogDir",
        folder.display()
    )]
    Large {
        /// The folder.
        folder: PathBuf,
    },
}

/// A transaction log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// The zxid in its name: that of its first transaction.
    pub first: i64,
    /// Its path.
    pub path: PathBuf,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The zxid in its name: the last transaction that is in it for certain.
    pub zxid: i64,
    /// How it is compressed.
    pub compression: Compression,
    /// Its path.
    pub path: PathBuf,
}

/// A folder in which a server writes.
#[derive(Clone, Debug)]
pub struct LogFolder {
    path: PathBuf,
}

impl LogFolder {
    /// The folder of a server whose `dataDir` or `dataLogDir` this is; also `version-2` itself.
    pub fn new(path: &Path) -> LogFolder {
        let path = path.to_owned();
        LogFolder { path }
    }

    /// As it is configured.
    pub fn named(&self) -> &Path {
        &self.path
    }

    /// The folder that the files are in at present: a new server makes `version-2` at its first start.
    pub fn path(&self) -> PathBuf {
        let below = self.path.join(VERSION_FOLDER);
        if below.is_dir() { below } else { self.path.clone() }
    }

    /// The transaction logs, in the order of their zxids.
    ///
    /// # Errors
    ///
    /// If the folder cannot be listed.
    pub fn logs(&self) -> Result<Vec<LogFile>, FolderError> {
        let mut logs = self.files(|name, path| {
            let first = zxid_of_log(name)?;
            Some(LogFile { first, path })
        })?;
        logs.sort();
        Ok(logs)
    }

    /// The snapshots, in the order of their zxids.
    ///
    /// # Errors
    ///
    /// If the folder cannot be listed.
    pub fn snapshots(&self) -> Result<Vec<SnapshotFile>, FolderError> {
        let mut snapshots = self.files(|name, path| {
            let (zxid, compression) = zxid_of_snapshot(name)?;
            Some(SnapshotFile {
                zxid,
                compression,
                path,
            })
        })?;
        snapshots.sort_by_key(|snapshot| snapshot.zxid);
        Ok(snapshots)
    }

    /// The regular files with a known name: nothing else is ever opened.
    fn files<T>(&self, known: impl Fn(&str, PathBuf) -> Option<T>) -> Result<Vec<T>, FolderError> {
        let folder = self.path();
        let failed = |cause| FolderError::Io {
            folder: folder.clone(),
            cause,
        };
        let mut files = Vec::new();
        for (at, entry) in std::fs::read_dir(&folder).map_err(failed)?.enumerate() {
            if at == FILES_MAX {
                return Err(FolderError::Large { folder });
            }
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(file) = name.to_str().and_then(|name| known(name, entry.path())) else {
                continue;
            };
            if is_regular(&entry).map_err(failed)? {
                files.push(file);
            }
        }
        Ok(files)
    }
}

/// Whether an entry is a regular file, or a link to one.
fn is_regular(entry: &DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if !kind.is_symlink() {
        return Ok(kind.is_file());
    }
    match std::fs::metadata(entry.path()) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_folder_are_found_by_their_names_and_sorted_as_numbers() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(VERSION_FOLDER);
        let found_before = LogFolder::new(home.path());
        assert_eq!(found_before.logs().unwrap(), []);
        std::fs::create_dir(&folder).unwrap();
        for name in ["log.1", "snapshot.1"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(home.path(), folder.join("log.2")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.join("log.3")).unwrap();
        for name in [
            "log.9",
            "log.10",
            "log.200000001",
            "snapshot.f.gz",
            "snapshot.0",
            "acceptedEpoch",
            "log.x",
        ] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let named = [home.path(), folder.as_path()].map(LogFolder::new);
        for found in named.into_iter().chain([found_before]) {
            assert_eq!(found.path(), folder);
            let logs: Vec<i64> = found.logs().unwrap().iter().map(|log| log.first).collect();
            assert_eq!(logs, [9, 0x10, 0x2_0000_0001]);
            let snapshots = found.snapshots().unwrap();
            let snapshots: Vec<(i64, Compression)> =
                snapshots.iter().map(|one| (one.zxid, one.compression)).collect();
            assert_eq!(snapshots, [(0, Compression::Plain), (0xf, Compression::Gzip)]);
        }
        let missing = LogFolder::new(&home.path().join("missing"))
            .logs()
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("missing: No such file") && missing.contains("help: name the server's"),
            "{missing}"
        );
    }
}
