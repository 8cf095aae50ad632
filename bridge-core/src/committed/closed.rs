//! The end of a session whose transaction has no list of its ephemeral znodes: servers before 3.6 write it, and those with
//! `zookeeper.closeSessionTxn.enabled=false`. The image, which is at the position before it, has the list.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::image_txn::{ImageTxn, Node};
use crate::journal::JournalError;
use crate::number::SessionId;
use crate::path::ZnodePath;

use super::net::NetFault;
use super::options::CommittedOptions;
use super::txn::{CommittedTxn, TxnContent};

/// Rows of the image in one read.
const PAGE: usize = 1_000;

/// The transaction with the list of the captured znodes that it deletes, in the order of their paths, if it has none.
///
/// It reads the whole image. Where a captured znode has children that are not captured, some of them may have been the
/// session's, and the znode's Stat would be wrong: without a digest of the tree that shows it, that is not proved.
pub(super) fn with_list<'a>(
    txn: &'a CommittedTxn,
    options: &CommittedOptions,
    image: &mut dyn ImageTxn,
) -> Result<Cow<'a, CommittedTxn>, NetFault> {
    if !matches!(txn.content, TxnContent::CloseSession { paths: None }) {
        return Ok(Cow::Borrowed(txn));
    }
    let mut search = Search {
        session: txn.session,
        found: BTreeSet::new(),
        above: Vec::new(),
        hidden: None,
    };
    for root in &options.capture.roots {
        if let Some(node) = image.node(root)? {
            search.visit(root.clone(), &node);
        }
    }
    while let Some((parent, children)) = search.above.pop() {
        let listed = search.list(&parent, image)?;
        // ZooKeeper's own znode is a child of the root, and is no session's.
        let own = i64::from(options.server_path(&parent).is_slash());
        if listed + own < i64::from(children) {
            search.hidden.get_or_insert(parent);
        }
    }
    match search.hidden {
        Some(parent) if txn.digest.is_none() => Err(NetFault::Contradiction(format!(
            "transaction {} ends session {} without the list of its ephemeral znodes, and some of the children of \
             {} are not captured: whether they were the session's is not known",
            txn.zxid,
            txn.session,
            parent.brief()
        ))),
        _ => {
            let paths = search.found.iter().map(|path| options.server_path(path));
            let content = TxnContent::CloseSession {
                paths: Some(paths.collect()),
            };
            Ok(Cow::Owned(CommittedTxn {
                content,
                ..txn.clone()
            }))
        }
    }
}

struct Search {
    session: SessionId,
    found: BTreeSet<ZnodePath>,
    /// Znodes whose children are to be listed, with their number.
    above: Vec<(ZnodePath, i32)>,
    /// A znode with children that the image does not have.
    hidden: Option<ZnodePath>,
}

impl Search {
    fn visit(&mut self, path: ZnodePath, node: &Node) {
        let Some(stat) = node.stat else {
            return;
        };
        if stat.is_ephemeral() {
            if stat.ephemeral_owner == self.session {
                self.found.insert(path);
            }
        } else if stat.num_children > 0 {
            self.above.push((path, stat.num_children));
        }
    }

    /// Visits the children of a znode. Returns their number.
    fn list(&mut self, parent: &ZnodePath, image: &mut dyn ImageTxn) -> Result<i64, JournalError> {
        let mut listed = 0;
        let mut after: Option<Box<str>> = None;
        loop {
            let page = image.children(parent, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (name, node) in page {
                listed += 1;
                self.visit(parent.child(&name), &node);
                after = Some(name);
            }
            if is_last {
                return Ok(listed);
            }
        }
    }
}
