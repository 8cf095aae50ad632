//! Faults of servers and lies about the history, in random histories.

use rand::Rng;

use super::random::World;
use super::tree::*;
use crate::committed::*;
use crate::number::Zxid;

/// A way in which the servers, or the driver, lie. Each must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// A transaction is replaced by one that does nothing.
    LosesTransaction,
    /// A proposal that is never committed is sent as a transaction of the leader's own epoch.
    SendsProposals,
    /// A `multi` that failed is sent as one that succeeded.
    AppliesFailedMultis,
    /// A stage is of a later tree than it says.
    StagesLater,
    /// A value is another one.
    ChangesValue,
}

impl World {
    /// Now and then a transaction is missing, or the proposals of a dead leader are in a log, and after them a hole.
    pub(super) fn spoil(&mut self, txns: &mut Vec<CommittedTxn>) -> bool {
        let epoch = |zxid: Zxid| zxid.0 >> 32;
        if txns.len() > 2 && self.random.random_bool(0.05) {
            let at = self.random.random_range(0..txns.len() - 1);
            let is_last_of_epoch = epoch(txns[at].zxid) != epoch(txns[at + 1].zxid);
            // The last ones of an epoch are missed by their effect only.
            let is_proved =
                self.bench.options.proof == ProofMode::Tree && txns[at].content != TxnContent::Nothing;
            // Without the one at the position a history that is cut is another one.
            if txns[at].zxid != self.bench.stored_position().zxid && (!is_last_of_epoch || is_proved) {
                self.seen.tails += usize::from(is_last_of_epoch);
                txns.remove(at);
                return true;
            }
        }
        if let Some(first) = self.dead.first().map(|dead| dead.zxid)
            && let Some(at) = txns.iter().position(|txn| epoch(txn.zxid) > epoch(first))
            && at + 1 < txns.len()
            && txns[at].zxid != self.bench.stored_position().zxid
            && self.random.random_bool(0.5)
            && (at > 0
                || self
                    .bench
                    .resumed
                    .is_some_and(|after| after.zxid.0 + 1 == first.0))
            && txns[..at].last().is_none_or(|last| last.zxid.0 + 1 == first.0)
        {
            self.seen.cut += 1;
            txns.splice(at..=at, self.dead.iter().cloned());
            return true;
        }
        false
    }

    pub(super) fn lie_about(&mut self, txns: &mut [CommittedTxn]) {
        let Some(txn) = txns.last_mut() else { return };
        match self.lie {
            Some(Lie::LosesTransaction) if txn.content != TxnContent::Nothing => {
                txn.content = TxnContent::Nothing;
                self.lied = true;
            }
            Some(Lie::ChangesValue) => {
                if let TxnContent::Single(NodeOperation::SetData { data, .. }) = &mut txn.content {
                    *data = b"another".as_slice().into();
                    self.lied = true;
                }
            }
            Some(Lie::SendsProposals | Lie::AppliesFailedMultis) if txn.content == TxnContent::Nothing => {
                let tree = self.bench.server.tree_at(Zxid(txn.zxid.0 - 1));
                let set = |at: &str| {
                    let at = path(at);
                    let version = tree.nodes.get(&at)?.raw.version + 1;
                    let data = b"never".as_slice().into();
                    Some(NodeOperation::SetData {
                        path: at,
                        data,
                        version,
                    })
                };
                if let Some(operation) = set("/a").or_else(|| set("/b")) {
                    txn.content = match self.lie {
                        Some(Lie::AppliesFailedMultis) => TxnContent::Multi(vec![operation]),
                        _ => TxnContent::Single(operation),
                    };
                    self.lied = true;
                }
            }
            _ => {}
        }
    }
}
