//! Makes the operations that put a subtree back: a pure function of the state then and the state now.
//!
//! Invariants:
//!
//! * A znode whose live version is the one of the moment is left alone, whatever is open about it.
//! * Nothing that is not certain is written, unless its kind of uncertainty is accepted; a value that the journal does not
//!   have whole is never written.
//! * An ephemeral znode is never created, written or deleted.
//! * A znode is deleted only if all znodes below it are, and, in its own place, only if it was created after the moment.
//! * Operations are in an order in which each can be carried out: parents are created before their children and deleted
//!   after them.

use std::collections::{BTreeSet, HashSet};

use bridge_core::path::ZnodePath;
use bridge_query::{Certainty, Doubt};

use super::draft::{PendingCreate, PlanDraft, Refusals};
use super::operation::{Operation, PlannedData};
use super::state::{DataAsOf, Existence, LiveState, LiveTree, LiveZnode, ZnodeAsOf};

/// The choices of a user.
#[derive(Clone, Debug)]
pub struct PlanRules {
    /// The kinds of uncertainty that are accepted.
    pub accepted: BTreeSet<Certainty>,
    /// Whether znodes that did not exist are deleted.
    pub prunes: bool,
    /// Whether the subtree is put back where it was.
    pub is_in_place: bool,
    /// The top of the live subtree.
    pub top: ZnodePath,
    /// Operations of one plan.
    pub changes_max: usize,
    /// Bytes of data of one plan.
    pub bytes_max: usize,
}

/// Why a znode is not as it was after a plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftReason {
    /// It was ephemeral then.
    WasEphemeral,
    /// It is ephemeral now.
    IsEphemeral,
    /// Its value then is not known, which was accepted.
    ValueUnknown,
    /// The source does not capture it.
    NotCaptured,
    /// Its parent is not put back.
    NoParent,
    /// It would be deleted, but a znode below it stays.
    StaysAbove,
    /// It would be deleted, but it existed at the moment: the journal does not know it.
    IsOlder,
    /// It would be deleted, but it may not be read.
    Unreadable,
}

impl LeftReason {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            LeftReason::WasEphemeral => "was ephemeral: only its session can create it",
            LeftReason::IsEphemeral => "is ephemeral now: it goes with its session",
            LeftReason::ValueUnknown => "its value then was never read",
            LeftReason::NotCaptured => "the source does not capture it",
            LeftReason::NoParent => "its parent is not put back",
            LeftReason::StaysAbove => "stays: a znode below it stays",
            LeftReason::IsOlder => "stays: it is older than the moment, and the journal does not know it",
            LeftReason::Unreadable => "stays: it may not be read",
        }
    }
}

/// Makes a plan path by path.
#[derive(Debug)]
pub struct Planner<'a> {
    rules: &'a PlanRules,
    live: &'a LiveTree,
    /// Paths of the live tree of which the state then was given.
    compared: HashSet<ZnodePath>,
    draft: PlanDraft,
    deletes: Vec<ZnodePath>,
    /// Znodes that stay although they did not exist then.
    extra: u64,
}

