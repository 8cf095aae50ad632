//! Which transactions were committed, from the logs of all servers of an ensemble.
//!
//! One log is not enough: the log of a server that was synced by a snapshot has a hole, and a disconnected leader keeps
//! transactions that were never committed. All logs together have every committed transaction, because a majority wrote
//! it. Uncommitted transactions are at the end of an epoch. The last committed one is found by the predecessors of the
//! next epoch's first transactions in the servers' logs, and by the digest of the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::log::Transaction;
use super::shadow::Shadow;

/// The committed transactions, and the faults of the logs.
#[derive(Debug, Default)]
pub struct Committed {
    pub transactions: Vec<Transaction>,
    pub faults: Vec<String>,
    /// Digests that agreed.
    pub digests: u64,
    /// Transactions that were logged and never committed.
    pub dropped: usize,
}

/// Number of kept ends of epochs: the last few elections, each with as many candidates as servers.
const KEPT_MAX: usize = 9;

/// The upper half of a zxid.
pub fn epoch(zxid: u64) -> u64 {
    zxid >> 32
}

/// Whether one zxid can directly follow the other.
fn follows(next: u64, last: u64) -> bool {
    let is_first = next & 0xffff_ffff == 1;
    next == last + 1 || (epoch(next) > epoch(last) && is_first)
}

/// Merges the logs of all servers.
pub fn of_logs(logs: Vec<Vec<Transaction>>) -> Committed {
    let mut sorting = Sorting::default();
    for log in logs {
        sorting.take(log);
    }
    sorting.sort()
}

#[derive(Default)]
struct Sorting {
    all: BTreeMap<u64, Transaction>,
    /// The predecessors of the first transaction of an epoch, in the servers' logs.
    before: BTreeMap<u64, BTreeSet<u64>>,
    committed: Committed,
    shadow: Shadow,
    /// The tree after those that may be the last of their epoch.
    kept: BTreeMap<u64, Shadow>,
}

impl Sorting {
    fn take(&mut self, log: Vec<Transaction>) {
        let mut last = 0;
        for transaction in log {
            let zxid = transaction.zxid;
            if last != 0 && epoch(last) < epoch(zxid) {
                self.before.entry(zxid).or_default().insert(last);
            }
            last = zxid;
            let other = self.all.entry(zxid).or_insert_with(|| transaction.clone());
            if *other != transaction {
                let fault = format!("two servers logged different transactions as {zxid:#x}");
                self.committed.faults.push(fault);
            }
        }
    }

    fn sort(mut self) -> Committed {
        let keep: BTreeSet<u64> = self.before.values().flatten().copied().collect();
        let all: Vec<Transaction> = std::mem::take(&mut self.all).into_values().collect();
        for (at, transaction) in all.iter().enumerate() {
            let last = self.committed.transactions.last().map(|last| last.zxid);
            if last.is_some_and(|last| epoch(last) < epoch(transaction.zxid)) {
                self.end_epoch(&all[at..]);
            }
            self.commit(transaction);
            if keep.contains(&transaction.zxid) {
                self.kept.insert(transaction.zxid, self.shadow.clone());
            }
        }
        self.committed
    }

    /// Drops the uncommitted transactions at the end of an epoch, if the next epoch does not build on them.
    fn end_epoch(&mut self, next: &[Transaction]) {
        let last = self.committed.transactions.last().map_or(0, |last| last.zxid);
        let candidates: Vec<u64> = self.kept.keys().copied().filter(|kept| *kept < last).collect();
        let is_right = |shadow: &Shadow| {
            let mut shadow = shadow.clone();
            for transaction in next {
                shadow.apply(transaction);
                if let Some(digest) = transaction.digest {
                    return digest == shadow.digest();
                }
            }
            true
        };
        while self.kept.len() > KEPT_MAX {
            self.kept.pop_first();
        }
        if is_right(&self.shadow) {
            return;
        }
        let found = candidates
            .into_iter()
            .rev()
            .find(|zxid| self.kept.get(zxid).is_some_and(&is_right));
        if let Some(zxid) = found {
            let before = self.committed.transactions.len();
            self.committed
                .transactions
                .retain(|transaction| transaction.zxid <= zxid);
            self.committed.dropped += before - self.committed.transactions.len();
            self.shadow = self.kept[&zxid].clone();
            self.kept.retain(|kept, _| *kept <= zxid);
        }
    }

