//! The logs of one server as a part of a history: what is read ahead, what comes next, and what is passed over.

use std::collections::VecDeque;
use std::path::PathBuf;

use bridge_transactions::transaction::{Operation, Transaction, can_follow, epoch};

use super::{HistoryError, LogPosition, begins_ensemble};
use crate::txnlog::begin::{BEGIN_MAX, BeginSearch};
use crate::txnlog::evidence::Evidence;
use crate::txnlog::folder::LogFolder;
use crate::txnlog::tail::LogTail;

/// Requests that failed at the beginning of an epoch that are read in search of the first transaction with a digest.
const FAILED_AHEAD_MAX: usize = 65_536;

/// The transaction whose digest shows whether an epoch ended with the one before it.
pub(super) enum Witness<'a> {
    Found(&'a Transaction),
    /// The log ends before it.
    Awaited,
    /// There is none: the server writes no digests.
    Missing,
}

#[derive(Debug)]
pub(super) struct FolderHistory {
    pub(super) files: LogFolder,
    pub(super) path: PathBuf,
    /// Reads ahead for the ends of epochs.
    pub(super) scout: LogTail,
    pub(super) scouted: Option<i64>,
    pub(super) reader: LogTail,
    /// What was read and not returned.
    pub(super) queue: VecDeque<Transaction>,
    /// Of each epoch, the first dead record after the position that was passed over.
    dead: Vec<i64>,
}

impl FolderHistory {
    pub(super) fn new(folder: LogFolder, zxid: i64) -> FolderHistory {
        // The transaction at the position is read again, to compare it.
        let before = zxid.saturating_sub(1);
        FolderHistory {
            files: folder.clone(),
            path: folder.path(),
            scout: LogTail::new(folder.clone(), before),
            scouted: None,
            reader: LogTail::new(folder, before),
            queue: VecDeque::new(),
            dead: Vec::new(),
        }
    }
}

impl FolderHistory {
    pub(super) fn witness(&self) -> Witness<'_> {
        let mut last: Option<i64> = None;
        for next in &self.queue {
            // A malformed request is logged as an error under the zxid before it.
            let follows = |last| can_follow(next.zxid, last) || next.zxid == last;
            if !last.is_none_or(follows) {
                return Witness::Missing;
            }
            match (next.digest, &next.operation) {
                (Some(_), _) => return Witness::Found(next),
                (None, Operation::Error { .. }) => last = Some(next.zxid),
                (None, _) => return Witness::Missing,
            }
        }
        match self.queue.len() < FAILED_AHEAD_MAX {
            true => Witness::Awaited,
            false => Witness::Missing,
        }
    }

    /// Reads on where the front begins a later epoch without a digest, or perhaps an ensemble.
    fn look_for_witness(&mut self, position: &LogPosition) -> Result<(), HistoryError> {
        let is_later = |front: &Transaction| epoch(front.zxid) > epoch(position.zxid);
        let is_undecided = |folder: &FolderHistory, front: &Transaction| {
            let is_begin = begins_ensemble(position, front) && folder.queue.len() < BEGIN_MAX;
            is_begin && BeginSearch::new().look(&folder.queue).is_none()
        };
        while let Some(front) = self.queue.front().filter(|front| is_later(front))
            && (matches!(self.witness(), Witness::Awaited) || is_undecided(self, front))
        {
            let more = self.reader.poll()?;
            if more.is_empty() {
                break;
            }
            self.queue.extend(more);
        }
        Ok(())
    }

    /// Whether a record was never committed, as far as is known, and its server has given it up: the leader of a later
    /// epoch did not have it.
    fn is_dead(&self, zxid: i64, evidence: &Evidence) -> bool {
        let is_left = self.scouted.is_some_and(|last| epoch(last) > epoch(zxid));
        is_left && !evidence.is_partial && !evidence.is_committed(zxid)
    }

    /// Passes over what was returned already, what was left out at the end of an earlier epoch, and dead records.
    pub(super) fn pass_known(
        &mut self,
        position: &LogPosition,
        evidence: &Evidence,
    ) -> Result<(), HistoryError> {
        self.dead.retain(|zxid| *zxid > position.zxid);
        if self.dead.iter().any(|zxid| evidence.is_committed(*zxid)) {
            self.dead.clear();
            self.queue.clear();
            self.reader = LogTail::new(self.files.clone(), position.zxid.saturating_sub(1));
        }
        loop {
            let Some(front) = self.queue.front() else {
                self.queue.extend(self.reader.poll()?);
                if self.queue.is_empty() {
                    return Ok(());
                }
                continue;
            };
            if front.zxid > position.zxid {
                let zxid = front.zxid;
                if !self.is_dead(zxid, evidence) {
                    return self.look_for_witness(position);
                }
                if self.dead.last().is_none_or(|dead| epoch(*dead) < epoch(zxid)) {
                    self.dead.push(zxid);
                }
                self.queue.pop_front();
                continue;
            }
            // A malformed request is logged as an error under the zxid before it.
            let is_repeated = matches!(front.operation, Operation::Error { .. });
            let is_at = front.zxid == position.zxid && !is_repeated;
            let is_other = |known| is_at && known != front.payload_crc;
            if position.payload_crc.is_some_and(is_other) {
                return Err(HistoryError::OtherHistory {
                    folder: self.path.clone(),
                    zxid: front.zxid,
                });
            }
            self.queue.pop_front();
        }
    }
}
