//! What must hold after a storm: the records against the server's history.

use std::collections::{BTreeMap, BTreeSet};

use super::Storm;
use crate::entry::{Change, DeletedAt, Entry, What, Word};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::Fidelity;

impl Storm {
    pub(super) fn check(&self) {
        self.check_tree_at_rest();
        if self.watches_may_die {
            return;
        }
        self.check_records();
        if self.server.sends_zxids {
            self.check_exact_order();
            self.check_transactions_stand_together();
            self.check_overwritten_versions();
            self.check_existence();
        }
        self.check_brackets();
    }

    fn is_under_root(&self, path: &ZnodePath) -> bool {
        self.options.roots.iter().any(|root| root.covers(path))
    }

    fn check_tree_at_rest(&self) {
        let expected: BTreeMap<_, _> = self
            .server
            .tree
            .iter()
            .filter(|(path, _)| self.is_under_root(path))
            .map(|(path, znode)| (path.clone(), (znode.stat.czxid, znode.stat.mzxid)))
            .collect();
        let image: BTreeMap<_, _> = self
            .book
            .image
            .iter()
            .map(|(path, node)| (path.clone(), (node.czxid, node.mzxid())))
            .collect();
        assert_eq!(image, expected, "the image at rest is not the tree");
    }

    /// Every value is a version that existed, every delete is bound from the right side, and nothing is invented.
    fn check_records(&self) {
        let mut living: BTreeMap<ZnodePath, Zxid> = BTreeMap::new();
        let mut unseen: BTreeSet<(ZnodePath, Zxid)> = BTreeSet::new();
        for change in self.book.changes() {
            match &change.what {
                What::Created { read } | What::Listed { read, .. } | What::Updated { read } => {
                    let key = (change.path.clone(), read.stat.czxid, read.stat.mzxid);
                    let version = self.server.versions.get(&key);
                    assert_eq!(
                        version.map(Vec::as_slice),
                        read.data.as_ref().map(|data| &*data.bytes),
                        "{change:?}"
                    );
                    living.insert(change.path.clone(), read.stat.czxid);
                }
                What::CreatedUnread { czxid, .. } => {
                    let key = (change.path.clone(), *czxid, *czxid);
                    assert!(
                        self.server.versions.contains_key(&key),
                        "{change:?} never happened"
                    );
                    living.insert(change.path.clone(), *czxid);
                }
                What::Deleted { at } => {
                    let life = living.remove(&change.path);
                    if let (None, DeletedAt::Bound(bound)) = (life, at) {
                        let is_new = unseen.insert((change.path.clone(), *bound));
                        assert!(is_new, "{change:?} was told, and has the same id");
                    }
                    self.check_delete(change, *at, life);
                }
                What::AclChanged { .. } | What::Restated { .. } => {}
            }
        }
    }

    fn check_delete(&self, change: &Change, at: DeletedAt, czxid: Option<Zxid>) {
        let Some(czxid) = czxid else {
            assert!(
                !self.server.sends_zxids,
                "{change:?} of a path that does not live"
            );
            return;
        };
        let born_after = |zxid: &Zxid| *zxid >= czxid;
        let gone = self
            .server
            .history
            .iter()
            .filter(|(zxid, _)| born_after(zxid))
            .find(|(zxid, paths)| {
                let recreated = self
                    .server
                    .versions
                    .contains_key(&(change.path.clone(), **zxid, **zxid));
                !paths.contains(&change.path) || (recreated && **zxid > czxid)
            });
        let gone = gone
            .map(|(zxid, _)| *zxid)
            .unwrap_or_else(|| panic!("{change:?} never happened"));
        match at {
            DeletedAt::Exact(zxid) => assert_eq!(zxid, gone, "{change:?}"),
            DeletedAt::Bound(bound) => assert!(bound >= gone, "{change:?} was at {gone}"),
            DeletedAt::Unknown => {}
        }
    }

    fn check_exact_order(&self) {
        let mut last = Zxid::ZERO;
        for change in self
            .book
            .changes()
            .filter(|change| change.fidelity == Fidelity::Exact)
        {
            let zxid = exact_zxid(change);
            assert!(zxid >= last, "{change:?} after {last}");
            last = zxid;
        }
    }

    /// The records of one transaction have nothing else between them.
    fn check_transactions_stand_together(&self) {
        let exact: Vec<Zxid> = self
            .book
            .entries
            .iter()
            .filter_map(|entry| match &entry.word {
                Word::Change(change) if change.fidelity == Fidelity::Exact => Some(exact_zxid(change)),
                Word::Change(change) if matches!(change.what, What::AclChanged { .. }) => None,
                _ => Some(Zxid(u64::MAX)),
            })
            .collect();
        let mut seen = BTreeSet::new();
        for run in exact
            .chunk_by(|left, right| left == right)
            .filter(|run| run[0].0 != u64::MAX)
        {
            assert!(
                seen.insert(run[0]),
                "the records of {} do not stand together",
                run[0]
            );
        }
    }

