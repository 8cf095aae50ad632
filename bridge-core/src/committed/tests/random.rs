//! Random histories with faults of servers, connections and the process. A judge, which knows only the server's history,
//! compares every record.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::prelude::IndexedRandom;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::bench::{Bench, options};
use super::faults::Lie;
use super::tree::*;
use crate::committed::*;
use crate::machine::{CaptureState, SourceMachine, StepError};
use crate::number::Zxid;
use crate::record::{Fidelity, GapReason, LifetimeKind, Op};
use crate::source::Input;
use crate::testing::transactions::{expected, found, universe};

const SEEDS: u64 = 150;
const ACTS: usize = 80;
/// Transactions that a server keeps for a source that resumes.
const WINDOW: usize = 25;
const SESSIONS: [u64; 2] = [0x11, 0x22];

pub(super) struct World {
    pub(super) bench: Bench,
    pub(super) random: StdRng,
    pub(super) lie: Option<Lie>,
    pub(super) lied: bool,
    /// The last transaction that was sent on this connection; `None` without one.
    sent: Option<Zxid>,
    /// Proposals of the last epoch that were never committed.
    pub(super) dead: Vec<CommittedTxn>,
    /// Everything up to there is judged.
    judged: Zxid,
    ids: HashSet<Uuid>,
    last: Option<(Zxid, u32)>,
    pub(super) seen: Coverage,
}

#[derive(Debug, Default)]
pub(super) struct Coverage {
    exact: usize,
    folded: usize,
    gaps: usize,
    unproved: usize,
    held: usize,
    pub(super) cut: usize,
    truncated: usize,
    crashes: usize,
    closed: usize,
    interrupted: usize,
    pub(super) tails: usize,
}

impl World {
    fn new(seed: u64, lie: Option<Lie>) -> World {
        let mut options = options(&["/a", "/b"]);
        let glob = globset::Glob::new("/*/hidden").unwrap();
        // The judge has to find the lies by itself.
        options.proof = match (lie, seed % 4) {
            (None, 0 | 2) => ProofMode::Tree,
            (None, 1) => ProofMode::Roots,
            (None, _) | (Some(_), _) => ProofMode::Sequence,
        };
        options.capture.exclude = globset::GlobSetBuilder::new().add(glob).build().unwrap();
        World {
            bench: Bench::new(options),
            random: StdRng::seed_from_u64(seed),
            lie,
            lied: false,
            sent: None,
            dead: Vec::new(),
            judged: Zxid::ZERO,
            ids: HashSet::new(),
            last: None,
            seen: Coverage::default(),
        }
    }

    /// A transaction that the leader may propose.
    fn draft(&mut self) -> CommittedTxn {
        let session = *SESSIONS.choose(&mut self.random).unwrap();
        let draft = self.bench.server.txn(session, TxnContent::Nothing);
        let tree = &self.bench.server.tree;
        let paths = universe("hidden");
        let content = match self.random.random_range(0..20) {
            0 => TxnContent::Nothing,
            1 => {
                self.seen.closed += 1;
                TxnContent::CloseSession {
                    paths: Some(tree.owned_by(session)),
                }
            }
            2..6 => TxnContent::Multi(tree.random_multi(&draft, &paths, &mut self.random)),
            _ => match tree.random_operation(&paths, false, &mut self.random) {
                Some(operation) => TxnContent::Single(operation),
                None => TxnContent::Nothing,
            },
        };
        CommittedTxn { content, ..draft }
    }

    fn commit_some(&mut self) {
        for _ in 0..self.random.random_range(1..6) {
            let txn = self.draft();
            self.bench.server.commit(txn);
        }
    }

    /// Proposals that die with their leader.
    fn elect(&mut self) {
        let server = self.bench.server.clone();
        self.dead.clear();
        for _ in 0..self.random.random_range(0..3) {
            let mut txn = self.draft();
            txn.payload_crc ^= 0xdead;
            self.bench.server.tree.apply(&txn);
            self.dead.push(txn);
        }
        self.bench.server = server;
        self.bench.server.elect();
        self.disconnect();
    }

    fn disconnect(&mut self) {
        if self.sent.take().is_some() {
            self.bench.step(Input::Disconnected).unwrap();
        }
    }

    fn connect(&mut self) {
        self.disconnect();
        self.bench.connect();
        let history = &self.bench.server.history;
        let oldest = history
            .len()
            .checked_sub(WINDOW)
            .map_or(Zxid::ZERO, |at| history[at].zxid);
        match self.bench.resumed {
            Some(after) if after.zxid >= oldest && self.random.random_bool(0.9) => self.resume(after.zxid),
            _ => self.snapshot(),
        }
    }

