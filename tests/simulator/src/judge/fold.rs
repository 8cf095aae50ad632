//! Judges the tree that the records add up to: outside gaps and runs exactly the znodes that existed, and never a child
//! without its parent.

use std::collections::BTreeSet;

use bridge_core::append::{Append, Change, ChangeKind};
use bridge_core::path::ZnodePath;

use super::{Bench, Judge, exact_zxid, zxid_of};
use crate::coverage::Seen;

impl Judge {
    /// A parent's create comes before its children's, a child's delete before its parent's.
    pub(super) fn check_family(&self, root: &ZnodePath, change: &Change, bench: &Bench<'_>) {
        if !bench.excuses.is_none() {
            return;
        }
        let (path, is_open) = (&change.path, self.open.contains_key(root));
        match &change.kind {
            ChangeKind::Created { .. } | ChangeKind::CreatedUnread { .. } | ChangeKind::Listed { .. } => {
                let Some(parent) = path.parent() else { return };
                let is_watched = self.roots.iter().any(|root| root.covers(&parent));
                assert!(
                    !is_watched || self.living.contains_key(&parent),
                    "{change:?} comes before its parent's create"
                );
            }
            ChangeKind::Deleted { .. } => {
                // Inside a gap or run a walk may have reported a child of the next incarnation before.
                let is_of_next = |czxid| is_open && exact_zxid(change).is_some_and(|gone| czxid >= gone);
                let below = self
                    .living
                    .range(path.clone()..)
                    .filter(|(below, _)| *below != path);
                let mut below = below.filter(|(below, known)| path.covers(below) && !is_of_next(known.czxid));
                let child = below.next().map(|(below, _)| below);
                assert_eq!(
                    child, None,
                    "{change:?} comes before the delete of what is below it"
                );
            }
            ChangeKind::Updated { .. } | ChangeKind::AclChanged { .. } | ChangeKind::Restated { .. } => {}
        }
    }

    /// Outside gaps and runs, and past their last zxid, the fold has exactly the znodes that existed.
    pub(super) fn check_existence(&self, root: &ZnodePath, entry: &Append, bench: &mut Bench<'_>) {
        let is_open = self.open.contains_key(root);
        let (Some(zxid), Some(Some(upto))) = (zxid_of(entry), self.upto.get(root)) else {
            return;
        };
        if is_open || zxid <= *upto || !bench.ensemble.release.sends_zxids || !bench.excuses.is_none() {
            return;
        }
        let expected: BTreeSet<_> = bench
            .ensemble
            .truth
            .at(root, zxid)
            .map(|(path, _)| path)
            .collect();
        let found: BTreeSet<_> = self.living.keys().filter(|path| root.covers(path)).collect();
        assert_eq!(found, expected, "the fold of {root} at {zxid}, and then the tree");
        if self.told_together(entry) {
            bench.seen.see(Seen::MultiVisible);
        }
    }

    fn told_together(&self, entry: &Append) -> bool {
        let zxid = zxid_of(entry);
        let of_txn = self.living.values().filter(|known| Some(known.mzxid) == zxid);
        of_txn.count() > 1
    }
}
