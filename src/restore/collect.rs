//! Reads the two states of a plan: the live subtree from ZooKeeper, the state then and the facts of znodes from the journal.

use std::collections::BTreeMap;

use bridge_core::capture::Outcome;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Timestamp};
use bridge_query::{JournalQuery, SubtreeMoment};

use super::apply::read_all;
use super::draft::{AclRule, PlanDraft};
use super::plan_file::Anchor;
use super::planner::{PlanRules, Planner};
use super::state::{LiveState, LiveTree, LiveZnode, ZnodeAsOf};
use crate::exit::{Exit, Failure};
use crate::source_type::TreeEditor;
use crate::verify::RateLimit;

/// Znodes of a live subtree: some 300 MB of memory.
const ZNODES_MAX: usize = 1_000_000;

/// Znodes of one step of the walk.
const WALK_AT_ONCE: usize = 64;

/// The place from which and to which a subtree is put back.
#[derive(Clone, Debug)]
pub struct RestorePlace {
    /// The subtree in the journal.
    pub under: ZnodePath,
    /// The subtree in ZooKeeper.
    pub to: ZnodePath,
}

impl RestorePlace {
    /// Whether it is put back where it was.
    pub fn is_in_place(&self) -> bool {
        self.under == self.to
    }

    /// The path in ZooKeeper of a path in the journal.
    pub fn target(&self, path: &ZnodePath) -> ZnodePath {
        moved(path, &self.under, &self.to)
    }

    /// The path in the journal of a path in ZooKeeper.
    pub fn origin(&self, path: &ZnodePath) -> ZnodePath {
        moved(path, &self.to, &self.under)
    }
}

fn moved(path: &ZnodePath, from: &ZnodePath, to: &ZnodePath) -> ZnodePath {
    let rest = path.strip_prefix(from.as_str()).unwrap_or_default();
    let names = rest.split('/').filter(|name| !name.is_empty());
    names.fold(to.clone(), |path, name| path.child(name))
}

/// Reads the live subtree.
///
/// # Errors
///
/// If the session is lost, or the subtree is too large.
pub async fn live_tree(
    tree: &dyn TreeEditor,
    place: &RestorePlace,
    moment: &SubtreeMoment,
    rate: &mut RateLimit,
) -> Result<LiveTree, Failure> {
    let mut live = LiveTree::default();
    let mut ahead = vec![place.to.clone()];
    while !ahead.is_empty() {
        let paths = ahead.split_off(ahead.len().saturating_sub(WALK_AT_ONCE));
        let outcomes = read_all(tree, &paths, rate).await?;
        for (path, outcome) in paths.into_iter().zip(outcomes) {
            let znode = match outcome {
                Outcome::Missing => continue,
                Outcome::Denied => LiveZnode::Denied,
                Outcome::Found { stat, data, children } => {
                    for name in children.unwrap_or_default() {
                        let child = path.child(&name);
                        match tree.is_captured(&child) {
                            true => ahead.push(child),
                            false => {
                                live.0.insert(child, LiveZnode::NotCaptured);
                            }
                        }
                    }
                    // Elsewhere, znodes of another subtree are in the way, whenever they were created.
                    let is_later = !place.is_in_place() || moment.is_before_create(stat.czxid, stat.ctime);
                    LiveZnode::Found(LiveState::new(&stat, &data, is_later))
                }
            };
            live.0.insert(path, znode);
            if live.0.len() + ahead.len() > ZNODES_MAX {
                let message = format!(
                    "{} has more than {ZNODES_MAX} znodes\nhelp: restore parts of it, one after another",
                    place.to.brief()
                );
                return Err(Failure::new(Exit::Runtime, message));
            }
        }
    }
    Ok(live)
}

/// The place and the znodes above it, as they are now; `None` if the parent is missing. A place at the top has nothing but
/// itself to show that the servers are others.
///
/// # Errors
///
/// If the session is lost.
pub async fn anchors(
    tree: &dyn TreeEditor,
    place: &RestorePlace,
    rate: &mut RateLimit,
) -> Result<Option<Vec<Anchor>>, Failure> {
    let above = place.to.ancestors().filter(|path| !path.is_slash());
    let paths: Vec<ZnodePath> = std::iter::once(place.to.clone()).chain(above).collect();
    let outcomes = read_all(tree, &paths, rate).await?;
    let is_missing = outcomes.get(1) == Some(&Outcome::Missing);
    let anchors = paths.into_iter().zip(outcomes);
    let anchors = anchors.filter_map(|(path, outcome)| match outcome {
        Outcome::Found { stat, .. } => Some(Anchor {
            path,
            czxid: stat.czxid,
        }),
        _ => None,
    });
    let anchors = anchors.collect();
    Ok((!is_missing).then_some(anchors))
}

/// Compares the state then with the live tree. Reads every path of the subtree that the journal knows.
///
/// # Errors
///
/// If the journal cannot be read.
pub fn draft(
    journal: &JournalQuery,
    tree: &dyn TreeEditor,
    place: &RestorePlace,
    moment: &SubtreeMoment,
    (rules, live): (&PlanRules, &LiveTree),
    now: Timestamp,
) -> Result<PlanDraft, Failure> {
    let mut planner = Planner::new(rules, live);
    let mut visited: Option<ZnodePath> = None;
    loop {
        let page = journal.subtree_at(&place.under, moment.position(), visited.as_ref(), now)?;
        for znode in page.znodes {
            let path = place.target(&znode.path);
            let Some(value) = znode.value else { continue };
            let then = ZnodeAsOf::from(value);
            match tree.is_captured(&path) && tree.is_captured(&znode.path) {
                true => planner.take(&path, &then),
                false => planner.take_not_captured(&path, &then),
            }
        }
        match page.next {
            Some(next) => visited = Some(next),
            None => break,
        }
    }
    let mut draft = planner.finish();
    let created: Vec<ZnodePath> = draft.created().cloned().collect();
    // A plan that is refused for its size needs no list.
    for path in created.iter().take(rules.changes_max) {
        let facts = journal.facts_at(&place.origin(path), moment.position())?;
        draft.set_facts(path, facts.acl, facts.lifetime);
    }
    Ok(draft)
}

/// The lists of live parents that a rule needs.
///
/// # Errors
///
/// If the session is lost.
pub async fn parent_lists(
    tree: &dyn TreeEditor,
    draft: &PlanDraft,
    rule: &AclRule,
    rate: &mut RateLimit,
) -> Result<BTreeMap<ZnodePath, Vec<Acl>>, Failure> {
    let mut lists = BTreeMap::new();
    for parent in draft.parents_to_ask(rule) {
        rate.wait(1).await;
        let read = tree.acl(&parent).await;
        let read = read.map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
        if let Some(acl) = read {
            lists.insert(parent, acl);
        }
    }
    Ok(lists)
}
