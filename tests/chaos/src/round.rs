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

use crate::capture::Capture;
use crate::faults::{BridgeFaultTargets, inject_bridge_faults, inject_ensemble_faults};
use crate::lossless;
use crate::operation_counts::OperationCounts;
use crate::testbed::Testbed;
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
    pub faults: OperationCounts,
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

/// Plays a round on a testbed.
pub async fn play(testbed: &mut Testbed, seed: u64, lasting: Duration) -> Result<Outcome> {
    testbed.rounds += 1;
    let mut random = StdRng::seed_from_u64(seed);
    let shared = Arc::new(Shared::default());
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let root = &testbed.worked_roots()[worker % testbed.worked_roots().len()];
        let width = if root == &testbed.roots[0] {
            testbed.options.width
        } else {
            0
        };
        let connect = testbed.zookeeper.connect_string();
        workers.spawn(Worker::new(&connect, root, width, random.random(), &shared).work());
    }
    let (mut outside, mut inside) = (
        StdRng::seed_from_u64(random.random()),
        StdRng::seed_from_u64(random.random()),
    );
    let deadline = tokio::time::Instant::now() + lasting;
    let is_lossless = testbed.options.capture.is_lossless();
    let targets = BridgeFaultTargets {
        kafka: &testbed.kafka,
        zookeeper: &testbed.zookeeper,
        has_absences: is_lossless,
    };
    let asked_until = if is_lossless {
        deadline
    } else {
        tokio::time::Instant::now()
    };
    let shaken = tokio::try_join!(
        inject_ensemble_faults(&testbed.zookeeper, &testbed.proxies, &mut outside, deadline),
        inject_bridge_faults(&mut testbed.bridge, &targets, &mut inside, deadline),
        lossless::watch_queues(&testbed.zookeeper, asked_until),
        testbed.proxy_check.watch(deadline),
    );
    shared.stop();
    while let Some(worked) = workers.join_next().await {
        worked.context("a worker broke")?;
    }
    let (mut faults, others, queued, connected) = shaken?;
    faults.add(&others);
    let since = Instant::now();
    testbed.heal().await?;
    let (tree, restarts) = settle(testbed, &shared).await?;
    faults.add(&restarts);
    let healed_in = since.elapsed();
    let judged = Instant::now();
    block_in_place(|| {
        let truth = testbed.truth();
        let case = case(testbed, &truth, &tree);
        let (account, complaints) = complaints(testbed, &case)?;
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

fn case<'a>(testbed: &'a Testbed, truth: &'a Truth, tree: &'a Tree) -> Case<'a> {
    Case {
        deliveries: &testbed.topic.deliveries,
        truth,
        tree,
        roots: &testbed.roots,
        events: testbed.events,
        hidden: &[],
    }
}

/// The complaints of both judges.
fn complaints(testbed: &Testbed, case: &Case<'_>) -> Result<(Option<Account>, Vec<String>)> {
    let mut complaints = case.complaints();
    let lossless = lossless::judge(testbed, case.truth)?;
    let account = lossless.map(|(account, more)| {
        complaints.extend(more);
        account
    });
    Ok((account, complaints))
}

/// Waits until everything has arrived, and returns the complaints of the judges about all since the testbed was started.
pub async fn judged(testbed: &mut Testbed) -> Result<Vec<String>> {
    Ok(accounted(testbed).await?.1)
}

/// The same, with the account of a source that reads transactions.
pub async fn accounted(testbed: &mut Testbed) -> Result<(Option<Account>, Vec<String>)> {
    testbed.rounds += 1;
    let (tree, _) = settle(testbed, &Shared::default()).await?;
    block_in_place(|| {
        let truth = testbed.truth();
        complaints(testbed, &case(testbed, &truth, &tree))
    })
}

/// Puts the tree in order and waits until all of it has arrived. Returns the tree, and what had to be restarted for it.
async fn settle(testbed: &mut Testbed, shared: &Shared) -> Result<(Tree, OperationCounts)> {
    let (tree_admin, restarts) = testbed.tree_admin().await?;
    let closed = shared.closed();
    tree_admin.open(&closed).await?;
    for root in testbed.worked_roots() {
        tree_admin.mark(root, testbed.rounds).await?;
        tree_admin.delete_expiring(root).await?;
    }
    if !closed.is_empty() && testbed.options.capture == Capture::Watch {
        // There is no event for the changes of an unreadable znode, nor for its becoming readable.
        testbed.bridge.kill().await?;
        testbed.bridge.launch()?;
    }
    testbed.bridge.ready().await?;
    let deadline = Instant::now() + REST_BOUND;
    let mut seen = "nothing at rest".to_owned();
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK_PAUSE).await;
        let connections = testbed.proxy_check.look()?;
        if !testbed.bridge.is_at_rest().await? {
            continue;
        }
        if connections == 0 && testbed.options.capture != Capture::Txnlog {
            seen = "the bridge is at rest, and has no connection through a proxy".to_owned();
            continue;
        }
        block_in_place(|| testbed.topic.read_on());
        let tree = tree_admin.tree(&testbed.roots).await?;
        let records = folded(&each_once(&testbed.topic.deliveries));
        let differing = difference(&tree, &records);
        match differing {
            None => return Ok((tree, restarts)),
            Some(difference) => seen = difference,
        }
    }
    let status = testbed.bridge.status().await;
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