    /// Every version between two exact records of a life is counted as missed and listed as superseded.
    fn check_overwritten_versions(&self) {
        let mut last: BTreeMap<ZnodePath, (Zxid, i32, bool)> = BTreeMap::new();
        for change in self.book.changes() {
            let is_exact = change.fidelity == Fidelity::Exact;
            match &change.what {
                What::Created { read } | What::Updated { read } | What::Listed { read, .. } => {
                    let state = (read.stat.mzxid, read.stat.version, true);
                    let before = last.insert(change.path.clone(), state);
                    if let (What::Updated { .. }, true, Some((from, version, _))) =
                        (&change.what, is_exact, before)
                    {
                        let between = u64::try_from(read.stat.version - version - 1).unwrap();
                        assert_eq!(change.missed, Some(between), "{change:?}");
                        assert_eq!(change.superseded.len() as u64, between, "{change:?}");
                        assert!(
                            change
                                .superseded
                                .iter()
                                .all(|zxid| *zxid >= from && *zxid <= read.stat.mzxid)
                        );
                        assert!(change.superseded.is_sorted(), "{change:?}");
                    }
                }
                What::CreatedUnread { czxid, .. } => {
                    last.insert(change.path.clone(), (*czxid, 0, true));
                }
                What::Deleted { .. } => {
                    last.remove(&change.path);
                }
                What::AclChanged { .. } | What::Restated { .. } => {}
            }
        }
    }

    /// Outside gaps and runs the fold has exactly the znodes that existed at the last record's zxid.
    fn check_existence(&self) {
        let mut living: BTreeSet<ZnodePath> = BTreeSet::new();
        let mut open: BTreeSet<ZnodePath> = self.options.roots.iter().cloned().collect();
        let mut upto: BTreeMap<ZnodePath, Zxid> = BTreeMap::new();
        let entries = &self.book.entries;
        for (at, entry) in entries.iter().enumerate() {
            let Some(root) = entry.root.clone() else { continue };
            match &entry.word {
                Word::GapBegin { .. } | Word::RunBegin { .. } => {
                    open.insert(root);
                }
                Word::GapEnd { to_zxid, .. } => {
                    open.remove(&root);
                    upto.insert(root, *to_zxid);
                }
                Word::RunEnd { zxid, .. } => {
                    open.remove(&root);
                    upto.insert(root, zxid.unwrap_or_default());
                }
                Word::Change(change) => {
                    match &change.what {
                        What::Deleted { .. } => living.remove(&change.path),
                        _ => living.insert(change.path.clone()),
                    };
                    let is_complete = entries
                        .get(at + 1)
                        .is_none_or(|next| zxid_of(next) != zxid_of(entry));
                    let past = upto.get(&root).is_some_and(|upto| zxid_of(entry) > Some(*upto));
                    if !open.contains(&root) && is_complete && past {
                        self.check_exists(&root, &living, zxid_of(entry).unwrap());
                    }
                }
                Word::Heartbeat => {}
            }
        }
    }

    fn check_exists(&self, root: &ZnodePath, living: &BTreeSet<ZnodePath>, at: Zxid) {
        let (_, paths) = self.server.history.range(..=at).next_back().unwrap();
        let expected: BTreeSet<_> = paths.iter().filter(|path| root.covers(path)).collect();
        let found: BTreeSet<_> = living.iter().filter(|path| root.covers(path)).collect();
        assert_eq!(found, expected, "the fold at {at} is not the tree of {root}");
    }

    /// Reconciled records stand in gaps and runs only; runs and gaps open and close as the contract says.
    fn check_brackets(&self) {
        let mut open: BTreeMap<ZnodePath, (&Entry, u64)> = BTreeMap::new();
        for entry in &self.book.entries {
            let Some(root) = entry.root.clone() else { continue };
            match &entry.word {
                Word::GapBegin { from_zxid, .. } => {
                    if let Some((
                        Entry {
                            word:
                                Word::GapBegin {
                                    from_zxid: before, ..
                                },
                            ..
                        },
                        _,
                    )) = open.get(&root)
                    {
                        assert_eq!(before, from_zxid, "a gap that was cut begins anew elsewhere");
                    }
                    open.insert(root, (entry, 0));
                }
                Word::RunBegin { .. } => {
                    assert!(open.insert(root, (entry, 0)).is_none(), "{entry:?} in a bracket")
                }
                Word::GapEnd {
                    from_zxid,
                    to_zxid,
                    differences,
                    reason,
                    ..
                } => {
                    let (begin, count) = open.remove(&root).expect("a gap ends that did not begin");
                    let Word::GapBegin {
                        from_zxid: began,
                        reason: why,
                        ..
                    } = &begin.word
                    else {
                        panic!("{begin:?}")
                    };
                    assert_eq!((began, why, count), (from_zxid, reason, *differences));
                    assert!(to_zxid >= from_zxid);
                }
                Word::RunEnd { index, nodes, .. } => {
                    assert!(open.remove(&root).is_some(), "a run ends that did not begin");
                    assert_eq!(*index, nodes + 1);
                }
                Word::Change(change) if change.fidelity == Fidelity::Reconciled => {
                    let is_acl = matches!(change.what, What::AclChanged { .. });
                    let bracket = open.get_mut(&root);
                    assert!(is_acl || bracket.is_some(), "{change:?} outside a gap or run");
                    if let Some((_, count)) = bracket {
                        *count += u64::from(!is_acl);
                    }
                }
                Word::Change(_) | Word::Heartbeat => {}
            }
        }
    }
}

fn exact_zxid(change: &Change) -> Zxid {
    match &change.what {
        What::Created { read } | What::Updated { read } => read.stat.mzxid,
        What::CreatedUnread { czxid, .. } => *czxid,
        What::Deleted {
            at: DeletedAt::Exact(zxid) | DeletedAt::Bound(zxid),
        } => *zxid,
        other => panic!("{other:?} is never exact"),
    }
}

fn zxid_of(entry: &Entry) -> Option<Zxid> {
    match &entry.word {
        Word::Change(Change {
            what: What::AclChanged { .. } | What::Restated { .. } | What::Listed { .. },
            ..
        }) => None,
        Word::Change(Change {
            what: What::Deleted {
                at: DeletedAt::Unknown,
            },
            ..
        }) => None,
        Word::Change(change) => Some(exact_zxid(change)),
        _ => None,
    }
}
