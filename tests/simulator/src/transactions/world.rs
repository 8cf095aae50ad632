//! One seed: the leader, the driver, the pipeline and the disk, one step after another, in virtual time. First faults, then
//! peace: then everything has to come to rest within a bound.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bridge_core::committed::{Committed, HistoryPosition};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::JournalWriter;
use bridge_core::machine::{CaptureState, StepError};
use bridge_core::number::{Seq, Zxid};
use bridge_core::pipeline::{Flow, PipelineEvent};
use bridge_core::record::{Gap, Op, Timestamp};
use bridge_core::source::{Connection, Input, SourceEvent};
use bridge_core::testing::ModelDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::driver::{Driver, Heard};
use super::habit::TransactionHabit;
use super::judge::{Bench, TransactionJudge};
use super::leader::{Leader, Packet};
use super::plan::{TransactionPlan, is_captured};
use super::reached::{Encountered, Encounters};
use crate::journal::{Faults, Store, Tap, Trail};

/// How long a bridge stays away: longer than a lost connection may look live.
const ABSENT_MS: std::ops::Range<u64> = 61_000..600_000;

/// A gap may begin so much later than what it misses, as readers know.
const LATE_MS: u64 = 60_000;

/// The wall clock when the virtual time begins.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Batches between two rounds in which it is stored until when capture is live.
const BATCHES_PER_RETENTION: u64 = 8;

/// Steps of peace after which everything has to be at rest.
const PEACE_MAX: usize = 20_000;

/// The bridge's process.
struct Process {
    flow: Flow<Tap>,
    driver: Driver,
    /// The connection of the last report that the pipeline has taken.
    taken: Connection,
    has_open_batch: bool,
}

/// One seed.
pub struct TransactionWorld {
    plan: TransactionPlan,
    habit: Option<TransactionHabit>,
    random: StdRng,
    now_ms: u64,
    leader: Leader,
    /// When each transaction of its history was committed.
    committed_ms: Vec<u64>,
    batches: u64,
    store: Store,
    disk_faults: Rc<RefCell<Faults>>,
    trail: Rc<RefCell<Trail>>,
    judge: TransactionJudge,
    /// Positions from which a gap may be.
    excused: BTreeSet<Zxid>,
    process: Option<Process>,
    restart_ms: u64,
    full_until_ms: u64,
    is_peace: bool,
    is_traced: bool,
    seen: Encounters,
}

impl TransactionWorld {
    /// Before the first step.
    pub fn new(plan: TransactionPlan, habit: Option<TransactionHabit>, is_traced: bool) -> TransactionWorld {
        let mut seen = Encounters::default();
        if plan.with_real_journal {
            seen.see(Encountered::RealJournal);
        }
        // Nothing is removed: the judge reads everything again after a loss of power.
        let disk = ModelDisk::new(plan.syncs_commits, i64::MAX);
        TransactionWorld {
            random: StdRng::seed_from_u64(plan.seed),
            judge: TransactionJudge::new(&plan),
            store: Store::new(disk, plan.with_real_journal),
            plan,
            habit,
            now_ms: 1_000,
            leader: Leader::new(),
            committed_ms: Vec::new(),
            batches: 0,
            disk_faults: Rc::default(),
            trail: Rc::default(),
            excused: BTreeSet::new(),
            process: None,
            restart_ms: 0,
            full_until_ms: 0,
            is_peace: false,
            is_traced,
            seen,
        }
    }

