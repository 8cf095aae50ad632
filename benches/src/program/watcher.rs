//! The bare watcher: it receives and counts events. The server's minimum cost for any subscriber.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use tokio::time::{MissedTickBehavior, interval};
use zookeeper_client::{AddWatchMode, EventType, WatchedEvent};

use super::{READY, connect, say};

/// How often the count is printed.
const TELL: Duration = Duration::from_millis(100);

/// Counts the events below the root until it is killed, and prints the count after changes.
///
/// # Errors
///
/// If the session ends.
pub async fn watcher(servers: &str, root: &str) -> Result<()> {
    let client = connect(servers).await?;
    let mut watcher = client.watch(root, AddWatchMode::PersistentRecursive).await?;
    say(READY);
    let (mut count, mut printed) = (0_u64, 0);
    let mut ticks = interval(TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                if count != printed {
                    say(&format!("events {count}"));
                    printed = count;
                }
            }
            event = watcher.changed() => {
                let mut next = Some(event);
                while let Some(event) = next {
                    count += u64::from(is_change(&event)?);
                    next = pin!(watcher.changed()).now_or_never();
                }
            }
        }
    }
}

fn is_change(event: &WatchedEvent) -> Result<bool> {
    if event.event_type != EventType::Session {
        return Ok(true);
    }
    ensure!(
        !event.session_state.is_terminated(),
        "the session ended: {}",
        event.session_state
    );
    Ok(false)
}
