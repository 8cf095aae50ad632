//! Checks single records: the change happened, and the record is at a permitted place.

use bridge_core::append::{Change, ChangeKind, DeletedAt};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{SUPERSEDED_MAX, Stat};

use super::{Bench, Judge, Known, exact_zxid, is_exact};
use crate::coverage::Seen;
use crate::ensemble::{Life, acl_of};

impl Judge {
    /// Exact records ascend, and those of a transaction are together in one commit.
    pub(super) fn check_order(&mut self, change: &Change, bench: &Bench<'_>) {
        if !is_exact(change) {
            // A delete found by comparing may be among those that its transaction is known to have made.
            let is_of_same = matches!(change.kind, ChangeKind::Deleted { at: DeletedAt::Bound(zxid) } if Some(zxid) == self.zxid_of_records);
            if !is_of_same && !matches!(change.kind, ChangeKind::AclChanged { .. }) {
                self.zxid_of_records = None;
            }
            return;
        }
        if bench.excuses.was_rewound || !bench.ensemble.release.sends_zxids {
            return;
        }
        let zxid = exact_zxid(change).unwrap_or_else(|| panic!("{change:?} is never exact"));
        assert!(zxid >= self.last_exact, "{change:?} after {}", self.last_exact);
        self.last_exact = zxid;
        if self.zxid_of_records != Some(zxid) {
            assert!(
                self.told.insert(zxid),
                "the records of {zxid} are torn apart: {change:?}"
            );
            self.zxid_of_records = Some(zxid);
        }
    }

    pub(super) fn check_change(&mut self, root: &ZnodePath, change: &Change, bench: &mut Bench<'_>) {
        let known = self.living.get(&change.path).copied();
        bench.seen.add(Seen::Superseded, change.superseded.len() as u64);
        if change.missed.is_some_and(|missed| missed > SUPERSEDED_MAX as u64) && !change.superseded.is_empty()
        {
            bench.seen.see(Seen::SupersededMany);
        }
        match &change.kind {
            ChangeKind::Created { read } | ChangeKind::Listed { read, .. } => {
                assert!(known.is_none(), "{change:?} over the living {known:?}");
                check_value(change, &read.stat, bench);
                self.check_ended(change, read.stat.mzxid);
            }
            ChangeKind::CreatedUnread { czxid, .. } => {
                assert!(known.is_none(), "{change:?} over the living {known:?}");
                let is_true = !bench.ensemble.data_of(&change.path, *czxid, *czxid).is_empty();
                assert!(is_true, "{change:?} never happened");
                bench.seen.see(Seen::CreateUnread);
                self.check_ended(change, *czxid);
            }
            ChangeKind::Updated { read } => {
                let known = known.unwrap_or_else(|| panic!("{change:?} of a path that does not live"));
                assert_eq!(known.czxid, read.stat.czxid, "{change:?} of another incarnation");
                let may_go_back = self.is_rebaselining(root) || bench.excuses.accepted_baseline;
                // Accepting an older state takes back the values that it does not have.
                let is_new = read.stat.mzxid > known.mzxid || (may_go_back && read.stat.mzxid != known.mzxid);
                assert!(is_new, "{change:?} is older than {known:?}");
                check_value(change, &read.stat, bench);
                check_overwritten(change, &known, &read.stat, self.was_unwatched(root), bench);
            }
            ChangeKind::Deleted { at } => self.check_delete(change, *at, known, bench),
            ChangeKind::AclChanged { stat, acl, .. } => {
                let known = known.unwrap_or_else(|| panic!("{change:?} of a path that does not live"));
                assert_eq!((known.czxid, known.mzxid), (stat.czxid, stat.mzxid), "{change:?}");
                assert_ne!(
                    known.told_aversion, stat.aversion,
                    "{change:?} of an unchanged list"
                );
                bench.seen.see(Seen::AclRecord);
                if let Some(acl) = acl {
                    assert_eq!(*acl, acl_of(stat), "{change:?} with the list of another change");
                    bench.seen.see(Seen::AclList);
                }
            }
            ChangeKind::Restated { .. } => {
                assert!(
                    known.is_some_and(|known| known.is_read),
                    "{change:?} of {known:?}"
                );
                bench.seen.see(Seen::Restated);
            }
        }
    }

    /// The real journal refuses what contradicts its history; so does the judge.
    fn check_ended(&self, change: &Change, zxid: Zxid) {
        let ended = self
            .ended
            .get(&change.path)
            .filter(|ended| ended.1 > self.rebaselined);
        if let Some((newest, _)) = ended.filter(|_| is_exact(change)) {
            assert!(
                zxid >= *newest,
                "{change:?} begins before the end {newest} of the last life"
            );
        }
    }

