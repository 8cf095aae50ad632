//! Compares the answers of a server with the image: differences become reconciled records, each with its proof.
//!
//! `version` alone is never compared: a znode that was deleted and created again may have the same version, so `czxid`
//! identifies the incarnation first.

use std::cmp::Ordering;

use crate::append::{Change, ChangeKind, DeletedAt, NodeFacts};
use crate::image_txn::Node;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Fidelity, Stat, Timestamp};

use super::options::AclMode;
use super::roots::StepContext;
use super::{StepError, StepResult, lagging};

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// The znode equals its row in the image.
    Same,
    /// Something differed and was appended.
    Different,
}

impl StepContext<'_> {
    /// Compares a znode that was read with its row in the image, inside a bracket.
    pub(crate) fn reconcile(
        &mut self,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
        data: &[u8],
    ) -> StepResult<Compared> {
        let Some(node) = self.image.node(path)? else {
            // Znodes recorded below an unreadable one may belong to an earlier incarnation.
            self.purge(root, path, Some(stat.czxid), DeletedAt::Bound(stat.czxid))?;
            self.write_found(root, path, stat, data)?;
            return Ok(Compared::Different);
        };
        match stat.czxid.cmp(&node.czxid) {
            Ordering::Equal => self.reconcile_same_incarnation(root, path, &node, stat, data),
            Ordering::Greater => {
                self.purge(root, path, Some(stat.czxid), DeletedAt::Bound(stat.czxid))?;
                self.write_delete(root, path, DeletedAt::Bound(stat.czxid))?;
                self.write_created(root, path, stat, data)?;
                Ok(Compared::Different)
            }
            Ordering::Less if self.options.accept_baseline => {
                self.replace_incarnation(root, path, stat, data)
            }
            Ordering::Less => Err(lagging(path, "czxid", stat.czxid, node.czxid)),
        }
    }

    fn reconcile_same_incarnation(
        &mut self,
        root: usize,
        path: &ZnodePath,
        node: &Node,
        stat: &Stat,
        data: &[u8],
    ) -> StepResult<Compared> {
        if let Some(evidence) = older_or_other(path, node, stat) {
            if self.options.accept_baseline {
                return self.accept_baseline(root, path, node, stat, data);
            }
            return Err(StepError::Lagging(evidence));
        }
        let acl_moved = self.acl_moved(node, stat);
        if stat.mzxid > node.mzxid() {
            let missed = missed_between(node.version(), stat.version);
            let kind = ChangeKind::Updated {
                read: self.read(stat, data),
            };
            self.write_reconciled(root, path, kind, missed)?;
        } else if node.stat.is_some_and(|known| known != *stat) && !acl_moved {
            self.image.refresh(path, stat)?;
            return Ok(Compared::Same);
        }
        if acl_moved {
            self.write_acl(root, path, stat)?;
        }
        let same = stat.mzxid == node.mzxid() && !acl_moved;
        Ok(if same { Compared::Same } else { Compared::Different })
    }

    /// Compares with a state that an operator accepted although it is older. The znodes below a kept incarnation stay:
    /// the same walk compares its list of children. Only another value and another access control list are recorded.
    fn accept_baseline(
        &mut self,
        root: usize,
        path: &ZnodePath,
        node: &Node,
        stat: &Stat,
        data: &[u8],
    ) -> StepResult<Compared> {
        let Some(known) = node.stat.filter(|known| known.ctime == stat.ctime) else {
            return self.replace_incarnation(root, path, stat, data);
        };
        let acl_moved = self.acl_moved(node, stat);
        let is_same = is_same_version(&known, stat);
        if !is_same {
            let missed = missed_between(known.version, stat.version);
            let kind = ChangeKind::Updated {
                read: self.read(stat, data),
            };
            self.write_reconciled(root, path, kind, missed)?;
        }
        if acl_moved {
            self.write_acl(root, path, stat)?;
        } else if is_same {
            self.image.refresh(path, stat)?;
            return Ok(Compared::Same);
        }
        Ok(Compared::Different)
    }

    /// Records the delete of the known incarnation with all below it, and the create of another one. The same walk
    /// finds the znodes that still exist below.
    fn replace_incarnation(
        &mut self,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
        data: &[u8],
    ) -> StepResult<Compared> {
        self.purge(root, path, None, DeletedAt::Unknown)?;
        self.write_delete(root, path, DeletedAt::Unknown)?;
        self.write_created(root, path, stat, data)?;
        Ok(Compared::Different)
    }

    /// Records a znode that the image does not have: as `snapshot` inside a run, else as reconciled `create`.
    fn write_found(&mut self, root: usize, path: &ZnodePath, stat: &Stat, data: &[u8]) -> StepResult<()> {
        let Some((run, index)) = self.next_in_run(root) else {
            return self.write_created(root, path, stat, data);
        };
        let kind = ChangeKind::Listed {
            read: self.read(stat, data),
            run,
            index,
        };
        self.write_reconciled(root, path, kind, None)
    }

    fn write_created(&mut self, root: usize, path: &ZnodePath, stat: &Stat, data: &[u8]) -> StepResult<()> {
        let kind = ChangeKind::Created {
            read: self.read(stat, data),
        };
        let missed = Some(u64::try_from(stat.version).unwrap_or_default());
        self.write_reconciled(root, path, kind, missed)
    }

    fn write_reconciled(
        &mut self,
        root: usize,
        path: &ZnodePath,
        kind: ChangeKind,
        missed: Option<u64>,
    ) -> StepResult<()> {
        let path = path.clone();
        let fidelity = Fidelity::Reconciled;
        let superseded = Vec::new();
        let facts = self.facts(&path, &kind);
        self.write(
            root,
            Change {
                path,
                kind,
                fidelity,
                missed,
                superseded,
                txn: None,
                facts,
            },
        )?;
        Ok(())
    }

    /// The facts beside the Stat of a znode that is created or listed, as far as they were read.
    pub(crate) fn facts(&mut self, path: &ZnodePath, kind: &ChangeKind) -> Option<Box<NodeFacts>> {
        let (ChangeKind::Created { read } | ChangeKind::Listed { read, .. }) = kind else {
            return None;
        };
        if let Some(stage) = &self.stage {
            return stage.facts.clone();
        }
        if self.options.acls != AclMode::All {
            return None;
        }
        let acl = self.lists.of(path, &read.stat);
        self.counters.unread_acls += u64::from(acl.is_none());
        Some(Box::new(NodeFacts { lifetime: None, acl }))
    }

    /// A reconciled delete.
    pub(crate) fn write_delete(&mut self, root: usize, path: &ZnodePath, at: DeletedAt) -> StepResult<()> {
        let kind = ChangeKind::Deleted { at };
        self.write_reconciled(root, path, kind, None)
    }

    /// An `acl` record.
    pub(crate) fn write_acl(&mut self, root: usize, path: &ZnodePath, stat: &Stat) -> StepResult<()> {
        let acl = match &self.stage {
            Some(stage) => stage.facts.as_ref().and_then(|facts| facts.acl.clone()),
            None => self.lists.of(path, stat),
        };
        if acl.is_none() && self.options.acls.has_lists() {
            self.counters.unread_acls += 1;
        }
        let kind = ChangeKind::AclChanged {
            zxid: None,
            stat: *stat,
            acl,
        };
        self.write_reconciled(root, path, kind, Some(0))
    }

    /// Whether the access control list of a known version changed since it was last read.
    pub(crate) fn acl_moved(&self, node: &Node, stat: &Stat) -> bool {
        self.options.acls != AclMode::Off
            && node.czxid == stat.czxid
            && node.stat.is_some_and(|known| known.aversion != stat.aversion)
    }

    /// Deletes the znodes below a path from the image, deepest first: all of them, or those older than the path's new
    /// incarnation (a child of the new one may be known already and must stay).
    pub(crate) fn purge(
        &mut self,
        root: usize,
        path: &ZnodePath,
        older_than: Option<Zxid>,
        at: DeletedAt,
    ) -> StepResult<()> {
        let is_old = |node: &Node| older_than.is_none_or(|created| node.czxid < created);
        let mut limit = self.options.limits.page;
        loop {
            let page = self.image.deepest_below(path, limit)?;
            let was_last = page.len() < limit;
            let mut dropped = 0;
            for (gone, node) in page.iter().filter(|(_, node)| is_old(node)) {
                self.check_proof(gone, node, at)?;
                self.write_delete(root, gone, at)?;
                dropped += 1;
            }
            if was_last {
                return Ok(());
            }
            if dropped == 0 {
                limit = limit.saturating_mul(2);
            }
        }
    }

    /// Refuses a delete whose bound is older than the newest known zxid of the znode: it has no proof.
    pub(crate) fn check_proof(&self, path: &ZnodePath, node: &Node, at: DeletedAt) -> StepResult<()> {
        match at {
            DeletedAt::Bound(bound) if bound < node.newest_zxid() && !self.options.accept_baseline => Err(
                lagging(path, "no longer, with a parent at", bound, node.newest_zxid()),
            ),
            _ => Ok(()),
        }
    }

    /// Compares the list of a znode's children with the image: missing ones become deletes, bound and proved by the
    /// `pzxid` that was read together with the list. `names` is sorted.
    pub(crate) fn drop_gone_children(
        &mut self,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
        names: &[Box<str>],
    ) -> StepResult<Compared> {
        let mut after: Option<Box<str>> = None;
        let mut found = Compared::Same;
        loop {
            let page = self
                .image
                .occupied_children(path, after.as_deref(), self.options.limits.page)?;
            let was_last = page.len() < self.options.limits.page;
            for (name, node) in &page {
                if names.binary_search(name).is_ok() {
                    continue;
                }
                let child = path.child(name);
                if self.options.is_left_out(&child) {
                    continue;
                }
                match node {
                    Some(node) => self.drop_gone(root, &child, node, self.bound(stat.pzxid, node))?,
                    None => self.drop_orphans(root, &child, stat.pzxid)?,
                }
                found = Compared::Different;
            }
            match page.into_iter().last() {
                Some((name, _)) if !was_last => after = Some(name),
                _ => return Ok(found),
            }
        }
    }

    /// Deletes znodes below one that the image does not have: a walk found them in an incarnation of their parent that
    /// was never recorded, and was interrupted. Without the parent they do not exist.
    fn drop_orphans(&mut self, root: usize, parent: &ZnodePath, pzxid: Zxid) -> StepResult<()> {
        let at = if self.options.accept_baseline {
            DeletedAt::Unknown
        } else {
            DeletedAt::Bound(pzxid)
        };
        self.purge(root, parent, None, at)
    }

    /// The bound of a delete found by comparing. An accepted baseline may be older than the image: then there is no
    /// bound.
    pub(crate) fn bound(&self, pzxid: Zxid, node: &Node) -> DeletedAt {
        if self.options.accept_baseline && pzxid < node.newest_zxid() {
            return DeletedAt::Unknown;
        }
        DeletedAt::Bound(pzxid)
    }

    /// Records the delete of a znode with all below it.
    pub(crate) fn drop_gone(
        &mut self,
        root: usize,
        path: &ZnodePath,
        node: &Node,
        at: DeletedAt,
    ) -> StepResult<()> {
        self.check_proof(path, node, at)?;
        self.purge(root, path, None, at)?;
        self.write_delete(root, path, at)
    }
}

