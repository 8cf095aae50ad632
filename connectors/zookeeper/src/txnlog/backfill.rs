//! The history of an ensemble from the files of its servers, from the oldest snapshot on that is usable: a tree at exactly
//! one transaction, and the transactions after it.
//!
//! A snapshot is written while the server goes on, so that its tree is exact only a few transactions later: at the first
//! one whose digest is equal. Servers without digests (before 3.6) write one snapshot at a time, so the tree is exact where
//! the next one of the same folder begins. Logs that begin with the first transaction of all need no snapshot.
//!
//! Invariants:
//!
//! 1. Every transaction is committed and follows the one before it without a hole (`history`).
//! 2. A tree that nothing shows to be exact is never read: the next snapshot is tried.

use std::path::{Path, PathBuf};

use bridge_core::committed::{CommittedTxn, HistoryPosition, StagePage, StageRead};
use bridge_transactions::transaction::{Transaction, epoch};
use bridge_transactions::tree::Tree;

use super::as_reason;
use super::base::{BaseError, Sources, open};
use super::evidence::foreign_folders;
use super::fill::poll;
use super::folder::{LogFolder, SnapshotFile};
use super::history::{LogHistory, LogPosition};
use crate::config::AclDigests;
use crate::observer::stage::{Stage, StageError};
use crate::observer::to_core::committed;

/// The files that are read, and how far.
pub struct BackfillRequest<'a> {
    /// The `dataLogDir` of servers, and the `dataDir` where that is another one.
    pub directories: &'a [PathBuf],
    /// For the file of a tree, which is removed as it is made.
    pub folder: &'a Path,
    /// How access control lists are shown.
    pub acl_digests: AclDigests,
    /// Transactions that are known to be committed, and all before them in their epochs.
    pub applied: &'a [i64],
    /// Nothing after it is read. With `i64::MAX` there is no journal, and folders of an epoch after those of `applied` are
    /// left out.
    pub until: i64,
    /// Whether the work is to end.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// No snapshot can be used.
    #[error(
        "no snapshot can be used{}\nhelp: name the dataDir of a server, where its snapshots are, beside its dataLogDir",
        reasons.iter().map(|reason| format!("; {reason}")).collect::<String>()
    )]
    NoSnapshot {
        /// The last ones that were tried, and why they cannot.
        reasons: Vec<String>,
    },
    /// Files cannot be read, or the stage cannot be kept.
    #[error("{0}")]
    Files(String),
    /// The work is to end.
    #[error("it was interrupted")]
    Stopped,
    /// A transaction that is not known.
    #[error("{0}\nhelp: use a newer zkbridge")]
    Unsupported(String),
}

/// Reasons that are kept of snapshots that cannot be used.
const REASONS_MAX: usize = 3;

/// A snapshot, or the tree of a new server where the logs begin with the first transaction.
struct Candidate {
    zxid: i64,
    snapshot: Option<SnapshotFile>,
    /// The zxid of the next snapshot of the same folder: this one was complete before.
    complete_at: Option<i64>,
}

/// A tree, and the history after it.
pub struct LogBackfill {
    stage: Option<Stage>,
    at: HistoryPosition,
    /// Transactions that were read to find where the tree is exact, and come after that.
    rest: Vec<Transaction>,
    history: LogHistory,
    acl_digests: AclDigests,
    left_out: Vec<String>,
}

/// Why a snapshot is passed over.
enum Unusable {
    /// The next one may be usable.
    Reason(String),
    Error(BackfillError),
}

impl From<StageError> for Unusable {
    fn from(error: StageError) -> Unusable {
        match error {
            StageError::Stopped => Unusable::Error(BackfillError::Stopped),
            StageError::Tree(_)
            | StageError::Hole { .. }
            | StageError::Unproved(_)
            | StageError::Znode(_) => Unusable::Reason(error.to_string()),
            StageError::File(_) | StageError::NoFile(_) | StageError::Lists { .. } => {
                Unusable::Error(BackfillError::Files(error.to_string()))
            }
        }
    }
}

impl From<BaseError> for Unusable {
    fn from(error: BaseError) -> Unusable {
        match error {
            BaseError::Stopped => Unusable::Error(BackfillError::Stopped),
            BaseError::Stage(error) => error.into(),
            BaseError::Folder(error) => Unusable::Error(BackfillError::Files(error.to_string())),
            BaseError::NoSnapshot { last } => Unusable::Reason(last.unwrap_or_default()),
            BaseError::History(error) => Unusable::Reason(as_reason(&error)),
        }
    }
}

