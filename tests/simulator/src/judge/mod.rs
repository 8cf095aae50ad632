//! The judge: compares the journal and the deliveries with the true history, after every commit.
//!
//! It knows the truth of the ensemble and the contract of the record, and nothing of how the product works. `records`
//! checks records, `brackets` gaps and runs, `liveness` their begin in time, `fold` the tree that they add up to, `lives`
//! incarnations that nobody read, `unreadable` since when znodes may not be read, `arrivals` the sinks.

mod arrivals;
mod brackets;
mod fold;
mod liveness;
mod lives;
mod records;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, RecordKind};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, GapReason};

use crate::coverage::Coverage;
use crate::ensemble::Ensemble;

pub use arrivals::check_arrivals;
use brackets::Open;
pub(crate) use liveness::Liveness;
use lives::Lives;
pub use unreadable::{check_begin, check_open};

/// Events of a seed that weaken the promises.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// The ensemble was set back: what was exact before says nothing about what comes after.
    pub was_rewound: bool,
    /// An operator accepted the present state.
    pub accepted_baseline: bool,
    /// A watch was gone in silence: until that is found out, nobody knows of changes.
    pub lost_a_watch: bool,
    /// Permission was withdrawn: who may not read a znode hears nothing of it.
    pub lost_permission: bool,
}

impl Excuses {
    /// Whether everything that happens while a watch is armed can be known.
    pub fn is_none(self) -> bool {
        !self.was_rewound && !self.lost_a_watch && !self.lost_permission
    }
}

/// The state of a living znode by the records so far.
#[derive(Clone, Copy, Debug)]
struct Known {
    czxid: Zxid,
    mzxid: Zxid,
    version: i32,
    /// The last one that an `acl` record reported, or that was there from the beginning.
    told_aversion: i32,
    is_read: bool,
}

/// The references of the judge.
pub struct Bench<'a> {
    /// The true history.
    pub ensemble: &'a Ensemble,
    /// The weakened promises.
    pub excuses: Excuses,
    /// The faults and states reached so far.
    pub seen: &'a mut Coverage,
}

/// The state that all records so far add up to.
pub struct Judge {
    roots: Vec<ZnodePath>,
    living: BTreeMap<ZnodePath, Known>,
    /// Of paths that ended: how new their records are, and how many records there were by then.
    ended: BTreeMap<ZnodePath, (Zxid, u64)>,
    /// Records so far, and at the last acceptance of another state.
    count: u64,
    rebaselined: u64,
    /// The ends of incarnations that no event reported: one delete each.
    unseen: BTreeSet<(ZnodePath, Zxid)>,
    lives: Lives,
    last_exact: Zxid,
    /// Transactions whose records are complete.
    told: BTreeSet<Zxid>,
    zxid_of_records: Option<Zxid>,
    open: BTreeMap<ZnodePath, Open>,
    /// Roots inside a gap or run, and how far the last one of each speaks.
    upto: BTreeMap<ZnodePath, Option<Zxid>>,
    /// Why the next gap of a root has to be, until its end is durable.
    owed: BTreeMap<ZnodePath, GapReason>,
    /// Every batch, to begin anew after commits were lost.
    batches: Vec<Vec<Append>>,
}

impl Judge {
    /// Before the first record.
    pub fn new(roots: &[ZnodePath]) -> Judge {
        Judge {
            roots: roots.to_vec(),
            living: BTreeMap::new(),
            ended: BTreeMap::new(),
            count: 0,
            rebaselined: 0,
            unseen: BTreeSet::new(),
            lives: Lives::default(),
            last_exact: Zxid::ZERO,
            told: BTreeSet::new(),
            zxid_of_records: None,
            open: BTreeMap::new(),
            upto: roots.iter().map(|root| (root.clone(), None)).collect(),
            owed: BTreeMap::new(),
            batches: Vec::new(),
        }
    }

    /// Judges the records that one commit made durable.
    pub fn take(&mut self, batch: Vec<Append>, bench: &mut Bench<'_>) {
        self.zxid_of_records = None;
        for (at, entry) in batch.iter().enumerate() {
            let next = batch.get(at + 1);
            self.take_entry(entry, next, bench);
        }
        self.batches.push(batch);
    }

