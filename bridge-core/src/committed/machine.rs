//! The machine: handles each input in each state.

use crate::append::{Append, RecordKind};
use crate::capture::audit::TickTimer;
use crate::capture::lists::Lists;
use crate::capture::roots::{Root, StepContext};
use crate::capture::unreadable::Unreadable;
use crate::capture::{Input, StepResult};
use crate::image_txn::ImageTxn;
use crate::machine::{Counters, Fulfilled, StepError, StepOutcome};
use crate::number::{Epoch, Zxid};
use crate::record::{Fidelity, GapReason, Op, Timestamp};
use crate::source::SourceRequest;

use super::closed::{SessionIndex, keep_uncaptured, with_list};
use super::history::{HistoryFault, TxnSequence};
use super::net::{NetEffect, NetFault, net_effect};
use super::options::{CommittedOptions, NO_SCOPE, OTHER_MODE, ProofMode};
use super::owners::SessionOwners;
use super::proof::{HeldNodes, TreeProof, TxnProof};
use super::staging::{Staging, StagingProgress};
use super::txn::{CommittedTxn, HistoryPosition, SyncAnswer, SyncKind, TxnContent};

/// Connections that may show an older or another history before the source stops: a server that was cut off from its
/// leader answers until it notices.
pub(super) const OTHER_HISTORY_MAX: u32 = 10;

/// The capture of one source from its transactions.
#[derive(Debug)]
pub struct Committed {
    pub(super) options: CommittedOptions,
    pub(super) state: HistoryState,
    roots: Vec<Root>,
    pub(super) counters: Counters,
    pub(super) heartbeat: Option<TickTimer>,
    /// The reason of the next gap, where it does not follow from the connection.
    reason: Option<GapReason>,
    /// The next connection has to bring a snapshot.
    pub(super) needs_snapshot: bool,
    /// The zxid of a stage whose comparison was cut: a part of it is in the image. `None` without one.
    part_of_stage: Option<Zxid>,
    pub(super) other_histories: u32,
    pub(super) epoch: Option<Epoch>,
    // A source that reads transactions reads everything.
    unreadable: Unreadable,
    lists: Lists,
    /// Of the image at the position of the present connection.
    pub(super) sessions: SessionIndex,
    pub(super) fulfilled: Fulfilled,
    held: HeldNodes,
    pub(super) proof: ProofCounts,
    owners: SessionOwners,
}

/// Counts the proofs since the machine was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProofCounts {
    /// The last transaction that a digest has proved.
    pub(super) zxid: Option<Zxid>,
    pub(super) checked: u64,
    pub(super) unproven: u64,
    pub(super) mismatched: u64,
    /// Why the digest of the last transaction was not compared, if the server is the reason.
    pub(super) left_out: Option<DigestLeftOut>,
}

/// Why a digest cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestLeftOut {
    /// The server writes none.
    Lacking,
    /// It is of paths in another charset.
    OtherCharset,
}

impl ProofCounts {
    fn count(&mut self, txn: &CommittedTxn, proof: Option<TxnProof>) {
        match proof {
            Some(TxnProof::Checked) => {
                self.zxid = Some(txn.zxid);
                self.checked += 1;
            }
            // A request that failed has no digest, and nothing to prove.
            _ if txn.content == TxnContent::Nothing => return,
            Some(TxnProof::NotHeld | TxnProof::NoDigest | TxnProof::OtherCharset) | None => {
                self.unproven += 1
            }
        }
        self.left_out = match proof {
            Some(TxnProof::NoDigest) => Some(DigestLeftOut::Lacking),
            Some(TxnProof::OtherCharset) => Some(DigestLeftOut::OtherCharset),
            Some(TxnProof::Checked | TxnProof::NotHeld) | None => None,
        };
    }
}

#[derive(Debug)]
pub(super) enum HistoryState {
    Detached,
    /// Connected, and the server has not answered how it brings the source up to date.
    Resuming {
        /// The position that the server was given.
        after: Option<HistoryPosition>,
        /// The journal's position, also where the server was given none.
        known: Option<HistoryPosition>,
    },
    /// A snapshot is on its way.
    AwaitingStage {
        answer: SyncAnswer,
        known: Option<HistoryPosition>,
    },
    Staging(Box<Staging>),
    Following(Box<TxnSequence>),
    Halted,
}

impl Committed {
    /// A machine without a connection.
    pub fn new(options: CommittedOptions) -> Committed {
        Committed {
            heartbeat: TickTimer::new(options.capture.heartbeat_every),
            held: HeldNodes::of(&options),
            proof: ProofCounts::default(),
            owners: SessionOwners::default(),
            options,
            state: HistoryState::Detached,
            roots: Vec::new(),
            counters: Counters::default(),
            reason: Some(GapReason::Started),
            needs_snapshot: false,
            part_of_stage: None,
            other_histories: 0,
            epoch: None,
            unreadable: Unreadable::default(),
            lists: Lists::default(),
            sessions: SessionIndex::default(),
            fulfilled: Fulfilled::default(),
        }
    }

