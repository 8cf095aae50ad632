//! The end of a session whose transaction has no list of its ephemeral znodes: servers before 3.6 write it, and those with
//! `zookeeper.closeSessionTxn.enabled=false`. The image, which is at the position before it, has those that are captured,
//! and a table of the journal has the others: they are no records, but children of captured znodes and terms of the digest.
//!
//! The first such end reads the whole image and makes an index of the owners; the transactions after it keep the index. If
//! the index would be too large, each end reads the whole image, and keeps what is the session's. The table is filled from
//! each snapshot, and kept by every transaction, because a list may be lacking at any time.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::image_txn::{ImageTxn, Node};
use crate::journal::JournalError;
use crate::number::SessionId;
use crate::path::{Hasher, ZnodePath};
use crate::record::LifetimeKind;

use super::net::{NetEffect, NetFault};
use super::options::{CommittedOptions, ProofMode};
use super::txn::{CommittedTxn, NodeOperation, TxnContent};

/// Rows of the image in one read.
const PAGE: usize = 1_000;

/// The owners of the captured ephemeral znodes, once they were needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionIndex(Option<Owners>);

/// Which session has which captured ephemeral znodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owners {
    paths: HashMap<SessionId, BTreeSet<ZnodePath>>,
    owners: HashMap<ZnodePath, SessionId, Hasher>,
    /// Captured znodes with children that are not captured, and their number.
    hidden: HashMap<ZnodePath, i64, Hasher>,
}

/// A transaction that lists what it deletes.
pub(super) struct ListedTxn<'a> {
    /// The transaction.
    pub(super) txn: Cow<'a, CommittedTxn>,
    /// Whether the list has the znodes that are not captured, too.
    pub(super) is_complete: bool,
    /// How many of the list are captured, if it was made here.
    captured: Option<usize>,
}

impl ListedTxn<'_> {
    /// A list that was made here counts as the contract of records says: the captured znodes only.
    pub(super) fn count(&self, effect: &mut NetEffect) {
        let Some(captured) = self.captured else { return };
        for (_, change) in &mut effect.changes {
            if let Some(about) = &mut change.txn {
                about.count = u32::try_from(captured).unwrap_or(u32::MAX);
            }
        }
    }
}

/// The transaction with the list of the znodes that it deletes, if it has none: the captured ones in the order of their
/// paths, and after them those that are not captured.
///
/// A journal of an earlier version has the captured ones only. Where a captured znode then has children that are not
/// captured, some of them may have been the session's, and the znode's Stat would be wrong: without a digest of the tree
/// that shows it, that is not proved.
pub(super) fn with_list<'a>(
    txn: &'a CommittedTxn,
    options: &CommittedOptions,
    index: &mut SessionIndex,
    image: &mut dyn ImageTxn,
) -> Result<ListedTxn<'a>, NetFault> {
    if !matches!(txn.content, TxnContent::CloseSession { paths: None }) {
        return Ok(ListedTxn {
            txn: Cow::Borrowed(txn),
            is_complete: true,
            captured: None,
        });
    }
    let uncaptured = image.uncaptured_of(txn.session)?;
    let is_complete = uncaptured.is_some();
    if index.0.is_none() {
        let at_most = options.indexed_max;
        index.0 = Owners::of_image(IndexedZnodes::All { at_most }, options, image)?;
    }
    let read;
    let owners = match &index.0 {
        Some(owners) => owners,
        None => {
            read = Owners::of_image(IndexedZnodes::Of(txn.session), options, image)?.unwrap_or_default();
            &read
        }
    };
    match owners.hidden.keys().min().filter(|_| !is_complete) {
        // Only the digest of the whole tree shows a child that the list lacks.
        Some(parent) if txn.digest.is_none() || options.proof != ProofMode::Tree => {
            Err(NetFault::Contradiction(format!(
                "transaction {} ends session {} without the list of its ephemeral znodes, and some of the children of \
                 {} are not captured: whether they were the session's is not known",
                txn.zxid,
                txn.session,
                parent.brief()
            )))
        }
        _ => {
            let captured = owners.paths.get(&txn.session).into_iter().flatten();
            let mut paths: Vec<ZnodePath> = captured.map(|path| options.server_path(path)).collect();
            let captured = Some(paths.len());
            paths.extend(uncaptured.into_iter().flatten());
            let content = TxnContent::CloseSession { paths: Some(paths) };
            let txn = Cow::Owned(CommittedTxn {
                content,
                ..txn.clone()
            });
            Ok(ListedTxn {
                txn,
                is_complete,
                captured,
            })
        }
    }
}