    /// The newest commits were lost with the power: so many records are left.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub fn forget_behind(&mut self, tail: usize, bench: &mut Bench<'_>) {
        let mut left = tail;
        let batches = std::mem::take(&mut self.batches);
        *self = Judge::new(&self.roots);
        for batch in batches {
            if batch.len() > left {
                break;
            }
            left -= batch.len();
            self.take(batch, bench);
        }
        assert_eq!(left, 0, "a power loss tore a batch");
    }

    fn take_entry(&mut self, entry: &Append, next: Option<&Append>, bench: &mut Bench<'_>) {
        self.count += 1;
        self.check_bracket(entry, bench);
        let RecordKind::Change(change) = &entry.kind else {
            self.zxid_of_records = None;
            return;
        };
        let root = entry.root.as_ref().expect("a change has a root");
        self.check_order(change, bench);
        self.check_change(root, change, bench);
        self.check_family(root, change, bench);
        self.note_life(change, bench);
        self.fold(change);
        assert!(root.covers(&change.path), "{root} does not cover {}", change.path);
        let is_complete = next.is_none_or(|next| zxid_of(next) != zxid_of(entry));
        if is_complete {
            self.check_existence(root, entry, bench);
        }
    }

    /// Moves what is known of the path.
    fn fold(&mut self, change: &Change) {
        let path = change.path.clone();
        match &change.kind {
            ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
                let before = self.living.get(&path).filter(|known| known.is_read);
                let known = Known {
                    czxid: read.stat.czxid,
                    mzxid: read.stat.mzxid,
                    version: read.stat.version,
                    told_aversion: before.map_or(read.stat.aversion, |known| known.told_aversion),
                    is_read: true,
                };
                self.living.insert(path, known);
            }
            ChangeKind::CreatedUnread { czxid, .. } => {
                let known = Known {
                    czxid: *czxid,
                    mzxid: *czxid,
                    version: 0,
                    told_aversion: 0,
                    is_read: false,
                };
                self.living.insert(path, known);
            }
            ChangeKind::Deleted { at } => {
                let before = self.ended.get(&path).map_or(Zxid::ZERO, |ended| ended.0);
                let newest = self.living.remove(&path).map_or(before, |known| known.mzxid);
                let newest = match at {
                    DeletedAt::Exact(zxid) => newest.max(*zxid),
                    _ => newest,
                };
                self.ended.insert(path, (newest, self.count));
            }
            ChangeKind::AclChanged { stat, .. } => {
                if let Some(known) = self.living.get_mut(&path) {
                    known.told_aversion = stat.aversion;
                }
            }
            ChangeKind::Restated { .. } => {}
        }
    }

    /// Whether a first listing has begun and not ended.
    pub fn has_open_run(&self) -> bool {
        self.open
            .values()
            .any(|open| matches!(open, Open::Run { is_first: true, .. }))
    }

    /// At rest the records add up to the tree.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub fn check_rest(&self, bench: &Bench<'_>) {
        let hidden = bench.ensemble.unreadable(&self.roots);
        let is_hidden = |path: &ZnodePath| hidden.iter().any(|above| above.covers(path));
        let expected: BTreeMap<_, _> = bench
            .ensemble
            .readable(&self.roots)
            .into_iter()
            .filter(|(path, _)| !is_hidden(path))
            .collect();
        let found: BTreeMap<_, _> = self
            .living
            .iter()
            .filter(|(path, _)| !is_hidden(path))
            .map(|(path, known)| (path.clone(), (known.czxid, known.mzxid)))
            .collect();
        assert_eq!(
            found, expected,
            "at rest: the fold of all records, and then the tree"
        );
        self.check_lives(bench);
        assert!(self.open.is_empty(), "at rest in a gap or run: {:?}", self.open);
    }
}

/// The zxid of the record of a change, where the record has its place by it.
fn exact_zxid(change: &Change) -> Option<Zxid> {
    match &change.kind {
        ChangeKind::Created { read } | ChangeKind::Updated { read } => Some(read.stat.mzxid),
        ChangeKind::CreatedUnread { czxid, .. } => Some(*czxid),
        ChangeKind::Deleted {
            at: DeletedAt::Exact(zxid) | DeletedAt::Bound(zxid),
        } => Some(*zxid),
        ChangeKind::Deleted {
            at: DeletedAt::Unknown | DeletedAt::Unwatched,
        }
        | ChangeKind::AclChanged { .. }
        | ChangeKind::Restated { .. }
        | ChangeKind::Listed { .. } => None,
    }
}

fn zxid_of(entry: &Append) -> Option<Zxid> {
    match &entry.kind {
        RecordKind::Change(change) => exact_zxid(change),
        _ => None,
    }
}

fn is_exact(change: &Change) -> bool {
    change.fidelity == Fidelity::Exact
}
