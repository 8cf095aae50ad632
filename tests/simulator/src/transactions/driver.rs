//! The driver between the leader and the pipeline, as a connector is: it keeps proposals until they are committed, stages
//! a tree, bounds what waits, and decides nothing.

use std::collections::VecDeque;

use bridge_core::committed::{CommittedTxn, StageRead, SyncKind, TxnContent};
use bridge_core::source::{
    AddressedRequest, Connection, Input, SessionFate, SourceEvent, SourceRequest, Ticket,
};
use bridge_core::testing::transactions::ServerTree;
use rand::Rng;
use rand::rngs::StdRng;

use super::habit::TransactionHabit;
use super::leader::{Leader, Packet};
use super::plan::{TransactionPlan, is_captured};
use super::reached::{Encountered, Encounters};

/// The most transactions of one input.
const BATCH_MAX: usize = 8;

/// A committed transaction, or the mark that everything before the connection was sent.
#[derive(Clone, Debug)]
enum Spooled {
    Txn(CommittedTxn),
    UpToDate,
}

/// The transaction as a server writes it that does not list the znodes of a session that ends.
fn without_list(mut txn: CommittedTxn, plan: &TransactionPlan, seen: &mut Encounters) -> CommittedTxn {
    if let TxnContent::CloseSession { paths } = &mut txn.content
        && plan.unlisted_ends
    {
        seen.see(Encountered::EndedUnlisted);
        let scope = plan.scope();
        if paths.iter().flatten().any(|path| !is_captured(&scope, path)) {
            seen.see(Encountered::EndedUnseen);
        }
        *paths = None;
    }
    txn
}

/// A connection to the leader.
pub(super) struct Wire {
    pub(super) packets: VecDeque<Packet>,
    /// Whether the leader has answered, so that what it proposes follows.
    is_answered: bool,
}

/// The driver of one process.
pub(super) struct Driver {
    pub(super) connection: Connection,
    pub(super) wire: Option<Wire>,
    proposed: VecDeque<CommittedTxn>,
    spool: VecDeque<Spooled>,
    stage: Option<Box<ServerTree>>,
    /// Whether transactions may be sent: not while a tree is compared.
    follows: bool,
    /// For the pipeline.
    pub(super) channel: VecDeque<SourceEvent>,
    pub(super) next_attempt_ms: u64,
    /// Connections on which the leader sent a history that is not the committed one.
    pub(super) spoiled: Vec<Connection>,
    habit: Option<TransactionHabit>,
}

/// The facts of an answer of the leader that the world keeps.
pub(super) enum Heard {
    Nothing,
    /// The leader has no history after this position.
    Forced(bridge_core::number::Zxid),
    /// The position has to go back to this one, as the habit has it.
    Rewound(bridge_core::number::Zxid),
}

impl Driver {
    pub(super) fn new(habit: Option<TransactionHabit>) -> Driver {
        Driver {
            connection: Connection::default(),
            wire: None,
            proposed: VecDeque::new(),
            spool: VecDeque::new(),
            stage: None,
            follows: false,
            channel: VecDeque::new(),
            next_attempt_ms: 0,
            spoiled: Vec::new(),
            habit,
        }
    }

    fn report(&mut self, input: Input) {
        self.channel.push_back(SourceEvent::Input(input));
    }

    /// Makes a connection if there is none and it is time.
    pub(super) fn connect(&mut self, now_ms: u64, seen: &mut Encounters) {
        if self.wire.is_some() || now_ms < self.next_attempt_ms {
            return;
        }
        seen.see(Encountered::Connected);
        self.connection = self.connection.next();
        self.wire = Some(Wire {
            packets: VecDeque::new(),
            is_answered: false,
        });
        let (connection, session) = (self.connection, SessionFate::New);
        self.channel.push_back(SourceEvent::Connected {
            connection,
            session,
            server: None,
        });
    }

    /// The connection is gone, with all that waits.
    pub(super) fn cut(&mut self, input: Option<Input>) {
        if self.wire.take().is_none() {
            return;
        }
        (self.proposed, self.spool) = (VecDeque::new(), VecDeque::new());
        (self.stage, self.follows) = (None, false);
        if let Some(input) = input {
            self.report(input);
        }
    }

