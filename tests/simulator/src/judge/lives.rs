//! Lives that nobody read: none is passed over in silence, and none is made up.
//!
//! A life that began and ended unread is told by its own records where servers send zxids; before 3.9 one delete of a
//! path stands for all that ended since the last one. What lies inside a gap or the first listing needs no record.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::append::{Change, ChangeKind, DeletedAt};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;

use super::{Bench, Judge};

/// What the records say of lives.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Those of which something was told.
    told: BTreeSet<(ZnodePath, Zxid)>,
    /// Bounds of the deletes of each path that stand for lives that nobody read.
    unread: BTreeMap<ZnodePath, Vec<Zxid>>,
    /// What gaps and first listings cover of each root: behind the first zxid, up to the second.
    spans: BTreeMap<ZnodePath, Vec<(Zxid, Zxid)>>,
}

impl Judge {
    /// Takes a change in, before it is folded.
    pub(super) fn note_life(&mut self, change: &Change, bench: &Bench<'_>) {
        let path = change.path.clone();
        let czxid = match &change.what {
            ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
                read.stat.czxid
            }
            ChangeKind::CreatedUnread { czxid, .. } => *czxid,
            ChangeKind::Deleted { at } if !self.living.contains_key(&path) => {
                return self.note_unread(change, *at, bench);
            }
            _ => return,
        };
        self.lives.told.insert((path, czxid));
    }

    /// No more deletes stand for lives that nobody read than such lives have ended.
    fn note_unread(&mut self, change: &Change, at: DeletedAt, bench: &Bench<'_>) {
        let bound = match at {
            DeletedAt::Exact(bound) | DeletedAt::Bound(bound) => bound,
            DeletedAt::Unknown => Zxid(u64::MAX),
        };
        let path = &change.path;
        let deletes = self.lives.unread.entry(path.clone()).or_default();
        deletes.push(bound);
        if !bench.excuses.is_none() {
            return;
        }
        let is_told = |czxid: Zxid| self.lives.told.contains(&(path.clone(), czxid));
        let truth = &bench.ensemble.truth;
        let unread = truth.lives(path).iter().filter(|life| !is_told(life.czxid));
        let ends = unread.filter_map(|life| life.gone);
        // Events without zxids do not tell that nobody could see a life.
        let ended: Vec<Zxid> = ends
            .chain(truth.invisible_ends(path))
            .filter(|gone| *gone <= bound)
            .collect();
        let last_told = self
            .lives
            .told
            .range((path.clone(), Zxid::ZERO)..=(path.clone(), Zxid(u64::MAX)));
        let last_told = last_told.last().map_or(Zxid::ZERO, |(_, czxid)| *czxid);
        assert!(
            ended.iter().any(|gone| *gone >= last_told),
            "{change:?} stands for a life that ended before {last_told} began, which was told before: {:?}",
            truth.lives(path)
        );
        assert!(
            deletes.len() <= ended.len(),
            "{change:?} stands for no life, as do {deletes:?}: {:?}",
            truth.lives(path)
        );
    }

    /// Every life that ended was told, or a delete stands for it, or it began inside a gap or the first listing.
    pub(super) fn check_lives(&self, bench: &Bench<'_>) {
        if !bench.excuses.is_none() {
            return;
        }
        for root in &self.roots {
            for (path, life) in bench.ensemble.truth.below(root) {
                let Some(gone) = life.gone else { continue };
                let is_told = self.lives.told.contains(&(path.clone(), life.czxid));
                let mut deletes = self.lives.unread.get(path).into_iter().flatten();
                let stands = deletes.any(|bound| gone <= *bound);
                assert!(
                    is_told || stands || self.lives.covers(root, life.czxid),
                    "of the life {} of {path}, gone at {gone}, nothing was told, outside of {:?}",
                    life.czxid,
                    self.lives.spans.get(root)
                );
            }
        }
    }
}

impl Lives {
    pub(super) fn cover(&mut self, root: &ZnodePath, from: Zxid, to: Zxid) {
        self.spans.entry(root.clone()).or_default().push((from, to));
    }

    fn covers(&self, root: &ZnodePath, zxid: Zxid) -> bool {
        let spans = self.spans.get(root).into_iter().flatten();
        spans.into_iter().any(|(from, to)| *from < zxid && zxid <= *to)
    }
}
