//! Checks gaps and runs: they open and close as the contract says, reconciled records are inside them only, and the
//! zxids that they claim are recorded.

use bridge_core::append::{Append, ChangeKind, RecordKind};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, GapReason};
use uuid::Uuid;

use super::{Bench, Judge};
use crate::coverage::Seen;

/// A gap or run that has begun.
#[derive(Clone, Debug)]
pub(super) enum Open {
    /// Reconciled records so far.
    Gap {
        from_zxid: Zxid,
        reason: GapReason,
        differences: u64,
    },
    /// Its last index. `is_first`: the first listing of the root. `is_resumed`: nobody watched for some time in it.
    Run {
        id: Uuid,
        index: u64,
        is_first: bool,
        is_resumed: bool,
    },
}

impl Judge {
    pub(super) fn check_bracket(&mut self, entry: &Append, bench: &mut Bench<'_>) {
        let Some(root) = entry.root.clone() else {
            assert!(
                matches!(entry.kind, RecordKind::Heartbeat { .. }),
                "{entry:?} has no root"
            );
            return;
        };
        match &entry.kind {
            RecordKind::GapBegin {
                from_zxid, reason, ..
            } => self.gap_begins(root, *from_zxid, *reason, bench),
            RecordKind::GapEnd {
                from_zxid,
                to_zxid,
                reason,
                differences,
                ..
            } => {
                let open = self.open.remove(&root);
                let Some(Open::Gap {
                    from_zxid: began,
                    reason: why,
                    differences: count,
                }) = open
                else {
                    panic!("{entry:?} ends {open:?}");
                };
                assert_eq!(
                    (began, why, count),
                    (*from_zxid, *reason, *differences),
                    "{entry:?}"
                );
                let may_be_less = *reason == GapReason::Rebaselined;
                assert!(to_zxid >= from_zxid || may_be_less, "{entry:?}");
                let seen = if count > 0 {
                    Seen::DifferencesFound
                } else {
                    Seen::EmptyGap
                };
                bench.seen.see(seen);
                self.owed.remove(&root);
                self.check_not_older(&root, *to_zxid, "at the end of its gap", bench);
                self.lives.cover(&root, *from_zxid, *to_zxid);
                self.upto.insert(root, Some(*to_zxid));
            }
            RecordKind::RunBegin { run } => {
                let is_first = self.upto.get(&root).is_none_or(Option::is_none);
                let open = Open::Run {
                    id: *run,
                    index: 0,
                    is_first,
                    is_resumed: false,
                };
                if is_first {
                    // A znode that was deleted before the first listing was never visible.
                    self.lives.cover(&root, Zxid::ZERO, bench.ensemble.newest());
                }
                let before = self.open.insert(root, open);
                assert!(before.is_none(), "{entry:?} begins in {before:?}");
            }
            RecordKind::RunEnd {
                run,
                index,
                nodes,
                zxid,
                ..
            } => {
                let open = self.open.remove(&root);
                let Some(Open::Run {
                    id,
                    index: last,
                    is_first,
                    ..
                }) = open
                else {
                    panic!("{entry:?} ends {open:?}");
                };
                assert_eq!((*run, *index, *nodes), (id, last + 1, last), "{entry:?}");
                if is_first {
                    let upto = zxid.unwrap_or_default();
                    self.check_not_older(&root, upto, "at the end of its first run", bench);
                    // A znode that was deleted before the root was found missing was never visible.
                    let covered = zxid.unwrap_or_else(|| bench.ensemble.newest());
                    self.lives.cover(&root, Zxid::ZERO, covered);
                    self.upto.insert(root, Some(upto));
                }
            }
            RecordKind::Change(change) => {
                let is_acl = matches!(change.kind, ChangeKind::AclChanged { .. });
                let open = self.open.get_mut(&root);
                if let ChangeKind::Listed { run, index, .. } | ChangeKind::Restated { run, index } =
                    &change.kind
                {
                    let Some(Open::Run { id, index: last, .. }) = open else {
                        panic!("{entry:?} in {open:?}");
                    };
                    assert_eq!((*run, *index), (*id, *last + 1), "{entry:?}");
                    *last += 1;
                } else if change.fidelity == Fidelity::Reconciled && !is_acl {
                    match open {
                        Some(Open::Gap { differences, .. }) => *differences += 1,
                        Some(Open::Run { is_first: true, .. }) => {}
                        _ => panic!("{entry:?} is outside of gaps and runs"),
                    }
                }
            }
            RecordKind::Heartbeat { .. } => {}
        }
    }

