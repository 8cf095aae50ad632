//! The state from which logs are read on: a snapshot of one of the folders, or the tree of a new server. Which snapshot is
//! believed is the rule of `evidence`.

use std::fs::File;
use std::path::Path;

use bridge_core::committed::HistoryPosition;
use bridge_transactions::compression::Decompressed;
use bridge_transactions::snapshot::{SnapshotError, SnapshotItem, SnapshotReader};
use bridge_transactions::tree::Tree;

use super::begin::has_begin;
use super::evidence::Evidence;
use super::folder::{FolderError, LogFolder, SnapshotFile};
use super::history::{HistoryError, LogHistory, LogPosition};
use crate::observer::stage::{Stage, StageError};

/// Snapshots that are tried at most, the newest ones.
const TRIES_MAX: usize = 16;

/// Why there is no state to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// A folder cannot be listed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No snapshot can be used.
    #[error(
        "transaction logs: no folder has a snapshot that can be used{}\n\
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

    /// The first answer for a state to begin with up to a zxid: of the newest snapshots those first that are known to be
    /// committed, then the others, then the tree of a new server (`None`) if the logs begin with the first transaction.
    fn first_of<T>(
        &self,
        until: i64,
        applied: &[i64],
        mut answer: impl FnMut(Option<&SnapshotFile>) -> Result<Option<T>, BaseError>,
    ) -> Result<Option<T>, BaseError> {
        let mut snapshots = self.snapshots()?;
        snapshots.retain(|snapshot| snapshot.zxid <= until);
        snapshots.truncate(TRIES_MAX);
        let mut unproved = Vec::new();
        for snapshot in snapshots {
            if !Evidence::of(self.folders, snapshot.zxid, applied).is_committed(snapshot.zxid) {
                unproved.push(snapshot);
            } else if let Some(found) = answer(Some(&snapshot))? {
                return Ok(Some(found));
            }
        }
        for snapshot in &unproved {
            if let Some(found) = answer(Some(snapshot))? {
                return Ok(Some(found));
            }
        }
        match self.is_whole()? {
            true => answer(None),
            false => Ok(None),
        }
    }

    /// The history after a snapshot, with its tree.
    fn history_after(&self, snapshot: Option<&SnapshotFile>) -> Result<LogHistory, BaseError> {
        let folders = self.folders.to_vec();
        let Some(snapshot) = snapshot else {
            let begin = LogPosition {
                zxid: 0,
                payload_crc: None,
                digest: None,
            };
            return Ok(LogHistory::new(
                folders,
                begin,
                Some(Box::new(Tree::of_new_server())),
            ));
        };
        let tree = self.tree(snapshot)?;
        Ok(LogHistory::after_snapshot(folders, snapshot.zxid, tree))
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

    /// The history after a position, from the newest snapshot before it from which the logs lead there.
    pub fn resume(&self, at: &HistoryPosition, applied: &[i64]) -> Result<Resumed, BaseError> {
        let zxid = at.zxid.0.cast_signed();
        // Every transaction of the journal was committed.
        let applied: Vec<i64> = applied.iter().copied().chain([zxid]).collect();
        // From before the position, so that the position itself is read and compared.
        let found = self.first_of(zxid.saturating_sub(1), &applied, |snapshot| {
            match self.resume_after(snapshot, at, &applied) {
                Ok(Resumed::Missing) | Err(BaseError::NoSnapshot { .. }) => Ok(None),
                Ok(found) => Ok(Some(found)),
                Err(error) => Err(error),
            }
        })?;
        Ok(found.unwrap_or(Resumed::Missing))
    }

    fn resume_after(
        &self,
        snapshot: Option<&SnapshotFile>,
        at: &HistoryPosition,
        applied: &[i64],
    ) -> Result<Resumed, BaseError> {
        let zxid = at.zxid.0.cast_signed();
        let mut history = self.history_after(snapshot)?;
        applied.iter().for_each(|zxid| history.applied(*zxid));
        history.end_at(zxid);
        while history.position().zxid < zxid {
            if (self.is_stopped)() {
                return Err(BaseError::Stopped);
            }
            match history.poll() {
                Ok(some) if some.is_empty() && !history.is_scouting() => return Ok(Resumed::Missing),
                Ok(_) => {}
                Err(HistoryError::Tail(error)) => return Err(HistoryError::Tail(error).into()),
                // The tree of the snapshot was never that of the ensemble.
                Err(HistoryError::Digest { .. }) => return Ok(Resumed::Missing),
                Err(HistoryError::OtherHistory { .. }) => return Ok(Resumed::Other),
            }
        }
        history.end_at(i64::MAX);
        let found = *history.position();
        if found.zxid != zxid || at.payload_crc.is_some_and(|crc| found.payload_crc != Some(crc)) {
            return Ok(Resumed::Other);
        }
        if at.digest.is_some_and(|digest| !history.has_digest(digest)) {
            // A tree that a digest has agreed with is the ensemble's, another one may be of a wrong snapshot.
            return Ok(match history.is_proved() {
                true => Resumed::Other,
                false => Resumed::Missing,
            });
        }
        history.record_from_here(at.digest);
        Ok(Resumed::From(Box::new(history)))
    }

    /// The snapshot to begin with as a stage, and the history after it. `refused`: the zxids of those that have turned out
    /// to be wrong.
    pub fn stage(&self, epoch: u32, applied: &[i64], refused: &[i64]) -> Result<Base, BaseError> {
        let mut last = None;
        let found = self.first_of(i64::MAX, applied, |snapshot| {
            let zxid = snapshot.map_or(0, |snapshot| snapshot.zxid);
            if refused.contains(&zxid) {
                return Ok(None);
            }
            let Some(snapshot) = snapshot else {
                return Ok(Some(Base {
                    zxid,
                    name: "the logs from the first transaction on".to_owned(),
                    stage: Stage::before_all_logs(self.stage_folder, epoch)?,
                    history: self.history_after(None)?,
                }));
            };
            let name = snapshot.path.display().to_string();
            let staged = open(snapshot)
                .map_err(StageError::Tree)
                .and_then(|reader| Stage::of_items(self.stage_folder, epoch, zxid, reader, self.is_stopped));
            let stage = match staged {
                Ok(stage) => stage,
                Err(StageError::Tree(error)) => {
                    last = Some(format!("{name}: {error}"));
                    return Ok(None);
                }
                Err(StageError::Stopped) => return Err(BaseError::Stopped),
                Err(error) => return Err(error.into()),
            };
            let history = self.history_after(Some(snapshot))?;
            Ok(Some(Base {
                zxid,
                name,
                stage,
                history,
            }))
        })?;
        found.ok_or(BaseError::NoSnapshot { last })
    }
}

/// How a position is found in the logs.
pub(crate) enum Resumed {
    /// The history after it.
    From(Box<LogHistory>),
    /// No snapshot and the logs after it lead there.
    Missing,
    /// The logs have another transaction there, or another tree.
    Other,
}

/// A tree to begin with.
pub(crate) struct Base {
    /// The zxid of the snapshot, 0 for the tree of a new server.
    pub zxid: i64,
    /// The snapshot's file.
    pub name: String,
    pub stage: Stage,
    /// The history after it.
    pub history: LogHistory,
}

#[cfg(test)]
mod tests;
