//! Compares every durable record with the committed history.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bridge_core::committed::{CommittedTxn, TxnContent};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, Op, Record, State, ZxidKind};
use bridge_core::scope::Scope;
use bridge_core::testing::transactions::{ExpectedRecord, ServerTree, expected, found};
use uuid::Uuid;

use super::plan::{TransactionPlan, is_captured};
use super::reached::{Encountered, Encounters};

/// The knowledge of the judge.
pub(super) struct Bench<'a> {
    pub(super) history: &'a [CommittedTxn],
    /// Positions from which a gap may be.
    pub(super) excused: &'a BTreeSet<Zxid>,
    pub(super) seen: &'a mut Encounters,
}

/// The judge of one journal.
pub(super) struct TransactionJudge {
    scope: Scope,
    /// Whether the source is not sent the lists of sessions that end.
    unlisted_ends: bool,
    /// The last record that was judged.
    pub(super) judged: Seq,
    tree: ServerTree,
    /// Transactions that the tree has applied.
    applied: usize,
    /// Records of the present transaction that have to follow.
    due: Vec<ExpectedRecord>,
    is_listed: bool,
    open: BTreeSet<ZnodePath>,
    /// Roots whose gap or listing has not ended, once the first has begun: they have the same bounds, and no exact record
    /// is between them.
    pending: BTreeSet<ZnodePath>,
    ends_at: Option<Zxid>,
    gap_from: Option<Zxid>,
    fold: BTreeMap<ZnodePath, State>,
    ids: HashSet<Uuid>,
}

impl TransactionJudge {
    pub(super) fn new(plan: &TransactionPlan) -> TransactionJudge {
        TransactionJudge {
            scope: plan.scope(),
            unlisted_ends: plan.unlisted_ends,
            judged: Seq::ZERO,
            tree: ServerTree::default(),
            applied: 0,
            due: Vec::new(),
            is_listed: false,
            open: BTreeSet::new(),
            pending: BTreeSet::new(),
            ends_at: None,
            gap_from: None,
            fold: BTreeMap::new(),
            ids: HashSet::new(),
        }
    }

    /// The last transaction that the tree has applied.
    pub(super) fn passed(&self, history: &[CommittedTxn]) -> Zxid {
        self.applied
            .checked_sub(1)
            .map_or(Zxid::ZERO, |last| history[last].zxid)
    }

    /// The tree after the transactions that were passed.
    pub(super) fn tree(&self) -> &ServerTree {
        &self.tree
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.is_listed && self.pending.is_empty()
    }

    /// Judges one committed batch.
    pub(super) fn judge(&mut self, records: &[Arc<Record>], bench: &mut Bench<'_>) {
        for record in records {
            self.judged = record.seq;
            self.record(record, bench);
        }
        assert!(
            self.due.is_empty(),
            "a commit tears a transaction apart: {:?} is due",
            self.due
        );
    }

    fn record(&mut self, record: &Record, bench: &mut Bench<'_>) {
        assert!(
            record.op == Op::Snapshot || self.ids.insert(record.id),
            "{record:?} has the id of another record"
        );
        match record.op {
            Op::SnapshotBegin | Op::GapBegin => self.begin(record, bench),
            Op::SnapshotEnd | Op::GapEnd => self.end(record, bench),
            Op::Heartbeat => {}
            _ if record.txn.is_some() => self.exact(record, bench),
            _ => self.compared(record, bench.seen),
        }
    }

    /// Applies the next transaction, and gives the records that it must have.
    fn advance(&mut self, history: &[CommittedTxn]) -> Vec<ExpectedRecord> {
        let txn = &history[self.applied];
        self.applied += 1;
        let before = self.tree.clone();
        self.tree.apply(txn);
        let counted = self.counted(txn);
        expected(&counted, &before, &self.tree, |path| {
            is_captured(&self.scope, path)
        })
    }

    /// The transaction with the operations that its records count: without a list, only captured znodes.
    fn counted(&self, txn: &CommittedTxn) -> CommittedTxn {
        let mut txn = txn.clone();
        if let TxnContent::CloseSession { paths: Some(paths) } = &mut txn.content
            && self.unlisted_ends
        {
            paths.retain(|path| is_captured(&self.scope, path));
        }
        txn
    }

    /// Passes transactions that must not have a record of their own any more.
    pub(super) fn pass(&mut self, to: Zxid, history: &[CommittedTxn]) {
        while history.get(self.applied).is_some_and(|next| next.zxid <= to) {
            let zxid = history[self.applied].zxid;
            let missing = self.advance(history);
            assert!(
                missing.is_empty() || self.ends_at.is_some(),
                "{zxid} has no record: {missing:?}"
            );
        }
    }

