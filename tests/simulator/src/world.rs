//! One seed: everything at once, one step after another, in virtual time.
//!
//! First faults, then peace: while faults happen nothing may be broken (safety), and after them everything must come to
//! rest within a bound (liveness).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bridge_core::capture::{CaptureState, Halt, Input, StepError};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::{Flow, PipelineEvent};
use bridge_core::record::{GapReason, Timestamp};
use bridge_core::source::{SourceEvent, SourceRequest};
use bridge_core::testing::ModelDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::Client;
use crate::controls::Habit;
use crate::coverage::{Coverage, Seen};
use crate::ensemble::Ensemble;
use crate::journal::{Faults, Store, Tap, Trail};
use crate::judge::{Bench, Excuses, Judge, Liveness};
use crate::lies::Liar;
use crate::plan::Plan;
use crate::sinks::{Around, Sink, Step};
use crate::workload::Workload;

/// Virtual time between two beats of the pipeline.
const BEAT_MS: u64 = 200;
/// Beats between two ticks of the machine.
const BEATS_PER_TICK: u64 = 5;
/// Beats between two rounds of retention.
const BEATS_PER_RETENTION: u64 = 12;

/// The bridge's process.
pub(crate) struct Bridge {
    pub(crate) flow: Flow<Tap>,
    pub(crate) client: Client,
    /// The last record that the workers know as durable.
    pub(crate) durable: Seq,
    /// Whether the open batch holds something.
    pub(crate) has_open_batch: bool,
    pub(crate) halted: Option<Halt>,
    pub(crate) beats: u64,
    pub(crate) next_beat_ms: u64,
    /// Reads of the present walk.
    pub(crate) walk_reads: u64,
    pub(crate) unreadable: Vec<ZnodePath>,
}

/// One seed.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) habit: Option<Habit>,
    pub(crate) random: StdRng,
    pub(crate) now_ms: u64,
    /// The lead of the wall clock.
    pub(crate) clock_ms: i64,
    pub(crate) ensemble: Ensemble,
    pub(crate) workload: Workload,
    pub(crate) store: Store,
    pub(crate) disk_faults: Rc<RefCell<Faults>>,
    pub(crate) trail: Rc<RefCell<Trail>>,
    pub(crate) judge: Judge,
    pub(crate) liveness: Liveness,
    /// Records whose time was judged.
    pub(crate) timed: usize,
    /// Spans of unreadable znodes whose begins are judged, by the record at which they were found.
    pub(crate) unreadable_judged: BTreeSet<(ZnodePath, Seq)>,
    pub(crate) excuses: Excuses,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) restart_ms: u64,
    /// Whether the operator accepts the present state at the next start.
    pub(crate) accepts_baseline: bool,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) seen: Coverage,
    pub(crate) liar: Liar,
    pub(crate) is_traced: bool,
    /// Faults are over.
    pub(crate) is_peace: bool,
    pub(crate) isolated_until_ms: Option<u64>,
    pub(crate) half_open_until_ms: Option<u64>,
    pub(crate) session_ends_ms: Option<u64>,
    pub(crate) was_isolated: bool,
    /// When the capture last began anew.
    pub(crate) disturbed_ms: u64,
}

impl World {
    /// Before the first step.
    pub fn new(plan: Plan, habit: Option<Habit>, is_traced: bool) -> World {
        let mut random = StdRng::seed_from_u64(plan.seed);
        let mut fork = || StdRng::seed_from_u64(random.random());
        let mut workload = Workload::new(&plan, fork());
        let sinks = Sink::all(&mut fork);
        let mut ensemble = Ensemble::new(plan.servers, plan.release);
        let mut seen = Coverage::default();
        workload.prepare(&mut ensemble, plan.prepared, 1_000, &mut seen);
        for server in 0..plan.servers {
            ensemble.rejoin(server);
        }
        let syncs_commits = plan.syncs_commits && habit != Some(Habit::CheckpointAfterAck);
        let disk = ModelDisk::new(syncs_commits, plan.retention_ms);
        if plan.with_real_journal {
            seen.see(Seen::RealJournal);
        }
        World {
            random: fork(),
            store: Store::new(disk, plan.with_real_journal),
            judge: Judge::new(&plan.capture.roots),
            liveness: Liveness::default(),
            timed: 0,
            unreadable_judged: BTreeSet::new(),
            plan,
            habit,
            now_ms: 1_000,
            clock_ms: 1_700_000_000_000,
            ensemble,
            workload,
            disk_faults: Rc::default(),
            trail: Rc::default(),
            excuses: Excuses::default(),
            bridge: None,
            restart_ms: 0,
            accepts_baseline: false,
            sinks,
            seen,
            liar: Liar::new(habit),
            is_traced,
            is_peace: false,
            isolated_until_ms: None,
            half_open_until_ms: None,
            session_ends_ms: None,
            was_isolated: false,
            disturbed_ms: 0,
        }
    }

