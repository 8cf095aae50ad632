//! The committed history, from the logs of one or several servers of an ensemble.
//!
//! Nothing is returned before something shows that it was committed; `evidence` has the rule.
//!
//! The number of a transaction does not show whether the epoch before it ended with the one before it: a server that was
//! brought up to date by a snapshot can lack the last transactions of an epoch. So the digest of the tree has to show it:
//! that of the first transaction of the new epoch that has one, as requests that failed have none and change nothing.
//! Without digests (up to 3.5) the history ends with the epoch, and goes on from a snapshot. The first transaction of all
//! follows nothing (`begin`).
//!
//! Invariants:
//!
//! 1. Returned transactions follow the position without a hole. A log with a hole is completed from the others; a hole
//!    that they all have is reported and never passed over. Dead records, which `evidence` explains, are no part of it: it
//!    begins before them.
//! 2. A log with another transaction at the position is of another history: an error.
//! 3. With a tree, the digest of every transaction agrees. Without one, a transaction that changes no znode leaves the
//!    digest as it was.

use std::path::PathBuf;

use bridge_transactions::transaction::{
    DIGEST_VERSION, Operation, Transaction, TreeDigest, can_follow, epoch,
};
use bridge_transactions::tree::Tree;

use super::begin::is_begin_of_ensemble;
use super::evidence::Evidence;
use super::folder::LogFolder;
use super::tail::{Obstacle, TailError};

mod folder_history;

use folder_history::{FolderHistory, Witness};

/// Transactions that one call returns at most; a step of the machine takes them in one commit. The queue to the pipeline
/// has room for 64 such batches, which it holds while the pipeline catches up.
const BATCH_MAX: usize = 1_024;

/// Bytes of values that one call returns, about, but always one transaction.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Batches that the scout reads ahead in one call, so that a long log does not delay what is already known.
const SCOUT_BATCHES_MAX: usize = 8;

/// A history that cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A log cannot be read.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// A log has another transaction at the position.
    #[error(
        "transaction logs: {}: the transaction at 0x{zxid:016x} is another one than the one that was taken\n\
         help: name only folders of servers of one ensemble",
        folder.display()
    )]
    OtherHistory {
        /// The folder.
        folder: PathBuf,
        /// The transaction.
        zxid: i64,
    },
    /// The digest of the tree is another one than the server's.
    #[error(
        "transaction logs: {}: the digest of the tree after 0x{zxid:016x} is 0x{found:016x} by the transactions before it, \
         and the server wrote 0x{expected:016x}: a transaction is missing or was never committed",
        folder.display()
    )]
    Digest {
        /// The folder.
        folder: PathBuf,
        /// The transaction.
        zxid: i64,
        /// The digest in the log.
        expected: u64,
        /// The digest of the tree.
        found: u64,
    },
}

/// The last transaction that was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Its zxid.
    pub zxid: i64,
    /// The CRC-32 of its payload, if it is known.
    pub payload_crc: Option<u32>,
    /// The digest of the tree after it, if it is known.
    pub digest: Option<TreeDigest>,
}

/// A transaction that is in the logs, while those between it and the position are in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHole {
    /// The last transaction before the hole.
    pub last: i64,
    /// The first one after it.
    pub next: i64,
}

/// The logs of some servers of one ensemble.
#[derive(Debug)]
pub struct LogHistory {
    folders: Vec<FolderHistory>,
    position: LogPosition,
    evidence: Evidence,
    /// The tree at the position.
    tree: Option<Box<Tree>>,
    /// Whether a digest of the tree has agreed. Before that, the tree is one of a snapshot that was written while the server
    /// went on, and differs.
    is_proved: bool,
    /// Whether a tree that no digest has agreed with yet is enough for the first transaction of an epoch: where the tree is
    /// only staged, a later digest shows whether it was right.
    is_staged: bool,
    /// No transaction of a later epoch is returned.
    epoch_max: u32,
    /// No later transaction is returned.
    zxid_max: i64,
    /// The transaction whose digest disagreed; the history ends there.
    disagreed: Option<Disagreement>,
}

#[derive(Clone, Debug)]
struct Disagreement {
    folder: PathBuf,
    zxid: i64,
    expected: u64,
    found: u64,
}

