//! A tree that a leader has sent, in a file, until it is the tree at exactly one transaction.
//!
//! A leader goes on while it sends its tree, so the tree holds any part of the transactions after the zxid of the SNAP.
//! These follow, and are applied with the tolerance of a server that starts. The tree is exact once the observer is up to
//! date and the digest of a transaction equals the one of the tree. Before 3.6 there are no digests: then it is taken as
//! exact when the observer is up to date.
//!
//! Invariants:
//!
//! * No tree is held in memory: a znode is a row of a table.
//! * A tree that was not shown to be exact is never read.

mod apply;
mod nodes;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bridge_core::committed::{HistoryPosition, StagePage, StageRead};
use bridge_core::number::Zxid;
use bridge_transactions::snapshot::{SnapshotError, SnapshotItem, SnapshotReader};
use bridge_transactions::transaction::{DIGEST_VERSION, Operation, Transaction, can_follow};

use crate::config::AclDigests;
use nodes::{AclLists, Node, Nodes};

/// Transactions with another digest after which the tree is given up. Of a large tree under load, tens of thousands
/// were seen in the tree already when it was sent.
const UNPROVED_MAX: u64 = 100_000;

/// Znodes between two looks at whether the bridge stops.
const LOOK_EVERY: u64 = 1_000;

/// Bytes of the tree that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// The znodes that a new server has. They have no transaction.
const FIRST_PATHS: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

/// Why there is no exact tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// The tree that was sent is damaged.
    #[error("the tree of the leader or of the snapshot {0}")]
    Tree(#[from] SnapshotError),
    /// The file of the stage.
    #[error(
        "the staged tree cannot be kept: {0}; check the space and the permissions of the journal's folder"
    )]
    File(#[from] rusqlite::Error),
    /// The temporary file of the stage.
    #[error("the staged tree has no file: {0}; check the space and the permissions of the journal's folder")]
    NoFile(std::io::Error),
    /// A transaction is missing.
    #[error("transaction 0x{found:x} follows 0x{last:x} while the tree is staged: transactions are missing")]
    Hole { last: i64, found: i64 },
    /// No digest was equal.
    #[error(
        "{0} transactions followed the staged tree, and none has a digest that equals the one of the tree"
    )]
    Unproved(u64),
    /// A znode that cannot be.
    #[error("the staged tree has a znode that cannot be read: {0}")]
    Znode(String),
    /// More lists than may be in memory.
    #[error(
        "the different access control lists of the tree take {held} bytes of memory, and the limit is {limit}: use \
         capture = \"watch\", or give fewer different lists to znodes"
    )]
    Lists { held: usize, limit: usize },
    /// The bridge stops.
    #[error("the bridge stops")]
    Stopped,
}

/// Whether the tree is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// No transaction has come that could show it.
    Open,
    /// The last digest equals the one of the tree.
    Equal,
    /// The last digest is another one.
    Differs,
    /// Transactions without digests have changed the tree.
    NoDigests,
}

/// A staged tree.
pub(crate) struct Stage {
    nodes: Nodes,
    acls: AclLists,
    epoch: u32,
    zxid: i64,
    payload_crc: Option<u32>,
    proof: Proof,
    /// The last digest of a leader that was equal.
    leader_digest: u64,
    /// Whether an unproved tree is the tree at its zxid, as long as no transaction has followed.
    is_sent: bool,
    is_up_to_date: bool,
    unproved: u64,
}

impl Stage {
    /// An empty stage with a file in this folder.
    fn new(folder: &Path, epoch: u32, zxid: i64, is_sent: bool) -> Result<Stage, StageError> {
        Ok(Stage {
            nodes: Nodes::create(folder)?,
            acls: AclLists::default(),
            epoch,
            zxid,
            payload_crc: None,
            proof: Proof::Open,
            leader_digest: 0,
            is_sent,
            is_up_to_date: false,
            unproved: 0,
        })
    }

    /// The tree of a new ensemble. A leader also answers so if it lost its tree (ZOOKEEPER-4352), so only an equal digest
    /// shows that it is exact.
    pub(crate) fn of_new_ensemble(folder: &Path, epoch: u32) -> Result<Stage, StageError> {
        let mut stage = Stage::new(folder, epoch, 0, false)?;
        for path in FIRST_PATHS {
            stage.nodes.insert(&Node::first(path))?;
        }
        Ok(stage)
    }

    /// The tree before the first transaction of an ensemble whose logs are there from their begin.
    pub(crate) fn before_all_logs(folder: &Path, epoch: u32) -> Result<Stage, StageError> {
        let stage = Stage::of_new_ensemble(folder, epoch)?;
        Ok(Stage {
            is_sent: true,
            ..stage
        })
    }