impl LogBackfill {
    /// Finds the oldest usable snapshot of a later zxid than `after`.
    ///
    /// # Errors
    ///
    /// If there is none, or a folder or the stage cannot be read or written.
    pub fn begin(request: &BackfillRequest<'_>, after: Option<i64>) -> Result<LogBackfill, BackfillError> {
        let mut folders: Vec<LogFolder> = request
            .directories
            .iter()
            .map(|path| LogFolder::new(path))
            .collect();
        let mut left_out = Vec::new();
        if request.until == i64::MAX {
            let foreign = foreign_folders(&folders, request.applied);
            let foreign = foreign.map_err(|error| BackfillError::Files(error.to_string()))?;
            folders.retain(|folder| foreign.iter().all(|one| one.path != folder.named()));
            left_out.extend(foreign.iter().map(ToString::to_string));
            if folders.is_empty() && !left_out.is_empty() {
                return Err(BackfillError::Files(left_out.join("; ")));
            }
        }
        let sources = Sources {
            folders: &folders,
            stage_folder: request.folder,
            is_stopped: request.is_stopped,
        };
        let failed = |error: BaseError| BackfillError::Files(error.to_string());
        let mut reasons = Vec::new();
        for candidate in candidates(&sources).map_err(failed)? {
            let is_wanted =
                after.is_none_or(|after| candidate.zxid > after) && candidate.zxid <= request.until;
            if !is_wanted {
                continue;
            }
            match LogBackfill::of(&candidate, &sources, request) {
                Ok(backfill) => return Ok(LogBackfill { left_out, ..backfill }),
                Err(Unusable::Error(error)) => return Err(error),
                Err(Unusable::Reason(reason)) => {
                    if reasons.len() == REASONS_MAX {
                        reasons.remove(0);
                    }
                    reasons.push(format!("{}: {reason}", candidate.name()));
                }
            }
        }
        Err(BackfillError::NoSnapshot { reasons })
    }

    fn of(
        candidate: &Candidate,
        sources: &Sources<'_>,
        request: &BackfillRequest<'_>,
    ) -> Result<LogBackfill, Unusable> {
        let epoch = epoch_of(sources, request.applied)?;
        let (mut stage, mut history) = candidate.load(sources, epoch)?;
        request.applied.iter().for_each(|zxid| history.applied(*zxid));
        history.end_with_epoch(epoch);
        history.end_at(request.until);
        stage.up_to_date();
        let mut rest = Vec::new().into_iter();
        while !candidate.is_exact(&stage, &history) {
            if (request.is_stopped)() {
                return Err(Unusable::Error(BackfillError::Stopped));
            }
            let Some(next) = rest.next() else {
                let taken = poll(&mut history).map_err(|error| Unusable::Reason(as_reason(&error)))?;
                if taken.is_empty() {
                    return Err(Unusable::Reason(end_of(
                        &history,
                        "nothing shows that it is exact",
                    )));
                }
                rest = taken.into_iter();
                continue;
            };
            stage.take(&next)?;
        }
        let at = stage.exact_at().expect("it is exact");
        Ok(LogBackfill {
            stage: Some(stage),
            at,
            rest: rest.collect(),
            history,
            acl_digests: request.acl_digests,
            left_out: Vec::new(),
        })
    }

    /// The position of the tree. Its epoch is the newest in the files.
    pub fn at(&self) -> HistoryPosition {
        self.at
    }

    /// Some znodes of the tree.
    ///
    /// # Errors
    ///
    /// If the stage cannot be read.
    ///
    /// # Panics
    ///
    /// After [`LogBackfill::next_transactions`] was called.
    pub fn page(&self, read: &StageRead) -> Result<StagePage, BackfillError> {
        let stage = self
            .stage
            .as_ref()
            .expect("the tree is read before the transactions");
        let page = stage.page(read, self.acl_digests);
        page.map_err(|error| BackfillError::Files(error.to_string()))
    }

    /// The next transactions, at first those after the tree, which is dropped; none at the end.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Files`] if a log cannot be read on: the history ends at [`LogBackfill::position`].
    pub fn next_transactions(&mut self) -> Result<Vec<CommittedTxn>, BackfillError> {
        self.stage = None;
        let taken = match self.rest.is_empty() {
            true => poll(&mut self.history).map_err(|error| BackfillError::Files(error.to_string()))?,
            false => std::mem::take(&mut self.rest),
        };
        let converted: Result<Vec<_>, String> = taken
            .into_iter()
            .map(|transaction| committed(transaction, self.acl_digests))
            .collect();
        converted.map_err(BackfillError::Unsupported)
    }

    /// The folders that are not read, because they are of another ensemble, and why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The last transaction that was read.
    pub fn position(&self) -> i64 {
        self.history.position().zxid
    }