impl From<Disagreement> for HistoryError {
    fn from(one: Disagreement) -> HistoryError {
        HistoryError::Digest {
            folder: one.folder,
            zxid: one.zxid,
            expected: one.expected,
            found: one.found,
        }
    }
}

/// Whether a transaction may be the first of a new ensemble. A standalone server begins with epoch 0.
fn begins_ensemble(last: &LogPosition, next: &Transaction) -> bool {
    last.zxid == 0 && epoch(next.zxid) == 1
}

/// Whether a transaction changes no znode, so that it leaves the digest as it was.
fn changes_nothing(operation: &Operation) -> bool {
    match operation {
        Operation::CreateSession { .. } | Operation::Error { .. } | Operation::FailedMulti { .. } => true,
        Operation::CloseSession { paths } => paths.as_ref().is_some_and(Vec::is_empty),
        _ => false,
    }
}

/// The bytes of the values of an operation, about.
fn weight(operation: &Operation) -> usize {
    match operation {
        Operation::Create { path, data, .. } | Operation::SetData { path, data, .. } => {
            path.len() + data.as_ref().map_or(0, Vec::len)
        }
        Operation::Multi(parts) => parts.iter().map(weight).sum(),
        Operation::CloseSession { paths: Some(paths) } => paths.iter().map(String::len).sum(),
        _ => 0,
    }
}

impl LogHistory {
    /// The history after a position, with the tree there if it is known and its digest agrees.
    pub fn new(folders: Vec<LogFolder>, position: LogPosition, tree: Option<Box<Tree>>) -> LogHistory {
        let of = |folder| FolderHistory::new(folder, position.zxid);
        LogHistory {
            folders: folders.into_iter().map(of).collect(),
            position,
            evidence: Evidence::default(),
            tree,
            is_proved: true,
            is_staged: false,
            epoch_max: u32::MAX,
            zxid_max: i64::MAX,
            disagreed: None,
        }
    }

    /// The history after a snapshot with this zxid in its name. Its tree may have any part of later transactions, so that
    /// digests differ until one agrees ([`LogHistory::is_proved`]).
    pub fn after_snapshot(folders: Vec<LogFolder>, zxid: i64, tree: Box<Tree>) -> LogHistory {
        let position = LogPosition {
            zxid,
            payload_crc: None,
            digest: None,
        };
        LogHistory {
            is_proved: false,
            is_staged: true,
            ..LogHistory::new(folders, position, Some(tree))
        }
    }

    /// Whether the tree at the position, if there is one, has shown the digest that the server wrote.
    pub fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// Takes what follows for a history that is recorded. `digest`: the one of the tree at the position, if it is known. From
    /// now on an epoch begins only after a tree with which a digest has agreed.
    pub fn record_from_here(&mut self, digest: Option<u64>) {
        self.is_staged = false;
        self.is_proved |= digest.is_some_and(|digest| self.has_digest(digest));
    }

    /// Whether there is a tree at the position, and it has this digest in some charset.
    pub fn has_digest(&self, digest: u64) -> bool {
        self.tree.as_ref().is_some_and(|tree| tree.has_digest(digest))
    }

    /// Returns nothing of a later epoch from now on.
    pub fn end_with_epoch(&mut self, epoch: u32) {
        self.epoch_max = epoch;
    }

    /// Returns nothing after this transaction from now on.
    pub fn end_at(&mut self, zxid: i64) {
        self.zxid_max = zxid;
    }

    /// Whether the next transaction is of a later epoch than may be returned.
    pub fn is_at_end_of_epoch(&self) -> bool {
        let next = self
            .folder_of_next()
            .and_then(|at| self.folders[at].queue.front());
        next.is_some_and(|next| epoch(next.zxid) > self.epoch_max)
    }

    /// Whether a log has a transaction that nothing shows to be committed yet.
    pub fn is_waiting(&self) -> bool {
        let mut fronts = self.folders.iter().filter_map(|folder| folder.queue.front());
        fronts.any(|front| front.zxid > self.position.zxid && !self.is_committed(front.zxid))
    }