/// Takes a transaction, with its list, into the journal's table of the ephemeral znodes that are not captured.
pub(super) fn keep_uncaptured(
    txn: &CommittedTxn,
    options: &CommittedOptions,
    image: &mut dyn ImageTxn,
) -> Result<(), JournalError> {
    let mut operation = |operation: &NodeOperation| match operation {
        NodeOperation::Create { path, lifetime, .. } if lifetime.kind == LifetimeKind::Ephemeral => {
            set_uncaptured(path, Some(txn.session), options, image)
        }
        NodeOperation::Delete { path, .. } => set_uncaptured(path, None, options, image),
        NodeOperation::Create { .. }
        | NodeOperation::SetData { .. }
        | NodeOperation::SetAcl { .. }
        | NodeOperation::Check => Ok(()),
    };
    match &txn.content {
        TxnContent::Nothing => Ok(()),
        TxnContent::Single(single) => operation(single),
        TxnContent::Multi(operations) => operations.iter().try_for_each(operation),
        TxnContent::CloseSession { paths } => {
            let mut paths = paths.iter().flatten();
            paths.try_for_each(|path| set_uncaptured(path, None, options, image))
        }
    }
}

/// Stores a znode with its session, or that it does not exist, if it is not captured.
pub(super) fn set_uncaptured(
    path: &ZnodePath,
    session: Option<SessionId>,
    options: &CommittedOptions,
    image: &mut dyn ImageTxn,
) -> Result<(), JournalError> {
    match options.is_captured(path) {
        true => Ok(()),
        false => image.set_uncaptured(path, session),
    }
}

impl SessionIndex {
    /// The index that the image gives.
    #[cfg(test)]
    pub(super) fn of_image(
        options: &CommittedOptions,
        image: &mut dyn ImageTxn,
    ) -> Result<SessionIndex, JournalError> {
        let at_most = usize::MAX;
        Owners::of_image(IndexedZnodes::All { at_most }, options, image).map(SessionIndex)
    }

    /// Takes a transaction, with its list, after the image has.
    pub(super) fn take(&mut self, txn: &CommittedTxn, options: &CommittedOptions) {
        let Some(owners) = &mut self.0 else { return };
        match &txn.content {
            TxnContent::Nothing => {}
            TxnContent::Single(operation) => owners.operation(txn.session, operation, options),
            TxnContent::Multi(operations) => {
                for operation in operations {
                    owners.operation(txn.session, operation, options);
                }
            }
            TxnContent::CloseSession { paths } => {
                for path in paths.iter().flatten() {
                    owners.deleted(path, options);
                }
            }
        }
        if owners.len() > options.indexed_max {
            self.0 = None;
        }
    }
}

/// The znodes of the image that the index keeps.
#[derive(Clone, Copy, Debug)]
enum IndexedZnodes {
    /// All owners.
    All {
        /// Znodes of the index.
        at_most: usize,
    },
    /// The znodes of one session, and the first znode with children that are not captured.
    Of(SessionId),
}

/// A znode of which the children are read.
struct SoughtChildren {
    parent: ZnodePath,
    /// The children that its Stat counts.
    children: i32,
    listed: i64,
    page: std::vec::IntoIter<(Box<str>, Node)>,
    after: Option<Box<str>>,
    is_last: bool,
}

impl SoughtChildren {
    fn new(parent: ZnodePath, children: i32) -> SoughtChildren {
        SoughtChildren {
            parent,
            children,
            listed: 0,
            page: Vec::new().into_iter(),
            after: None,
            is_last: false,
        }
    }

    /// The next child that the image has.
    fn next(&mut self, image: &mut dyn ImageTxn) -> Result<Option<(ZnodePath, Node)>, JournalError> {
        if self.page.as_slice().is_empty() && !self.is_last {
            let page = image.children(&self.parent, self.after.as_deref(), PAGE)?;
            self.is_last = page.len() < PAGE;
            self.after = page.last().map(|(name, _)| name.clone());
            self.page = page.into_iter();
        }
        let Some((name, node)) = self.page.next() else {
            return Ok(None);
        };
        self.listed += 1;
        Ok(Some((self.parent.child(&name), node)))
    }

