//! One round: work and faults for a while, then everything healed, at rest within a bound, and judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bridge_judge::tree::Tree;
use bridge_judge::truth::Truth;
use bridge_judge::verdict::{Account, Case, Census, each_once, folded};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinSet, block_in_place};

use crate::act::Act;
use crate::capture::Capture;
use crate::faults::{Hand, shake_inside, shake_outside};
use crate::lossless;
use crate::tally::Tally;
use crate::work::{Shared, Worker};

/// Sessions that write at the same time.
const WORKERS: usize = 3;
/// How long everything may take to arrive once everything is healed: Kafka's and ZooKeeper's own elections and
/// timeouts are within it, on a machine with two cores.
const REST_BOUND: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// The result of a round.
pub struct Outcome {
    pub faults: Tally,
    pub tried: u64,
    pub transactions: usize,
    pub digests: u64,
    pub census: Census,
    /// Of a source that reads transactions.
    pub account: Option<Account>,
    /// The most packets that a leader had waiting for the bridge.
    pub queued: u64,
    /// Looks at which the bridge was connected to servers, always through a proxy.
    pub connected: u64,
    /// From the last fault until everything had arrived.
    pub healed_in: Duration,
    pub judged_in: Duration,
    pub complaints: Vec<String>,
}

/// Plays a round on the act.
pub async fn play(act: &mut Act, seed: u64, lasting: Duration) -> Result<Outcome> {
    act.rounds += 1;
    let mut random = StdRng::seed_from_u64(seed);
    let shared = Arc::new(Shared::default());
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let root = &act.worked_roots()[worker % act.worked_roots().len()];
        let width = if root == &act.roots[0] { act.cast.width } else { 0 };
        let connect = act.zookeeper.connect_string();
        workers.spawn(Worker::new(&connect, root, width, random.random(), &shared).work());
    }
    let (mut outside, mut inside) = (
        StdRng::seed_from_u64(random.random()),
        StdRng::seed_from_u64(random.random()),
    );
    let deadline = tokio::time::Instant::now() + lasting;
    let is_lossless = act.cast.capture.is_lossless();
    let hand = Hand {
        kafka: &act.kafka,
        zookeeper: &act.zookeeper,
        has_absences: is_lossless,
    };
    let asked_until = if is_lossless {
        deadline
    } else {
        tokio::time::Instant::now()
    };
    let shaken = tokio::try_join!(
        shake_outside(&act.zookeeper, &act.proxies, &mut outside, deadline),
        shake_inside(&mut act.bridge, &hand, &mut inside, deadline),
        lossless::watch_queues(&act.zookeeper, asked_until),
        act.witness.watch(deadline),
    );
    shared.stop();
    while let Some(worked) = workers.join_next().await {
        worked.context("a worker broke")?;
    }
    let (mut faults, others, queued, connected) = shaken?;
    faults.add(&others);
    let since = Instant::now();
    act.heal().await?;
    let (tree, restarts) = settle(act, &shared).await?;
    faults.add(&restarts);
    let healed_in = since.elapsed();
    let judged = Instant::now();
    block_in_place(|| {
        let truth = act.truth();
        let case = case(act, &truth, &tree);
        let (account, complaints) = complaints(act, &case)?;
        Ok(Outcome {
            faults,
            tried: shared.tried(),
            transactions: truth.transactions,
            digests: truth.digests,
            census: case.census(),
            account,
            queued,
            connected,
            healed_in,
            complaints,
            judged_in: judged.elapsed(),
        })
    })
}

fn case<'a>(act: &'a Act, truth: &'a Truth, tree: &'a Tree) -> Case<'a> {
    Case {
        deliveries: &act.topic.deliveries,
        truth,
        tree,
        roots: &act.roots,
        events: act.events,
        hidden: &[],
    }
}

/// The complaints of both judges.
fn complaints(act: &Act, case: &Case<'_>) -> Result<(Option<Account>, Vec<String>)> {
    let mut complaints = case.complaints();
    let lossless = lossless::judge(act, case.truth)?;
    let account = lossless.map(|(account, more)| {
        complaints.extend(more);
        account
    });
    Ok((account, complaints))
}

/// Waits until everything has arrived, and returns the complaints of the judges about all since the act began.
pub async fn judged(act: &mut Act) -> Result<Vec<String>> {
    Ok(accounted(act).await?.1)
}

/// The same, with the account of a source that reads transactions.
pub async fn accounted(act: &mut Act) -> Result<(Option<Account>, Vec<String>)> {
    act.rounds += 1;
    let (tree, _) = settle(act, &Shared::default()).await?;
    block_in_place(|| {
        let truth = act.truth();
        complaints(act, &case(act, &truth, &tree))
    })
}

/// Puts the tree in order and waits until all of it has arrived. Returns the tree, and what had to be restarted for it.
async fn settle(act: &mut Act, shared: &Shared) -> Result<(Tree, Tally)> {
    let (gardener, restarts) = act.gardener().await?;
    let closed = shared.closed();
    gardener.open(&closed).await?;
    for root in act.worked_roots() {
        gardener.mark(root, act.rounds).await?;
        gardener.sweep(root).await?;
    }
    if !closed.is_empty() && act.cast.capture == Capture::Watch {
        // There is no event for the changes of an unreadable znode, nor for its becoming readable.
        act.bridge.kill().await?;
        act.bridge.launch()?;
    }
    act.bridge.ready().await?;
    let deadline = Instant::now() + REST_BOUND;
    let mut seen = "nothing at rest".to_owned();
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK_PAUSE).await;
        let connections = act.witness.look()?;
        if !act.bridge.is_at_rest().await? {
            continue;
        }
        if connections == 0 && act.cast.capture != Capture::Txnlog {
            seen = "the bridge is at rest, and has no connection through a proxy".to_owned();
            continue;
        }
        block_in_place(|| act.topic.read_on());
        let tree = gardener.tree(&act.roots).await?;
        let records = folded(&each_once(&act.topic.deliveries));
        let differing = difference(&tree, &records);
        match differing {
            None => return Ok((tree, restarts)),
            Some(difference) => seen = difference,
        }
    }
    let status = act.bridge.status().await;
    bail!(
        "nothing more happens, and {REST_BOUND:?} later the records do not add up to the tree: {seen}; {status:#}"
    )
}

/// The first path whose records differ from the tree.
fn difference(tree: &Tree, records: &std::collections::BTreeMap<String, (u64, u64)>) -> Option<String> {
    let untold = tree
        .iter()
        .find(|(path, node)| records.get(*path) != Some(&(node.czxid, node.mzxid)))
        .map(|(path, node)| {
            format!(
                "{path:?} is {:x?}, reported as {:x?}",
                (node.czxid, node.mzxid),
                records.get(path)
            )
        });
    let gone = || {
        records
            .keys()
            .find(|path| !tree.contains_key(*path))
            .map(|path| format!("{path:?} is gone"))
    };
    untold.or_else(gone)
}
