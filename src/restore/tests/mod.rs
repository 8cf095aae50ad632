//! Plans of random trees, applied to a tree in memory that crashes, and files that are cut or changed.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod applying;
mod files;
mod planning;
mod tree;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::planner::{PlanRules, Planner};
use super::state::{DataAsOf, DataVersion, Existence, LiveState, LiveTree, LiveZnode, ZnodeAsOf};
use super::{AclRule, Operation, PlanDraft};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Stat};
use std::collections::{BTreeMap, BTreeSet};

/// Random trees that are played.
const SEEDS: u64 = 300;

pub fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// These seeds, or the one that `ZKBRIDGE_SEED` names.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("ZKBRIDGE_SEED") {
        Ok(seed) => vec![seed.parse().expect("ZKBRIDGE_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Everybody may do everything.
pub fn open_list() -> Vec<Acl> {
    vec![Acl {
        scheme: "world".to_owned(),
        id: "anyone".to_owned(),
        perms: "cdrwa".to_owned(),
    }]
}

pub fn rules(prunes: bool) -> PlanRules {
    PlanRules {
        accepted: BTreeSet::new(),
        prunes,
        is_in_place: true,
        top: path("/t"),
        changes_max: 1_000,
        bytes_max: 1 << 20,
    }
}

/// A znode that existed, with this content.
pub fn persistent(text: &str) -> ZnodeAsOf {
    ZnodeAsOf {
        existence: Existence::Persistent {
            version: None,
            data: DataAsOf::Whole(text.as_bytes().into()),
        },
        doubts: Vec::new(),
    }
}

pub fn ephemeral() -> ZnodeAsOf {
    ZnodeAsOf {
        existence: Existence::Ephemeral,
        doubts: Vec::new(),
    }
}

/// A live znode that was created after the moment.
pub fn live(text: &str, version: i32) -> LiveZnode {
    let stat = Stat {
        czxid: Zxid(7),
        mzxid: Zxid(8),
        version,
        ..Stat::default()
    };
    LiveZnode::Found(LiveState::new(&stat, text.as_bytes(), true))
}

pub fn live_ephemeral(text: &str) -> LiveZnode {
    let stat = Stat {
        czxid: Zxid(7),
        ephemeral_owner: SessionId(1),
        ..Stat::default()
    };
    LiveZnode::Found(LiveState::new(&stat, text.as_bytes(), true))
}

/// The draft of two states.
pub fn drafted(rules: &PlanRules, then: &[(&str, ZnodeAsOf)], now: &[(&str, LiveZnode)]) -> PlanDraft {
    let now = now.iter().map(|(at, znode)| (path(at), znode.clone()));
    let live = LiveTree(now.collect());
    let mut planner = Planner::new(rules, &live);
    for (at, znode) in then {
        planner.take(&path(at), znode);
    }
    planner.finish()
}

/// The operations of a draft, as a verb and a path each.
pub fn operations_of(draft: PlanDraft) -> Vec<Operation> {
    let (operations, _) = draft
        .settle(&AclRule::List(open_list()), &BTreeMap::new())
        .unwrap();
    operations
}

/// The same as text.
pub fn lines_of(draft: PlanDraft) -> Vec<String> {
    let operations = operations_of(draft);
    operations
        .iter()
        .map(|one| format!("{} {}", one.verb(), one.path()))
        .collect()
}

/// Paths of the random trees, parents first.
pub const PATHS: [&str; 9] = [
    "/t",
    "/t/a",
    "/t/a!",
    "/t/a/x",
    "/t/a/x/deep",
    "/t/a/y",
    "/t/b",
    "/t/b/x",
    "/t/c",
];

/// A random tree: path, text, and whether the znode is ephemeral.
pub fn random_tree(random: &mut StdRng) -> Vec<(&'static str, String, bool)> {
    let mut tree: Vec<(&'static str, String, bool)> = Vec::new();
    for at in PATHS {
        let parent = path(at).parent().unwrap();
        let has_parent = at == "/t"
            || tree
                .iter()
                .any(|(path, _, ephemeral)| *path == parent.as_str() && !ephemeral);
        if has_parent && (at == "/t" && random.random_ratio(9, 10) || random.random_ratio(2, 3)) {
            let text = format!("v{}", random.random_range(0..3));
            tree.push((at, text, at != "/t" && random.random_ratio(1, 8)));
        }
    }
    tree
}

pub fn random_of(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub fn version_of(stat: &Stat) -> DataVersion {
    DataVersion {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
    }
}