    fn resume(&mut self, after: Zxid) {
        let is_cut = self.random.random_bool(0.2);
        let earlier: Vec<Zxid> = self.bench.server.history.iter().map(|txn| txn.zxid).collect();
        let before: Vec<Zxid> = earlier.into_iter().filter(|zxid| *zxid < after).collect();
        match before.choose(&mut self.random).copied().filter(|_| is_cut) {
            Some(last) => {
                self.seen.truncated += 1;
                self.bench.synced(SyncKind::Truncate(last)).unwrap();
                self.sent = Some(last);
            }
            None => {
                self.bench.synced(SyncKind::Diff).unwrap();
                self.sent = Some(after);
            }
        }
    }

    /// Sends a snapshot, or a part of it.
    fn snapshot(&mut self) {
        let is_cut = self.random.random_bool(0.2);
        let pages = if is_cut {
            self.random.random_range(0..20)
        } else {
            usize::MAX
        };
        let mut at = self.bench.server.last();
        if self.lie == Some(Lie::StagesLater) && self.bench.server.history.len() > 1 {
            at = self.bench.server.history[self.bench.server.history.len() - 2].zxid;
            self.lied = true;
        }
        self.bench.synced(SyncKind::Snapshot).unwrap();
        let mut outcome = match self.bench.step(Input::Staged(self.bench.position(at))) {
            Ok(outcome) => outcome,
            // The tree is older than the journal: only a lie says so.
            Err(error) => panic!("{error}"),
        };
        for _ in 0..pages {
            match &outcome.requests[..] {
                [crate::source::SourceRequest::ReadStage { ticket, read }] => {
                    let page = self.bench.server.tree.page(read);
                    let ticket = *ticket;
                    outcome = self.bench.step(Input::StagePage { ticket, page }).unwrap();
                }
                _ => break,
            }
        }
        if self.bench.machine.state() == CaptureState::Live {
            self.judge_listing();
            self.sent = Some(at);
        } else {
            self.seen.interrupted += 1;
            self.sent = Some(Zxid::ZERO);
            self.judge_listing_part();
            self.disconnect();
        }
    }

