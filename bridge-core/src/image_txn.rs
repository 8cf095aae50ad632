//! The capture machine's interface to the journal: it reads the image and appends records in one open transaction.
//!
//! The image (path → the last journalled Stat) may hold millions of znodes, more than fit in memory, so it stays in the
//! journal and the machine reads the rows that it needs. All methods are synchronous and deterministic. A read sees all
//! earlier appends, also before they are committed. The caller of the machine commits; if a call fails, the caller
//! rolls back and makes a new machine from the durable state.

use uuid::Uuid;

use crate::append::{Append, NodeFacts};
use crate::committed::{HistoryPosition, ShadowKey, ShadowNode};
use crate::journal::JournalError;
use crate::number::{Epoch, Seq, SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat, Timestamp};
use crate::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};

/// The image's row of an existing znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Names the incarnation.
    pub czxid: Zxid,
    /// As last read; `None` after a create that was not read.
    pub stat: Option<Stat>,
}

impl Node {
    /// The greatest zxid known of this incarnation.
    pub fn newest_zxid(&self) -> Zxid {
        self.stat
            .map_or(self.czxid, |stat| stat.newest_zxid().max(self.czxid))
    }

    /// The zxid of the version last reported.
    pub fn mzxid(&self) -> Zxid {
        self.stat.map_or(self.czxid, |stat| stat.mzxid)
    }

    /// The version last reported.
    pub fn version(&self) -> i32 {
        self.stat.map_or(0, |stat| stat.version)
    }
}

/// How far the capture of a root has come. Journalled in the transaction of the records that it covers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Everything up to it was reported for this root.
    pub reported: Zxid,
    /// Whether the first listing was completed, so that from now on there are gaps and no runs.
    pub listed: bool,
    /// A run that has begun and not ended.
    pub run: Option<OpenRun>,
}

/// A run that goes on after a reconnect under the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// Names it.
    pub id: Uuid,
    /// The last index used.
    pub index: u64,
}

/// Rows below a path, by the bytes of their names, each with a value.
pub type Children<T> = Vec<(Box<str>, T)>;

/// The image and the tail of one source's journal, inside one open transaction.
pub trait ImageTxn {
    /// The image's row of a path; `None` if the znode does not exist.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError>;

    /// The existing children of a path, by the bytes of their names, names greater than `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError>;

    /// The same for znodes that are compared next: an implementation that reads from a disk caches them.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn children_to_compare(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        self.children(path, after, limit)
    }

    /// The children of a path that exist, or below which a znode exists: the latter are `None`. By the bytes of their
    /// names, names greater than `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn occupied_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children<Option<Node>>, JournalError>;

    /// Living znodes strictly below a path in an order in which each comes before its ancestors, at most `limit`.
    /// Goes through intermediate paths that are not living themselves.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn deepest_below(
        &mut self,
        path: &ZnodePath,
        limit: usize,
    ) -> Result<Vec<(ZnodePath, Node)>, JournalError>;

    /// Appends one record and moves the image with it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn append(&mut self, entry: Append) -> Result<Seq, JournalError>;

    /// Takes a newer Stat of the same version into the image, without a record (`pzxid`, `cversion`, `numChildren`
    /// move when children come and go).
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError>;

    /// Stores the facts of an existing znode, without a record.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_facts(&mut self, path: &ZnodePath, facts: &NodeFacts) -> Result<(), JournalError>;

    /// The last watch epoch used.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn epoch(&mut self) -> Result<Epoch, JournalError>;

    /// Stores the watch epoch in use.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError>;

    /// How far the capture of a root has come; the default for a root never seen.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn progress(&mut self, root: &ZnodePath) -> Result<Progress, JournalError>;

    /// Stores it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_progress(&mut self, root: &ZnodePath, progress: &Progress) -> Result<(), JournalError>;

    /// Why the next comparison has to be recorded as a gap of an unknown begin; `None` if nothing is due.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn due_gap(&mut self) -> Result<Option<GapReason>, JournalError>;

    /// Stores it: the process may end before the comparison has begun.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_due_gap(&mut self, reason: Option<GapReason>) -> Result<(), JournalError>;

    /// The number of the last record, also of one in the open transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn last_seq(&mut self) -> Result<Seq, JournalError>;

    /// Where the last walk of a root that has ended began: each znode of it that could be read is surely known up to
    /// there. The default if none has ended.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn walked(&mut self, root: &ZnodePath) -> Result<HistoryPoint, JournalError>;

    /// Stores it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_walked(&mut self, root: &ZnodePath, began: &HistoryPoint) -> Result<(), JournalError>;

    /// Begins the span of an unreadable znode; does nothing if it has begun. `since` is moved to the last record of the
    /// znode that comes from a read. Beyond [`SPANS_MAX`](crate::unreadable_span::SPANS_MAX) spans, that of the root
    /// begins, or goes on.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn begin_unreadable(
        &mut self,
        root: &ZnodePath,
        znode: (&ZnodePath, UnreadableExtent),
        since: &HistoryPoint,
        now: Timestamp,
    ) -> Result<(), JournalError>;

    /// The spans at or below a root that have not ended, by path.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn open_unreadable(&mut self, root: &ZnodePath) -> Result<Vec<UnreadableSpan>, JournalError>;

    /// The earliest begin of the spans of a znode and of those above it that have not ended; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn unreadable_since(&mut self, path: &ZnodePath) -> Result<Option<HistoryPoint>, JournalError>;

    /// Ends a span that has begun.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn end_unreadable(
        &mut self,
        znode: (&ZnodePath, UnreadableExtent),
        until: &HistoryPoint,
    ) -> Result<(), JournalError>;

    /// How far the history is taken; `None` if the source does not read transactions, or has no position yet.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn position(&mut self) -> Result<Option<HistoryPosition>, JournalError>;

    /// Stores it. `None`: the image is not at a known position any more, and what [`ImageTxn::shadow`] and
    /// [`ImageTxn::uncaptured_of`] have is removed.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_position(&mut self, position: Option<&HistoryPosition>) -> Result<(), JournalError>;

    /// The part of a znode of the server that the digest of its tree needs; `None` if it is not stored.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn shadow(&mut self, key: &ShadowKey) -> Result<Option<ShadowNode>, JournalError>;

    /// Stores it, or that the znode does not exist.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_shadow(&mut self, key: &ShadowKey, node: Option<&ShadowNode>) -> Result<(), JournalError>;

    /// Removes all of them.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn clear_shadow(&mut self) -> Result<(), JournalError>;

    /// Takes one of the whole tree, after [`ImageTxn::clear_shadow`], in any order. It is stored by
    /// [`ImageTxn::load_shadow`] at the latest; an implementation with a disk puts all into an order that costs less.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn stage_shadow(&mut self, key: &ShadowKey, node: &ShadowNode) -> Result<(), JournalError> {
        self.set_shadow(key, Some(node))
    }

    /// Stores all that were taken.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn load_shadow(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// The ephemeral znodes of a session that are not captured, by the bytes of their paths at the server. `None` if the
    /// journal does not have those of all sessions: an earlier version has taken its last snapshot.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn uncaptured_of(&mut self, session: SessionId) -> Result<Option<Vec<ZnodePath>>, JournalError>;

    /// Stores an ephemeral znode that is not captured with its session, or that it does not exist.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn set_uncaptured(&mut self, path: &ZnodePath, session: Option<SessionId>) -> Result<(), JournalError>;

    /// Removes all of them. Those that are stored from now on are all that the server has.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    fn clear_uncaptured(&mut self) -> Result<(), JournalError>;
}