    pub(super) fn detach(&mut self, reason: Option<GapReason>) {
        self.sessions = SessionIndex::default();
        if reason.is_some() {
            self.reason = reason;
        }
        if !matches!(self.state, HistoryState::Halted) {
            self.state = HistoryState::Detached;
        }
    }

    pub(super) fn take(
        &mut self,
        now: Timestamp,
        input: Input,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        match input {
            Input::Connected { .. } => self.connected(image, outcome),
            Input::Disconnected => {
                self.detach(None);
                Ok(())
            }
            // Where there is no position to resume from, the reason is that of the gap.
            Input::Overflow | Input::Unanswered => {
                self.detach(None);
                Ok(())
            }
            Input::Synced(answer) => self.synced(answer),
            Input::Staged(at) => self.staged(now, at, image, outcome),
            Input::StagePage { ticket, page } => match &mut self.state {
                HistoryState::Staging(staging) if staging.is_awaited(ticket) => {
                    let staging = std::mem::replace(&mut self.state, HistoryState::Detached);
                    self.continue_staging(now, staging, Some(page), image, outcome)
                }
                // Of a closed connection.
                _ => Ok(()),
            },
            Input::Transactions(txns) => self.transactions(now, txns, image),
            Input::Sessions(owners) => {
                self.owners.learn(owners);
                Ok(())
            }
            Input::UpToDate => self.up_to_date(now, image),
            Input::Tick => self.tick(now, image),
            Input::Continue => match &self.state {
                HistoryState::Staging(staging) if staging.is_restating() => {
                    let staging = std::mem::replace(&mut self.state, HistoryState::Detached);
                    self.continue_staging(now, staging, None, image, outcome)
                }
                _ => Ok(()),
            },
            Input::Armed
            | Input::Events(_)
            | Input::Answer { .. }
            | Input::Acls { .. }
            | Input::CanaryWritten { .. } => {
                unreachable!("a connection that reads transactions watches no tree")
            }
        }
    }

    fn connected(&mut self, image: &mut dyn ImageTxn, outcome: &mut StepOutcome) -> StepResult<()> {
        if matches!(self.state, HistoryState::Halted) {
            return Ok(());
        }
        self.detach(None);
        let known = image.position()?;
        let roots = self.options.capture.roots.iter();
        self.roots = roots
            .map(|path| Root::load(path, image))
            .collect::<Result<_, _>>()?;
        let scope = self.options.scope_number();
        // The last one may have been rolled back.
        let stored = image.epoch()?;
        self.epoch = self.epoch.map(|last| last.min(stored));
        let is_complete = self.roots.iter().all(Root::is_listed);
        let may_resume = is_complete && !self.needs_snapshot && !self.options.capture.accept_baseline;
        let is_provable = |known: &HistoryPosition| match self.options.proof {
            ProofMode::Tree => known.digest.is_some(),
            ProofMode::Roots | ProofMode::Sequence => true,
        };
        let after = known.filter(|known| may_resume && known.scope == scope && is_provable(known));
        self.state = HistoryState::Resuming { after, known };
        outcome.requests.push(SourceRequest::Resume { after });
        Ok(())
    }

    /// Makes due again what the batch had fulfilled that was rolled back.
    pub(super) fn rolled_back(&mut self) {
        let fulfilled = std::mem::take(&mut self.fulfilled);
        self.reason = GapReason::last_of(fulfilled.reason, self.reason);
        self.needs_snapshot |= fulfilled.needs_snapshot;
        self.options.capture.accept_baseline |= fulfilled.accept_baseline;
    }

    fn synced(&mut self, answer: SyncAnswer) -> StepResult<()> {
        let HistoryState::Resuming { after, known } = &self.state else {
            return Ok(());
        };
        let (after, known) = (*after, *known);
        if let Some(known) = known.filter(|known| answer.epoch < known.epoch)
            && !self.options.capture.accept_baseline
        {
            return Err(StepError::Lagging(format!(
                "the leader has epoch {}, and the journal has taken transactions of a leader of epoch {}",
                answer.epoch, known.epoch
            )));
        }
        self.state = match (answer.kind, after) {
            (SyncKind::Diff | SyncKind::Truncate(_), Some(after)) => {
                let history = TxnSequence::new(after, answer, self.options.held_bytes);
                HistoryState::Following(Box::new(history))
            }
            (SyncKind::Snapshot, _) => HistoryState::AwaitingStage { answer, known },
            (SyncKind::Diff | SyncKind::Truncate(_), None) => {
                return Err(StepError::Unproved(
                    "the server continues a history where a snapshot was requested".to_owned(),
                ));
            }
        };
        Ok(())
    }