    /// The process starts, and an operator may have accepted the present state. `is_stored`: the journal has why the next
    /// gaps have to be.
    pub(crate) fn starts(&mut self, accepts_baseline: bool, is_stored: bool) {
        if !is_stored {
            self.owed.clear();
        }
        if accepts_baseline {
            self.owes_gap(GapReason::Rebaselined);
        }
    }

    /// The next gap of each root that was listed has to be for this reason, or for another one whose begin nobody knows.
    pub(crate) fn owes_gap(&mut self, reason: GapReason) {
        let listed = self.upto.iter().filter(|(_, upto)| upto.is_some());
        for (root, _) in listed {
            self.owed.entry(root.clone()).or_insert(reason);
        }
    }

    /// A connection watches again: runs that are open go on, and no event reported the writes meanwhile.
    pub(crate) fn watched_again(&mut self) {
        for open in self.open.values_mut() {
            if let Open::Run { is_resumed, .. } = open {
                *is_resumed = true;
            }
        }
    }

    /// Whether versions may be missed that no event reported.
    pub(super) fn was_unwatched(&self, root: &ZnodePath) -> bool {
        matches!(
            self.open.get(root),
            Some(Open::Gap { .. } | Open::Run { is_resumed: true, .. })
        )
    }

    /// Whether an operator accepted the present state of this root, and it is being compared.
    pub(super) fn is_rebaselining(&self, root: &ZnodePath) -> bool {
        let open = self.open.get(root);
        matches!(
            open,
            Some(Open::Gap {
                reason: GapReason::Rebaselined,
                ..
            })
        )
    }

    fn gap_begins(&mut self, root: ZnodePath, from_zxid: Zxid, reason: GapReason, bench: &mut Bench<'_>) {
        if reason == GapReason::Rebaselined {
            self.rebaselined = self.count;
        }
        let is_owed = match self.owed.get(&root) {
            None => true,
            Some(GapReason::Rebaselined) => reason == GapReason::Rebaselined,
            Some(_) => matches!(
                reason,
                GapReason::Liveness | GapReason::Permission | GapReason::Rebaselined
            ),
        };
        assert!(
            is_owed,
            "a gap of {root}: {reason:?} instead of {:?}",
            self.owed.get(&root)
        );
        self.check_not_older(&root, from_zxid, "at the begin of its gap", bench);
        let open = Open::Gap {
            from_zxid,
            reason,
            differences: 0,
        };
        match self.open.insert(root.clone(), open) {
            None => {}
            Some(Open::Gap {
                from_zxid: before, ..
            }) => {
                assert_eq!(
                    before, from_zxid,
                    "a gap of {root} that was cut begins anew elsewhere"
                );
                bench.seen.see(Seen::GapCutAgain);
            }
            // A root that was listed again: its run was cut, and has no end.
            Some(Open::Run { is_first, .. }) => assert!(!is_first, "a gap of {root} in its first run"),
        }
    }

    /// The known state of a root is no older than the tree at a zxid.
    fn check_not_older(&self, root: &ZnodePath, zxid: Zxid, when: &str, bench: &Bench<'_>) {
        if !bench.excuses.is_none() {
            return;
        }
        for (path, life) in bench.ensemble.truth.at(root, zxid) {
            let Some(known) = self.living.get(path) else {
                let is_gone = life.gone.is_some();
                assert!(is_gone, "{path} lived at {zxid}, {when}, and is not known");
                continue;
            };
            let version = life.version_at(zxid).unwrap_or_default();
            let is_as_new = known.czxid > life.czxid || (known.czxid == life.czxid && known.mzxid >= version);
            assert!(
                is_as_new,
                "{path} had version {version} of life {} at {zxid}, {when}, and {known:?} is known",
                life.czxid
            );
        }
        for (path, known) in self
            .living
            .range(root.clone()..)
            .filter(|(path, _)| root.covers(path))
        {
            let life = bench.ensemble.truth.life(path, known.czxid);
            let gone = life.and_then(|life| life.gone);
            assert!(
                gone.is_none_or(|gone| gone > zxid),
                "{path} died at {gone:?}, and {when}, {zxid}, {known:?} is known to live"
            );
        }
    }
}
