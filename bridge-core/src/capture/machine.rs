//! The machine: handles each input in each state.

use std::collections::VecDeque;

use crate::append::{Append, RecordKind};
use crate::image_txn::ImageTxn;
use crate::machine::{CaptureState, Counters, Fulfilled, SourceMachine, StepOutcome};
use crate::number::{Epoch, Zxid};
use crate::record::{GapReason, Timestamp};
use crate::source::SourceRequest;

use super::Event;
use super::answers::{check_sample, sort_names, walk_answered};
use super::attached::Attached;
use super::audit::AuditTimers;
use super::batch::{Purpose, Request, Requests};
use super::canary::Canary;
use super::denials::Denials;
use super::follow::{Advance, Follow};
use super::lineage::{self, Lineage};
use super::lists::Lists;
use super::options::CaptureOptions;
use super::roots::{Root, StepContext};
use super::unreadable::Unreadable;
use super::walk::RootWalk;
use super::{Halt, Input, Outcome, ReadRequest, SessionFate, StepError, StepResult, Ticket};

/// Connections that may show an older state than the journal before the source stops. A server that has lost its leader
/// answers until it notices, which takes `syncLimit`, by default 10 s. The waits between connections double from 0.1 s
/// to 5 s with jitter, so that these attempts take between 10.6 s and 21 s; a server that is older still does not lag.
pub(super) const LAG_ATTEMPTS_MAX: u32 = 10;

/// The capture of one source.
#[derive(Debug)]
pub struct Capture {
    pub(super) options: CaptureOptions,
    pub(super) state: EpochState,
    pub(super) requests: Requests,
    pub(super) unreadable: Unreadable,
    pub(super) counters: Counters,
    pub(super) timers: AuditTimers,
    pub(super) canary: Canary,
    pub(super) lists: Lists,
    /// Why the next epoch compares, until a comparison is complete; `None`: as the connection says.
    pub(super) reason: Option<GapReason>,
    /// The `reason` that the journal has; `None` until it is read.
    pub(super) stored_reason: Option<Option<GapReason>>,
    pub(super) fulfilled: Fulfilled,
    pub(super) lag_attempts: u32,
    pub(super) denials: Denials,
    /// The first walk of a session waits until it is settled.
    pub(super) lineage: Lineage,
}

#[derive(Debug)]
pub(super) enum EpochState {
    Detached,
    Arming {
        epoch: Epoch,
        reason: GapReason,
        roots: Vec<Root>,
    },
    Attached(Box<Attached>),
    Halted,
}

impl Capture {
    /// A machine without a connection.
    pub fn new(options: CaptureOptions) -> Capture {
        Capture {
            timers: AuditTimers::new(&options),
            canary: Canary::new(options.canary.as_ref()),
            lists: Lists::default(),
            options,
            state: EpochState::Detached,
            requests: Requests::default(),
            unreadable: Unreadable::default(),
            counters: Counters::default(),
            reason: Some(GapReason::Started),
            stored_reason: None,
            fulfilled: Fulfilled::default(),
            lag_attempts: 0,
            denials: Denials::default(),
            lineage: Lineage::Open,
        }
    }

    pub(super) fn take(
        &mut self,
        now: Timestamp,
        input: Input,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        let recorded = self.records();
        self.load_reason(image)?;
        match input {
            Input::Connected { session } => self.connected(session, image, outcome)?,
            Input::Disconnected => self.detach(None),
            Input::Overflow => self.detach(Some(GapReason::Overflow)),
            Input::Unanswered => self.unanswered(),
            Input::Armed => self.armed(now, image)?,
            Input::Events(events) => self.events(events)?,
            Input::Answer { ticket, outcomes } => self.answer(now, ticket, outcomes, image, outcome)?,
            // Taken in before.
            Input::Acls { .. } => {}
            Input::CanaryWritten { mark, zxid } => {
                let read = self.canary.written(mark, zxid);
                self.read_canary(read, outcome);
            }
            Input::Tick => self.tick(now, image, outcome)?,
            Input::Synced(_)
            | Input::Staged(_)
            | Input::StagePage { .. }
            | Input::Transactions(_)
            | Input::Sessions(_)
            | Input::UpToDate => unreachable!("a connection that watches a tree reads no transactions"),
            Input::Continue => {
                if let EpochState::Attached(attached) = &mut self.state {
                    attached.continue_resnapshot(&self.options, image)?;
                }
            }
        }
        self.go_on(now, image, outcome)?;
        self.store_reason(image)?;
        if self.records() != recorded {
            self.timers.journalled();
        }
        Ok(())
    }