    fn staged(
        &mut self,
        now: Timestamp,
        at: HistoryPosition,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        let HistoryState::AwaitingStage { answer, known } = &self.state else {
            return Ok(());
        };
        let (answer, known) = (*answer, *known);
        let accepts = self.options.capture.accept_baseline;
        let listed = self.roots.iter().filter(|root| root.is_listed());
        let reported = listed.map(Root::reported_zxid);
        let known_zxid = known.map(|known| known.zxid);
        let newest = known_zxid.max(reported.clone().max()).max(self.part_of_stage);
        let newest = newest.unwrap_or_default();
        if at.zxid < newest && !accepts {
            return Err(StepError::Lagging(format!(
                "the server's tree is at {}, and the journal at {newest}",
                at.zxid
            )));
        }
        // The same for all roots: each was reported at least up to there.
        let from = known_zxid.max(reported.min()).unwrap_or_default();
        for root in self.roots.iter_mut().filter(|root| root.is_listed()) {
            root.reported(from);
        }
        let is_of_other_mode = match known {
            Some(known) => known.scope == OTHER_MODE,
            None => self.roots.iter().any(Root::is_listed),
        };
        let reason = match self.reason {
            _ if accepts => GapReason::Rebaselined,
            _ if is_of_other_mode => GapReason::Mode,
            Some(reason) => reason,
            None => GapReason::Disconnected,
        };
        // From the first difference on, the image is at no position. A start that finds it like that compares again.
        image.set_position(Some(&HistoryPosition {
            zxid: from,
            scope: if is_of_other_mode { OTHER_MODE } else { NO_SCOPE },
            ..known.unwrap_or_default()
        }))?;
        let epoch = image.epoch()?.next();
        image.set_epoch(epoch)?;
        self.epoch = Some(epoch);
        let at = HistoryPosition {
            digest: at.digest.filter(|_| self.options.proof.compares_digests()),
            epoch: answer.epoch.max(at.epoch),
            scope: self.options.scope_number(),
            ..at
        };
        let staging = Staging::new(at, answer, from, epoch, reason, self.held.clone());
        self.continue_staging(
            now,
            HistoryState::Staging(Box::new(staging)),
            None,
            image,
            outcome,
        )
    }

    /// Compares a page, and requests the next one, until everything is compared.
    fn continue_staging(
        &mut self,
        now: Timestamp,
        state: HistoryState,
        page: Option<super::StagePage>,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        let HistoryState::Staging(mut staging) = state else {
            return Ok(());
        };
        let mut context = StepContext {
            now,
            image,
            options: &self.options.capture,
            counters: &mut self.counters,
            roots: &mut self.roots,
            unreadable: &mut self.unreadable,
            lists: &self.lists,
            may_lag: true,
            stage: Some(staging.at_stage()),
        };
        let progress = match page {
            Some(page) => staging.compare(page, &self.options, &mut context)?,
            None => staging.go_on(&self.options, &mut context)?,
        };
        context.save_progress()?;
        self.part_of_stage = staging
            .is_open()
            .then_some(staging.at.zxid)
            .max(self.part_of_stage);
        if matches!(progress, StagingProgress::More | StagingProgress::Done) {
            self.part_of_stage = None;
            self.fulfilled.reason = GapReason::last_of(self.fulfilled.reason, self.reason.take());
            self.fulfilled.needs_snapshot |= std::mem::take(&mut self.needs_snapshot);
            let accept_baseline = &mut self.options.capture.accept_baseline;
            self.fulfilled.accept_baseline |= std::mem::take(accept_baseline);
            if staging.proved_by_server {
                self.proof.zxid = self.proof.zxid.max(Some(staging.at.zxid));
            }
            self.other_histories = 0;
        }
        match progress {
            StagingProgress::Read(ticket, read) => {
                outcome.requests.push(SourceRequest::ReadStage { ticket, read });
                self.state = HistoryState::Staging(staging);
            }
            StagingProgress::More => {
                outcome.has_more = true;
                self.state = HistoryState::Staging(staging);
            }
            StagingProgress::Done => {
                let answer = SyncAnswer {
                    kind: SyncKind::Diff,
                    ..staging.answer
                };
                let mut history = TxnSequence::new(staging.at, answer, self.options.held_bytes);
                // A stage is at a proved position.
                history.up_to_date(&mut Vec::new());
                self.state = HistoryState::Following(Box::new(history));
                outcome.requests.push(SourceRequest::Follow);
            }
        }
        Ok(())
    }

