//! Plans of random trees, applied with crashes and with another client that writes.

use bridge_core::number::Zxid;

use super::tree::{Crash, ModelTree};
use super::*;
use crate::restore::applier::{BATCH_MAX, OnConflict};
use crate::restore::apply::{Applied, ApplyOptions, apply};
use crate::restore::collect::{RestorePlace, anchors};
use crate::restore::plan_file::{PlanFile, PlanHeader, RestorePlan};
use crate::verify::RateLimit;

/// Runs of one plan after which it must have ended.
const RUNS_MAX: usize = 40;

fn options(on_conflict: OnConflict, batch_max: usize) -> ApplyOptions {
    ApplyOptions {
        on_conflict,
        batch_max,
    }
}

fn plan_of(operations: Vec<Operation>) -> RestorePlan {
    let top = path("/t");
    let (at, made) = ("1".to_owned(), "now".to_owned());
    let header = PlanHeader::new(
        "main".to_owned(),
        (&top, &top),
        at,
        true,
        Vec::new(),
        made,
        Vec::new(),
    );
    RestorePlan { header, operations }
}

/// A live tree and the plan that makes another one of it.
fn a_plan(random: &mut StdRng, prunes: bool) -> (ModelTree, Vec<(&'static str, String, bool)>, RestorePlan) {
    let tree = ModelTree::default();
    for (at, text, is_ephemeral) in random_tree(random) {
        tree.0.lock().unwrap().put(at, &text, is_ephemeral);
    }
    let then = random_tree(random);
    let (rules, live) = (rules(prunes), tree.live());
    let mut planner = Planner::new(&rules, &live);
    for (at, text, is_ephemeral) in &then {
        let znode = match is_ephemeral {
            true => ephemeral(),
            false => persistent(text),
        };
        planner.take(&path(at), &znode);
    }
    let plan = plan_of(operations_of(planner.finish()));
    (tree, then, plan)
}

async fn run(tree: &ModelTree, file: &std::path::Path, options: ApplyOptions) -> Result<Applied, String> {
    let mut opened = PlanFile::open(file).unwrap();
    let mut rate = RateLimit::new(u32::MAX);
    apply(tree, &mut opened, options, &mut rate)
        .await
        .map_err(|failure| failure.message)
}

/// The tree that must come of it: the znodes then, and those of now that stay.
fn expected(
    now: &BTreeMap<String, (String, bool)>,
    then: &[(&'static str, String, bool)],
    prunes: bool,
) -> BTreeMap<String, (String, bool)> {
    let mut tree = now.clone();
    for (at, text, is_ephemeral) in then {
        let parent = path(at).parent().unwrap();
        let has_parent = *at == "/t"
            || tree
                .get(parent.as_str())
                .is_some_and(|(_, is_ephemeral)| !is_ephemeral);
        let is_live_ephemeral = tree.get(*at).is_some_and(|(_, is_ephemeral)| *is_ephemeral);
        if !is_ephemeral && !is_live_ephemeral && has_parent {
            tree.insert((*at).to_owned(), (text.clone(), false));
        }
    }
    if prunes {
        let was = |at: &String| then.iter().any(|(path, _, _)| path == at);
        for at in tree.clone().keys().rev() {
            let has_child = tree.keys().any(|other| other.starts_with(&format!("{at}/")));
            if !was(at) && !has_child && !tree[at].1 {
                tree.remove(at);
            }
        }
    }
    tree
}

#[tokio::test]
async fn a_plan_that_is_applied_with_crashes_anywhere_gives_the_tree_of_the_moment() {
    let home = tempfile::tempdir().unwrap();
    let (mut crashes, mut runs) = (0, 0);
    for seed in seeds(SEEDS) {
        let mut random = random_of(seed);
        let prunes = random.random_ratio(2, 3);
        let (tree, then, plan) = a_plan(&mut random, prunes);
        let wanted = expected(&tree.content(), &then, prunes);
        let file = home.path().join(format!("{seed}.plan"));
        plan.save(&file).unwrap();
        let whole = std::fs::metadata(&file).unwrap().len();
        let batch = random.random_range(1..4);
        let mut last = None;
        for _ in 0..RUNS_MAX {
            runs += 1;
            {
                let mut state = tree.0.lock().unwrap();
                let at = state.requests + random.random_range(1..3);
                let crash = match random.random_ratio(1, 2) {
                    true => Crash::Before,
                    false => Crash::After,
                };
                state.crash = random.random_ratio(2, 3).then_some((at, crash));
            }
            match run(&tree, &file, options(OnConflict::Stop, batch)).await {
                Ok(applied) => {
                    last = Some(applied);
                    break;
                }
                Err(_) => {
                    crashes += 1;
                    // The last line of progress may be cut, or never have reached the disk.
                    let length = std::fs::metadata(&file).unwrap().len();
                    let kept = random.random_range(whole..=length);
                    let cut = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
                    cut.set_len(kept).unwrap();
                }
            }
        }
        let applied = last.unwrap_or_else(|| panic!("seed {seed} does not end"));
        assert_eq!(tree.content(), wanted, "replay with ZKBRIDGE_SEED={seed}");
        assert_eq!(
            (&applied.stopped, applied.differences.len()),
            (&None, 0),
            "seed {seed}"
        );
        assert_eq!(
            applied.before + applied.done + applied.found,
            plan.operations.len(),
            "seed {seed}: {applied:?}"
        );
    }
    assert!(runs == 1 || crashes > 100, "{crashes} crashes in {runs} runs");
}

#[tokio::test]
async fn writes_of_another_client_are_never_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let mut conflicts = 0;
    for seed in seeds(SEEDS) {
        let mut random = random_of(seed);
        let (tree, _, plan) = a_plan(&mut random, true);
        let file = home.path().join(format!("{seed}.plan"));
        plan.save(&file).unwrap();
        let touched = plan
            .operations
            .iter()
            .filter(|one| !matches!(one, Operation::Create { .. }));
        let touched: Vec<ZnodePath> = touched.map(|one| one.path().clone()).collect();
        if touched.is_empty() {
            continue;
        }
        let intruded = touched[random.random_range(0..touched.len())].clone();
        // Before the run, or between the read and the write of a request.
        match random.random_ratio(1, 2) {
            true => tree.0.lock().unwrap().write_by_another(&intruded),
            false => tree.0.lock().unwrap().intruder = Some((1, intruded.clone())),
        }
        let stopped = run(&tree, &file, options(OnConflict::Stop, BATCH_MAX))
            .await
            .unwrap();
        let conflict = stopped.stopped.unwrap_or_else(|| panic!("seed {seed}: {plan:?}"));
        assert!(
            conflict.path == intruded || intruded.starts_with(&*conflict.path),
            "seed {seed}"
        );
        let skipped = run(&tree, &file, options(OnConflict::Skip, BATCH_MAX))
            .await
            .unwrap();
        assert!(
            skipped.stopped.is_none() && !skipped.skipped.is_empty(),
            "seed {seed}"
        );
        assert_eq!(skipped.differences, [], "seed {seed}");
        assert_eq!(
            tree.content()[intruded.as_str()].0,
            "of another",
            "replay with ZKBRIDGE_SEED={seed}"
        );
        conflicts += 1;
    }
    assert!(conflicts > 0, "no tree had a conflict");
}

#[tokio::test]
async fn a_znode_that_was_created_again_at_the_same_version_is_a_conflict() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.plan");
    let tree = ModelTree::default();
    tree.0.lock().unwrap().put("/t", "old", false);
    let (rules, live) = (rules(false), tree.live());
    let mut planner = Planner::new(&rules, &live);
    planner.take(&path("/t"), &persistent("new"));
    plan_of(operations_of(planner.finish())).save(&file).unwrap();
    tree.0.lock().unwrap().put("/t", "again", false);
    let applied = run(&tree, &file, options(OnConflict::Stop, 1)).await.unwrap();
    let conflict = applied.stopped.unwrap();
    assert!(conflict.reason.contains("created again"), "{conflict:?}");
    assert_eq!(tree.content()["/t"].0, "again");
}

#[tokio::test]
async fn a_plan_for_other_servers_is_refused_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.plan");
    let tree = ModelTree::default();
    tree.0.lock().unwrap().put("/t", "old", false);
    let mut plan = plan_of(Vec::new());
    plan.header.anchors = vec![crate::restore::plan_file::Anchor {
        path: path("/t"),
        czxid: Zxid(77),
    }];
    plan.save(&file).unwrap();
    let refused = run(&tree, &file, options(OnConflict::Stop, 1)).await.unwrap_err();
    assert!(refused.contains("other servers"), "{refused}");
    assert_eq!(tree.0.lock().unwrap().requests, 0);
}