    /// The children that the image lacks, once all are listed.
    fn hidden(&self, options: &CommittedOptions) -> i64 {
        // ZooKeeper's own znode is a child of the root, and is no session's.
        let own = i64::from(options.server_path(&self.parent).is_slash());
        i64::from(self.children) - self.listed - own
    }
}

impl Owners {
    /// Reads the whole image, one znode below the other: a page for each znode above the present one is in memory. `None` if
    /// the index would be larger than it may.
    fn of_image(
        sought: IndexedZnodes,
        options: &CommittedOptions,
        image: &mut dyn ImageTxn,
    ) -> Result<Option<Owners>, JournalError> {
        let mut owners = Owners::default();
        for root in &options.capture.roots {
            let mut open = Vec::new();
            if let Some(node) = image.node(root)? {
                open.extend(owners.visit(root.clone(), &node, sought));
            }
            while let Some(listing) = open.last_mut() {
                match listing.next(image)? {
                    Some((path, node)) => open.extend(owners.visit(path, &node, sought)),
                    None => {
                        let hidden = listing.hidden(options);
                        if let Some(done) = open.pop().filter(|_| hidden > 0) {
                            owners.found_hidden(done.parent, hidden, sought);
                        }
                    }
                }
                if matches!(sought, IndexedZnodes::All { at_most } if owners.len() > at_most) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(owners))
    }

    /// The znodes of the index.
    fn len(&self) -> usize {
        self.owners.len() + self.hidden.len()
    }

    /// Takes a znode; returns the listing of its children, if it has some.
    fn visit(&mut self, path: ZnodePath, node: &Node, sought: IndexedZnodes) -> Option<SoughtChildren> {
        let stat = node.stat?;
        if !stat.is_ephemeral() {
            return (stat.num_children > 0).then(|| SoughtChildren::new(path, stat.num_children));
        }
        let owner = stat.ephemeral_owner;
        if !matches!(sought, IndexedZnodes::Of(session) if session != owner) {
            self.created(path, owner);
        }
        None
    }

    fn found_hidden(&mut self, parent: ZnodePath, hidden: i64, sought: IndexedZnodes) {
        if let IndexedZnodes::Of(_) = sought {
            if self.hidden.keys().any(|known| *known <= parent) {
                return;
            }
            self.hidden.clear();
        }
        self.hidden.insert(parent, hidden);
    }

    fn created(&mut self, path: ZnodePath, session: SessionId) {
        self.paths.entry(session).or_default().insert(path.clone());
        self.owners.insert(path, session);
    }

    fn operation(&mut self, session: SessionId, operation: &NodeOperation, options: &CommittedOptions) {
        match operation {
            NodeOperation::Create { path, lifetime, .. } => {
                let Some(path) = options.record_path(path) else {
                    return;
                };
                if options.capture.root_of(&path).is_none() {
                    self.hid(&path, 1, options);
                } else if lifetime.kind == LifetimeKind::Ephemeral {
                    self.created(path, session);
                }
            }
            NodeOperation::Delete { path, .. } => self.deleted(path, options),
            NodeOperation::SetData { .. } | NodeOperation::SetAcl { .. } | NodeOperation::Check => {}
        }
    }

    fn deleted(&mut self, path: &ZnodePath, options: &CommittedOptions) {
        let Some(path) = options.record_path(path) else {
            return;
        };
        if options.capture.root_of(&path).is_none() {
            self.hid(&path, -1, options);
        } else if let Some(session) = self.owners.remove(&path)
            && let Some(paths) = self.paths.get_mut(&session)
        {
            paths.remove(&path);
            if paths.is_empty() {
                self.paths.remove(&session);
            }
        }
    }

    /// A znode that is not captured was created or deleted; its parent may be captured.
    fn hid(&mut self, path: &ZnodePath, change: i64, options: &CommittedOptions) {
        let parent = path.parent();
        let Some(parent) = parent.filter(|parent| options.capture.root_of(parent).is_some()) else {
            return;
        };
        let hidden = self.hidden.entry(parent.clone()).or_default();
        *hidden += change;
        if *hidden == 0 {
            self.hidden.remove(&parent);
        }
    }
}
