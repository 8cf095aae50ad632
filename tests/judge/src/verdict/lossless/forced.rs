//! Which gaps the servers forced, from their own logs: a leader says whom it sends its whole tree instead of the history.

use std::collections::BTreeMap;

/// Ids of the members of an ensemble are below; those of bridges above.
const MEMBER_ID_MAX: i64 = 1 << 32;

/// A server sent its whole tree to an observer that is no member of the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The id of the observer.
    pub observer: i64,
    /// The position after which the observer wanted the history.
    pub after: u64,
}

/// The snapshots that the log of a server names.
pub fn snapshots_sent(log: &str) -> Vec<Snapshot> {
    let mut learners: BTreeMap<&str, i64> = BTreeMap::new();
    let mut snapshots = Vec::new();
    for line in log.lines() {
        let thread = between(line, "[", "]").unwrap_or_default();
        if let Some(id) = between(line, "Synchronizing with Learner sid: ", " ") {
            learners.insert(thread, id.parse().unwrap_or_default());
        }
        let after = between(line, "Sending snapshot last zxid of peer is 0x", ",");
        let after = after.and_then(|after| u64::from_str_radix(after, 16).ok());
        if let (Some(after), Some(observer)) = (after, learners.get(thread).copied())
            && observer > MEMBER_ID_MAX
        {
            snapshots.push(Snapshot { observer, after });
        }
    }
    snapshots
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(after).map(|(between, _)| between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trees_that_were_sent_to_strangers_count() {
        let log = "\
2026-11-30T01:00:00.000Z [LearnerHandler-/127.0.0.1:40001] INFO org.apache.zookeeper.server.quorum.LearnerHandler - \
Synchronizing with Learner sid: 8589934593 maxCommittedLog=0x100000fff minCommittedLog=0x100000e00 lastProcessedZxid=0x100000fff peerLastZxid=0x10000002a
2026-11-30T01:00:00.001Z [LearnerHandler-/127.0.0.1:40002] INFO org.apache.zookeeper.server.quorum.LearnerHandler - \
Synchronizing with Learner sid: 2 maxCommittedLog=0x100000fff minCommittedLog=0x100000e00 lastProcessedZxid=0x100000fff peerLastZxid=0x10000002b
2026-11-30T01:00:00.002Z [LearnerHandler-/127.0.0.1:40002] INFO org.apache.zookeeper.server.quorum.LearnerHandler - \
Sending snapshot last zxid of peer is 0x10000002b, zxid of leader is 0x100000fff, send zxid of db as 0x100000fff, 1 concurrent snapshot sync, snapshot sync was not from throttle
2026-11-30T01:00:00.003Z [LearnerHandler-/127.0.0.1:40001] INFO org.apache.zookeeper.server.quorum.LearnerHandler - \
Sending snapshot last zxid of peer is 0x10000002a, zxid of leader is 0x100000fff, send zxid of db as 0x100000fff, 1 concurrent snapshot sync, snapshot sync was not from throttle
";
        let expected = [Snapshot {
            observer: 8_589_934_593,
            after: 0x1_0000_002a,
        }];
        assert_eq!(snapshots_sent(log), expected);
    }
}