    fn records(&self) -> u64 {
        self.counters.records.total()
    }

    pub(super) fn detach(&mut self, reason: Option<GapReason>) {
        self.reason = GapReason::last_of(self.reason, reason);
        if !matches!(self.state, EpochState::Halted) {
            self.state = EpochState::Detached;
        }
        self.requests = Requests::after(&self.requests);
        self.lists.forget();
    }

    /// Makes due again what the batch had fulfilled that was rolled back.
    pub(super) fn rolled_back(&mut self) {
        let fulfilled = std::mem::take(&mut self.fulfilled);
        self.options.accept_baseline |= fulfilled.accept_baseline;
        self.reason = GapReason::last_of(fulfilled.reason, self.reason);
        self.stored_reason = None;
        // It was checked with an image that is no more.
        self.lineage = Lineage::Open;
    }

    /// Handles a request without an answer: an armed watch may have been lost for as long as the request waited.
    fn unanswered(&mut self) {
        let was_armed = matches!(self.state, EpochState::Attached(_));
        self.detach(was_armed.then_some(GapReason::Liveness));
    }

    fn connected(
        &mut self,
        session: SessionFate,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        if matches!(self.state, EpochState::Halted) {
            return Ok(());
        }
        self.detach(None);
        self.lineage.connected(session);
        let from_session = match session {
            SessionFate::Kept => GapReason::Disconnected,
            SessionFate::New => GapReason::Expired,
        };
        let mut reason = *self.reason.get_or_insert(from_session);
        let position = image.position()?;
        if position.is_some() {
            reason = GapReason::Mode;
        }
        if self.options.accept_baseline {
            reason = GapReason::Rebaselined;
        }
        let epoch = image.epoch()?.next();
        image.set_epoch(epoch)?;
        let mut roots = self
            .options
            .roots
            .iter()
            .map(|path| Root::load(path, image))
            .collect::<Result<Vec<_>, _>>()?;
        // The transactions up to there were recorded for every root that is listed.
        for root in roots.iter_mut().filter(|root| root.is_listed()) {
            root.reported(position.map_or(Zxid::ZERO, |position| position.zxid));
        }
        self.state = EpochState::Arming { epoch, reason, roots };
        outcome.requests.push(SourceRequest::Arm(self.options.watched()));
        self.canary.connected(&mut outcome.requests);
        Ok(())
    }

    fn armed(&mut self, now: Timestamp, image: &mut dyn ImageTxn) -> StepResult<()> {
        let (epoch, reason, roots) = match std::mem::replace(&mut self.state, EpochState::Detached) {
            EpochState::Arming { epoch, reason, roots } => (epoch, reason, roots),
            // A duplicate, or of a closed connection.
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let follow = Follow::new(self.options.limits);
        self.state = EpochState::Attached(Box::new(Attached {
            epoch,
            reason,
            roots,
            follow,
            walk: None,
            resnapshots: VecDeque::new(),
        }));
        self.begin_next_walk(now, image)?;
        Ok(())
    }

    /// The machine's parts, borrowed for one decision.
    pub(super) fn parts<'a>(
        &'a mut self,
        now: Timestamp,
        image: &'a mut dyn ImageTxn,
    ) -> Option<(
        StepContext<'a>,
        &'a mut Follow,
        &'a mut Option<RootWalk>,
        &'a mut Requests,
    )> {
        let EpochState::Attached(attached) = &mut self.state else {
            return None;
        };
        let Attached {
            roots, follow, walk, ..
        } = &mut **attached;
        let context = StepContext {
            now,
            image,
            options: &self.options,
            counters: &mut self.counters,
            roots,
            unreadable: &mut self.unreadable,
            lists: &self.lists,
            may_lag: self.lag_attempts + 1 < LAG_ATTEMPTS_MAX,
            stage: None,
        };
        Some((context, follow, walk, &mut self.requests))
    }