    fn exact(&mut self, record: &Record, bench: &mut Bench<'_>) {
        assert!(self.is_at_rest(), "{record:?} inside of a gap or listing");
        let zxid = record.zxid.unwrap_or_default();
        if self.due.is_empty() {
            assert!(zxid > self.passed(bench.history), "{record:?} comes again");
            self.pass(Zxid(zxid.0 - 1), bench.history);
            let next = bench.history.get(self.applied);
            assert!(
                next.is_some_and(|next| next.zxid == zxid),
                "{record:?} is of a transaction that was not committed"
            );
            self.due = self.advance(bench.history);
            self.due.reverse();
        }
        let txn = &bench.history[self.applied - 1];
        let due = self.due.pop();
        assert_eq!(
            Some(found(record)),
            due,
            "a record, and then the one of the history"
        );
        let about = record.txn.as_ref().expect("an exact record");
        let facts = (txn.zxid, about.cxid, about.time, about.rest as usize);
        assert_eq!(facts, (zxid, txn.cxid, txn.time, self.due.len()), "{record:?}");
        let kinds = (record.fidelity, record.zxid_kind);
        assert_eq!(kinds, (Fidelity::Exact, ZxidKind::Exact), "{record:?}");
        bench.seen.see(Encountered::Exact);
        if record.missed > Some(0) {
            bench.seen.see(Encountered::Folded);
        }
        self.remember(record);
    }

    fn remember(&mut self, record: &Record) {
        let Some(path) = &record.path else { return };
        match &record.after {
            Some(after) => drop(self.fold.insert(path.clone(), after.clone())),
            None => drop(self.fold.remove(path)),
        }
    }

    fn compared(&mut self, record: &Record, seen: &mut Encounters) {
        let is_inside = record.root.as_ref().is_some_and(|root| self.open.contains(root));
        assert!(
            is_inside,
            "{record:?} of no transaction outside of a gap or listing"
        );
        assert_eq!(record.fidelity, Fidelity::Reconciled, "{record:?}");
        seen.see(match record.op {
            Op::Snapshot => Encountered::Listed,
            _ => Encountered::Reconciled,
        });
        self.remember(record);
    }

    fn begin(&mut self, record: &Record, bench: &mut Bench<'_>) {
        let root = record.root.clone().expect("it is of a root");
        if self.pending.is_empty() {
            (self.ends_at, self.gap_from) = (None, None);
            self.pending = self.scope.roots().iter().cloned().collect();
        }
        assert!(
            self.pending.contains(&root),
            "{record:?} has ended while others go on"
        );
        if let Some(gap) = &record.gap {
            let is_again = self.open.contains(&root);
            bench.seen.see(if is_again {
                Encountered::GapAgain
            } else {
                Encountered::Gap
            });
            if let Some(known) = self.gap_from {
                assert_eq!(known, gap.from_zxid, "{record:?} is from elsewhere");
            } else {
                self.gap_from = Some(gap.from_zxid);
                assert!(
                    bench.excused.contains(&gap.from_zxid),
                    "{record:?} was not forced"
                );
                assert!(
                    self.passed(bench.history) <= gap.from_zxid,
                    "{record:?} after {}",
                    self.passed(bench.history)
                );
                self.pass(gap.from_zxid, bench.history);
            }
        }
        self.open.insert(root);
    }

    fn end(&mut self, record: &Record, bench: &mut Bench<'_>) {
        let root = record.root.clone().expect("it is of a root");
        assert!(self.open.remove(&root), "{record:?} did not begin");
        self.pending.remove(&root);
        let at = match &record.gap {
            Some(gap) => gap.to_zxid,
            None => {
                assert_eq!(record.zxid_kind, ZxidKind::Exact, "{record:?}");
                record.zxid
            }
        };
        let at = at.expect("the end of a comparison has a zxid");
        if *self.ends_at.get_or_insert(at) != at {
            panic!("{record:?}: another root ends at {:?}", self.ends_at);
        }
        self.pass(at, bench.history);
        assert_eq!(self.passed(bench.history), at, "{record:?}");
        self.check_fold(&root, record);
        if self.pending.is_empty() {
            (self.is_listed, self.ends_at) = (true, None);
        }
    }

    /// At the end of a comparison the fold is the tree, in all that a fold keeps right.
    fn check_fold(&self, root: &ZnodePath, record: &Record) {
        let captured = |path: &&ZnodePath| root.covers(path) && is_captured(&self.scope, path);
        let nodes = self.tree.nodes.keys().filter(captured);
        let expected: Vec<_> = nodes
            .map(|path| {
                let stat = self.tree.stat(path);
                let named = stat.map(|stat| {
                    (
                        stat.czxid,
                        stat.mzxid,
                        stat.version,
                        stat.aversion,
                        stat.ephemeral_owner,
                    )
                });
                (path.clone(), named, Some(self.tree.nodes[path].data.clone()))
            })
            .collect();
        let fold = self.fold.iter().filter(|(path, _)| captured(path));
        let folded: Vec<_> = fold
            .map(|(path, state)| {
                let named = state.stat.map(|stat| {
                    (
                        stat.czxid,
                        stat.mzxid,
                        stat.version,
                        stat.aversion,
                        stat.ephemeral_owner,
                    )
                });
                (
                    path.clone(),
                    named,
                    state.data.as_ref().map(|data| data.bytes.clone()),
                )
            })
            .collect();
        assert_eq!(folded, expected, "{record:?}: the fold, and then the tree");
    }
}