    fn check_delete(&mut self, change: &Change, at: DeletedAt, known: Option<Known>, bench: &mut Bench<'_>) {
        if matches!(at, DeletedAt::Unknown) {
            bench.seen.see(Seen::DeleteUnknown);
        }
        let Some(known) = known else {
            assert!(
                !bench.ensemble.release.sends_zxids,
                "{change:?} of a path that does not live"
            );
            bench.seen.see(Seen::DeleteUnseen);
            if let DeletedAt::Bound(bound) = at {
                let is_new = self.unseen.insert((change.path.clone(), bound));
                assert!(is_new, "{change:?} was recorded before with the same id");
            }
            return;
        };
        if !known.is_read && is_exact(change) {
            bench.seen.see(Seen::CreateDeletedUnread);
        }
        if bench.excuses.was_rewound {
            return;
        }
        let life = bench.ensemble.truth.life(&change.path, known.czxid);
        let life = life.unwrap_or_else(|| panic!("{change:?} of a life that never was"));
        let gone = life.gone.unwrap_or_else(|| panic!("{change:?}: the znode lives"));
        match at {
            DeletedAt::Exact(zxid) => {
                assert_eq!(zxid, gone, "{change:?}");
                check_last_versions(change, &known, life, bench);
            }
            DeletedAt::Bound(bound) => {
                assert!(bound >= gone, "{change:?} was at {gone}");
                if !is_exact(change) {
                    bench.seen.see(Seen::DeleteByParent);
                }
            }
            DeletedAt::Unknown => {}
            DeletedAt::Unwatched => panic!("{change:?}: no root is dropped"),
        }
    }
}

/// A value is one that the znode had, at the zxid that the record says.
fn check_value(change: &Change, stat: &Stat, bench: &Bench<'_>) {
    let (ChangeKind::Created { read } | ChangeKind::Listed { read, .. } | ChangeKind::Updated { read }) =
        &change.kind
    else {
        return;
    };
    let Some(data) = &read.data else { return };
    let had = bench.ensemble.data_of(&change.path, stat.czxid, stat.mzxid);
    assert!(
        had.iter().any(|one| **one == *data.bytes),
        "{change:?} holds a value that the znode never had then: {had:?}"
    );
}

/// Every version between two exact records of a life is counted as missed and listed as superseded. Inside a gap, and in a
/// run that goes on after a cut, no event reported those that were written before the watch was armed; all of them are
/// older than what is listed.
fn check_overwritten(
    change: &Change,
    known: &Known,
    stat: &Stat,
    was_unwatched: bool,
    bench: &mut Bench<'_>,
) {
    let between = u64::try_from(stat.version - known.version - 1).unwrap_or_default();
    if between > 0 && change.superseded.is_empty() {
        bench.seen.see(Seen::Missed);
    }
    if change.missed.is_some() && !bench.excuses.was_rewound {
        assert_eq!(change.missed, Some(between), "{change:?} after {known:?}");
    }
    let is_listed = is_exact(change) && bench.ensemble.release.sends_zxids && bench.excuses.is_none();
    if !is_listed {
        return;
    }
    let listed = change.superseded.len() as u64;
    let life = bench.ensemble.truth.life(&change.path, known.czxid);
    if !was_unwatched {
        let expected = between.min(SUPERSEDED_MAX as u64);
        assert_eq!(listed, expected, "{change:?} after {known:?}");
    } else if let (Some(first), Some(life)) = (change.superseded.first(), life) {
        assert!(listed <= between, "{change:?} after {known:?}");
        let mut written = life.versions.range(*first..stat.mzxid).map(|(zxid, _)| zxid);
        let is_whole = written.all(|zxid| change.superseded.contains(zxid));
        assert!(is_whole, "{change:?} lists an older version and not all after it");
    }
    check_superseded(change, known.mzxid, stat.mzxid, life);
}

fn check_superseded(change: &Change, from: Zxid, upto: Zxid, life: Option<&Life>) {
    assert!(change.superseded.is_sorted(), "{change:?}");
    for zxid in &change.superseded {
        assert!(
            *zxid >= from && *zxid <= upto,
            "{change:?}: {zxid} is not of that time"
        );
        let is_true = life.is_some_and(|life| life.versions.contains_key(zxid));
        assert!(is_true, "{change:?}: nothing was written at {zxid}");
    }
}

/// The writes that nobody could read before the end of a life.
fn check_last_versions(change: &Change, known: &Known, life: &Life, bench: &Bench<'_>) {
    if !is_exact(change) || !bench.ensemble.release.sends_zxids || !bench.excuses.is_none() {
        return;
    }
    let DeletedAt::Exact(gone) = (match &change.kind {
        ChangeKind::Deleted { at } => *at,
        _ => return,
    }) else {
        return;
    };
    let last = life.versions.values().next_back().map_or(0, |last| last.1);
    let unread = u64::try_from(last - known.version).unwrap_or_default();
    assert_eq!(
        change.missed,
        Some(unread),
        "{change:?} after {known:?}: the life had {last} writes"
    );
    assert_eq!(
        change.superseded.len() as u64,
        unread.min(SUPERSEDED_MAX as u64),
        "{change:?}"
    );
    check_superseded(change, known.mzxid, gone, Some(life));
}
