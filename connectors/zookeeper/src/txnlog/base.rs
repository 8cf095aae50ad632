//! The state from which logs are read on: a snapshot of one of the folders, or the tree of a new server.

use std::fs::File;
use std::path::Path;

use bridge_core::committed::HistoryPosition;
use bridge_transactions::compression::Decompressed;
use bridge_transactions::snapshot::{SnapshotError, SnapshotItem, SnapshotReader};
use bridge_transactions::tree::Tree;

use super::as_reason;
use super::begin::has_begin;
use super::folder::{FolderError, LogFolder, SnapshotFile};
use super::history::{HistoryError, LogHistory, LogPosition};
use crate::observer::stage::{Stage, StageError};

/// Why there is no state to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// A folder cannot be listed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No snapshot can be read.
    #[error(
        "transaction logs: no folder has a snapshot that can be read{}\n\
         help: name the dataDir of a server, where its snapshots are, beside its dataLogDir",
        last.as_ref().map(|error| format!("; the last one: {error}")).unwrap_or_default()
    )]
    NoSnapshot {
        /// The error of the last one that was tried.
        last: Option<String>,
    },
    /// The stage cannot be made.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The logs cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The bridge stops.
    #[error("the bridge stops")]
    Stopped,
}

/// The folders, and what is needed to read them.
pub(crate) struct Sources<'a> {
    /// The folders of logs and snapshots.
    pub folders: &'a [LogFolder],
    /// For the file of a stage.
    pub stage_folder: &'a Path,
    /// Whether the bridge stops.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

pub(super) type Reader = SnapshotReader<Decompressed<File>>;

pub(super) fn open(snapshot: &SnapshotFile) -> Result<Reader, SnapshotError> {
    let file = File::open(&snapshot.path).map_err(|cause| SnapshotError::Io { at: 0, cause })?;
    SnapshotReader::new(Decompressed::new(file, snapshot.compression))
}

impl Sources<'_> {
    /// The snapshots of all folders, the newest first.
    fn snapshots(&self) -> Result<Vec<SnapshotFile>, BaseError> {
        let mut snapshots = Vec::new();
        for folder in self.folders {
            snapshots.extend(folder.snapshots()?);
        }
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.zxid));
        Ok(snapshots)
    }

    /// Whether the logs begin with the first transaction of all.
    pub(super) fn is_whole(&self) -> Result<bool, BaseError> {
        for folder in self.folders {
            if has_begin(folder).map_err(HistoryError::from)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The history after the newest snapshot up to a zxid, with its tree.
    fn history_up_to(&self, zxid: i64) -> Result<LogHistory, BaseError> {
        let mut last = None;
        for snapshot in self.snapshots()?.into_iter().filter(|one| one.zxid <= zxid) {
            match self.tree(&snapshot) {
                Ok(tree) => {
                    return Ok(LogHistory::after_snapshot(
                        self.folders.to_vec(),
                        snapshot.zxid,
                        tree,
                    ));
                }
                Err(BaseError::Stopped) => return Err(BaseError::Stopped),
                Err(error) => last = Some(format!("{}: {}", snapshot.path.display(), as_reason(&error))),
            }
        }
        match self.is_whole()? {
            true => {
                let begin = LogPosition {
                    zxid: 0,
                    payload_crc: None,
                    digest: None,
                };
                let tree = Some(Box::new(Tree::of_new_server()));
                Ok(LogHistory::new(self.folders.to_vec(), begin, tree))
            }
            false => Err(BaseError::NoSnapshot { last }),
        }
    }

    pub(super) fn tree(&self, snapshot: &SnapshotFile) -> Result<Box<Tree>, BaseError> {
        let failed = |error: SnapshotError| BaseError::NoSnapshot {
            last: Some(error.to_string()),
        };
        let mut reader = open(snapshot).map_err(failed)?;
        let mut tree = Box::new(Tree::default());
        while let Some(item) = reader.next_item().map_err(failed)? {
            match item {
                SnapshotItem::Session { id, .. } => tree.insert_session(id),
                SnapshotItem::AclList { .. } | SnapshotItem::End(_) => {}
                SnapshotItem::Znode(znode) => tree.insert(&znode.path, znode.data.as_deref(), znode.stat),
            }
            if tree.len().is_multiple_of(1_024) && (self.is_stopped)() {
                return Err(BaseError::Stopped);
            }
        }
        Ok(tree)
    }

    /// The history after a position, if the logs have it; `None` if they do not, or another one.
    pub fn resume(&self, at: &HistoryPosition, applied: &[i64]) -> Result<Option<LogHistory>, BaseError> {
        let zxid = at.zxid.0.cast_signed();
        // From before the position, so that the position itself is read and compared.
        let mut history = match self.history_up_to(zxid.saturating_sub(1)) {
            Ok(history) => history,
            Err(BaseError::NoSnapshot { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        applied.iter().for_each(|zxid| history.applied(*zxid));
        // Every transaction of the journal was committed.
        history.applied(zxid);
        history.end_at(zxid);
        while history.position().zxid < zxid {
            if (self.is_stopped)() {
                return Err(BaseError::Stopped);
            }
            match history.poll() {
                Ok(some) if some.is_empty() && !history.is_scouting() => return Ok(None),
                Ok(_) => {}
                Err(HistoryError::Tail(error)) => return Err(HistoryError::Tail(error).into()),
                Err(_) => return Ok(None),
            }
        }
        history.end_at(i64::MAX);
        let found = *history.position();
        let is_same = found.zxid == zxid && at.payload_crc.is_none_or(|crc| found.payload_crc == Some(crc));
        let is_known = at.digest.is_none_or(|digest| history.has_digest(digest));
        history.record_from_here(at.digest);
        Ok((is_same && is_known).then_some(history))
    }

    /// The newest snapshot as a stage, and the history after it.
    pub fn stage(&self, epoch: u32) -> Result<(Stage, LogHistory), BaseError> {
        let mut last = None;
        for snapshot in self.snapshots()? {
            let staged = open(&snapshot).map_err(StageError::Tree).and_then(|reader| {
                Stage::of_items(self.stage_folder, epoch, snapshot.zxid, reader, self.is_stopped)
            });
            let stage = match staged {
                Ok(stage) => stage,
                Err(StageError::Tree(error)) => {
                    last = Some(format!("{}: {error}", snapshot.path.display()));
                    continue;
                }
                Err(StageError::Stopped) => return Err(BaseError::Stopped),
                Err(error) => return Err(error.into()),
            };
            let tree = self.tree(&snapshot)?;
            let history = LogHistory::after_snapshot(self.folders.to_vec(), snapshot.zxid, tree);
            return Ok((stage, history));
        }
        if self.is_whole()? {
            let stage = Stage::before_all_logs(self.stage_folder, epoch)?;
            return Ok((stage, self.history_up_to(0)?));
        }
        Err(BaseError::NoSnapshot { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_whose_snapshots_cannot_be_read_have_one_remedy() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("snapshot.1"), "no snapshot").unwrap();
        let sources = Sources {
            folders: &[LogFolder::new(home.path())],
            stage_folder: home.path(),
            is_stopped: &|| false,
        };
        let Err(refused) = sources.history_up_to(9) else {
            panic!("there is no state");
        };
        let text = refused.to_string();
        assert!(text.contains("snapshot.1: "), "{text}");
        assert_eq!(text.matches("help: ").count(), 1, "{text}");
    }
}
