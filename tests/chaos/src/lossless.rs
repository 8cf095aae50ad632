//! Judges the promises that only sources that read transactions make: every version, exactly, no gap that no server
//! forced, and a leader that is not harmed.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bridge_judge::truth::Truth;
use bridge_judge::verdict::{Account, Lossless, each_once, snapshots_sent};
use bridge_servers::ZooKeeper;
use tokio::time::{Instant, sleep};

use crate::bridge_absence;
use crate::testbed::Testbed;

/// Transactions of the workers during the longest absence of the bridge.
const WORKED_MEANWHILE: u64 = 7_500;

/// Packets that a leader may have waiting for the bridge: after an absence it queues all missed transactions at once,
/// each as a proposal and a commit. 19,002 were met.
///
/// A leader measures the queue as it takes a packet from it: of a learner that answered pings and read nothing for 80
/// s, while 3,000 transactions of 8 KB were committed, 3.9.5 said 98, and 2,972 once it read again. [`SilenceWatch`]
/// notices such a bridge.
const QUEUED_MAX: u64 = 2 * (bridge_absence::LONG as u64 + WORKED_MEANWHILE);

/// The `syncLimit` of the servers: after it, a leader gives up a learner that answers nothing.
const SYNC_LIMIT: Duration = Duration::from_secs(4);

/// How long a leader may send nothing to a bridge that it keeps, while transactions are committed. A bridge whose
/// process or network is frozen answers no pings either, so that the leader gives it up after half of this.
const SILENCE_MAX: Duration = Duration::from_secs(2 * SYNC_LIMIT.as_secs());

/// Transactions that may be committed meanwhile: those of some moments at the lowest rate of the work.
const UNSENT_MAX: u64 = 100;

/// Between two questions to the servers.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// Ids of members of an ensemble are below; that of the bridge is above.
const MEMBER_ID_MAX: u64 = 1 << 32;

