//! Absences of the bridge during which a given number of transactions is committed.

use std::time::Duration;

use anyhow::Result;
use bridge_servers::ZooKeeper;
use futures::future::join_all;
use tokio::time::{Instant, timeout};
use zookeeper_client::Error;

use crate::bridge::Bridge;
use crate::work;

/// As many as a leader still has in memory.
pub const SHORT: usize = 400;
/// More than a leader keeps in memory.
pub const LONG: usize = 5_000;

/// Writes under way at once.
const WINDOW: usize = 100;
/// How long the writes may take: other faults may take the servers away meanwhile.
const BOUND: Duration = Duration::from_secs(20);
/// How long one window of writes may take.
const WINDOW_BOUND: Duration = Duration::from_secs(5);

/// Kills the bridge, writes a znode so many times as far as the servers take it, and starts the bridge again. Returns the
/// number of writes that were acknowledged.
pub async fn during_writes(
    bridge: &mut Bridge,
    zookeeper: &ZooKeeper,
    path: &str,
    writes: usize,
) -> Result<usize> {
    bridge.kill().await?;
    let written = write(&zookeeper.connect_string(), path, writes).await;
    bridge.launch()?;
    Ok(written)
}

/// Writes a znode so many times, as far as the servers take it within a bound.
pub async fn write(connect: &str, path: &str, writes: usize) -> usize {
    let deadline = Instant::now() + BOUND;
    let mut written = 0;
    while written < writes && Instant::now() < deadline {
        let Ok(Ok(client)) = timeout(WINDOW_BOUND, work::connect(connect)).await else {
            tokio::task::yield_now().await;
            continue;
        };
        while written < writes && Instant::now() < deadline {
            let window = (written..writes.min(written + WINDOW)).map(|number| {
                let client = &client;
                async move { client.set_data(path, number.to_string().as_bytes(), None).await }
            });
            let Ok(outcomes) = timeout(WINDOW_BOUND, join_all(window)).await else {
                break;
            };
            written += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            // The session is lost, or there is no majority: another session tries again.
            if outcomes
                .iter()
                .any(|outcome| matches!(outcome, Err(error) if *error != Error::NoNode))
            {
                break;
            }
        }
    }
    written
}