    /// Whether the logs are not read ahead to their ends yet: then a call of [`LogHistory::poll`] that returns nothing is
    /// not the last word about older epochs.
    pub fn is_scouting(&self) -> bool {
        self.evidence.is_partial
    }

    /// Whether no log has a transaction that was not returned.
    pub fn is_empty(&self) -> bool {
        let mut fronts = self.folders.iter().filter_map(|folder| folder.queue.front());
        fronts.all(|front| front.zxid <= self.position.zxid)
    }

    /// Everything after the position of a log that is neither its end nor a transaction.
    pub fn obstacles(&self) -> impl Iterator<Item = &Obstacle> {
        self.folders.iter().filter_map(|folder| folder.reader.obstacle())
    }

    /// The last transaction that the logs have, whether it was returned or not, as far as they have been read.
    pub fn end(&self) -> i64 {
        let ends = self.folders.iter().filter_map(|folder| folder.scouted);
        ends.max().unwrap_or_default().max(self.position.zxid)
    }

    /// The last transaction that was returned.
    pub fn position(&self) -> &LogPosition {
        &self.position
    }

    /// A server of the ensemble that serves clients has applied this transaction, as `srvr` says. A server that is not
    /// serving shows nothing: it loads its own log with all that is in there.
    pub fn applied(&mut self, zxid: i64) {
        self.evidence.applied(zxid);
    }

    /// The hole after the position, if the logs have one at the moment. A server that is slower than the others can still
    /// fill it.
    pub fn hole(&self) -> Option<LogHole> {
        let (folder, next) = self.nearest()?;
        let is_hole = !self.can_be_next(folder, next) && self.is_committed(next.zxid);
        (is_hole && !self.awaits_digest()).then_some(LogHole {
            last: self.position.zxid,
            next: next.zxid,
        })
    }

    /// Whether a later epoch has begun with requests that failed, and nothing has followed them yet: only the digest of
    /// the next transaction shows whether they come after the position.
    pub fn awaits_digest(&self) -> bool {
        self.nearest().is_some_and(|(folder, next)| {
            epoch(next.zxid) > epoch(self.position.zxid)
                && can_follow(next.zxid, self.position.zxid)
                && matches!(folder.witness(), Witness::Awaited)
        })
    }

    /// The front with the lowest zxid after the position.
    fn nearest(&self) -> Option<(&FolderHistory, &Transaction)> {
        let fronts = self
            .folders
            .iter()
            .filter_map(|folder| Some((folder, folder.queue.front()?)));
        fronts
            .filter(|(_, front)| front.zxid > self.position.zxid)
            .min_by_key(|(_, front)| front.zxid)
    }

