//! Committed transactions and staged snapshots, without the types of a protocol, so that a simulator can construct them.
//!
//! All paths are those of the server: a connect string's chroot is applied by the machine.

use std::sync::Arc;

use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Acl, Lifetime, LifetimeKind, Stat};

/// One transaction that the ensemble has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTxn {
    /// Its place in the history. A malformed request makes an error with the zxid of the transaction before it, which
    /// the machine drops.
    pub zxid: Zxid,
    /// The session that requested it; zeros for the server itself.
    pub session: SessionId,
    /// The number that the session gave its request; 0 for the server itself.
    pub cxid: i32,
    /// The leader's clock, in milliseconds since 1970.
    pub time: i64,
    /// The changes that it makes.
    pub content: TxnContent,
    /// The digest of the whole tree after it, if the server computes digests.
    pub digest: Option<TreeDigestValue>,
    /// A checksum of its encoding: the same transaction has the same one. Errors that a server logs under the zxid of the
    /// transaction before them are no transactions: a source drops them, so that one zxid has one checksum.
    pub payload_crc: u32,
}

/// The digest of a tree, as a server computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDigestValue {
    /// How it is computed; only version 2 is known.
    pub version: i32,
    /// The sum over all znodes.
    pub value: u64,
}

/// The content of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnContent {
    /// One operation.
    Single(NodeOperation),
    /// Several operations that all succeeded. A `multi` that failed is [`TxnContent::Nothing`].
    Multi(Vec<NodeOperation>),
    /// The end of a session.
    CloseSession {
        /// The ephemeral znodes that it deletes, in this order; `None` where the transaction has no list (before 3.6,
        /// or with `closeSessionTxn.enabled=false`).
        paths: Option<Vec<ZnodePath>>,
    },
    /// Nothing changes outside of `/zookeeper`: a session begins, a request failed, or the ensemble is reconfigured.
    Nothing,
}

/// One operation on a znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeOperation {
    /// A create of any kind.
    Create {
        /// The final path, with the counter of a sequential znode.
        path: ZnodePath,
        /// Its data.
        data: Arc<[u8]>,
        /// Its access control list, digests masked if the source masks them.
        acl: Vec<Acl>,
        /// How long it lasts.
        lifetime: Lifetime,
        /// The raw `cversion` of the parent after it; `None` where the transaction does not have it.
        parent_cversion: Option<i32>,
    },
    /// A delete.
    Delete {
        /// The znode.
        path: ZnodePath,
        /// Whether it is the removal of an empty container or of a znode whose time to live is over.
        is_of_container: bool,
    },
    /// A write of data.
    SetData {
        /// The znode.
        path: ZnodePath,
        /// Its new data.
        data: Arc<[u8]>,
        /// Its new version.
        version: i32,
    },
    /// A write of the access control list.
    SetAcl {
        /// The znode.
        path: ZnodePath,
        /// Its new list, digests masked if the source masks them.
        acl: Vec<Acl>,
        /// Its new `aversion`.
        version: i32,
    },
    /// A check of a version, inside of a `multi`: changes nothing.
    Check,
}

/// How far a source has taken the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryPosition {
    /// The last transaction that the image has applied.
    pub zxid: Zxid,
    /// Its checksum; `None` where a snapshot was taken and the transaction itself was not seen.
    pub payload_crc: Option<u32>,
    /// The digest of the whole tree after it: in a staged snapshot as the server says, if it does; in the journal as it was
    /// computed, if it is.
    pub digest: Option<u64>,
    /// The greatest epoch of a leader that the source has followed.
    pub epoch: u32,
    /// A fingerprint of the captured paths. If the configuration has another one, the image lacks znodes.
    pub scope: u64,
    /// Whether the digest is one of paths in another charset than UTF-8, so that the terms of paths outside of ASCII cannot
    /// be computed.
    pub is_of_other_charset: bool,
}

impl HistoryPosition {
    /// The same, without what is computed of data.
    pub fn without_checksums(&self) -> HistoryPosition {
        HistoryPosition {
            payload_crc: None,
            digest: None,
            ..*self
        }
    }
}

/// The answer of a leader or follower to [`SourceRequest::Resume`](crate::source::SourceRequest::Resume).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    /// The epoch of the leader.
    pub epoch: u32,
    /// How the source is brought up to date.
    pub kind: SyncKind,
}

/// How a source is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// The transactions after the position follow.
    Diff,
    /// The server wants the history cut after this transaction, and sends what comes after it again.
    Truncate(Zxid),
    /// A snapshot: it is staged, then [`Input::Staged`](crate::source::Input::Staged) follows.
    Snapshot,
}

/// The part of a stage to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRead {
    /// This znode and everything below it, in any order in which parents come before their children.
    pub below: ZnodePath,
    /// Only znodes after this one, in the same order; `None`: from the beginning.
    pub after: Option<ZnodePath>,
    /// The most znodes in the answer, at least one.
    pub nodes: usize,
    /// The most bytes of data in the answer; a single larger znode is sent alone.
    pub bytes: usize,
}

/// Some znodes of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagePage {
    /// In the order of the stage.
    pub nodes: Vec<StagedNode>,
    /// Whether no znode follows.
    pub is_last: bool,
    /// The `pzxid` of the nearest existing ancestor, if the znode at the top of the read does not exist.
    pub above: Option<Zxid>,
}

/// A znode of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedNode {
    /// Which.
    pub path: ZnodePath,
    /// Its Stat as servers store it.
    pub raw: RawStat,
    /// How long it lasts, as its owner says.
    pub lifetime: Lifetime,
    /// Its data.
    pub data: Arc<[u8]>,
    /// Its access control list, digests masked if the source masks them; `None` where the snapshot lacks it.
    pub acl: Option<Vec<Acl>>,
    /// The names of its children, sorted by their bytes, excluded ones included.
    pub children: Vec<Box<str>>,
}

/// A Stat as servers store it: the digest of a tree is computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawStat {
    /// Of the create.
    pub czxid: Zxid,
    /// Of the last write of data.
    pub mzxid: Zxid,
    /// Of the last create or delete of a child.
    pub pzxid: Zxid,
    /// Of the create, in milliseconds since 1970.
    pub ctime: i64,
    /// Of the last write of data, in milliseconds since 1970.
    pub mtime: i64,
    /// Writes of data since the create.
    pub version: i32,
    /// Creates of children.
    pub cversion: i32,
    /// Changes of the access control list.
    pub aversion: i32,
    /// The session of an ephemeral znode, or the mark of a container or of a time to live.
    pub owner: i64,
}

impl RawStat {
    /// The Stat that a client reads: `cversion` counts deletes, too, and only ephemeral znodes have an owner.
    pub fn read_as(&self, lifetime: Lifetime, data: usize, children: usize) -> Stat {
        let children = i32::try_from(children).unwrap_or(i32::MAX);
        let owner = match lifetime.kind {
            LifetimeKind::Ephemeral => SessionId(self.owner.cast_unsigned()),
            LifetimeKind::Persistent | LifetimeKind::Container | LifetimeKind::Ttl => SessionId::NONE,
        };
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            ephemeral_owner: owner,
            data_length: i32::try_from(data).unwrap_or(i32::MAX),
            num_children: children,
        }
    }
}