    fn begin_next_walk(&mut self, now: Timestamp, image: &mut dyn ImageTxn) -> StepResult<()> {
        let EpochState::Attached(attached) = &self.state else {
            return Ok(());
        };
        let (epoch, reason) = (attached.epoch, attached.reason);
        let next = attached.roots.iter().position(|root| !root.is_watched());
        let Some((mut context, _, walk, _)) = self.parts(now, image) else {
            return Ok(());
        };
        match next {
            Some(root) => {
                // Before the first record of this mode: the image leaves the position, and nobody may resume from it.
                if let Some(position) = context.image.position()? {
                    context.image.set_position(Some(&position.left_in_other_mode()))?;
                }
                context.open_bracket(root, epoch, reason, None)?;
                let path = context.roots[root].path.clone();
                *walk = Some(RootWalk::new(root, path, false, context.options.limits));
                self.want_lineage(image)?;
            }
            None => {
                *walk = None;
                if image.position()?.is_some() {
                    image.set_position(None)?;
                }
                self.lag_attempts = 0;
                // Until here the next connection has to compare for the same reason.
                self.fulfilled.reason = GapReason::last_of(self.fulfilled.reason, self.reason.take());
                self.fulfilled.accept_baseline |= std::mem::take(&mut self.options.accept_baseline);
            }
        }
        Ok(())
    }

    /// Starts the check of the ensemble, once for each session: the witnesses are of all roots.
    fn want_lineage(&mut self, image: &mut dyn ImageTxn) -> StepResult<()> {
        if self.lineage == Lineage::Open {
            self.lineage = match self.options.accept_baseline {
                true => Lineage::Settled,
                false => {
                    let witnesses = self.timers.witnesses(&self.options.roots, image)?;
                    Lineage::of(witnesses, self.options.chroot.is_some())
                }
            };
        }
        Ok(())
    }

    /// Continues the walk, or halts the source.
    fn lineage_answered(
        &mut self,
        request: &Request,
        outcomes: &[Outcome],
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        let missing = self.options.chroot.as_ref();
        let missing = missing.filter(|_| lineage::is_chroot_missing(request, outcomes));
        let evidence = match missing {
            Some(chroot) if self.lag_attempts + 1 < LAG_ATTEMPTS_MAX => {
                return Err(StepError::Lagging(format!("it has no chroot {chroot}")));
            }
            Some(chroot) => Some(format!(
                "the chroot {chroot} does not exist, and the journal has znodes below it"
            )),
            None => lineage::evidence(image, &self.options.roots, request, outcomes)?,
        };
        self.lineage = Lineage::Settled;
        if let Some(evidence) = evidence {
            self.state = EpochState::Halted;
            let cluster = self.options.cluster.clone();
            outcome.halt = Some(Halt::OtherEnsemble { cluster, evidence });
        }
        Ok(())
    }