#[tokio::test]
async fn the_place_itself_shows_other_servers_also_at_the_top() {
    let tree = ModelTree::default();
    tree.0.lock().unwrap().put("/t", "old", false);
    let place = RestorePlace {
        under: path("/t"),
        to: path("/t"),
    };
    let mut rate = RateLimit::new(u32::MAX);
    let found = anchors(&tree, &place, &mut rate).await.unwrap().unwrap();
    assert_eq!(
        found.iter().map(|anchor| &*anchor.path).collect::<Vec<_>>(),
        ["/t"]
    );
    let other = ModelTree::default();
    other.0.lock().unwrap().put("/before", "", false);
    other.0.lock().unwrap().put("/t", "old", false);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.plan");
    let (rules, live) = (rules(false), tree.live());
    let mut planner = Planner::new(&rules, &live);
    planner.take(&path("/t/new"), &persistent("new"));
    let mut plan = plan_of(operations_of(planner.finish()));
    plan.header.anchors = found;
    plan.save(&file).unwrap();
    let refused = run(&other, &file, options(OnConflict::Stop, 1))
        .await
        .unwrap_err();
    assert!(refused.contains("other servers"), "{refused}");
    // The control.
    let applied = run(&tree, &file, options(OnConflict::Stop, 1)).await.unwrap();
    assert_eq!((applied.done, applied.differences.len()), (1, 0), "{applied:?}");
}
