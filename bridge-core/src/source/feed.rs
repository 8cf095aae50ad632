//! Measures of a connection that reads transactions, for the status of its source.
//!
//! The connection sets them on any of its threads, also while it waits for the pipeline, which reads them about once a
//! second. So they need no place in the queue of reports, and a full queue does not hide that it is full.

use std::sync::{Arc, Mutex, MutexGuard};

use strum::IntoStaticStr;

use crate::number::Zxid;

/// The measures, shared by a connection and its pipeline.
#[derive(Clone, Debug, Default)]
pub struct FeedMeasures(Arc<Mutex<FeedView>>);

/// The measures at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedView {
    /// The server or the folders that the transactions come from; `None` without a connection.
    pub follows: Option<Arc<str>>,
    /// The newest transaction that the ensemble is known to have.
    pub newest: Option<Zxid>,
    /// The queue between the connection and the journal, where there is one.
    pub spool: Option<SpoolUse>,
    /// The tree that is taken at present.
    pub tree: Option<TreeLoad>,
}

/// How full a spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolUse {
    /// Bytes that wait for the journal.
    pub used_bytes: u64,
    /// The most that may wait.
    pub limit_bytes: u64,
}

/// How far a tree is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLoad {
    /// The present step.
    pub phase: TreePhase,
    /// Bytes of it that have arrived; 0 where it is read from a file.
    pub bytes: u64,
    /// Znodes of it that are staged.
    pub znodes: u64,
}

/// The steps in which a tree is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum TreePhase {
    /// Its bytes are on their way.
    Arriving,
    /// Its znodes are staged.
    Staging,
    /// It waits for the transaction whose digest shows that it is exact.
    Proving,
    /// The machine compares it with the journal.
    Comparing,
}

impl TreePhase {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FeedMeasures {
    /// The measures now.
    pub fn view(&self) -> FeedView {
        self.lock().clone()
    }

    /// The server or folders that the transactions come from. Forgets what belonged to those before.
    pub fn follow(&self, follows: Option<Arc<str>>) {
        let mut view = self.lock();
        view.follows = follows;
        view.tree = None;
        if let Some(spool) = &mut view.spool {
            spool.used_bytes = 0;
        }
    }

    /// The ensemble has this transaction. An older one than is known changes nothing.
    pub fn reached(&self, zxid: Zxid) {
        let mut view = self.lock();
        view.newest = view.newest.max(Some(zxid));
    }

    /// The queue to the journal holds this.
    pub fn spooled(&self, used_bytes: u64, limit_bytes: u64) {
        self.lock().spool = Some(SpoolUse {
            used_bytes,
            limit_bytes,
        });
    }

    /// So many bytes of a tree have arrived.
    pub fn tree_arrives(&self, bytes: u64) {
        self.lock().tree = Some(TreeLoad {
            phase: TreePhase::Arriving,
            bytes,
            znodes: 0,
        });
    }

    /// The tree has come to this step, with so many znodes.
    pub fn tree_goes_on(&self, phase: TreePhase, znodes: u64) {
        let mut view = self.lock();
        let bytes = view.tree.map_or(0, |tree| tree.bytes);
        view.tree = Some(TreeLoad { phase, bytes, znodes });
    }

    /// The machine compares the tree.
    pub fn compare_tree(&self) {
        if let Some(tree) = &mut self.lock().tree {
            tree.phase = TreePhase::Comparing;
        }
    }

    /// No tree is taken any more.
    pub fn end_tree(&self) {
        self.lock().tree = None;
    }

    fn lock(&self) -> MutexGuard<'_, FeedView> {
        self.0.lock().expect("no holder of the measures panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_transaction_never_goes_back_and_another_server_has_no_tree_yet() {
        let measures = FeedMeasures::default();
        measures.follow(Some("zk1:2888".into()));
        measures.reached(Zxid(7));
        measures.reached(Zxid(5));
        measures.spooled(3, 9);
        measures.tree_arrives(10);
        measures.tree_goes_on(TreePhase::Staging, 2);
        let view = measures.view();
        assert_eq!(view.newest, Some(Zxid(7)));
        let tree = view
            .tree
            .map(|tree| (tree.phase.as_str(), tree.bytes, tree.znodes));
        assert_eq!(tree, Some(("staging", 10, 2)));
        measures.follow(Some("zk2:2888".into()));
        let view = measures.view();
        assert_eq!(view.tree, None);
        assert_eq!(
            view.spool.map(|spool| (spool.used_bytes, spool.limit_bytes)),
            Some((0, 9))
        );
        assert_eq!(view.newest, Some(Zxid(7)));
    }
}