    /// Carries out a request of the machine.
    pub(super) fn carry_out(
        &mut self,
        request: AddressedRequest,
        leader: &mut Leader,
        (plan, is_honest, now_ms): (&TransactionPlan, bool, u64),
        random: &mut StdRng,
        seen: &mut Encounters,
    ) -> Heard {
        if request.connection != self.connection {
            return Heard::Nothing;
        }
        match request.request {
            SourceRequest::Resume { after } => {
                let Some(wire) = &mut self.wire else {
                    return Heard::Nothing;
                };
                let answer = leader.answer(after, plan, is_honest, random, seen);
                wire.is_answered = true;
                if answer.is_spoiled {
                    self.spoiled.push(self.connection);
                }
                let cut = answer.packets.first().and_then(|packet| match packet {
                    Packet::Synced(synced) => match synced.kind {
                        SyncKind::Truncate(last) => Some(last),
                        _ => None,
                    },
                    _ => None,
                });
                wire.packets.extend(answer.packets);
                if let (Some(TransactionHabit::RewindsAtCut), Some(last)) = (self.habit, cut) {
                    return Heard::Rewound(last);
                }
                match after.filter(|_| answer.is_forced) {
                    Some(after) => Heard::Forced(after.zxid),
                    None => Heard::Nothing,
                }
            }
            SourceRequest::ReadStage { ticket, read } => {
                self.read_stage(ticket, &read);
                Heard::Nothing
            }
            SourceRequest::Follow => {
                (self.stage, self.follows) = (None, true);
                Heard::Nothing
            }
            SourceRequest::Reconnect { after } => {
                self.cut(Some(Input::Disconnected));
                self.next_attempt_ms = now_ms + u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                Heard::Nothing
            }
            other => panic!("a source that reads transactions has no {other:?}"),
        }
    }

    fn read_stage(&mut self, ticket: Ticket, read: &StageRead) {
        if let Some(stage) = &self.stage {
            let page = stage.page(read);
            self.report(Input::StagePage { ticket, page });
        }
    }

    /// Takes a packet from the wire.
    pub(super) fn receive(&mut self, leader: &Leader, plan: &TransactionPlan, seen: &mut Encounters) {
        let Some(packet) = self.wire.as_mut().and_then(|wire| wire.packets.pop_front()) else {
            return;
        };
        match packet {
            Packet::Synced(answer) => {
                self.follows = answer.kind != SyncKind::Snapshot;
                self.report(Input::Synced(answer));
                if self.habit == Some(TransactionHabit::HoldsNothingBack) && self.follows {
                    self.report(Input::UpToDate);
                }
            }
            Packet::Tree(mut at, tree) => {
                if self.habit == Some(TransactionHabit::TakesSnapshotsForExact) {
                    let before = leader.server.history.iter().rev().find(|txn| txn.zxid < at.zxid);
                    at = before.map_or(at, |txn| leader.position(txn.zxid));
                }
                self.stage = Some(tree);
                self.report(Input::Staged(at));
            }
            Packet::Proposal(txn) if self.habit == Some(TransactionHabit::EmitsProposals) => {
                self.spool.push_back(Spooled::Txn(txn));
            }
            Packet::Proposal(txn) => self.proposed.push_back(txn),
            Packet::Commit(zxid) => {
                let is_it = |txn: &CommittedTxn| txn.zxid == zxid;
                if let Some(at) = self.proposed.iter().position(is_it)
                    && let Some(txn) = self.proposed.remove(at)
                {
                    let txn = without_list(self.misread(txn, leader), plan, seen);
                    self.spool.push_back(Spooled::Txn(txn));
                }
            }
            Packet::UpToDate => self.spool.push_back(Spooled::UpToDate),
        }
        if self.spool.len() > plan.spool {
            seen.see(Encountered::Overflowed);
            self.cut(Some(Input::Overflow));
        }
    }

    /// A transaction as a driver with the habit reads it.
    fn misread(&mut self, mut txn: CommittedTxn, leader: &Leader) -> CommittedTxn {
        match self.habit {
            Some(TransactionHabit::AppliesFailedMultis) => {
                if let Some(operations) = leader.failed.get(&txn.zxid) {
                    txn.content = TxnContent::Multi(operations.clone());
                }
            }
            Some(TransactionHabit::IgnoresHoles) if txn.zxid.0.is_multiple_of(7) => {
                txn.content = TxnContent::Nothing;
            }
            _ => {}
        }
        txn
    }

    /// Gives the pipeline the next transactions.
    pub(super) fn pump(&mut self, random: &mut StdRng) {
        if !self.follows {
            return;
        }
        let mut txns = Vec::new();
        let most = random.random_range(1..=BATCH_MAX);
        while txns.len() < most
            && let Some(Spooled::Txn(_)) = self.spool.front()
            && let Some(Spooled::Txn(txn)) = self.spool.pop_front()
        {
            txns.push(txn);
        }
        if !txns.is_empty() {
            return self.report(Input::Transactions(txns));
        }
        if let Some(Spooled::UpToDate) = self.spool.front() {
            self.spool.pop_front();
            self.report(Input::UpToDate);
        }
    }

    /// Packets that the leader sends on a connection that it has answered already; before, its answer has it.
    pub(super) fn send(&mut self, packet: Packet) {
        if let Some(wire) = self.wire.as_mut().filter(|wire| wire.is_answered) {
            wire.packets.push_back(packet);
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        let is_silent = self.wire.as_ref().is_some_and(|wire| wire.packets.is_empty());
        is_silent && self.spool.is_empty() && self.channel.is_empty() && self.follows
    }
}
