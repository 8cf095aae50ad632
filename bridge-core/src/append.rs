//! The interface from capture to journal: an [`Append`] is a record without the fields that only the journal can fill
//! in.
//!
//! The journal adds `seq`, `before` (from the image) and `id`, and stores the data once. An append also holds the
//! change of the image, so that record and image never disagree.

use uuid::Uuid;

use crate::number::{Epoch, Zxid};
use crate::path::ZnodePath;
use crate::record::{Acl, Data, Fidelity, GapReason, Lifetime, Op, Stat, Timestamp, Txn};

/// One record to append. Everything in it is decided; the journal only completes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// The configured root; `None` for heartbeats.
    pub root: Option<ZnodePath>,
    /// When the capture decided on it.
    pub captured: Timestamp,
    /// The kind of the record, with its content.
    pub kind: RecordKind,
}

/// The content of an append. Each variant has exactly the fields that its record needs.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordKind {
    /// A change of a znode. Moves the image.
    Change(Change),
    /// A listing begins.
    RunBegin {
        /// The run.
        run: Uuid,
    },
    /// A listing is complete.
    RunEnd {
        /// The run.
        run: Uuid,
        /// The index after the last listed znode.
        index: u64,
        /// Znodes listed.
        nodes: u64,
        /// Znodes that could not be read.
        unreadable: u64,
        /// The greatest zxid in any Stat listed; `None` where there was none.
        zxid: Option<Zxid>,
        /// Whether the listing is the tree at exactly that zxid.
        is_exact: bool,
    },
    /// A gap begins: changes may have been missed from here on.
    GapBegin {
        /// The watch epoch.
        epoch: Epoch,
        /// Everything up to it was reported before.
        from_zxid: Zxid,
        /// The reason.
        reason: GapReason,
    },
    /// A gap ends.
    GapEnd {
        /// The watch epoch.
        epoch: Epoch,
        /// As in its begin.
        from_zxid: Zxid,
        /// Every change up to it is journalled before.
        to_zxid: Zxid,
        /// As in its begin.
        reason: GapReason,
        /// The reconciled records since the last begin of the root, `acl` not counted.
        differences: u64,
    },
    /// Nothing else was journalled for a while.
    Heartbeat {
        /// The last transaction that was taken; `None` of a source that watches a tree.
        zxid: Option<Zxid>,
    },
}

/// A change of one znode.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub path: ZnodePath,
    /// The change, as far as it is known.
    pub kind: ChangeKind,
    /// Seen or found.
    pub fidelity: Fidelity,
    /// As in the record.
    pub missed: Option<u64>,
    /// As in the record: ascending, at most 64.
    pub superseded: Vec<Zxid>,
    /// The transaction, where the source reads transactions; only in changes seen as they happened.
    pub txn: Option<Box<Txn>>,
    /// Facts that no Stat has; only with `Created`, `Listed` and `Restated`.
    pub facts: Option<Box<NodeFacts>>,
}

/// Facts about a znode that no read of it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// How long it lasts; `None` where only a watch has seen it.
    pub lifetime: Option<Lifetime>,
    /// Its access control list, where the source records lists and could read it.
    pub acl: Option<Vec<Acl>>,
}

/// A change of a znode. It changes the image as follows:
///
/// | | the path's row in the image becomes |
/// | --- | --- |
/// | `Created`, `Updated`, `Listed` | this Stat and data |
/// | `CreatedUnread` | living, czxid known, without Stat and data |
/// | `Deleted` | no longer living |
/// | `AclChanged`, `Restated` | this Stat; the data stays |
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// `create`, with the value read; zxid = mzxid, exact.
    Created {
        /// As read.
        read: Read,
    },
    /// `create` of a version 0 that was not read; zxid = czxid, exact.
    CreatedUnread {
        /// Of the create.
        czxid: Zxid,
        /// As a later read of the same incarnation has it.
        ephemeral: Option<bool>,
        /// As a later read of the same incarnation has it.
        ctime: Option<Timestamp>,
    },
    /// `update`; zxid = mzxid, exact.
    Updated {
        /// As read.
        read: Read,
    },
    /// `delete` of the living incarnation, or of an unseen one if the path is not living in the image.
    Deleted {
        /// When.
        at: DeletedAt,
    },
    /// `acl`: the aversion moved. The list itself where the source reads lists.
    AclChanged {
        /// Of the transaction, if it is known.
        zxid: Option<Zxid>,
        /// As read.
        stat: Stat,
        /// As read.
        acl: Option<Vec<Acl>>,
    },
    /// `snapshot` of a znode that was not in the image.
    Listed {
        /// As read.
        read: Read,
        /// The run.
        run: Uuid,
        /// Position in the run.
        index: u64,
    },
    /// `snapshot` of the state that the image holds.
    Restated {
        /// The run.
        run: Uuid,
        /// Position in the run.
        index: u64,
    },
}

impl ChangeKind {
    /// The value that was read with the change.
    pub fn read(&self) -> Option<&Read> {
        match self {
            ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
                Some(read)
            }
            ChangeKind::CreatedUnread { .. }
            | ChangeKind::Deleted { .. }
            | ChangeKind::AclChanged { .. }
            | ChangeKind::Restated { .. } => None,
        }
    }

    /// The op of its record.
    pub fn op(&self) -> Op {
        match self {
            ChangeKind::Created { .. } | ChangeKind::CreatedUnread { .. } => Op::Create,
            ChangeKind::Updated { .. } => Op::Update,
            ChangeKind::Deleted { .. } => Op::Delete,
            ChangeKind::AclChanged { .. } => Op::Acl,
            ChangeKind::Listed { .. } | ChangeKind::Restated { .. } => Op::Snapshot,
        }
    }
}

/// The zxid of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletedAt {
    /// Its own.
    Exact(Zxid),
    /// It happened at or before.
    Bound(Zxid),
    /// It is not known.
    Unknown,
    /// It was not deleted: its root is no longer watched. Its id is that of no delete in ZooKeeper, and the incarnation
    /// may be listed again.
    Unwatched,
}

/// A value as read from a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Its Stat.
    pub stat: Stat,
    /// Its data; `None` where the source does not keep data.
    pub data: Option<Data>,
}