    fn events(&mut self, mut events: Vec<Event>) -> StepResult<()> {
        // The bridge's own write is no change of the tree.
        let canary = &mut self.canary;
        events.retain(|event| !canary.takes_event(event));
        self.counters.events += events.len() as u64;
        let EpochState::Attached(attached) = &mut self.state else {
            return Ok(());
        };
        for event in events {
            let Some(root) = self.options.root_of(&event.path) else {
                continue;
            };
            self.requests.touch(&event.path);
            if !attached.take(event, root) {
                return Err(StepError::Doubt(GapReason::Overflow));
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        mut outcomes: Vec<Outcome>,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        let asked = self.requests.asked(ticket);
        if let Some(request) = asked.filter(|request| !matches!(request.purpose, Purpose::Lineage)) {
            let is_follow = matches!(request.purpose, Purpose::Follow | Purpose::Positions);
            let mode = self.options.acls;
            let keys = self
                .lists
                .missing(mode, &request.reads, &outcomes, is_follow, image)?;
            if !keys.is_empty() {
                let request = self.requests.next_ticket();
                let paths = self.lists.hold(request, keys, Input::Answer { ticket, outcomes });
                let ticket = request;
                outcome.requests.push(SourceRequest::ReadAcls { ticket, paths });
                return Ok(());
            }
        }
        outcomes.iter_mut().for_each(sort_names);
        let Some(request) = self.requests.answered(ticket) else {
            return Ok(());
        };
        self.counters.reads += outcomes.len() as u64;
        if matches!(request.purpose, Purpose::Lineage) {
            return self.lineage_answered(&request, &outcomes, image, outcome);
        }
        let Some((mut context, follow, walk, _)) = self.parts(now, image) else {
            return Ok(());
        };
        follow.fence(request.covers);
        match request.purpose {
            Purpose::Follow => follow.answered(request, outcomes),
            Purpose::Positions => follow.window_answered(request, outcomes),
            Purpose::Sample => {
                check_sample(&mut context, follow, request, &outcomes)?;
                self.counters.liveness_checks += 1;
            }
            // Answered above.
            Purpose::Lineage => {}
            Purpose::Canary => {
                let is_proved = self.canary.was_read(outcomes.first())?;
                self.counters.liveness_checks += u64::from(is_proved);
            }
            Purpose::WalkRead | Purpose::WalkList => {
                if let Some(walk) = walk {
                    walk_answered(&mut context, follow, walk, request, outcomes)?;
                }
            }
        }
        Ok(())
    }

    fn tick(
        &mut self,
        now: Timestamp,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        if self.timers.heartbeat_is_due() {
            image.append(Append {
                root: None,
                captured: now,
                kind: RecordKind::Heartbeat { zxid: None },
            })?;
        }
        if self.state() != CaptureState::Live {
            return Ok(());
        }
        let EpochState::Attached(attached) = &mut self.state else {
            return Ok(());
        };
        let covers = attached.follow.end();
        if self.timers.sample_is_due() {
            let reads = self.timers.sample(&attached.roots, &self.unreadable, image)?;
            self.counters.requests += 1;
            self.requests.send(
                Request::proof(Purpose::Sample, reads, covers),
                &mut outcome.requests,
            );
        }
        if self.timers.reconcile_is_due() && attached.walk.is_none() {
            attached.walk = Some(RootWalk::new(
                0,
                attached.roots[0].path.clone(),
                true,
                self.options.limits,
            ));
            attached.roots[0].begin_walk(now, image)?;
        }
        let again = self.lists.again();
        if !again.is_empty() {
            self.counters.requests += 1;
            self.requests.send(
                Request::proof(Purpose::Sample, again, covers),
                &mut outcome.requests,
            );
        }
        let read = self.canary.tick(&mut outcome.requests)?;
        self.read_canary(read, outcome);
        Ok(())
    }

    fn read_canary(&mut self, read: Option<ReadRequest>, outcome: &mut StepOutcome) {
        if let (Some(read), EpochState::Attached(attached)) = (read, &self.state) {
            let request = Request::new(Purpose::Canary, vec![read], attached.follow.end());
            self.counters.requests += 1;
            self.requests.send(request, &mut outcome.requests);
        }
    }

    /// Records the events that are settled, ends finished walks, and sends the next reads.
    fn go_on(
        &mut self,
        now: Timestamp,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        loop {
            self.end_walk_if_done(now, image)?;
            let Some((mut context, follow, _, _)) = self.parts(now, image) else {
                return Ok(());
            };
            let advance = follow.advance(&mut context)?;
            match advance {
                Advance::Settled => break,
                Advance::Mark(root) => {
                    let is_gap = context.in_gap(root);
                    context.close_bracket(root)?;
                    if is_gap && let EpochState::Attached(attached) = &mut self.state {
                        attached.queue_resnapshot(&self.options, now, root);
                    }
                    self.begin_next_walk(now, image)?;
                }
                Advance::Denied(path) => {
                    self.denied(path, outcome);
                    return Ok(());
                }
            }
        }
        if let Some((mut context, ..)) = self.parts(now, image) {
            context.save_progress()?;
        }
        self.send_requests(now, image, outcome)?;
        if matches!(&self.state, EpochState::Attached(attached) if !attached.resnapshots.is_empty()) {
            outcome.has_more = true;
        }
        Ok(())
    }

    /// Ends a finished walk: queues a mark after the events so far, or starts the audit of the next root.
    fn end_walk_if_done(&mut self, now: Timestamp, image: &mut dyn ImageTxn) -> StepResult<()> {
        let EpochState::Attached(attached) = &mut self.state else {
            return Ok(());
        };
        let Some(walk) = attached.walk.take_if(|walk| walk.is_done()) else {
            return Ok(());
        };
        if !walk.is_audit {
            attached.roots[walk.root].freeze(attached.follow.end());
            attached.follow.push_mark(walk.root);
            return Ok(());
        }
        attached.roots[walk.root].end_walk(image)?;
        let next = walk.root + 1;
        if let Some(root) = attached.roots.get_mut(next) {
            root.begin_walk(now, image)?;
            let path = root.path.clone();
            attached.walk = Some(RootWalk::new(next, path, true, self.options.limits));
        }
        Ok(())
    }
}