    fn commit(&mut self, transaction: &Transaction) {
        let zxid = transaction.zxid;
        let last = self.committed.transactions.last().map_or(0, |last| last.zxid);
        if !follows(zxid, last) {
            let fault = format!("no log has the transactions between {last:#x} and {zxid:#x}");
            self.committed.faults.push(fault);
        }
        self.shadow.apply(transaction);
        match transaction.digest {
            Some(digest) if digest == self.shadow.digest() => self.committed.digests += 1,
            Some(digest) => {
                let found = self.shadow.digest();
                let fault = format!(
                    "the tree after {zxid:#x} has the digest {found:#x}, the server says {digest:#x}"
                );
                self.committed.faults.push(fault);
            }
            None => {}
        }
        self.committed.transactions.push(transaction.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::{Change, Kind, Readable};
    use super::*;

    /// A create of a path named by its zxid, with the digest that a server would write after the others.
    fn written(before: &[Transaction], zxid: u64) -> Transaction {
        let change = Change::Create {
            path: format!("/{zxid:x}"),
            data: b"data".to_vec(),
            readable: Readable(true),
            acl: Vec::new(),
            owner: 0,
            parent_cversion: -1,
        };
        let mut transaction = Transaction {
            session: 1,
            cxid: 1,
            zxid,
            time_ms: 7,
            kind: Kind::Create,
            changes: vec![change],
            digest: None,
        };
        let mut shadow = Shadow::default();
        for other in before.iter().chain([&transaction]) {
            shadow.apply(other);
        }
        transaction.digest = Some(shadow.digest());
        transaction
    }

    fn history(zxids: &[u64]) -> Vec<Transaction> {
        let mut history = Vec::new();
        for zxid in zxids {
            let next = written(&history, *zxid);
            history.push(next);
        }
        history
    }

    fn zxids(committed: &Committed) -> Vec<u64> {
        let zxids = committed.transactions.iter().map(|transaction| transaction.zxid);
        zxids.collect()
    }

    const NEXT: u64 = 1 << 32;

    #[test]
    fn holes_of_one_server_are_filled_from_the_others() {
        let whole = history(&[1, 2, 3, NEXT + 1, NEXT + 2]);
        let holed = vec![whole[0].clone(), whole[4].clone()];
        let committed = of_logs(vec![holed.clone(), whole.clone()]);
        assert_eq!(committed.transactions, whole);
        assert_eq!((committed.faults.len(), committed.digests), (0, 5));
        // A transaction that no log has is named.
        let committed = of_logs(vec![holed]);
        assert!(
            committed.faults[0].contains("between 0x1 and 0x100000002"),
            "{committed:?}"
        );
    }

    #[test]
    fn what_a_leader_wrote_that_was_cut_off_is_dropped() {
        let right = history(&[1, 2, 3, NEXT + 1, NEXT + 2]);
        let mut cut_off = history(&[1, 2, 3, 4, 5]);
        cut_off.push(right[4].clone());
        let committed = of_logs(vec![cut_off, right.clone()]);
        assert_eq!(zxids(&committed), [1, 2, 3, NEXT + 1, NEXT + 2]);
        assert_eq!(
            (committed.faults.as_slice(), committed.dropped),
            ([].as_slice(), 2)
        );
        // The disconnected server may have been synced by a snapshot and continued its log at once.
        let mut back = history(&[1, 2, 3, 4]);
        back.extend(right[3..].iter().cloned());
        let committed = of_logs(vec![back, right.clone()]);
        assert_eq!(committed.transactions, right);
    }

    #[test]
    fn a_transaction_that_was_read_wrongly_does_not_fit_the_digest() {
        let mut spoiled = history(&[1, 2, 3]);
        let Change::Create { data, .. } = &mut spoiled[1].changes[0] else {
            panic!("{spoiled:?}")
        };
        data.push(b'!');
        let committed = of_logs(vec![spoiled.clone()]);
        assert!(
            committed.faults[0].contains("the tree after 0x2 has the digest"),
            "{committed:?}"
        );
        let differing = of_logs(vec![history(&[1, 2, 3]), spoiled]);
        assert!(
            differing.faults[0].contains("different transactions as 0x2"),
            "{differing:?}"
        );
    }
}
