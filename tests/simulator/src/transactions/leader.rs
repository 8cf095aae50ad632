//! The ensemble as a source sees it: a leader that proposes and commits, is replaced, and answers those who come back.

use std::collections::BTreeMap;

use bridge_core::committed::{
    CommittedTxn, HistoryPosition, NodeOperation, ProofMode, SyncAnswer, SyncKind, TxnContent,
};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::testing::transactions::{CommittingServer, ServerTree, universe};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::plan::TransactionPlan;
use super::reached::{Encountered, Encounters};

const SESSIONS: [u64; 3] = [0x11, 0x22, 0x33];

/// A packet on its way from the leader.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Synced(SyncAnswer),
    /// The tree at exactly this position.
    Tree(HistoryPosition, Box<ServerTree>),
    Proposal(CommittedTxn),
    Commit(Zxid),
    UpToDate,
}

/// The answer to a source that comes back.
pub(super) struct Answer {
    pub(super) packets: Vec<Packet>,
    /// The leader does not have the history after the position.
    pub(super) is_forced: bool,
    /// The history that it sends is not the committed one.
    pub(super) is_spoiled: bool,
}

/// The leader of the moment.
pub(super) struct Leader {
    pub(super) server: CommittingServer,
    /// Proposed and not committed, in order.
    pub(super) proposed: Vec<CommittedTxn>,
    /// The tree with what is proposed.
    tree: ServerTree,
    /// The operations of multis that failed.
    pub(super) failed: BTreeMap<Zxid, Vec<NodeOperation>>,
    /// Proposals of the last leader that died with it, in the logs of some servers.
    dead: Vec<CommittedTxn>,
    universe: Vec<ZnodePath>,
}

impl Leader {
    pub(super) fn new() -> Leader {
        Leader {
            server: CommittingServer {
                epoch: 1,
                ..CommittingServer::default()
            },
            proposed: Vec::new(),
            tree: ServerTree::default(),
            failed: BTreeMap::new(),
            dead: Vec::new(),
            universe: universe("3"),
        }
    }

