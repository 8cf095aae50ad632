//! A plan before the access control lists of its creates are known, and everything for which it is refused.
//!
//! Invariant: a znode is created with a list that is known and has its digests, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Lifetime};
use bridge_query::Doubt;
use bridge_zookeeper::acl::is_masked;

use super::operation::{Operation, PlannedData, acl_objection, lifetime_objection};
use super::planner::LeftReason;
use super::state::LiveTree;

/// Paths of one reason that a refusal lists; the others are counted.
pub const LISTED_MAX: usize = 1_000;

/// Digits of the number at the end of a sequential name.
const SEQUENCE_DIGITS: usize = 10;

/// Everything for which a plan is refused; empty if nothing is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusals {
    /// Znodes that are not certain.
    pub uncertain: Vec<(ZnodePath, Vec<Doubt>)>,
    /// Znodes whose value the journal does not have whole.
    pub without_value: Vec<(ZnodePath, &'static str)>,
    /// Znodes that may not be read now.
    pub unreadable: Vec<ZnodePath>,
    /// Znodes to create whose access control list is not known, or that cannot be created with it.
    pub without_acl: Vec<(ZnodePath, String)>,
    /// How many more there are.
    pub more: u64,
    /// Operations, if there are too many.
    pub too_many: Option<usize>,
    /// Bytes of data, if there are too many.
    pub too_large: Option<usize>,
}

impl Refusals {
    /// Whether the plan can be made.
    pub fn is_empty(&self) -> bool {
        *self == Refusals::default()
    }

    /// Adds an item to a list of limited length.
    pub(super) fn push<T>(list: &mut Vec<T>, more: &mut u64, item: T) {
        match list.len() < LISTED_MAX {
            true => list.push(item),
            false => *more += 1,
        }
    }
}

/// A create that waits for its list and lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingCreate {
    pub(super) data: PlannedData,
    pub(super) acl: Option<Vec<Acl>>,
    pub(super) lifetime: Option<Lifetime>,
}

/// The operations of a plan, before the lists of its creates are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanDraft {
    pub(super) creates: BTreeMap<ZnodePath, PendingCreate>,
    pub(super) sets: Vec<Operation>,
    pub(super) deletes: Vec<Operation>,
    /// Znodes that are not put back, with the reason.
    pub left: BTreeMap<ZnodePath, LeftReason>,
    /// Znodes that are as they were.
    pub unchanged: u64,
    /// Znodes that stay although they did not exist then.
    pub extra: u64,
    /// Why there is no plan.
    pub refusals: Refusals,
}

/// The access control list of a create whose own is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclRule {
    /// The create is refused.
    Refuse,
    /// It gets the list of its parent.
    Parent,
    /// It gets this list.
    List(Vec<Acl>),
}

impl PlanDraft {
    /// The znodes to create.
    pub fn created(&self) -> impl Iterator<Item = &ZnodePath> {
        self.creates.keys()
    }

    /// Sets the list and the lifetime of a znode to create, as far as the journal knows them.
    pub fn set_facts(&mut self, path: &ZnodePath, acl: Option<Vec<Acl>>, lifetime: Option<Lifetime>) {
        if let Some(create) = self.creates.get_mut(path) {
            let is_usable = |acl: &Vec<Acl>| !acl.iter().any(is_masked);
            create.acl = acl.filter(is_usable);
            create.lifetime = lifetime;
        }
    }

    /// The live parents of which a rule needs the list.
    pub fn parents_to_ask(&self, rule: &AclRule) -> BTreeSet<ZnodePath> {
        let needy = self.creates.iter().filter(|(_, create)| create.acl.is_none());
        let parents = needy.filter_map(|(path, _)| path.parent());
        let parents = parents.filter(|parent| !self.creates.contains_key(parent));
        match rule {
            AclRule::Parent => parents.collect(),
            AclRule::Refuse | AclRule::List(_) => BTreeSet::new(),
        }
    }

    /// The operations, if nothing is refused. `parents` has the lists of [`PlanDraft::parents_to_ask`].
    pub fn settle(
        mut self,
        rule: &AclRule,
        parents: &BTreeMap<ZnodePath, Vec<Acl>>,
    ) -> Result<(Vec<Operation>, PlanDraft), Refusals> {
        let mut lists: BTreeMap<ZnodePath, Vec<Acl>> = parents.clone();
        let mut operations = Vec::new();
        for (path, create) in &self.creates {
            let parent = path.parent().unwrap_or_else(ZnodePath::slash);
            let acl = create.acl.clone().or_else(|| match rule {
                AclRule::Refuse => None,
                AclRule::Parent => lists.get(&parent).cloned(),
                AclRule::List(acl) => Some(acl.clone()),
            });
            let lifetime = create.lifetime.unwrap_or(Lifetime::PERSISTENT);
            let objection = match &acl {
                None => Some("its access control list then is not known".to_owned()),
                Some(acl) => acl_objection(acl).or_else(|| lifetime_objection(lifetime)),
            };
            let Some(acl) = acl.filter(|_| objection.is_none()) else {
                let Refusals {
                    without_acl, more, ..
                } = &mut self.refusals;
                Refusals::push(without_acl, more, (path.clone(), objection.unwrap_or_default()));
                continue;
            };
            lists.insert(path.clone(), acl.clone());
            operations.push(Operation::Create {
                path: path.clone(),
                data: create.data.clone(),
                acl,
                lifetime,
            });
        }
        if !self.refusals.is_empty() {
            return Err(self.refusals);
        }
        operations.append(&mut self.sets);
        operations.append(&mut self.deletes);
        Ok((operations, self))
    }

    /// How many znodes to create come back as persistent because their lifetime is not known.
    pub fn of_unknown_lifetime(&self) -> usize {
        let creates = self.creates.values();
        creates.filter(|create| create.lifetime.is_none()).count()
    }

    /// Znodes to create with the name of a sequential one that the counter of their parent has not reached.
    pub fn ahead_of_counter(&self, live: &LiveTree) -> Vec<ZnodePath> {
        let mut planned: BTreeMap<ZnodePath, i64> = BTreeMap::new();
        for path in self.creates.keys() {
            *planned
                .entry(path.parent().unwrap_or_else(ZnodePath::slash))
                .or_default() += 1;
        }
        let is_ahead = |path: &&ZnodePath| {
            let parent = path.parent().unwrap_or_else(ZnodePath::slash);
            let counter = live.found(&parent).map_or(0, |live| live.children_created);
            let counter = counter + planned.get(&parent).copied().unwrap_or_default();
            sequence_number(path.name()).is_some_and(|number| number >= counter)
        };
        self.creates.keys().filter(is_ahead).cloned().collect()
    }
}

/// The number of a name that looks like one of a sequential znode.
fn sequence_number(name: &str) -> Option<i64> {
    let begin = name.len().checked_sub(SEQUENCE_DIGITS)?;
    let digits = name.get(begin..)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_digits_at_the_end_of_a_name_are_the_number_of_a_sequential_znode() {
        let check = |name, expected| assert_eq!(sequence_number(name), expected, "{name}");
        check("lock-0000000042", Some(42));
        check("0000000042", Some(42));
        check("lock-000000042", None);
        check("lock-00000000x2", None);
        check("größe", None);
        check("", None);
    }
}