impl<'a> Planner<'a> {
    /// Nothing is compared yet.
    pub fn new(rules: &'a PlanRules, live: &'a LiveTree) -> Planner<'a> {
        Planner {
            rules,
            live,
            compared: HashSet::new(),
            draft: PlanDraft::default(),
            deletes: Vec::new(),
            extra: 0,
        }
    }

    /// Compares one path of the live tree with a znode then. Each path is given once, in any order.
    pub fn take(&mut self, path: &ZnodePath, then: &ZnodeAsOf) {
        let live = self.live.0.get(path);
        if live.is_some() {
            self.compared.insert(path.clone());
        }
        match (&then.existence, live) {
            (Existence::Absent, None) => {
                self.is_certain(path, then);
            }
            (Existence::Absent, Some(live)) => self.prune(path, then, live),
            (Existence::Unknown, _) => {
                if self.is_certain(path, then) {
                    self.leave(path, LeftReason::ValueUnknown);
                }
            }
            (Existence::Ephemeral, _) => self.leave(path, LeftReason::WasEphemeral),
            (Existence::Persistent { .. }, Some(LiveZnode::NotCaptured)) => {
                self.leave(path, LeftReason::NotCaptured);
            }
            (Existence::Persistent { .. }, Some(LiveZnode::Denied)) => {
                let Refusals { unreadable, more, .. } = &mut self.draft.refusals;
                Refusals::push(unreadable, more, path.clone());
            }
            (Existence::Persistent { version, data }, Some(LiveZnode::Found(live))) => {
                let is_same = self.rules.is_in_place && *version == Some(live.data_version);
                match is_same {
                    true => self.draft.unchanged += 1,
                    false => self.set(path, then, data, live),
                }
            }
            (Existence::Persistent { data, .. }, None) => self.create(path, then, data),
        }
    }

    /// The same for a path that the source does not capture: it is left out if it existed.
    pub fn take_not_captured(&mut self, path: &ZnodePath, then: &ZnodeAsOf) {
        if self.live.0.contains_key(path) {
            self.compared.insert(path.clone());
        }
        if then.existence != Existence::Absent {
            self.leave(path, LeftReason::NotCaptured);
        }
    }

    /// Compares the live znodes that the journal does not know, and orders the operations.
    pub fn finish(mut self) -> PlanDraft {
        let live = self.live;
        let unknown = ZnodeAsOf::unknown();
        for (path, znode) in &live.0 {
            if !self.compared.contains(path) {
                self.prune(path, &unknown, znode);
            }
        }
        self.place_creates();
        self.place_deletes();
        self.draft.extra = self.extra;
        let draft = &mut self.draft;
        let count = draft.creates.len() + draft.sets.len() + draft.deletes.len();
        draft.refusals.too_many = (count > self.rules.changes_max).then_some(count);
        let created = draft.creates.values().map(|create| create.data.0.len());
        let set = draft
            .sets
            .iter()
            .filter_map(Operation::data)
            .map(|data| data.len());
        let bytes: usize = created.chain(set).sum();
        draft.refusals.too_large = (bytes > self.rules.bytes_max).then_some(bytes);
        self.draft
    }

    fn leave(&mut self, path: &ZnodePath, reason: LeftReason) {
        self.draft.left.insert(path.clone(), reason);
    }

    /// Whether nothing that is not accepted is open about a znode. Doubts about its value alone count elsewhere.
    fn is_certain(&mut self, path: &ZnodePath, then: &ZnodeAsOf) -> bool {
        let is_open = |doubt: &&Doubt| {
            let certainty = doubt.certainty();
            let is_of_value = matches!(certainty, Certainty::Masked | Certainty::Cut)
                || matches!(doubt, Doubt::Unread(_) | Doubt::NoValue);
            // It says that not everything is recorded at the moment, for which the moment has a doubt of its own.
            let is_of_moment = matches!(doubt, Doubt::BeforeFirst(_));
            !is_of_value && !is_of_moment && !self.rules.accepted.contains(&certainty)
        };
        let open: Vec<Doubt> = then.doubts.iter().filter(is_open).cloned().collect();
        let is_certain = open.is_empty();
        if !is_certain {
            let Refusals { uncertain, more, .. } = &mut self.draft.refusals;
            Refusals::push(uncertain, more, (path.clone(), open));
        }
        is_certain
    }

    /// A znode that did not exist then.
    fn prune(&mut self, path: &ZnodePath, then: &ZnodeAsOf, live: &LiveZnode) {
        if !self.is_certain(path, then) {
            return;
        }
        if !self.rules.prunes {
            self.extra += u64::from(matches!(live, LiveZnode::Found(_)));
            return;
        }
        match live {
            LiveZnode::NotCaptured => {}
            LiveZnode::Denied => self.leave(path, LeftReason::Unreadable),
            LiveZnode::Found(state) if state.is_ephemeral => self.leave(path, LeftReason::IsEphemeral),
            LiveZnode::Found(state) if !state.is_created_later => self.leave(path, LeftReason::IsOlder),
            LiveZnode::Found(_) => self.deletes.push(path.clone()),
        }
    }

    fn set(&mut self, path: &ZnodePath, then: &ZnodeAsOf, data: &DataAsOf, live: &LiveState) {
        if live.is_ephemeral {
            return self.leave(path, LeftReason::IsEphemeral);
        }
        if !self.is_certain(path, then) {
            return;
        }
        if data.is_data_of(&live.digest) {
            self.draft.unchanged += 1;
            return;
        }
        let Some(data) = self.whole(path, then, data) else {
            return;
        };
        self.draft.sets.push(Operation::Set {
            path: path.clone(),
            data,
            version: live.version,
            czxid: live.data_version.czxid,
        });
    }

    fn create(&mut self, path: &ZnodePath, then: &ZnodeAsOf, data: &DataAsOf) {
        if !self.is_certain(path, then) {
            return;
        }
        let Some(data) = self.whole(path, then, data) else {
            return;
        };
        let create = PendingCreate {
            data,
            acl: None,
            lifetime: None,
        };
        self.draft.creates.insert(path.clone(), create);
    }

    /// The whole data; `None` if the journal does not have it, which is refused or left out.
    fn whole(&mut self, path: &ZnodePath, then: &ZnodeAsOf, data: &DataAsOf) -> Option<PlannedData> {
        let reason = match data {
            DataAsOf::Whole(bytes) => return Some(PlannedData(bytes.clone())),
            DataAsOf::Cut(_) => "the journal has only the beginning of its value (max_data)",
            DataAsOf::Masked => "its value is masked",
            DataAsOf::Unread => "the journal has no value of it",
        };
        let accepted = |doubt: &Doubt| self.rules.accepted.contains(&doubt.certainty());
        if *data == DataAsOf::Unread && then.doubts.iter().any(accepted) {
            self.leave(path, LeftReason::ValueUnknown);
            return None;
        }
        let Refusals {
            without_value, more, ..
        } = &mut self.draft.refusals;
        Refusals::push(without_value, more, (path.clone(), reason));
        None
    }

    /// Leaves out creates that would have no parent.
    fn place_creates(&mut self) {
        let mut orphans = Vec::new();
        let mut placed: BTreeSet<&ZnodePath> = BTreeSet::new();
        for path in self.draft.creates.keys() {
            let parent = path.parent().filter(|_| *path != self.rules.top);
            let has_parent = parent.is_none_or(|parent| {
                let is_live = self.live.found(&parent).is_some_and(|live| !live.is_ephemeral);
                is_live || placed.contains(&parent)
            });
            match has_parent {
                true => {
                    placed.insert(path);
                }
                false => orphans.push(path.clone()),
            }
        }
        for path in orphans {
            self.draft.creates.remove(&path);
            self.draft.left.insert(path, LeftReason::NoParent);
        }
    }

    /// Keeps znodes above those that stay.
    fn place_deletes(&mut self) {
        let wanted: HashSet<&ZnodePath> = self.deletes.iter().collect();
        let live = self.live.0.keys().filter(|path| !wanted.contains(path));
        let stays = live.chain(self.draft.creates.keys());
        let mut blocked: HashSet<ZnodePath> = HashSet::new();
        for path in stays {
            for above in path.ancestors() {
                if !blocked.insert(above) {
                    break;
                }
            }
        }
        self.deletes.sort_by(|one, other| other.cmp(one));
        for path in &self.deletes {
            if blocked.contains(path) {
                self.draft.left.insert(path.clone(), LeftReason::StaysAbove);
                continue;
            }
            let live = self
                .live
                .found(path)
                .expect("only a znode that was found is deleted");
            self.draft.deletes.push(Operation::Delete {
                path: path.clone(),
                version: live.version,
                czxid: live.data_version.czxid,
            });
        }
    }
}