    /// Plays the seed to its end, and gives what it reached.
    ///
    /// # Panics
    ///
    /// When something broke.
    pub fn play(mut self) -> Encounters {
        for _ in 0..self.plan.steps {
            self.pass_time();
            self.step();
        }
        self.is_peace = true;
        self.disk_faults.borrow_mut().disk_is_full = false;
        for _ in 0..PEACE_MAX {
            self.pass_time();
            if self.is_at_rest() {
                self.check_rest();
                return self.seen;
            }
            self.calm_step();
        }
        panic!("the source never came to rest: {:?}", self.state());
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>7} {}", self.now_ms, what());
        }
    }

    fn state(&self) -> Option<CaptureState> {
        self.process
            .as_ref()
            .map(|process| process.flow.machine().state())
    }

    fn wall(&self) -> Timestamp {
        Timestamp(EPOCH_MS + self.now_ms.cast_signed())
    }

    fn pass_time(&mut self) {
        self.committed_ms
            .resize(self.leader.server.history.len(), self.now_ms);
        self.now_ms += self.random.random_range(0..50);
        if self.now_ms >= self.full_until_ms {
            self.disk_faults.borrow_mut().disk_is_full = false;
        }
        if self.process.is_none() && self.now_ms >= self.restart_ms {
            self.start();
        }
    }

    fn start(&mut self) {
        let twin = self.store.open();
        let tail = Seq(self.store.disk.borrow().state.model.records.len() as u64);
        let habit = self.habit.and_then(TransactionHabit::of_journal);
        let faults = Rc::clone(&self.disk_faults);
        let mut tap = Tap::new(twin, tail, faults, Rc::clone(&self.trail), habit);
        if self.habit == Some(TransactionHabit::ForgetsPosition) {
            self.forget_position(&mut tap);
        }
        let machine = Box::new(Committed::new(self.plan.options.clone()));
        self.process = Some(Process {
            flow: Flow::new(machine, tap, self.plan.seed),
            driver: Driver::new(self.habit),
            taken: Connection::default(),
            has_open_batch: false,
        });
    }

    /// The position that is stored is an earlier one than that of the image.
    fn forget_position(&self, tap: &mut Tap) {
        let Ok(Some(position)) = tap.position() else {
            return;
        };
        let earlier = self
            .leader
            .server
            .history
            .iter()
            .rev()
            .find(|txn| txn.zxid < position.zxid);
        if let Some(earlier) = earlier {
            let rewound = HistoryPosition {
                zxid: earlier.zxid,
                payload_crc: Some(earlier.payload_crc),
                ..position
            };
            let stored = tap.set_position(Some(&rewound));
            stored.expect("a simulated disk that is not full takes it");
            JournalWriter::commit(tap).expect("a simulated disk that is not full takes it");
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..30 + self.plan.fault_weight) {
            0..5 => self.propose(),
            5..10 => self.commit(),
            10..20 => self.connection(),
            20..30 => self.pipeline(),
            _ => self.fault(),
        }
    }

    fn calm_step(&mut self) {
        match self.random.random_range(0..3) {
            0 => self.commit(),
            1 => self.connection(),
            _ => self.pipeline(),
        }
    }

    fn send(&mut self, packet: Packet) {
        if let Some(process) = &mut self.process {
            process.driver.send(packet);
        }
    }

    fn propose(&mut self) {
        let txn = self.leader.propose(&mut self.random, &mut self.seen);
        self.trace(|| format!("proposed {txn:?}"));
        self.send(Packet::Proposal(txn));
    }

    fn commit(&mut self) {
        if let Some(zxid) = self.leader.commit(&mut self.seen) {
            self.trace(|| format!("committed {zxid}"));
            self.send(Packet::Commit(zxid));
        }
    }

    fn connection(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.driver.connect(self.now_ms, &mut self.seen);
        for _ in 0..self.random.random_range(1..6) {
            process.driver.receive(&self.leader, &self.plan, &mut self.seen);
        }
        process.driver.pump(&mut self.random);
    }

    /// The pipeline takes what waits into one transaction, and commits; or the process is killed before.
    fn pipeline(&mut self) {
        let now = self.wall();
        for _ in 0..self.random.random_range(1..8) {
            let Some(process) = &mut self.process else { return };
            let Some(report) = process.driver.channel.pop_front() else {
                break;
            };
            if self.is_traced {
                println!("{:>7} → {report:?}", self.now_ms);
            }
            process.has_open_batch = true;
            if let SourceEvent::Connected { connection, .. } = &report {
                process.taken = *connection;
            }
            let taken = process.flow.report(report, now);
            taken.expect("a simulated journal fails only for want of room");
            self.lie_about_live(now);
            self.hear();
            if self.may_be_killed() {
                self.seen.see(Encountered::KilledWithOpenBatch);
                return self.kill();
            }
        }
        let Some(process) = &mut self.process else { return };
        if process.flow.machine().waiting() > 0 {
            self.seen.see(Encountered::Held);
        }
        if process.flow.has_more() {
            let more = process.flow.go_on(now);
            more.expect("a simulated journal fails only for want of room");
            self.hear();
        }
        self.make_durable();
    }

    /// The habit that takes a source for complete as soon as it follows.
    fn lie_about_live(&mut self, now: Timestamp) {
        if let Some(process) = &mut self.process
            && self.habit == Some(TransactionHabit::LiveBeforeUpToDate)
            && process.flow.machine().state() == CaptureState::Live
        {
            process.flow.journal().set_live(now);
        }
    }

    fn may_be_killed(&mut self) -> bool {
        self.plan.kills && !self.is_peace && self.random.random_bool(0.02)
    }

    /// Carries out what the pipeline decided.
    fn hear(&mut self) {
        while let Some(event) = self
            .process
            .as_mut()
            .and_then(|process| process.flow.next_event())
        {
            match event {
                PipelineEvent::Request(request) => {
                    let Some(process) = &mut self.process else { return };
                    let terms = (&self.plan, self.is_peace, self.now_ms);
                    let heard = process.driver.carry_out(
                        request,
                        &mut self.leader,
                        terms,
                        &mut self.random,
                        &mut self.seen,
                    );
                    match heard {
                        Heard::Nothing => {}
                        Heard::Forced(after) => drop(self.excused.insert(after)),
                        Heard::Rewound(to) => return self.rewind(to),
                    }
                }
                PipelineEvent::Anew(error) => self.began_anew(&error),
                PipelineEvent::Held(_) => self.seen.see(Encountered::JournalHeld),
                PipelineEvent::Halted(halt) => panic!("{halt}"),
                PipelineEvent::Refused(refused) => panic!("{refused}"),
                PipelineEvent::Connected(_)
                | PipelineEvent::Server(_)
                | PipelineEvent::Feed(_)
                | PipelineEvent::Trouble(_) => {}
                PipelineEvent::Compacting | PipelineEvent::Compacted(_) => {
                    unreachable!("its journal is not configured to compact")
                }
            }
        }
    }

    /// A step failed: the history that was sent has to be to blame.
    fn began_anew(&mut self, error: &StepError) {
        self.trace(|| format!("anew: {error}"));
        let position = self.position().unwrap_or_default();
        match error {
            StepError::Unproved(_) => {
                assert!(self.was_spoiled(), "the whole history was sent, and {error}");
                self.seen.see(Encountered::Unproved);
            }
            StepError::Doubt(_) => self.seen.see(Encountered::HeldTooMuch),
            StepError::Lagging(_) => panic!("no server lags, and {error}"),
            StepError::Journal(_) => return,
        }
        self.excused.insert(position);
    }

    fn was_spoiled(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.driver.spoiled.contains(&process.taken))
    }

    /// The position that is durable.
    fn position(&mut self) -> Option<Zxid> {
        let process = self.process.as_mut()?;
        let position = process.flow.journal().position().expect("it can be read");
        position.map(|position| position.zxid)
    }

    /// The habit that takes a cut history for one that its own journal has to be cut to.
    fn rewind(&mut self, to: Zxid) {
        let known = self.leader.position(to);
        let Some(process) = &mut self.process else { return };
        let journal = process.flow.journal();
        if let Ok(Some(position)) = journal.position() {
            let rewound = HistoryPosition {
                zxid: to,
                payload_crc: known.payload_crc,
                digest: known.digest,
                ..position
            };
            let stored = journal.set_position(Some(&rewound));
            stored.expect("a simulated disk that is not full takes it");
        }
        process.driver.cut(Some(Input::Disconnected));
    }

    fn make_durable(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.has_open_batch = false;
        let committed = process.flow.commit();
        let committed = committed.expect("a simulated journal fails only for want of room");
        self.hear();
        self.trail.borrow_mut().batches.clear();
        if committed.is_some() {
            self.judge_all();
        }
        self.batches += 1;
        let now = self.wall();
        if let Some(process) = &mut self.process
            && self.batches.is_multiple_of(BATCHES_PER_RETENTION)
        {
            let stored = process.flow.retain(now);
            stored.expect("a simulated journal fails only for want of room");
        }
    }

    /// A gap says since when it counts, and misses nothing from long before that.
    fn judge_since(&mut self, gap: &Gap) {
        let Some(since) = gap.since else { return };
        self.seen.see(Encountered::GapSince);
        let mut history = self.leader.server.history.iter().zip(&self.committed_ms);
        let missed = history.find(|(txn, _)| txn.zxid > gap.from_zxid);
        if let Some((txn, committed_ms)) = missed {
            let since_ms = (since.0 - EPOCH_MS).cast_unsigned();
            assert!(
                since_ms <= committed_ms + LATE_MS,
                "a gap begins {} ms after {}, which it misses: {gap:?}",
                since_ms - committed_ms,
                txn.zxid
            );
        }
    }

    fn judge_all(&mut self) {
        let records = self.store.read(
            self.judge.judged,
            usize::MAX,
            &mut crate::coverage::Coverage::default(),
        );
        for record in &records {
            if let (Op::GapBegin, Some(gap)) = (record.op, &record.gap) {
                self.judge_since(gap);
            }
        }
        let mut bench = Bench {
            history: &self.leader.server.history,
            excused: &self.excused,
            seen: &mut self.seen,
        };
        self.judge.judge(&records, &mut bench);
        self.check_image();
    }

    /// Unless a comparison is under way, the image is the tree at the position, in every field of every Stat, and
    /// everything up to there has its records.
    fn check_image(&mut self) {
        if !self.judge.is_at_rest() {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let Some(position) = process.flow.journal().position().expect("it can be read") else {
            return;
        };
        // Before the first record of a comparison the position is marked already.
        if position.scope % 2 == 0 {
            return;
        }
        self.judge.pass(position.zxid, &self.leader.server.history);
        let tree = self.judge.tree();
        let scope = self.plan.scope();
        let nodes = tree.nodes.keys().filter(|path| is_captured(&scope, path));
        let expected: Vec<_> = nodes
            .map(|path| (path.clone(), tree.stat(path), Some(tree.nodes[path].data.clone())))
            .collect();
        let disk = self.store.disk.borrow();
        let image: Vec<_> = disk
            .state
            .model
            .image
            .iter()
            .map(|(path, znode)| {
                let data = znode.data.as_ref().map(|data| data.bytes.clone());
                (path.clone(), znode.stat, data)
            })
            .collect();
        assert_eq!(
            image, expected,
            "the image, and then the tree at {}",
            position.zxid
        );
    }

    fn fault(&mut self) {
        match self.random.random_range(0..6) {
            0 => {
                self.seen.see(Encountered::Cut);
                if self.state() == Some(CaptureState::Walking) {
                    self.seen.see(Encountered::StageCut);
                }
                if let Some(process) = &mut self.process {
                    process.driver.cut(Some(Input::Disconnected));
                }
            }
            1 | 2 if self.plan.elections => {
                self.leader.elect(&mut self.seen);
                if let Some(process) = &mut self.process {
                    process.driver.cut(Some(Input::Disconnected));
                }
            }
            3 if self.plan.kills => self.kill(),
            4 if self.plan.full => {
                self.seen.see(Encountered::DiskFull);
                self.disk_faults.borrow_mut().disk_is_full = true;
                self.full_until_ms = self.now_ms + self.random.random_range(100..2_000);
            }
            5 if self.plan.power => {
                self.seen.see(Encountered::PowerLost);
                self.kill();
                self.lose_power();
            }
            _ => {
                // The operating system writes what was committed.
                self.store.disk.borrow_mut().sync();
            }
        }
    }

    fn kill(&mut self) {
        self.seen.see(Encountered::Killed);
        self.process = None;
        self.restart_ms = self.now_ms + self.random.random_range(10..2_000);
        if self.plan.absences {
            self.be_absent();
        }
    }

    /// The ensemble goes on for minutes without the bridge.
    fn be_absent(&mut self) {
        self.seen.see(Encountered::Absent);
        for _ in 0..self.random.random_range(0..self.plan.window) {
            self.propose();
            self.commit();
            self.committed_ms
                .resize(self.leader.server.history.len(), self.now_ms);
        }
        self.now_ms += self.random.random_range(ABSENT_MS);
    }

    /// Writes that were not synchronised are lost: the judge reads the others.
    fn lose_power(&mut self) {
        // Commits without records are lost, too: they have moved the position.
        if self.store.disk.borrow_mut().lose_power() > 0 {
            self.seen.see(Encountered::CommitsLost);
        }
        self.judge = TransactionJudge::new(&self.plan);
        let records = self
            .store
            .read(Seq::ZERO, usize::MAX, &mut crate::coverage::Coverage::default());
        let mut bench = Bench {
            history: &self.leader.server.history,
            excused: &self.excused,
            seen: &mut Encounters::default(),
        };
        self.judge.judge(&records, &mut bench);
    }

    fn is_at_rest(&self) -> bool {
        let Some(process) = &self.process else {
            return false;
        };
        self.leader.proposed.is_empty()
            && process.driver.is_idle()
            && !process.has_open_batch
            && process.flow.machine().state() == CaptureState::Live
            && process.flow.machine().waiting() == 0
            && process.flow.machine().reported() == Some(self.leader.server.last())
    }

    /// Everything that was committed is recorded.
    fn check_rest(&mut self) {
        self.judge_all();
        assert!(self.judge.is_at_rest(), "a gap or listing never ended");
        self.judge.pass(Zxid(u64::MAX), &self.leader.server.history);
    }
}