    /// The tree that followed a SNAP of this zxid.
    pub(super) fn of_snapshot(
        folder: &Path,
        epoch: u32,
        zxid: i64,
        mut tree: File,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Stage, StageError> {
        tree.seek(SeekFrom::Start(0)).map_err(StageError::NoFile)?;
        let reader = SnapshotReader::of_leader(BufReader::with_capacity(READ_BYTES, tree))?;
        Stage::of_items(folder, epoch, zxid, reader, is_stopped)
    }

    /// The tree of a snapshot with this zxid in its name, or of one that followed a SNAP of it.
    pub(crate) fn of_items(
        folder: &Path,
        epoch: u32,
        zxid: i64,
        mut reader: SnapshotReader<impl Read>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Stage, StageError> {
        let mut stage = Stage::new(folder, epoch, zxid, true)?;
        let mut count = 0_u64;
        while let Some(item) = reader.next_item()? {
            count += 1;
            if count.is_multiple_of(LOOK_EVERY) && is_stopped() {
                return Err(StageError::Stopped);
            }
            match item {
                SnapshotItem::Session { id, .. } => stage.acls.session(id)?,
                SnapshotItem::AclList { id, list } => stage.acls.add(id, list)?,
                SnapshotItem::Znode(znode) => {
                    let lifetime = stage.acls.lifetime_of(znode.stat.ephemeral_owner);
                    stage.nodes.insert(&Node::of_snapshot(znode, lifetime))?;
                }
                SnapshotItem::End(_) => {}
            }
        }
        Ok(stage)
    }

    /// How many znodes it has.
    pub(crate) fn znodes(&self) -> Result<u64, StageError> {
        Ok(self.nodes.count()?)
    }

    /// Applies the next transaction. One that the tree has already is ignored, and so is one without a number.
    pub(crate) fn take(&mut self, transaction: &Transaction) -> Result<(), StageError> {
        if transaction.zxid <= self.zxid || transaction.is_without_number(self.zxid) {
            return Ok(());
        }
        if !can_follow(transaction.zxid, self.zxid) {
            return Err(StageError::Hole {
                last: self.zxid,
                found: transaction.zxid,
            });
        }
        apply::apply(&mut self.nodes, &mut self.acls, transaction)?;
        self.zxid = transaction.zxid;
        self.payload_crc = Some(transaction.payload_crc);
        self.prove(transaction)
    }

    fn prove(&mut self, transaction: &Transaction) -> Result<(), StageError> {
        let changes_tree = !matches!(
            transaction.operation,
            Operation::Error { .. } | Operation::FailedMulti { .. } | Operation::CreateSession { .. }
        );
        match transaction
            .digest
            .filter(|digest| digest.version == DIGEST_VERSION)
        {
            Some(digest) if self.nodes.has_digest(digest.value) => {
                self.proof = Proof::Equal;
                self.leader_digest = digest.value;
            }
            Some(_) => self.proof = Proof::Differs,
            None if changes_tree => self.proof = Proof::NoDigests,
            None => {}
        }
        if self.proof == Proof::Equal {
            self.unproved = 0;
            return Ok(());
        }
        // Servers without digests show nothing, however many transactions follow: a tree that was sent needs none there.
        if self.is_sent && transaction.digest.is_none() {
            return Ok(());
        }
        self.unproved += 1;
        match self.unproved > UNPROVED_MAX {
            true => Err(StageError::Unproved(self.unproved)),
            false => Ok(()),
        }
    }

    /// Everything that was committed when the connection was made was taken.
    pub(crate) fn up_to_date(&mut self) {
        self.is_up_to_date = true;
    }

    /// Whether the last transaction contradicts the tree, so that another one must come before it can be exact.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.is_up_to_date && self.proof == Proof::Differs
    }

    /// Whether the leader's digest is the one of the tree in another charset than UTF-8. The machine computes digests of
    /// paths in UTF-8, and can compare no others of paths outside of ASCII.
    fn is_of_other_charset(&self) -> bool {
        self.proof == Proof::Equal && self.leader_digest != self.nodes.digest()
    }

    /// The last transaction that it has.
    pub(crate) fn zxid(&self) -> i64 {
        self.zxid
    }

    /// Whether the last digest equals the one of the tree.
    pub(crate) fn is_proved(&self) -> bool {
        self.proof == Proof::Equal
    }

    /// The position of the tree once it is exact.
    pub(crate) fn exact_at(&self) -> Option<HistoryPosition> {
        let is_exact = match self.proof {
            Proof::Equal => true,
            Proof::Open => self.is_sent,
            Proof::NoDigests => self.is_sent,
            Proof::Differs => false,
        };
        (is_exact && self.is_up_to_date).then(|| HistoryPosition {
            zxid: Zxid(self.zxid.cast_unsigned()),
            payload_crc: self.payload_crc,
            digest: (self.proof == Proof::Equal).then_some(self.leader_digest),
            epoch: self.epoch,
            scope: 0,
            is_of_other_charset: self.is_of_other_charset(),
        })
    }

    /// Some znodes of an exact tree.
    pub(crate) fn page(&self, read: &StageRead, digests: AclDigests) -> Result<StagePage, StageError> {
        assert!(self.exact_at().is_some(), "a tree that is not exact is not read");
        self.nodes.page(read, &self.acls, digests)
    }
}