    /// Plays the seed to its end, and gives what it reached.
    pub fn play(mut self) -> Coverage {
        for _ in 0..self.plan.steps {
            self.pass(self.plan.step_ms);
            self.step();
        }
        self.make_peace();
        self.settle();
        self.seen
    }

    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>7} {}", self.now_ms, what());
        }
    }

    pub(crate) fn wall(&self) -> Timestamp {
        Timestamp(self.clock_ms + self.now_ms.cast_signed())
    }

    pub(crate) fn pass(&mut self, most_ms: u64) {
        self.now_ms += self.random.random_range(0..=most_ms);
        self.end_passing_faults();
        if self.bridge.is_none() && self.now_ms >= self.restart_ms {
            self.start();
        }
        self.beat();
    }

    fn step(&mut self) {
        let weights = [
            self.plan.writes,
            self.plan.replication,
            25,
            30,
            30,
            25,
            self.plan.fault_weight,
        ];
        let mut drawn = self.random.random_range(0..weights.iter().sum());
        let choice = weights.iter().position(|weight| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        });
        match choice {
            Some(0) => self.write(),
            Some(1) => self.replicate(),
            Some(2) => self.serve(),
            Some(3) => self.connection(),
            Some(4) => self.pipeline(),
            Some(5) => self.deliver(),
            _ => self.fault(),
        }
    }

    pub(crate) fn write(&mut self) {
        let before = self.ensemble.log_len();
        let time = self.wall().0;
        self.workload.write(&mut self.ensemble, time, &mut self.seen);
        for txn in self.ensemble.log_behind(before) {
            self.trace(|| format!("txn {} {:?}", txn.zxid, txn.ops));
        }
        if self.plan.servers == 1 {
            while self.replicate_one(0) {}
        }
    }

    fn replicate(&mut self) {
        let server = self.random.random_range(0..self.plan.servers);
        // One of them lags by far.
        if self.plan.faults.lag && server == 0 && self.random.random_bool(0.8) {
            return;
        }
        for _ in 0..self.random.random_range(1..8) {
            if !self.replicate_one(server) {
                break;
            }
        }
        if !self.plan.faults.lag {
            // Servers that do not lag by much.
            for server in 0..self.plan.servers {
                while self.ensemble.servers[server].applied + 3 < self.ensemble.log_len()
                    && self.replicate_one(server)
                {}
            }
        }
    }

    pub(crate) fn replicate_one(&mut self, server: usize) -> bool {
        let wire = self
            .bridge
            .as_mut()
            .and_then(|bridge| bridge.client.wire.as_mut());
        self.ensemble.replicate(server, wire)
    }

    pub(crate) fn serve(&mut self) {
        let Some(bridge) = &mut self.bridge else { return };
        let Some(wire) = &mut bridge.client.wire else {
            return;
        };
        for _ in 0..self.random.random_range(1..4) {
            let is_sync = matches!(wire.requests.front(), Some(crate::ensemble::Request::Sync { .. }));
            let served = self.ensemble.serve(wire);
            if is_sync && !served && !wire.is_half_open {
                self.seen.see(Seen::SyncWaited);
            }
            if is_sync && served && self.ensemble.servers[wire.server].is_isolated {
                self.seen.see(Seen::DeposedSync);
            }
            if !served {
                break;
            }
        }
    }

    pub(crate) fn connection(&mut self) {
        let Some(bridge) = &mut self.bridge else { return };
        bridge.client.connect(&self.ensemble, self.now_ms, &mut self.seen);
        bridge.client.order(self.now_ms);
        bridge.client.receive(self.now_ms, &mut self.seen);
        bridge.client.pump();
    }

    /// The pipeline takes what waits into one transaction, and commits; or is not done yet.
    pub(crate) fn pipeline(&mut self) {
        let was_live = self.is_live();
        let count = self.random.random_range(1..12);
        for _ in 0..count {
            let Some(bridge) = &mut self.bridge else { return };
            let Some(report) = bridge.client.channel.pop_front() else {
                break;
            };
            self.report(report);
            if self.bridge.as_ref().is_some_and(|bridge| bridge.has_open_batch) && self.may_be_killed() {
                self.seen.see(Seen::KilledWithOpenBatch);
                return self.kill();
            }
        }
        if self.bridge.as_ref().is_some_and(|bridge| bridge.flow.has_more()) {
            let now = self.wall();
            if let Some(bridge) = &mut self.bridge {
                bridge
                    .flow
                    .go_on(now)
                    .expect("a simulated journal fails only for want of room");
            }
            self.note_live(now);
            self.hear();
        }
        let was_full = self.fill_disk_at_commit(!was_live && self.is_live());
        self.commit();
        self.disk_faults.borrow_mut().disk_is_full = was_full;
    }

    fn may_be_killed(&mut self) -> bool {
        self.plan.faults.kills && !self.is_peace && self.random.random_bool(0.01)
    }

    fn report(&mut self, mut report: SourceEvent) {
        self.trace(|| format!("→ {report:?}"));
        let now = self.wall();
        let Some(bridge) = &mut self.bridge else { return };
        self.liar.forge(&mut report, &mut bridge.flow);
        let is_walking = bridge.flow.machine().state() == CaptureState::Walking;
        let ends = matches!(report, SourceEvent::Input(Input::Disconnected | Input::Overflow));
        if is_walking && ends {
            self.seen.see(Seen::WalkCut);
        }
        if matches!(report, SourceEvent::Input(Input::Armed)) {
            if self.judge.has_open_run() {
                self.seen.see(Seen::RunResumed);
            }
            self.judge.watched_again();
        }
        bridge.has_open_batch = true;
        let taken = bridge.flow.report(report, now);
        taken.expect("a simulated journal fails only for want of room");
        self.note_live(now);
        self.hear();
    }

    /// Takes the events of the pipeline: requests for the connection, and lines for the log.
    fn hear(&mut self) {
        while let Some(event) = self.bridge.as_mut().and_then(|bridge| bridge.flow.next_event()) {
            if matches!(
                event,
                PipelineEvent::Connected(_) | PipelineEvent::Anew(_) | PipelineEvent::Halted(_)
            ) {
                self.disturbed_ms = self.now_ms;
            }
            let Some(bridge) = &mut self.bridge else { return };
            match event {
                PipelineEvent::Request(request) => {
                    let is_walk = bridge.flow.machine().state() == CaptureState::Walking;
                    if let SourceRequest::Read { ticket, reads } = &request.request {
                        self.liar
                            .asked(ticket.0, reads.iter().map(|read| read.path.clone()).collect());
                    }
                    let read = match &request.request {
                        SourceRequest::Read { ticket, reads } => {
                            reads.first().map(|read| (*ticket, read.path.clone()))
                        }
                        SourceRequest::ReadAcls { ticket, paths } => {
                            self.liar.asked(ticket.0, paths.clone());
                            paths.first().map(|path| (*ticket, path.clone()))
                        }
                        _ => None,
                    };
                    match &request.request {
                        SourceRequest::Read { .. } if is_walk => bridge.walk_reads += 1,
                        SourceRequest::Arm(_) => bridge.walk_reads = 0,
                        _ => {}
                    }
                    if bridge.walk_reads == 4 && is_walk {
                        self.seen.see(Seen::WalkInBatches);
                    }
                    bridge.client.requests.push_back(request);
                    if let Some((ticket, path)) = read {
                        self.change_a_list(ticket, path);
                    }
                }
                PipelineEvent::Anew(error) => self.compared_anew(&error),
                PipelineEvent::Held(error) => {
                    self.trace(|| format!("  held: {error}"));
                    self.seen.see(Seen::Held);
                }
                PipelineEvent::Refused(refused) => panic!("{refused}"),
                PipelineEvent::Halted(halt) => self.halted(halt),
                PipelineEvent::Connected(_)
                | PipelineEvent::Server(_)
                | PipelineEvent::Feed(_)
                | PipelineEvent::Trouble(_) => {}
                PipelineEvent::Compacting | PipelineEvent::Compacted(_) => {
                    unreachable!("its journal is not configured to compact")
                }
            }
        }
        self.note_unreadable();
    }

    fn compared_anew(&mut self, error: &StepError) {
        self.trace(|| format!("  anew: {error}"));
        let excused = !self.excuses.is_none();
        match error {
            StepError::Lagging(_) => {
                // A root of which nobody heard, and that shows nothing new, looks like one on a server that lags.
                let went_unheard = self.excuses.lost_a_watch || self.excuses.lost_permission;
                assert!(
                    self.was_isolated || self.excuses.was_rewound || went_unheard,
                    "lag without a reason: {error}"
                );
                self.seen.see(Seen::Lagging);
            }
            StepError::Doubt(GapReason::Overflow) => self.seen.see(Seen::EventsFull),
            StepError::Doubt(reason) => {
                assert!(excused, "a doubt without a reason: {error}");
                let seen = match reason {
                    GapReason::Permission => Seen::Permission,
                    _ => Seen::Doubt,
                };
                self.seen.see(seen);
                self.judge.owes_gap(*reason);
            }
            StepError::Unproved(_) => panic!("a watched tree has no history to prove: {error}"),
            StepError::Journal(_) => {}
        }
    }

    fn halted(&mut self, halt: Halt) {
        self.trace(|| format!("  halted: {halt}"));
        match &halt {
            Halt::WentBack { .. } if self.excuses.was_rewound => self.seen.see(Seen::WentBack),
            // Roots that were created again look like those of another ensemble if nothing known is left below them.
            Halt::OtherEnsemble { .. } => self.seen.see(Seen::OtherEnsemble),
            Halt::WentBack { .. } | Halt::WrongPaths { .. } => {
                panic!("halted without a reason: {halt}")
            }
        }
        // The operator looks at it, accepts what is there, and starts the bridge again.
        self.accepts_baseline = true;
        self.restart_ms = self.now_ms + self.random.random_range(100..2_000);
        if let Some(bridge) = &mut self.bridge {
            bridge.client.stop();
            bridge.halted = Some(halt);
        }
    }

    /// Ends the transaction, and lets the judge see what became durable.
    pub(crate) fn commit(&mut self) {
        self.note_slowest();
        let Some(bridge) = &mut self.bridge else { return };
        let committed = bridge.flow.commit();
        let tail = committed.expect("a simulated journal fails only for want of room");
        bridge.has_open_batch = false;
        match tail {
            Some(tail) => bridge.durable = tail,
            None => self.seen.see(Seen::CommitFailed),
        }
        self.hear();
        self.judge_commits();
        self.checkpoint();
    }

    fn judge_commits(&mut self) {
        let batches = std::mem::take(&mut self.trail.borrow_mut().batches);
        for batch in batches {
            for entry in &batch {
                self.trace(|| {
                    format!(
                        "    {:?} {:?}",
                        entry.root.as_ref().map(ZnodePath::as_str),
                        entry.kind
                    )
                });
            }
            let mut bench = Bench {
                ensemble: &self.ensemble,
                excuses: self.excuses,
                seen: &mut self.seen,
            };
            self.judge.take(batch, &mut bench);
        }
        self.judge_times();
        self.judge_unreadable();
    }

    fn note_slowest(&mut self) {
        let disk = self.store.disk.borrow();
        let slowest = disk.state.cursors.values().min().copied().unwrap_or_default();
        self.disk_faults.borrow_mut().slowest = slowest;
    }

    fn beat(&mut self) {
        let now = self.wall();
        let now_ms = self.now_ms;
        let Some(bridge) = self
            .bridge
            .as_mut()
            .filter(|bridge| bridge.next_beat_ms <= now_ms)
        else {
            return;
        };
        bridge.next_beat_ms = now_ms + BEAT_MS;
        bridge.beats += 1;
        let retains = bridge.beats.is_multiple_of(BEATS_PER_RETENTION);
        if bridge.beats.is_multiple_of(BEATS_PER_TICK) {
            bridge.has_open_batch = true;
            bridge
                .flow
                .tick(now)
                .expect("a simulated journal fails only for want of room");
            self.note_live(now);
            self.trace(|| "tick".into());
            self.hear();
        }
        self.commit();
        if let Some(bridge) = self.bridge.as_mut().filter(|_| retains) {
            let before = self.store.disk.borrow().kept_from();
            bridge.flow.retain(now).expect("retention writes little");
            if self.store.disk.borrow().kept_from() > before {
                self.seen.see(Seen::Retained);
            }
        }
    }

    pub(crate) fn deliver(&mut self) {
        let at = self.random.random_range(0..self.sinks.len());
        for _ in 0..self.random.random_range(1..5) {
            let Some(bridge) = &mut self.bridge else { return };
            let mut around = Around {
                store: &self.store,
                durable: bridge.durable,
                now_ms: self.now_ms,
                may_fail: self.plan.faults.sinks && !self.is_peace,
                habit: self.habit,
                seen: &mut self.seen,
            };
            match self.sinks[at].step(&mut around) {
                Step::Idle => return,
                Step::Moved => {}
                Step::Report(progress) => {
                    // Killed before the journal has the progress: what was written is written again.
                    if self.may_be_killed() {
                        self.seen.see(Seen::KilledBeforeNote);
                        return self.kill();
                    }
                    if let Some(bridge) = &mut self.bridge {
                        bridge.flow.take_progress(progress);
                    }
                }
            }
        }
    }
}