    /// Whether the logs have later transactions, and lack those between.
    pub fn has_hole(&self) -> bool {
        self.history.hole().is_some()
    }

    /// Why nothing more follows.
    pub fn reason(&self) -> String {
        end_of(&self.history, "no log has more")
    }
}

impl Candidate {
    fn name(&self) -> String {
        match &self.snapshot {
            Some(snapshot) => snapshot.path.display().to_string(),
            None => "the logs from the first transaction on".to_owned(),
        }
    }

    fn load(&self, sources: &Sources<'_>, epoch: u32) -> Result<(Stage, LogHistory), Unusable> {
        let folders = sources.folders.to_vec();
        let Some(snapshot) = &self.snapshot else {
            let begin = LogPosition {
                zxid: 0,
                payload_crc: None,
                digest: None,
            };
            let history = LogHistory::new(folders, begin, Some(Box::new(Tree::of_new_server())));
            return Ok((Stage::before_all_logs(sources.stage_folder, epoch)?, history));
        };
        let reader = open(snapshot).map_err(|error| Unusable::Reason(error.to_string()))?;
        let stage = Stage::of_items(
            sources.stage_folder,
            epoch,
            snapshot.zxid,
            reader,
            sources.is_stopped,
        )?;
        let history = LogHistory::after_snapshot(folders, snapshot.zxid, sources.tree(snapshot)?);
        Ok((stage, history))
    }

    /// Whether the tree is the one at the position of the stage.
    fn is_exact(&self, stage: &Stage, history: &LogHistory) -> bool {
        let is_settled = self.snapshot.is_none() || self.complete_at.is_some_and(|zxid| stage.zxid() >= zxid);
        let is_committed = || history.is_committed(self.zxid);
        stage.exact_at().is_some() && (stage.is_proved() || is_settled && is_committed())
    }
}

/// All candidates, the oldest first.
fn candidates(sources: &Sources<'_>) -> Result<Vec<Candidate>, BaseError> {
    let mut found = Vec::new();
    for folder in sources.folders {
        let snapshots = folder.snapshots()?;
        for (at, snapshot) in snapshots.iter().enumerate() {
            found.push(Candidate {
                zxid: snapshot.zxid,
                snapshot: Some(snapshot.clone()),
                complete_at: snapshots.get(at + 1).map(|next| next.zxid),
            });
        }
    }
    found.sort_by_key(|candidate| candidate.zxid);
    if sources.is_whole()? {
        let first = Candidate {
            zxid: 0,
            snapshot: None,
            complete_at: None,
        };
        found.insert(0, first);
    }
    Ok(found)
}

/// The newest epoch that is known.
fn epoch_of(sources: &Sources<'_>, applied: &[i64]) -> Result<u32, BaseError> {
    let mut newest = applied.iter().copied().max().unwrap_or_default();
    for folder in sources.folders {
        newest = newest.max(folder.logs()?.last().map_or(0, |log| log.first));
    }
    Ok(epoch(newest))
}

/// Why a history has no more.
fn end_of(history: &LogHistory, otherwise: &str) -> String {
    let end = history.position().zxid;
    if let Some(hole) = history.hole() {
        return format!(
            "the logs have no transaction between 0x{:016x} and 0x{:016x}, or nothing shows that there is none",
            hole.last, hole.next
        );
    }
    if let Some(obstacle) = history.obstacles().next() {
        return format!(
            "{} has no whole transaction at byte {}: examine it with zkbridge log --check",
            obstacle.path.display(),
            obstacle.at
        );
    }
    match history.is_waiting() {
        true => format!(
            "the transactions after 0x{end:016x} are logged, and nothing shows that they are committed: let a server of \
             connect run"
        ),
        false => format!("the logs end at 0x{end:016x}, and {otherwise}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txnlog::{FolderError, HistoryError, TailError};

    #[test]
    fn snapshots_that_cannot_be_used_have_one_remedy_whatever_is_wrong_with_each() {
        let reasons = (0..REASONS_MAX).map(|_| {
            let cause = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            let folder = PathBuf::from("/logs");
            let error = FolderError::Io { folder, cause };
            match BaseError::History(HistoryError::Tail(TailError::Folder(error))).into() {
                Unusable::Reason(reason) => reason,
                Unusable::Error(error) => panic!("{error}"),
            }
        });
        let text = BackfillError::NoSnapshot {
            reasons: reasons.collect(),
        }
        .to_string();
        assert!(text.contains("/logs: permission denied"), "{text}");
        assert_eq!(text.matches("help: ").count(), 1, "{text}");
    }
}