    /// Sends the next transactions of this connection in one input, as the servers have them.
    fn deliver(&mut self) {
        let Some(sent) = self.sent else {
            return;
        };
        let history = &self.bench.server.history;
        let after = history.iter().filter(|txn| txn.zxid > sent);
        let count = self.random.random_range(1..8);
        let mut txns: Vec<CommittedTxn> = after.take(count).cloned().collect();
        if txns.is_empty() {
            self.bench.step(Input::UpToDate).unwrap();
            self.judge(&[]);
            return;
        }
        self.sent = txns.last().map(|txn| txn.zxid);
        let mut is_unproved = self.spoil(&mut txns);
        self.lie_about(&mut txns);
        let position = self.bench.resumed.map_or(Zxid::ZERO, |position| position.zxid);
        // What was taken before is no hole.
        is_unproved &= txns.iter().any(|txn| txn.zxid > position);
        match self.bench.send(txns) {
            Ok(_) => {
                self.seen.held += self.bench.machine.waiting();
                self.judge(&[]);
            }
            Err(StepError::Unproved(evidence)) => {
                assert!(is_unproved, "{evidence}");
                assert_eq!(self.bench.new_records(), [], "a failed step leaves nothing");
                self.seen.unproved += 1;
                self.sent = None;
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Every record since the last judgement is that of the history, and none is missing.
    fn judge(&mut self, ignored: &[Op]) {
        let position = self.bench.stored_position().zxid;
        let server = &self.bench.server;
        let mut tree = server.tree_at(self.judged);
        let capture = self.bench.options.capture.clone();
        let mut rows = Vec::new();
        let judged = self.judged;
        let open = server
            .history
            .iter()
            .filter(|txn| txn.zxid > judged && txn.zxid <= position);
        for txn in open {
            let before = tree.clone();
            tree.apply(txn);
            let of_txn = expected(txn, &before, &tree, |at| capture.root_of(at).is_some());
            rows.extend(of_txn.into_iter().map(|row| (txn.zxid, row)));
        }
        self.judged = position;
        let records = self.bench.new_records();
        let records: Vec<_> = records
            .iter()
            .filter(|record| !ignored.contains(&record.op))
            .collect();
        let taken: Vec<_> = records
            .iter()
            .map(|record| (record.zxid.expect("it is exact"), found(record)))
            .collect();
        assert_eq!(taken, rows, "the records, and then those of the history");
        for record in records {
            assert_eq!(record.fidelity, Fidelity::Exact);
            let at = (record.zxid.unwrap(), record.txn.as_ref().unwrap().index);
            assert!(self.last < Some(at), "{:?} and then {at:?}", self.last);
            self.last = Some(at);
            assert!(
                self.ids.insert(record.id),
                "{record:?} has the id of another change"
            );
            self.seen.exact += 1;
            self.seen.folded += usize::from(record.missed > Some(0));
        }
        self.bench.check_image();
    }

    fn judge_listing_part(&mut self) {
        for record in self.bench.new_records() {
            assert_eq!(record.txn, None, "{record:?} in a gap or run");
            if let Some(gap) = &record.gap {
                assert!(gap.from_zxid >= self.judged, "{record:?} after {}", self.judged);
                assert_ne!(gap.reason, GapReason::Mode);
                self.seen.gaps += 1;
            }
            if !record.op.is_control() && record.op != Op::Snapshot {
                assert_eq!(record.fidelity, Fidelity::Reconciled);
                assert!(
                    self.ids.insert(record.id),
                    "{record:?} has the id of another change"
                );
            }
        }
    }

    fn judge_listing(&mut self) {
        self.judge_listing_part();
        self.judged = self.bench.stored_position().zxid;
        self.bench.check_image();
    }

    fn act(&mut self) {
        match self.random.random_range(0..20) {
            0..6 => self.commit_some(),
            6 => self.elect(),
            7 => {
                self.disconnect();
            }
            8 => {
                self.seen.crashes += 1;
                self.bench.crash();
                self.sent = None;
            }
            _ if self.sent.is_none() => self.connect(),
            _ => self.deliver(),
        }
    }

    fn run(&mut self) {
        for root in ["/a", "/b"] {
            if self.random.random_bool(0.8) {
                self.bench
                    .server
                    .one(&Ask::Create(root, "root", LifetimeKind::Persistent));
            }
        }
        self.commit_some();
        for _ in 0..ACTS {
            self.act();
        }
        // At rest everything is recorded.
        for _ in 0..ACTS * 10 {
            if self.sent.is_none() {
                self.connect();
            } else {
                self.deliver();
            }
            let position = self.bench.stored_position();
            if position.zxid == self.bench.server.last() && self.bench.machine.waiting() == 0 {
                return;
            }
        }
        panic!("the source never came to rest");
    }
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("ZKBRIDGE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ZKBRIDGE_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[test]
fn every_committed_version_is_recorded_once_and_exactly_whatever_fails() {
    let mut all = Coverage::default();
    for seed in seeds() {
        let mut world = World::new(seed, None);
        let run = catch_unwind(AssertUnwindSafe(|| world.run()));
        if let Err(panic) = run {
            eprintln!("seed {seed}: {:?}", world.seen);
            std::panic::resume_unwind(panic);
        }
        let seen = world.seen;
        all.exact += seen.exact;
        all.folded += seen.folded;
        all.gaps += seen.gaps;
        all.unproved += seen.unproved;
        all.held += seen.held;
        all.cut += seen.cut;
        all.truncated += seen.truncated;
        all.crashes += seen.crashes;
        all.closed += seen.closed;
        all.interrupted += seen.interrupted;
        all.tails += seen.tails;
    }
    println!("{all:?}");
    if seeds().len() as u64 >= SEEDS {
        let counts = [
            all.exact,
            all.folded,
            all.gaps,
            all.unproved,
            all.held,
            all.cut,
            all.truncated,
            all.crashes,
            all.closed,
            all.interrupted,
            all.tails,
        ];
        assert!(
            counts.iter().all(|count| *count > 0),
            "not everything was met: {all:?}"
        );
    }
}

#[test]
fn every_lie_about_the_history_is_caught() {
    for lie in [
        Lie::LosesTransaction,
        Lie::SendsProposals,
        Lie::AppliesFailedMultis,
        Lie::StagesLater,
        Lie::ChangesValue,
    ] {
        let mut lied = 0;
        let caught = (0..60).filter(|seed| {
            let mut world = World::new(*seed, Some(lie));
            let run = catch_unwind(AssertUnwindSafe(|| world.run()));
            lied += usize::from(world.lied);
            run.is_err()
        });
        let caught = caught.count();
        assert!(
            lied > 0 && caught > 0,
            "{lie:?}: {caught} of {lied} lies were caught"
        );
    }
}
