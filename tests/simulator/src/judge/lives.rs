//! Lives that nobody read: none is passed over in silence, and none is made up.
//!
//! An incarnation that was never read has its own records if servers send zxids; before 3.9 one delete of a path
//! represents all incarnations deleted since the last one. Incarnations inside a gap or the first listing need no
//! record.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::append::{Change, ChangeKind, DeletedAt};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;

use super::{Bench, Judge};

/// The incarnations that the records show.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Incarnations with a record.
    recorded: BTreeSet<(ZnodePath, Zxid)>,
    /// Bounds of the deletes of each path that represent incarnations that were never read.
    unread: BTreeMap<ZnodePath, Vec<Zxid>>,
    /// The zxids that gaps and first listings cover of each root: after the first, up to the second.
    spans: BTreeMap<ZnodePath, Vec<(Zxid, Zxid)>>,
}

impl Judge {
    /// Takes a change in, before it is folded.
    pub(super) fn note_life(&mut self, change: &Change, bench: &Bench<'_>) {
        let path = change.path.clone();
        let czxid = match &change.kind {
            ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
                read.stat.czxid
            }
            ChangeKind::CreatedUnread { czxid, .. } => *czxid,
            ChangeKind::Deleted { at } if !self.living.contains_key(&path) => {
                return self.note_unread(change, *at, bench);
            }
            _ => return,
        };
        self.lives.recorded.insert((path, czxid));
    }

    /// Checks that there are no more deletes of unread incarnations than such incarnations were deleted.
    fn note_unread(&mut self, change: &Change, at: DeletedAt, bench: &Bench<'_>) {
        let bound = match at {
            DeletedAt::Exact(bound) | DeletedAt::Bound(bound) => bound,
            DeletedAt::Unknown => Zxid(u64::MAX),
            DeletedAt::Unwatched => panic!("{change:?}: no root is dropped"),
        };
        let path = &change.path;
        let deletes = self.lives.unread.entry(path.clone()).or_default();
        deletes.push(bound);
        if !bench.excuses.is_none() {
            return;
        }
        let is_recorded = |czxid: Zxid| self.lives.recorded.contains(&(path.clone(), czxid));
        let truth = &bench.ensemble.truth;
        let unread = truth.lives(path).iter().filter(|life| !is_recorded(life.czxid));
        let ends = unread.filter_map(|life| life.gone);
        // Events without zxids do not show that an incarnation was never visible.
        let ended: Vec<Zxid> = ends
            .chain(truth.invisible_ends(path))
            .filter(|gone| *gone <= bound)
            .collect();
        let last_recorded = self
            .lives
            .recorded
            .range((path.clone(), Zxid::ZERO)..=(path.clone(), Zxid(u64::MAX)));
        let last_recorded = last_recorded.last().map_or(Zxid::ZERO, |(_, czxid)| *czxid);
        assert!(
            ended.iter().any(|gone| *gone >= last_recorded),
            "{change:?} represents an incarnation deleted before {last_recorded} was created, which was recorded before: {:?}",
            truth.lives(path)
        );
        assert!(
            deletes.len() <= ended.len(),
            "{change:?} represents no incarnation, as do {deletes:?}: {:?}",
            truth.lives(path)
        );
    }

    /// Checks that every deleted incarnation has a record, or a delete represents it, or it was created inside a gap or
    /// the first listing.
    pub(super) fn check_lives(&self, bench: &Bench<'_>) {
        if !bench.excuses.is_none() {
            return;
        }
        for root in &self.roots {
            for (path, life) in bench.ensemble.truth.below(root) {
                let Some(gone) = life.gone else { continue };
                let is_recorded = self.lives.recorded.contains(&(path.clone(), life.czxid));
                let mut deletes = self.lives.unread.get(path).into_iter().flatten();
                let is_represented = deletes.any(|bound| gone <= *bound);
                assert!(
                    is_recorded || is_represented || self.lives.covers(root, life.czxid),
                    "of the life {} of {path}, gone at {gone}, has no record outside of {:?}",
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