/// The account of the judge of transactions, and its complaints. `None` in watch mode.
pub fn judge(testbed: &Testbed, truth: &Truth) -> Result<Option<(Account, Vec<String>)>> {
    if !testbed.options.capture.is_lossless() {
        return Ok(None);
    }
    let records = each_once(&testbed.topic.deliveries);
    let forced = forced(&testbed.zookeeper)?;
    let lossless = Lossless {
        records: &records,
        truth,
        roots: &testbed.roots,
        modes: &[testbed.options.capture.name()],
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
/// If it is too many, or a leader sends nothing to a bridge that it keeps.
pub async fn watch_queues(zookeeper: &ZooKeeper, deadline: Instant) -> Result<u64> {
    let mut most = 0;
    let mut silences: Vec<SilenceWatch> = Vec::new();
    silences.resize_with(zookeeper.count(), SilenceWatch::default);
    while Instant::now() < deadline {
        for (server, silence) in silences.iter_mut().enumerate() {
            // Killed and frozen servers do not answer.
            let answer = zookeeper.four_letter(server, "mntr").await.unwrap_or_default();
            most = queued(&answer).max(most);
            let served = zookeeper.four_letter(server, "srvr").await.unwrap_or_default();
            if let Some(unsent) = silence.look(Instant::now(), Sending::of(&answer, &served)) {
                bail!(
                    "a leader has sent nothing to the bridge for {SILENCE_MAX:?}, keeps it as an observer, and has \
                     committed {unsent} transactions meanwhile: the bridge answers pings and does not read"
                );
            }
        }
        ensure!(
            most <= QUEUED_MAX,
            "a leader had {most} packets waiting for the bridge, more than {QUEUED_MAX}"
        );
        sleep(ASK_PAUSE).await;
    }
    Ok(most)
}

/// The answers of a leader about its packets to the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sending {
    /// Packets that it took from the queue.
    sent: u64,
    /// The last transaction that it has applied.
    zxid: u64,
}

impl Sending {
    /// From the answers to `mntr` and `srvr`; `None` of a server without the bridge.
    fn of(mntr: &str, srvr: &str) -> Option<Sending> {
        let observers = value(mntr, |name| name == "zk_synced_observers")?;
        let sent = value(mntr, |name| is_of_bridge(name, "zk_cnt_"))?;
        let zxid = srvr.lines().find_map(|line| line.strip_prefix("Zxid: 0x"))?;
        let zxid = u64::from_str_radix(zxid.trim(), 16).ok()?;
        (observers > 0).then_some(Sending { sent, zxid })
    }
}

/// Notices a leader that sends nothing to a bridge that it keeps: its queue grows without a limit.
#[derive(Debug, Default)]
struct SilenceWatch {
    /// The last packet, and when it was seen.
    since: Option<(Instant, Sending)>,
}

impl SilenceWatch {
    /// Takes what the server says now. Returns the transactions that wait, if that is so for too long.
    fn look(&mut self, now: Instant, sending: Option<Sending>) -> Option<u64> {
        let Some(sending) = sending else {
            self.since = None;
            return None;
        };
        let epoch = |zxid: u64| zxid >> 32;
        let (at, last) = *self.since.get_or_insert((now, sending));
        if last.sent != sending.sent || epoch(last.zxid) != epoch(sending.zxid) {
            self.since = Some((now, sending));
            return None;
        }
        let unsent = sending.zxid.saturating_sub(last.zxid);
        (now - at >= SILENCE_MAX && unsent > UNSENT_MAX).then_some(unsent)
    }
}

/// Whether a line of `mntr` is about the queue of a learner that is no member of the ensemble.
fn is_of_bridge(name: &str, begin: &str) -> bool {
    let learner = name
        .strip_prefix(begin)
        .and_then(|name| name.strip_suffix("_learner_handler_qp_size"));
    learner
        .and_then(|learner| learner.parse::<u64>().ok())
        .is_some_and(|learner| learner > MEMBER_ID_MAX)
}

/// The greatest value of the lines with such names.
fn value(mntr: &str, is_wanted: impl Fn(&str) -> bool) -> Option<u64> {
    let values = mntr.lines().filter_map(|line| {
        let (name, value) = line.split_once('\t')?;
        is_wanted(name).then(|| value.trim().parse::<u64>().ok())?
    });
    values.max()
}

/// The most packets that a server had waiting for a learner that is no member of the ensemble.
fn queued(answer: &str) -> u64 {
    value(answer, |name| is_of_bridge(name, "zk_max_")).unwrap_or_default()
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

    /// A leader that is asked for half a minute, and when the watch complains. `sent`: of so many transactions until a
    /// second, none after it; `kept`: until which second the leader keeps the bridge.
    fn complaint(rate: u64, reads_until: u64, kept: u64) -> Option<(u64, u64)> {
        let began = Instant::now();
        let mut watch = SilenceWatch::default();
        (0..60).find_map(|half| {
            let (second, zxid) = (half / 2, 5 << 32 | (half * rate / 2));
            // A ping each second, besides.
            let sent = (half * rate / 2).min(reads_until * rate) + second.min(reads_until);
            let sending = (second < kept).then_some(Sending { sent, zxid });
            let unsent = watch.look(began + ASK_PAUSE * u32::try_from(half).unwrap(), sending);
            unsent.map(|unsent| (second, unsent))
        })
    }

    #[test]
    fn a_bridge_that_answers_pings_and_does_not_read_is_noticed_at_any_rate_and_no_other_is() {
        for rate in [20, 500, 5_000] {
            // It never stops.
            assert_eq!(complaint(rate, 99, 99), None, "{rate}");
            // It is frozen, and the leader gives it up after the syncLimit.
            assert_eq!(complaint(rate, 5, 5 + SYNC_LIMIT.as_secs()), None, "{rate}");
            // The negative control: the leader keeps it.
            let (second, unsent) = complaint(rate, 5, 99).expect("it is noticed");
            assert!(second <= 5 + SILENCE_MAX.as_secs() + 1, "{rate}: {second} s");
            assert!(unsent > UNSENT_MAX, "{rate}: {unsent}");
        }
        // Nothing is committed, so nothing waits.
        assert_eq!(complaint(0, 5, 99), None);
    }

    #[test]
    fn the_packets_that_a_leader_has_sent_are_read_from_its_answers_and_other_servers_say_nothing() {
        let mntr = "zk_synced_observers\t1\nzk_cnt_2_learner_handler_qp_size\t9\n\
                    zk_cnt_8589934593_learner_handler_qp_size\t5728\n";
        let srvr = "Zookeeper version: 3.9.5-x\nZxid: 0x500000007\nMode: leader\n";
        let sending = Sending {
            sent: 5_728,
            zxid: 5 << 32 | 7,
        };
        assert_eq!(Sending::of(mntr, srvr), Some(sending));
        let gone = mntr.replace("observers\t1", "observers\t0");
        for (mntr, srvr) in [(gone.as_str(), srvr), ("", srvr), (mntr, "")] {
            assert_eq!(Sending::of(mntr, srvr), None);
        }
    }
}
