//! The status of a source that reads transactions: how far it is, and what proves it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use metrics::{counter, gauge};

use crate::machine::{HistoryReport, ProofReport};
use crate::metrics as names;
use crate::number::Zxid;
use crate::source::{FeedView, SpoolUse, TreePhase};

/// Moments at which a newer transaction was known: one each second, so that a lag is known up to about an hour.
const MOMENTS_MAX: usize = 4_096;

/// The state of a source that reads transactions.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryStatus {
    /// The server or the folders that its transactions come from; `None` without a connection.
    pub follows: Option<Arc<str>>,
    /// The newest transaction that the ensemble is known to have.
    pub newest: Option<Zxid>,
    /// The lag of the journal, once both positions are known.
    pub lag: Option<HistoryLag>,
    /// How the history is proved.
    pub proof: ProofReport,
    /// The queue between the connection and the journal.
    pub spool: Option<SpoolUse>,
    /// The tree that is taken at present.
    pub tree: Option<TreeStatus>,
}

/// How far the journal is from the ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HistoryLag {
    /// Transactions of the leader that are not taken; those of earlier leaders are not counted.
    pub transactions: u64,
    /// For how long the oldest of them has been known, to a second.
    pub seconds: f64,
}

/// How far a tree is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeStatus {
    /// The present step.
    pub phase: TreePhase,
    /// Bytes that have arrived.
    pub bytes: u64,
    /// Znodes that are staged.
    pub znodes: u64,
    /// Captured znodes that were compared.
    pub compared: u64,
}

/// Measures the lag between the ensemble and the journal.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    /// Newest transactions that were not taken, each with the time at which it was first known.
    moments: VecDeque<(Zxid, Instant)>,
}

impl LagClock {
    /// The lag, where the ensemble has `newest` and the journal is at `position`.
    pub(super) fn lag(&mut self, position: Zxid, newest: Zxid, now: Instant) -> HistoryLag {
        let transactions = transactions_between(position, newest);
        while self
            .moments
            .front()
            .is_some_and(|(zxid, _)| transactions == 0 || *zxid <= position)
        {
            self.moments.pop_front();
        }
        let is_newer = self.moments.back().is_none_or(|(zxid, _)| *zxid < newest);
        if transactions > 0 && is_newer && self.moments.len() < MOMENTS_MAX {
            self.moments.push_back((newest, now));
        }
        let oldest = self.moments.front().map(|(_, since)| *since);
        let waited = oldest.map(|since| now.saturating_duration_since(since));
        HistoryLag {
            transactions,
            seconds: waited.unwrap_or_default().as_secs_f64(),
        }
    }
}

/// The transactions after a position, of the leader that has proposed the newest one. A leader that has none yet is at
/// the counter 0 of its epoch.
pub(super) fn transactions_between(position: Zxid, newest: Zxid) -> u64 {
    let (epoch, counter) = (newest.0 >> 32, newest.0 & 0xffff_ffff);
    match (position.0 >> 32).cmp(&epoch) {
        std::cmp::Ordering::Less => counter,
        std::cmp::Ordering::Equal => counter.saturating_sub(position.0 & 0xffff_ffff),
        std::cmp::Ordering::Greater => 0,
    }
}

impl HistoryStatus {
    /// Joins the report of the machine with the measures of its connection.
    pub(super) fn new(
        report: HistoryReport,
        feed: FeedView,
        known: Option<Zxid>,
        clock: &mut LagClock,
        now: Instant,
    ) -> HistoryStatus {
        let position = report.position.or(known);
        let lag = position
            .zip(feed.newest)
            .map(|(position, newest)| clock.lag(position, newest, now));
        HistoryStatus {
            follows: feed.follows,
            newest: feed.newest,
            lag,
            proof: report.proof,
            spool: feed.spool,
            tree: feed.tree.map(|tree| TreeStatus {
                phase: tree.phase,
                bytes: tree.bytes,
                znodes: tree.znodes,
                compared: report.compared.unwrap_or_default(),
            }),
        }
    }

    /// Shows it as metrics.
    pub(super) fn show(&self, source: &str) {
        let count = |name: &'static str, value| counter!(name, "source" => source.to_owned()).absolute(value);
        let level = |name: &'static str, value: f64| gauge!(name, "source" => source.to_owned()).set(value);
        count(names::PROOF_CHECKED, self.proof.checked);
        count(names::PROOF_UNPROVEN, self.proof.unproven);
        count(names::PROOF_MISMATCHES, self.proof.mismatched);
        let is_suspended = u8::from(self.proof.suspended.is_some());
        level(names::PROOF_SUSPENDED, f64::from(is_suspended));
        if let Some(lag) = self.lag {
            level(names::SOURCE_LAG_TRANSACTIONS, lag.transactions as f64);
            level(names::SOURCE_LAG_SECONDS, lag.seconds);
        }
        if let Some(spool) = self.spool {
            level(names::SPOOL_USED, spool.used_bytes as f64);
            level(names::SPOOL_LIMIT, spool.limit_bytes as f64);
        }
        let tree = self
            .tree
            .map_or((0, 0, 0), |tree| (tree.bytes, tree.znodes, tree.compared));
        level(names::TREE_BYTES, tree.0 as f64);
        level(names::TREE_ZNODES, tree.1 as f64);
        level(names::TREE_COMPARED, tree.2 as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn zxid(epoch: u64, counter: u64) -> Zxid {
        Zxid(epoch << 32 | counter)
    }

    #[test]
    fn the_lag_counts_the_transactions_of_the_newest_leader() {
        let check = |position: (u64, u64), newest: (u64, u64), expected| {
            let found = transactions_between(zxid(position.0, position.1), zxid(newest.0, newest.1));
            assert_eq!(found, expected, "{position:?} {newest:?}");
        };
        check((5, 7), (5, 7), 0);
        check((5, 7), (5, 9), 2);
        check((5, 9), (5, 7), 0);
        check((5, 7), (6, 0), 0);
        check((5, 7), (6, 3), 3);
        check((6, 1), (5, 9), 0);
    }

    #[test]
    fn the_lag_lasts_until_what_was_known_then_is_taken() {
        let mut clock = LagClock::default();
        let began = Instant::now();
        let mut at = |second: u64, position: u64, newest: u64| {
            let now = began + Duration::from_secs(second);
            clock.lag(zxid(1, position), zxid(1, newest), now).seconds
        };
        assert_eq!(at(0, 5, 5), 0.0);
        assert_eq!(at(1, 5, 9), 0.0);
        assert_eq!(at(2, 6, 20), 1.0);
        assert_eq!(at(3, 8, 30), 2.0);
        // The position of second 1 is applied, and that of second 2 is not.
        assert_eq!(at(4, 9, 30), 2.0);
        assert_eq!(at(5, 30, 30), 0.0);
        assert_eq!(at(6, 30, 31), 0.0);
    }

    #[test]
    fn the_moments_of_a_lag_have_a_limit_and_the_oldest_is_kept() {
        let mut clock = LagClock::default();
        let began = Instant::now();
        let seconds = MOMENTS_MAX as u64 + 100;
        let mut last = HistoryLag::default();
        for second in 0..seconds {
            let now = began + Duration::from_secs(second);
            last = clock.lag(zxid(1, 1), zxid(1, 2 + second), now);
        }
        assert_eq!(clock.moments.len(), MOMENTS_MAX);
        assert_eq!(last.seconds, (seconds - 1) as f64);
    }
}