    /// Proposes a transaction.
    pub(super) fn propose(&mut self, random: &mut StdRng, seen: &mut Encounters) -> CommittedTxn {
        let session = *SESSIONS.choose(random).unwrap_or(&SESSIONS[0]);
        let mut txn = self.server.txn(session, TxnContent::Nothing);
        // Proposals that die have a number of their own, too.
        txn.payload_crc =
            u32::try_from(txn.zxid.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or_default();
        txn.time += i64::from(self.server.counter);
        txn.content = match random.random_range(0..20) {
            0 => TxnContent::Nothing,
            1 => {
                seen.see(Encountered::FailedMulti);
                let operations = self.tree.random_multi(&txn, &self.universe, random);
                self.failed.insert(txn.zxid, operations);
                TxnContent::Nothing
            }
            2 => {
                seen.see(Encountered::SessionEnded);
                let paths = Some(self.tree.owned_by(session));
                TxnContent::CloseSession { paths }
            }
            3..7 => {
                seen.see(Encountered::Multi);
                TxnContent::Multi(self.tree.random_multi(&txn, &self.universe, random))
            }
            _ => match self.tree.random_operation(&self.universe, false, random) {
                Some(operation) => TxnContent::Single(operation),
                None => TxnContent::Nothing,
            },
        };
        self.tree.apply(&txn);
        let value = self.tree.digest();
        txn.digest = Some(bridge_core::committed::TreeDigestValue { version: 2, value });
        self.proposed.push(txn.clone());
        txn
    }

    /// Commits the oldest proposal.
    pub(super) fn commit(&mut self, seen: &mut Encounters) -> Option<Zxid> {
        if self.proposed.is_empty() {
            return None;
        }
        let txn = self.server.commit(self.proposed.remove(0));
        seen.see(Encountered::Committed);
        Some(txn.zxid)
    }

    /// Another leader: what was not committed dies.
    pub(super) fn elect(&mut self, seen: &mut Encounters) {
        seen.see(Encountered::Elected);
        self.dead = std::mem::take(&mut self.proposed);
        if !self.dead.is_empty() {
            seen.see(Encountered::TailDied);
        }
        self.tree = self.server.tree.clone();
        self.server.elect();
    }

    /// The position of the tree after a transaction.
    pub(super) fn position(&self, zxid: Zxid) -> HistoryPosition {
        let txn = self.server.history.iter().find(|txn| txn.zxid == zxid);
        HistoryPosition {
            zxid,
            digest: Some(self.server.tree_at(zxid).digest()),
            payload_crc: txn.map(|txn| txn.payload_crc),
            ..HistoryPosition::default()
        }
    }

    /// Answers a source that comes back.
    pub(super) fn answer(
        &mut self,
        after: Option<HistoryPosition>,
        plan: &TransactionPlan,
        is_honest: bool,
        random: &mut StdRng,
        seen: &mut Encounters,
    ) -> Answer {
        let history = &self.server.history;
        let window = history.len().saturating_sub(plan.window);
        let oldest = history.get(window).map_or(Zxid::ZERO, |txn| txn.zxid);
        let is_in_memory = |after: &HistoryPosition| after.zxid >= oldest || window == 0;
        let mut answer = match after {
            None => self.snapshot(false, seen),
            Some(after) if random.random_bool(0.1) && !is_honest => self.cut(after, random, seen),
            Some(after) if is_in_memory(&after) => self.history(after.zxid, seen),
            Some(after) if plan.reads_log && random.random_bool(0.8) => {
                let mut answer = self.history(after.zxid, seen);
                if !is_honest {
                    self.add_dead_tail(after.zxid, plan, &mut answer, random, seen);
                }
                answer
            }
            Some(_) => self.snapshot(true, seen),
        };
        if plan.holes && !is_honest && !answer.is_spoiled && random.random_bool(0.2) {
            make_hole(&mut answer, after.map(|after| after.zxid), random, seen);
        }
        // What is proposed and not committed follows, and is committed later.
        answer
            .packets
            .extend(self.proposed.iter().cloned().map(Packet::Proposal));
        answer
    }

    fn synced(&self, kind: SyncKind) -> Packet {
        let epoch = self.server.epoch;
        Packet::Synced(SyncAnswer { epoch, kind })
    }

    fn snapshot(&self, is_forced: bool, seen: &mut Encounters) -> Answer {
        seen.see(Encountered::Snapshot);
        let at = self.position(self.server.last());
        let tree = Box::new(self.server.tree.clone());
        Answer {
            packets: vec![
                self.synced(SyncKind::Snapshot),
                Packet::Tree(at, tree),
                Packet::UpToDate,
            ],
            is_forced,
            is_spoiled: false,
        }
    }

    fn history(&self, after: Zxid, seen: &mut Encounters) -> Answer {
        seen.see(Encountered::Diff);
        let mut packets = vec![self.synced(SyncKind::Diff)];
        packets.extend(self.committed_after(after));
        packets.push(Packet::UpToDate);
        Answer {
            packets,
            is_forced: false,
            is_spoiled: false,
        }
    }

    fn committed_after(&self, after: Zxid) -> impl Iterator<Item = Packet> {
        let history = self.server.history.iter().filter(move |txn| txn.zxid > after);
        history.flat_map(|txn| [Packet::Proposal(txn.clone()), Packet::Commit(txn.zxid)])
    }

    /// A server that lags, or a leader that is mistaken, wants the source to go back.
    fn cut(&self, after: HistoryPosition, random: &mut StdRng, seen: &mut Encounters) -> Answer {
        let before = self.server.history.iter().filter(|txn| txn.zxid < after.zxid);
        let before: Vec<Zxid> = before.map(|txn| txn.zxid).collect();
        let Some(last) = before.choose(random).copied() else {
            return self.history(after.zxid, seen);
        };
        seen.see(Encountered::Truncated);
        let mut packets = vec![self.synced(SyncKind::Truncate(last))];
        packets.extend(self.committed_after(last));
        packets.push(Packet::UpToDate);
        Answer {
            packets,
            is_forced: false,
            is_spoiled: false,
        }
    }

    /// The log has the proposals of a leader that died, after the last transaction of its epoch.
    fn add_dead_tail(
        &self,
        after: Zxid,
        plan: &TransactionPlan,
        answer: &mut Answer,
        random: &mut StdRng,
        seen: &mut Encounters,
    ) {
        let changes = self.dead.iter().any(|dead| dead.content != TxnContent::Nothing);
        let Some(first) = self.dead.first().filter(|_| changes && random.random_bool(0.7)) else {
            return;
        };
        let proposed = |packet: &Packet| match packet {
            Packet::Proposal(txn) => Some(txn.zxid),
            _ => None,
        };
        let is_later = |packet: &Packet| proposed(packet).is_some_and(|zxid| zxid > first.zxid);
        let is_last_before = first.zxid.0 == after.0 + 1
            || answer
                .packets
                .iter()
                .filter_map(proposed)
                .any(|zxid| zxid.0 + 1 == first.zxid.0);
        let Some(at) = answer
            .packets
            .iter()
            .position(is_later)
            .filter(|_| is_last_before)
        else {
            return;
        };
        // A leader has such an end only in the middle of its log: it was brought up to date by a snapshot after it
        // (ZOOKEEPER-2846), so that transactions are missing and others follow. Only a digest shows it if none is missing.
        let has_hole = plan.options.proof == ProofMode::Sequence || random.random_bool(0.5);
        let hole = if has_hole { 2 } else { 0 };
        if !answer.packets[at + hole..].iter().any(is_later) {
            return;
        }
        seen.see(Encountered::DeadTail);
        answer.is_spoiled = true;
        let dead = self.dead.iter();
        let tail = dead.flat_map(|txn| [Packet::Proposal(txn.clone()), Packet::Commit(txn.zxid)]);
        answer.packets.splice(at..at + hole, tail);
    }
}

/// A transaction in the middle is missing (ZOOKEEPER-4925).
fn make_hole(answer: &mut Answer, after: Option<Zxid>, random: &mut StdRng, seen: &mut Encounters) {
    let epoch = |zxid: Zxid| zxid.0 >> 32;
    let proposed: Vec<(usize, Zxid)> = answer
        .packets
        .iter()
        .enumerate()
        .filter_map(|(at, packet)| match packet {
            Packet::Proposal(txn) => Some((at, txn.zxid)),
            _ => None,
        })
        .collect();
    // One with another of its epoch before and after it: the numbers show it.
    let inner: Vec<usize> = proposed
        .windows(3)
        .filter(|three| epoch(three[0].1) == epoch(three[2].1) && Some(three[1].1) > after)
        .map(|three| three[1].0)
        .collect();
    if let Some(at) = inner.choose(random) {
        seen.see(Encountered::Hole);
        answer.is_spoiled = true;
        answer.packets.drain(*at..at + 2);
    }
}
