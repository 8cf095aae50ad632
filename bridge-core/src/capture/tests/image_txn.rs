//! A book in memory: the image as a map, the records as a list.

use std::collections::{BTreeMap, BTreeSet};

use crate::append::{Append, Change, ChangeKind, RecordKind};
use crate::image_txn::{Children, ImageTxn, Node, Progress};
use crate::journal::JournalError;
use crate::number::{Epoch, Seq};
use crate::path::ZnodePath;
use crate::record::Stat;

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryBook {
    pub(super) image: BTreeMap<ZnodePath, Node>,
    pub(super) entries: Vec<Append>,
    pub(super) epoch: Epoch,
    pub(super) progress: BTreeMap<ZnodePath, Progress>,
}

impl MemoryBook {
    /// The changes so far, in order.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.entries.iter().filter_map(|entry| match &entry.word {
            RecordKind::Change(change) => Some(change),
            _ => None,
        })
    }

    fn apply(&mut self, change: &Change) {
        let (path, known) = (change.path.clone(), self.image.get(&change.path).copied());
        match &change.what {
            ChangeKind::Created { read } | ChangeKind::Listed { read, .. } => {
                assert!(
                    known.is_none(),
                    "{path} is created while it exists: {change:?} over {known:?}"
                );
                self.image.insert(
                    path,
                    Node {
                        czxid: read.stat.czxid,
                        stat: Some(read.stat),
                    },
                );
            }
            ChangeKind::CreatedUnread { czxid, .. } => {
                assert!(
                    known.is_none(),
                    "{path} is created while it exists: {change:?} over {known:?}"
                );
                self.image.insert(
                    path,
                    Node {
                        czxid: *czxid,
                        stat: None,
                    },
                );
            }
            ChangeKind::Updated { read } => {
                let node =
                    known.unwrap_or_else(|| panic!("{path} is updated but does not exist: {change:?}"));
                assert_eq!(
                    node.czxid, read.stat.czxid,
                    "{path} is updated as another incarnation"
                );
                assert!(
                    read.stat.mzxid > node.mzxid(),
                    "{path} is updated to an older version"
                );
                self.image.insert(
                    path,
                    Node {
                        czxid: read.stat.czxid,
                        stat: Some(read.stat),
                    },
                );
            }
            ChangeKind::Deleted { .. } => {
                self.image.remove(&path);
            }
            ChangeKind::AclChanged { stat, .. } => {
                let node = known.unwrap_or_else(|| panic!("{path} does not exist: {change:?}"));
                assert_eq!(
                    (node.czxid, node.mzxid()),
                    (stat.czxid, stat.mzxid),
                    "{path}: acl of another version"
                );
                self.image.insert(
                    path,
                    Node {
                        czxid: stat.czxid,
                        stat: Some(*stat),
                    },
                );
            }
            ChangeKind::Restated { .. } => {
                assert!(known.is_some(), "{path} is in a snapshot but does not exist")
            }
        }
    }
}

impl ImageTxn for MemoryBook {
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError> {
        Ok(self.image.get(path).copied())
    }

    fn children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        let mut children: Vec<(Box<str>, Node)> = self
            .image
            .iter()
            .filter(|(child, _)| child.parent_str() == Some(path.as_str()))
            .map(|(child, node)| (child.name().into(), *node))
            .filter(|(name, _): &(Box<str>, Node)| after.is_none_or(|after| &**name > after))
            .collect();
        children.sort_by(|left, right| left.0.cmp(&right.0));
        children.truncate(limit);
        Ok(children)
    }

    fn occupied_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children<Option<Node>>, JournalError> {
        let names: BTreeSet<Box<str>> = self
            .image
            .keys()
            .filter_map(|below| path.child_towards(below))
            .map(|child| Box::<str>::from(child.name()))
            .filter(|name| after.is_none_or(|after| **name > *after))
            .collect();
        let rows = names.into_iter().take(limit).map(|name| {
            let node = self.image.get(&path.child(&name)).copied();
            (name, node)
        });
        Ok(rows.collect())
    }

    fn deepest_below(
        &mut self,
        path: &ZnodePath,
        limit: usize,
    ) -> Result<Vec<(ZnodePath, Node)>, JournalError> {
        let below = |other: &ZnodePath| other != path && path.covers(other);
        let mut found: Vec<(ZnodePath, Node)> = self
            .image
            .iter()
            .filter(|(other, _)| below(other))
            .map(|(other, node)| (other.clone(), *node))
            .collect();
        found.sort_by_key(|(other, _)| std::cmp::Reverse(other.names().count()));
        found.truncate(limit);
        Ok(found)
    }

    fn append(&mut self, entry: Append) -> Result<Seq, JournalError> {
        if let RecordKind::Change(change) = &entry.word {
            self.apply(change);
        }
        self.entries.push(entry);
        Ok(Seq(self.entries.len() as u64))
    }

    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError> {
        let node = self
            .image
            .get_mut(path)
            .unwrap_or_else(|| panic!("{path} is refreshed but does not exist"));
        assert_eq!(node.czxid, stat.czxid);
        node.stat = Some(*stat);
        Ok(())
    }

    fn epoch(&mut self) -> Result<Epoch, JournalError> {
        Ok(self.epoch)
    }

    fn set_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        assert!(epoch > self.epoch, "the watch epoch goes back");
        self.epoch = epoch;
        Ok(())
    }

    fn progress(&mut self, root: &ZnodePath) -> Result<Progress, JournalError> {
        Ok(self.progress.get(root).cloned().unwrap_or_default())
    }

    fn set_progress(&mut self, root: &ZnodePath, progress: &Progress) -> Result<(), JournalError> {
        self.progress.insert(root.clone(), progress.clone());
        Ok(())
    }
}
