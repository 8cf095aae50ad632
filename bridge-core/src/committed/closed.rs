//! The end of a session whose transaction has no list of its ephemeral znodes: servers before 3.6 write it, and those with
//! `zookeeper.closeSessionTxn.enabled=false`. The image, which is at the position before it, has the list.
//!
//! The first such end reads the whole image and makes an index of the owners; the transactions after it keep the index.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::image_txn::{ImageTxn, Node};
use crate::journal::JournalError;
use crate::number::SessionId;
use crate::path::{Hasher, ZnodePath};
use crate::record::LifetimeKind;

use super::net::NetFault;
use super::options::CommittedOptions;
use super::proof::ProofMode;
use super::txn::{CommittedTxn, NodeOperation, TxnContent};

/// Rows of the image in one read.
const PAGE: usize = 1_000;

/// Ephemeral znodes that the index holds, about 200 bytes each. With more, each end reads the whole image.
pub(super) const INDEXED_MAX: usize = 200_000;

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

/// The transaction with the list of the captured znodes that it deletes, in the order of their paths, if it has none.
///
/// Where a captured znode has children that are not captured, some of them may have been the session's, and the znode's
/// Stat would be wrong: without a digest of the tree that shows it, that is not proved.
pub(super) fn with_list<'a>(
    txn: &'a CommittedTxn,
    options: &CommittedOptions,
    index: &mut SessionIndex,
    image: &mut dyn ImageTxn,
) -> Result<Cow<'a, CommittedTxn>, NetFault> {
    if !matches!(txn.content, TxnContent::CloseSession { paths: None }) {
        return Ok(Cow::Borrowed(txn));
    }
    let read;
    let owners = match &index.0 {
        Some(owners) => owners,
        None => {
            let found = Owners::of_image(options, image)?;
            match found.owners.len() <= options.indexed_max {
                true => index.0.insert(found),
                false => {
                    read = found;
                    &read
                }
            }
        }
    };
    match owners.hidden.keys().min() {
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
            let paths = owners.paths.get(&txn.session).into_iter().flatten();
            let content = TxnContent::CloseSession {
                paths: Some(paths.map(|path| options.server_path(path)).collect()),
            };
            Ok(Cow::Owned(CommittedTxn {
                content,
                ..txn.clone()
            }))
        }
    }
}

impl SessionIndex {
    /// The index that the image gives.
    #[cfg(test)]
    pub(super) fn of_image(
        options: &CommittedOptions,
        image: &mut dyn ImageTxn,
    ) -> Result<SessionIndex, JournalError> {
        Owners::of_image(options, image).map(|owners| SessionIndex(Some(owners)))
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
        if owners.owners.len() > options.indexed_max {
            self.0 = None;
        }
    }
}

impl Owners {
    /// Reads the whole image.
    fn of_image(options: &CommittedOptions, image: &mut dyn ImageTxn) -> Result<Owners, JournalError> {
        let mut owners = Owners::default();
        // Znodes whose children are to be listed, with their number.
        let mut above = Vec::new();
        for root in &options.capture.roots {
            if let Some(node) = image.node(root)? {
                owners.visit(root.clone(), &node, &mut above);
            }
        }
        while let Some((parent, children)) = above.pop() {
            let listed = owners.list(&parent, image, &mut above)?;
            // ZooKeeper's own znode is a child of the root, and is no session's.
            let own = i64::from(options.server_path(&parent).is_slash());
            let hidden = i64::from(children) - listed - own;
            if hidden > 0 {
                owners.hidden.insert(parent, hidden);
            }
        }
        Ok(owners)
    }

    fn visit(&mut self, path: ZnodePath, node: &Node, above: &mut Vec<(ZnodePath, i32)>) {
        let Some(stat) = node.stat else {
            return;
        };
        if stat.is_ephemeral() {
            self.created(path, stat.ephemeral_owner);
        } else if stat.num_children > 0 {
            above.push((path, stat.num_children));
        }
    }

    /// Visits the children of a znode. Returns their number.
    fn list(
        &mut self,
        parent: &ZnodePath,
        image: &mut dyn ImageTxn,
        above: &mut Vec<(ZnodePath, i32)>,
    ) -> Result<i64, JournalError> {
        let mut listed = 0;
        let mut after: Option<Box<str>> = None;
        loop {
            let page = image.children(parent, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (name, node) in page {
                listed += 1;
                self.visit(parent.child(&name), &node, above);
                after = Some(name);
            }
            if is_last {
                return Ok(listed);
            }
        }
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