    fn transactions(
        &mut self,
        now: Timestamp,
        txns: Vec<CommittedTxn>,
        image: &mut dyn ImageTxn,
    ) -> StepResult<()> {
        let HistoryState::Following(history) = &mut self.state else {
            // Of a closed connection.
            return Ok(());
        };
        self.counters.events += txns.len() as u64;
        let mut ready = Vec::with_capacity(txns.len());
        for txn in txns {
            history.take(txn, &mut ready).map_err(of_history)?;
        }
        self.apply(now, &ready, image)
    }

    fn up_to_date(&mut self, now: Timestamp, image: &mut dyn ImageTxn) -> StepResult<()> {
        let HistoryState::Following(history) = &mut self.state else {
            return Ok(());
        };
        let mut ready = Vec::new();
        history.up_to_date(&mut ready);
        self.reason = None;
        self.apply(now, &ready, image)
    }

    /// Appends the records of transactions that are committed, and moves the position to the last of them.
    fn apply(&mut self, now: Timestamp, txns: &[CommittedTxn], image: &mut dyn ImageTxn) -> StepResult<()> {
        let HistoryState::Following(history) = &self.state else {
            return Ok(());
        };
        let mut position = *history.position();
        // Lost where the step fails.
        let mut sessions = std::mem::take(&mut self.sessions);
        let mut context = StepContext {
            now,
            image,
            options: &self.options.capture,
            counters: &mut self.counters,
            roots: &mut self.roots,
            unreadable: &mut self.unreadable,
            lists: &self.lists,
            may_lag: true,
            stage: None,
        };
        let mut proof = match self.options.proof {
            ProofMode::Tree if position.digest.is_none() => None,
            ProofMode::Tree | ProofMode::Roots => Some(TreeProof::new(&position, &self.held)),
            ProofMode::Sequence => None,
        };
        let mut done: Option<&CommittedTxn> = None;
        let mut counts = self.proof;
        for sent in txns {
            let applied = with_list(sent, &self.options, &mut sessions, context.image).and_then(|listed| {
                let txn = &*listed.txn;
                let mut effect = net_effect(txn, &self.options, context.image)?;
                listed.count(&mut effect);
                let proof = proof.as_mut();
                let proved = proof.map(|proof| proof.apply(txn, listed.is_complete, context.image));
                let proved = proved.transpose()?;
                sessions.take(txn, &self.options);
                keep_uncaptured(txn, &self.options, context.image)?;
                Ok((effect, proved))
            });
            match applied {
                Ok((mut effect, proved)) => {
                    self.owners.name(sent, &mut effect);
                    record(&mut context, effect)?;
                    self.owners.ended(sent);
                    counts.count(sent, proved);
                }
                Err(NetFault::Journal(error)) => return Err(error.into()),
                Err(NetFault::OtherDigest(evidence)) => {
                    self.proof.mismatched += 1;
                    return Err(StepError::Unproved(evidence));
                }
                Err(NetFault::Contradiction(evidence)) => return Err(StepError::Unproved(evidence)),
            }
            done = Some(sent);
        }
        self.proof = counts;
        if let Some(txn) = done {
            position = at(&position, txn);
            for root in context.roots.iter_mut() {
                root.reported(position.zxid);
            }
            context.save_progress()?;
            position.digest = proof.map(|proof| proof.finish(image)).transpose()?.flatten();
            image.set_position(Some(&position))?;
            if let HistoryState::Following(history) = &mut self.state {
                history.proved(position.digest);
            }
            self.reason = None;
            self.other_histories = 0;
        }
        self.sessions = sessions;
        Ok(())
    }

    fn tick(&mut self, now: Timestamp, image: &mut dyn ImageTxn) -> StepResult<()> {
        if !TickTimer::is_due(&mut self.heartbeat) {
            return Ok(());
        }
        let HistoryState::Following(history) = &self.state else {
            return Ok(());
        };
        let zxid = Some(history.position().zxid);
        self.counters.record(Op::Heartbeat, Fidelity::Exact);
        image.append(Append {
            root: None,
            captured: now,
            kind: RecordKind::Heartbeat { zxid },
        })?;
        Ok(())
    }
}

/// The position after one of several transactions.
fn at(position: &HistoryPosition, txn: &CommittedTxn) -> HistoryPosition {
    HistoryPosition {
        zxid: txn.zxid,
        payload_crc: Some(txn.payload_crc),
        ..*position
    }
}

fn record(context: &mut StepContext<'_>, effect: NetEffect) -> StepResult<()> {
    for (root, change) in effect.changes {
        context.write(root, change)?;
    }
    for (path, stat) in effect.refreshed {
        context.image.refresh(&path, &stat)?;
    }
    Ok(())
}

fn of_history(fault: HistoryFault) -> StepError {
    match fault {
        HistoryFault::Unproved(evidence) => StepError::Unproved(evidence),
        HistoryFault::Other(evidence) => StepError::Lagging(evidence),
        HistoryFault::Overflow => StepError::Doubt(GapReason::Overflow),
    }
}
