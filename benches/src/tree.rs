//! Creates and reads the watched trees.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bridge_servers::eventually;
use futures::{StreamExt, stream};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

/// The root that all subjects watch.
pub const ROOT: &str = "/bench";

/// Children of each parent of a large tree.
const SIBLINGS: usize = 1_000;
/// Instances of each service of a registry.
const INSTANCES: usize = 100;
/// A session timeout that outlasts the delays of a server at full load.
const SESSION: Duration = Duration::from_secs(60);
/// How long a first session may take.
const CONNECT_BOUND: Duration = Duration::from_secs(60);
/// Transactions in flight: enough that the server never waits.
const UNDER_WAY: usize = 8;
/// Operations of one transaction: with 100 bytes each, far below the limit of 1 MiB for a request.
const OPERATIONS: usize = 1_000;

/// The options of persistent znodes.
pub const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

/// Identifies the state of a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The zxid that created it.
    pub czxid: i64,
    /// The zxid that wrote it last.
    pub mzxid: i64,
}

/// Connects, and retries within a bound.
///
/// # Errors
///
/// If there is no session in time.
pub async fn connect(servers: &str) -> Result<Client> {
    let connecting = eventually("a session", CONNECT_BOUND, || async {
        let connector = Client::connector().with_session_timeout(SESSION);
        connector.connect(servers).await.ok()
    });
    Ok(connecting.await?)
}

/// The paths of a flat tree below the root, for the writers.
pub fn flat(leaves: usize) -> Vec<String> {
    (0..leaves).map(|leaf| format!("{ROOT}/n{leaf:05}")).collect()
}

/// The paths of a large tree below the root, parents first.
pub fn large(leaves: usize) -> impl Iterator<Item = String> {
    (0..leaves).flat_map(|leaf| {
        let parent = format!("{ROOT}/group-{:05}", leaf / SIBLINGS);
        let path = format!("{parent}/znode-{:03}", leaf % SIBLINGS);
        let begins = leaf.is_multiple_of(SIBLINGS);
        begins.then_some(parent).into_iter().chain([path])
    })
}

/// Leaves of a large tree for a writer, all over it: each is used once before one is used again.
pub fn scattered(leaves: usize, count: usize) -> Vec<String> {
    // A prime that divides no tree of a benchmark.
    const STEP: usize = 7_919;
    let leaf = |at: usize| (at * STEP) % leaves;
    let path = |leaf| format!("{ROOT}/group-{:05}/znode-{:03}", leaf / SIBLINGS, leaf % SIBLINGS);
    (0..count.min(leaves)).map(|at| path(leaf(at))).collect()
}

/// Instances below services below the root, parents first.
pub fn registry(instances: usize) -> impl Iterator<Item = String> {
    (0..instances).flat_map(|instance| {
        let parent = format!("{ROOT}/service-{:05}", instance / INSTANCES);
        let path = format!("{parent}/instance-{:03}", instance % INSTANCES);
        let begins = instance.is_multiple_of(INSTANCES);
        begins.then_some(parent).into_iter().chain([path])
    })
}

/// Creates the root and these paths in order, with `bytes` bytes each. Returns the number of znodes.
///
/// # Errors
///
/// If the server refuses it.
pub async fn plant(
    client: &Client,
    paths: impl Iterator<Item = String> + Send,
    bytes: usize,
) -> Result<usize> {
    let data = vec![b'0'; bytes];
    client.create(ROOT, &data, &PERSISTENT).await?;
    let mut count = 1;
    let mut sent = stream::iter(Chunks { paths })
        .map(|chunk| {
            count += chunk.len();
            let mut multi = client.new_multi_writer();
            for path in &chunk {
                multi
                    .add_create(path, &data, &PERSISTENT)
                    .expect("the paths are sound");
            }
            multi.commit()
        })
        .buffered(UNDER_WAY);
    while let Some(outcome) = sent.next().await {
        outcome.context("plant a tree")?;
    }
    drop(sent);
    Ok(count)
}

/// Reads the root and every znode below it.
///
/// # Errors
///
/// If it cannot be read.
pub async fn read(client: &Client) -> Result<BTreeMap<String, State>> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![ROOT.to_owned()];
    while let Some(path) = waiting.pop() {
        let (children, stat) = match client.get_children(&path).await {
            Ok(answer) => answer,
            Err(zookeeper_client::Error::NoNode) => continue,
            Err(error) => bail!("read {path}: {error}"),
        };
        waiting.extend(children.into_iter().map(|name| format!("{path}/{name}")));
        let state = State {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
        };
        tree.insert(path, state);
    }
    Ok(tree)
}

/// Removes the root and all below it.
///
/// # Errors
///
/// If the server refuses it.
pub async fn clear(client: &Client) -> Result<()> {
    // A child's path sorts after its parent's.
    let mut paths = read(client).await?.into_keys().rev().peekable();
    while paths.peek().is_some() {
        let mut multi = client.new_multi_writer();
        for path in paths.by_ref().take(OPERATIONS) {
            multi.add_delete(&path, None)?;
        }
        multi.commit().await.context("clear a tree")?;
    }
    Ok(())
}

/// Splits paths into transactions.
struct Chunks<I> {
    paths: I,
}

impl<I: Iterator<Item = String>> Iterator for Chunks<I> {
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        let chunk: Vec<String> = self.paths.by_ref().take(OPERATIONS).collect();
        (!chunk.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn scattered_leaves_are_different_ones_of_the_tree() {
        for leaves in [1_500, 100_000] {
            let tree: HashSet<String> = large(leaves).collect();
            let scattered = scattered(leaves, 1_200);
            let different: HashSet<&String> = scattered.iter().collect();
            assert_eq!(different.len(), 1_200);
            assert!(scattered.iter().all(|path| tree.contains(path)));
        }
        assert_eq!(scattered(10, 100).len(), 10);
    }
}
