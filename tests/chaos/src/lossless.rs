//! What only sources that read transactions promise: every version, exactly, no gap that no server forced, and a leader
//! that is not harmed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_judge::truth::Truth;
use bridge_judge::verdict::{Account, Lossless, each_once, snapshots_sent};
use bridge_servers::ZooKeeper;
use tokio::time::{Instant, sleep};

use crate::act::Act;

/// Packets that a leader may have waiting for the bridge: an absence of the bridge's process or network of the leader's
/// `syncLimit`, 4 s here, at the highest rate of the work; 10,720 were met on a fast machine. A bridge that answers pings
/// and does not read has those of a whole round of 20 s.
const QUEUED_MAX: u64 = 25_000;

/// Between two questions to the servers.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// Ids of members of an ensemble are below; that of the bridge is above.
const MEMBER_ID_MAX: u64 = 1 << 32;

/// The account of the judge of transactions, and its complaints. `None` in watch mode.
pub fn judge(act: &Act, truth: &Truth) -> Result<Option<(Account, Vec<String>)>> {
    if !act.cast.capture.is_lossless() {
        return Ok(None);
    }
    let records = each_once(&act.topic.deliveries);
    let forced = forced(&act.zookeeper)?;
    let lossless = Lossless {
        records: &records,
        truth,
        roots: &act.roots,
        modes: &[act.cast.capture.name()],
        has_lists: true,
        forced: &forced,
    };
    Ok(Some(lossless.judge()))
}

/// The positions after which some server sent its whole tree instead of the history.
fn forced(zookeeper: &ZooKeeper) -> Result<Vec<u64>> {
    let mut forced = Vec::new();
    for server in 0..zookeeper.count() {
        let log = zookeeper.log(server);
        let bytes = std::fs::read(&log).with_context(|| format!("read {}", log.display()))?;
        let snapshots = snapshots_sent(&String::from_utf8_lossy(&bytes));
        forced.extend(snapshots.iter().map(|snapshot| snapshot.after));
    }
    Ok(forced)
}

/// Asks the servers until the deadline how many packets they had waiting for the bridge. Returns the most.
///
/// # Errors
///
/// If it is too many.
pub async fn watch_queues(zookeeper: &ZooKeeper, deadline: Instant) -> Result<u64> {
    let mut most = 0;
    while Instant::now() < deadline {
        for server in 0..zookeeper.count() {
            // Killed and frozen servers do not answer.
            let answer = zookeeper.four_letter(server, "mntr").await.unwrap_or_default();
            most = queued(&answer).max(most);
        }
        ensure!(
            most <= QUEUED_MAX,
            "a leader had {most} packets waiting for the bridge, more than {QUEUED_MAX}"
        );
        sleep(ASK_PAUSE).await;
    }
    Ok(most)
}

/// The most packets that a server had waiting for a learner that is no member of the ensemble.
fn queued(answer: &str) -> u64 {
    let sizes = answer.lines().filter_map(|line| {
        let (name, value) = line.split_once('\t')?;
        let learner = name
            .strip_prefix("zk_max_")?
            .strip_suffix("_learner_handler_qp_size")?;
        let is_bridge = learner.parse::<u64>().ok()? > MEMBER_ID_MAX;
        is_bridge.then(|| value.trim().parse::<u64>().ok())?
    });
    sizes.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_for_the_bridge_count() {
        let answer = "zk_max_2_learner_handler_qp_size\t900\nzk_avg_8589934593_learner_handler_qp_size\t0.5\n\
                      zk_max_8589934593_learner_handler_qp_size\t17\nzk_max_8589934593_other\t99\n";
        assert_eq!((queued(answer), queued("This ZooKeeper instance")), (17, 0));
    }
}