    /// The next committed transactions; none if none is known at the moment.
    ///
    /// # Errors
    ///
    /// If a log cannot be read on, or shows another history. Nothing that was read is lost.
    pub fn poll(&mut self) -> Result<Vec<Transaction>, HistoryError> {
        self.scout()?;
        let mut ready = Vec::new();
        let mut bytes = 0;
        while ready.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            match self.next() {
                Ok(Some(transaction)) => {
                    bytes += weight(&transaction.operation);
                    ready.push(transaction);
                }
                Ok(None) => break,
                // The same error comes with the next call.
                Err(_) if !ready.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(ready)
    }

    /// Reads ahead for transactions after which a later epoch began.
    fn scout(&mut self) -> Result<(), HistoryError> {
        self.evidence.is_partial = false;
        let mut passes_over = false;
        for folder in &mut self.folders {
            for at in 1..=SCOUT_BATCHES_MAX {
                let batch = folder.scout.poll()?;
                if batch.is_empty() {
                    break;
                }
                self.evidence.is_partial |= at == SCOUT_BATCHES_MAX;
                for transaction in batch {
                    let last = folder.scouted.replace(transaction.zxid);
                    passes_over |= self.evidence.logged(last, transaction.zxid);
                }
            }
        }
        if passes_over {
            for folder in &self.folders {
                let snapshots = folder.files.snapshots().map_err(TailError::from)?;
                snapshots.iter().for_each(|one| self.evidence.snapshot(one.zxid));
            }
        }
        Ok(())
    }

    /// Whether something shows that a transaction is committed.
    pub(super) fn is_committed(&self, zxid: i64) -> bool {
        self.evidence.is_committed(zxid)
    }

    /// Whether the front of a folder comes directly after the position. The first one of a later epoch does only if a
    /// digest can show it.
    fn can_be_next(&self, folder: &FolderHistory, next: &Transaction) -> bool {
        let last = &self.position;
        let is_of_same_epoch = epoch(next.zxid) == epoch(last.zxid);
        // Nothing comes before the first transaction of all.
        let is_first = || begins_ensemble(last, next) && is_begin_of_ensemble(&folder.queue);
        can_follow(next.zxid, last.zxid) && (is_of_same_epoch || self.has_proof(folder) || is_first())
    }

    /// Whether a digest after the front of a folder shows what was before it.
    fn has_proof(&self, folder: &FolderHistory) -> bool {
        let Witness::Found(witness) = folder.witness() else {
            return false;
        };
        match (witness.digest, self.position.digest) {
            (Some(digest), _) if self.tree.is_some() && (self.is_proved || self.is_staged) => {
                digest.version == DIGEST_VERSION
            }
            (Some(after), Some(before)) => {
                after.version == before.version && changes_nothing(&witness.operation)
            }
            _ => false,
        }
    }

    /// The folder with the next transaction: preferably one of the same epoch.
    fn folder_of_next(&self) -> Option<usize> {
        let usable = |folder: &FolderHistory| {
            let next = folder.queue.front()?;
            (self.can_be_next(folder, next) && self.is_committed(next.zxid)).then_some(next.zxid)
        };
        let found = self.folders.iter().enumerate();
        let found = found.filter_map(|(at, folder)| Some((usable(folder)?, at)));
        found.min().map(|(_, at)| at)
    }

    fn next(&mut self) -> Result<Option<Transaction>, HistoryError> {
        if let Some(disagreed) = &self.disagreed {
            return Err(disagreed.clone().into());
        }
        for folder in &mut self.folders {
            folder.pass_known(&self.position, &self.evidence)?;
        }
        let Some(at) = self.folder_of_next() else {
            return Ok(None);
        };
        let front = self.folders[at]
            .queue
            .front()
            .map_or(i64::MAX, |front| front.zxid);
        if front > self.zxid_max || epoch(front) > self.epoch_max {
            return Ok(None);
        }
        self.check_digest(at)?;
        let next = self.folders[at].queue.pop_front();
        let transaction = next.expect("it was looked at");
        self.position = LogPosition {
            zxid: transaction.zxid,
            payload_crc: Some(transaction.payload_crc),
            // A transaction that failed has no digest and changes nothing.
            digest: transaction.digest.or(self
                .position
                .digest
                .filter(|_| changes_nothing(&transaction.operation))),
        };
        Ok(Some(transaction))
    }
}

impl LogHistory {
    /// Applies the front of a folder to the tree, and compares the digests.
    fn check_digest(&mut self, at: usize) -> Result<(), HistoryError> {
        let folder = &self.folders[at];
        let next = folder.queue.front().expect("a folder of the next one has it");
        let of_tree = match &mut self.tree {
            Some(tree) => {
                tree.apply(next);
                // The JVM of each leader encodes paths in its own charset.
                let theirs = next.digest.map(|digest| digest.value);
                let value = theirs.filter(|value| tree.has_digest(*value));
                let value = value.unwrap_or_else(|| tree.digest());
                let version = DIGEST_VERSION;
                let found = TreeDigest { version, value };
                self.is_proved |= next.digest == Some(found);
                self.is_proved.then_some(found)
            }
            None => None,
        };
        let found = of_tree.or(self.position.digest.filter(|_| changes_nothing(&next.operation)));
        let disagreed = match (next.digest, found) {
            (Some(expected), Some(found))
                if expected.version == found.version && expected.value != found.value =>
            {
                Disagreement {
                    folder: folder.path.clone(),
                    zxid: next.zxid,
                    expected: expected.value,
                    found: found.value,
                }
            }
            _ => return Ok(()),
        };
        self.disagreed = Some(disagreed.clone());
        Err(disagreed.into())
    }
}

#[cfg(test)]
mod tests;