/// Evidence that a znode of a known czxid is no later state of the one in the image: it is older, or its zxids belong
/// to another history.
fn older_or_other(path: &ZnodePath, node: &Node, stat: &Stat) -> Option<String> {
    let known_pzxid = node.stat.map_or(Zxid::ZERO, |known| known.pzxid);
    for (what, shown, known) in [
        ("mzxid", stat.mzxid, node.mzxid()),
        ("pzxid", stat.pzxid, known_pzxid),
    ] {
        if shown < known {
            return Some(format!(
                "{path} shows {what} {shown} where the journal holds {known}"
            ));
        }
    }
    let known = node.stat?;
    if stat.ctime != known.ctime {
        return Some(format!(
            "{path} of czxid {} was created {}, and the journal holds one created {}",
            stat.czxid,
            Timestamp(stat.ctime),
            Timestamp(known.ctime)
        ));
    }
    let is_other = stat.mzxid == known.mzxid && !is_same_version(&known, stat);
    is_other.then(|| {
        format!(
            "{path} of mzxid {} is version {} written {}, and the journal holds version {} written {}",
            stat.mzxid,
            stat.version,
            Timestamp(stat.mtime),
            known.version,
            Timestamp(known.mtime)
        )
    })
}

/// Whether two Stats of one incarnation belong to the same version.
fn is_same_version(known: &Stat, stat: &Stat) -> bool {
    (known.mzxid, known.mtime, known.version) == (stat.mzxid, stat.mtime, stat.version)
}

/// The number of versions between the last recorded one and the one read; `None` if the numbers do not allow it.
pub(crate) fn missed_between(reported: i32, read: i32) -> Option<u64> {
    let between = i64::from(read) - i64::from(reported) - 1;
    u64::try_from(between).ok()
}

/// The time of the create, from ZooKeeper.
pub(crate) fn ctime(stat: &Stat) -> Timestamp {
    Timestamp(stat.ctime)
}
