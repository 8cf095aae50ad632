//! The worker of one sink and one source: carries out the tasks of the machine and reports their ends. The machine
//! makes all decisions; all waiting is here.
//!
//! It never delivers before the journal is durable, never moves a cursor in the journal before the sink reported, and
//! never delays another worker. No task of it outlives its `run`.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Merging, Tail};
use super::filter::CompiledFilter;
use super::machine::Machine;
use super::options::{RejectPolicy, Retry};
use super::refusals::Refusals;
use super::replay::{NotQueued, ReplayOrder};
use super::report;
use super::sink_backlog::SinkBacklog;
use super::sink_failure::{SinkFailure, SinkFailureKind};
use super::sink_log::{Line, SinkLog};
use super::status::{Meters, ParkedStatus, RunStatus, SinkStatus, set_aside, settled};
use super::steps::{MachineConfig, OperatorRequest, Phase, StepProgress, Task, WorkerInput};
use crate::journal::{ReadLimit, RefusedProgress, SinkProgress};
use crate::number::Seq;
use crate::record::Timestamp;
use crate::sink::{Delivery, Sink};

/// The greatest age of status and gauges while a call is under way.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The limit of a sink's `close`; a longer one is abandoned, because the contract demands an end within its own bound.
const CLOSE_BOUND: Duration = Duration::from_secs(15);

/// The wall clock, for ages; a test has its own.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The parts of a worker.
pub struct Setup {
    /// The sink's name, also that of its cursor, metrics and dead letters.
    pub sink: Arc<str>,
    /// The source's name.
    pub source: Arc<str>,
    /// The destination.
    pub destination: Box<dyn Sink>,
    /// A reader of the journal, for this worker alone.
    pub tail: Box<dyn Tail>,
    /// The last seq that is durable in the journal.
    pub durable: watch::Receiver<Seq>,
    /// To the journal's writer.
    pub progress: mpsc::Sender<SinkProgress>,
    /// Progress that the journal's writer refused.
    pub refusals: Refusals,
    /// Delivery continues after this record. The journal already has the sink: a new one was registered by
    /// [`SinkState::register_sink`](crate::journal::SinkState::register_sink) at [`super::Start::first_cursor`].
    pub cursor: Seq,
    /// The stored parked records and dead letters of the sink.
    pub backlog: SinkBacklog,
    /// Requests of operators to the sink.
    pub orders: mpsc::Receiver<OperatorRequest>,
    /// Which records the sink gets.
    pub filter: CompiledFilter,
    /// The window in which writes are merged; `None`: each is delivered.
    pub merge: Option<Duration>,
    /// How failures are tried again.
    pub retry: Retry,
    /// The handling of rejected records.
    pub rejects: RejectPolicy,
    /// The limit of one read and one delivery.
    pub limit: ReadLimit,
    /// The time of day.
    pub clock: WallClock,
    /// The seed of the jitter.
    pub seed: u64,
    /// Ends the worker when it is cancelled.
    pub stop: CancellationToken,
    /// How long it may continue to deliver after that.
    pub drain: Duration,
}

/// One sink's delivery of one source's records. Nothing happens before [`Worker::run`].
pub struct Worker {
    sink: Box<dyn Sink>,
    state: WorkerState,
    progress: mpsc::Sender<SinkProgress>,
    refusals: Refusals,
    /// Refusals of this sink before this worker began.
    refused_before: u64,
    orders: Option<mpsc::Receiver<OperatorRequest>>,
    stop: CancellationToken,
    drain: Duration,
}

/// The event that ended a wait of the worker.
enum WorkerEvent {
    Input(WorkerInput),
    Order(Option<OperatorRequest>),
    /// The worker was stopped, and there is nothing more to drain.
    Stop,
}

/// Everything except the sink, so that it can be used while a call of the sink is under way.
struct WorkerState {
    feed: Feed,
    machine: Machine,
    meters: Meters,
    status: SinkStatus,
    published: watch::Sender<SinkStatus>,
    clock: WallClock,
    sink_log: SinkLog,
    /// The capture time of the oldest record that is not delivered.
    oldest: Option<Timestamp>,
    /// The machine's zero.
    began: Instant,
}

/// The journal's writer has ended, so that no cursor can be stored any more.
struct WriterGone;

impl Worker {
    /// Prepares a worker. The receiver shows its status from now on.
    pub fn new(setup: Setup) -> (Worker, watch::Receiver<SinkStatus>) {
        let status_sink = Arc::clone(&setup.sink);
        let status = SinkStatus::new(setup.sink, setup.source, setup.cursor);
        let (published, receiver) = watch::channel(status.clone());
        let machine = Machine::new(MachineConfig {
            cursor: setup.cursor,
            retry: setup.retry,
            rejects: setup.rejects,
            backlog: setup.backlog,
            seed: setup.seed,
        });
        let merging = setup
            .merge
            .map(|span| Merging::new(span, Arc::clone(&setup.clock)));
        let feed = Feed::new(
            setup.tail,
            setup.filter,
            setup.limit,
            setup.cursor,
            setup.durable,
            merging,
        )
        .lingering(setup.destination.linger(), Arc::clone(&setup.clock));
        let mut state = WorkerState {
            feed,
            machine,
            meters: Meters::new(&status.sink, &status.source),
            status,
            published,
            clock: setup.clock,
            sink_log: SinkLog::default(),
            oldest: None,
            began: Instant::now(),
        };
        state.publish();
        let worker = Worker {
            sink: setup.destination,
            state,
            progress: setup.progress,
            refused_before: setup.refusals.count(&status_sink),
            refusals: setup.refusals,
            orders: Some(setup.orders),
            stop: setup.stop,
            drain: setup.drain,
        };
        (worker, receiver)
    }

    /// Delivers until the worker is stopped, then drains within the bound and closes the sink. All its tasks have ended
    /// when it returns. Not cancel safe: cancel `stop` instead.
    ///
    /// A panic of the sink halts this worker only, with an error in its status; so does a progress that the journal
    /// refused.
    pub async fn run(mut self) {
        let (mut refusals, before) = (self.refusals.clone(), self.refused_before);
        let sink = Arc::clone(&self.state.status.sink);
        let stop = self.stop.clone();
        let drain = self.drain;
        let bound = async {
            stop.cancelled().await;
            sleep(drain).await;
        };
        let ended = tokio::select! {
            biased;
            refused = refusals.refused(&sink, before) => {
                self.state.refused(&refused);
                stop.cancelled().await;
                Ok(())
            }
            ended = AssertUnwindSafe(self.work()).catch_unwind() => ended,
            () = bound => {
                report::drain_bound_reached(&self.state.status, drain);
                Ok(())
            }
        };
        if let Err(panic) = ended {
            self.state.panicked(panic.as_ref());
            return stop.cancelled().await;
        }
        self.state.feed.finish().await;
        self.close().await;
    }

    async fn work(&mut self) {
        // Stored at once, so that a new sink begins at the same place after a restart, whatever was delivered by then.
        let first = self.state.machine.standing();
        if self.send_progress(first).await.is_err() {
            return;
        }
        self.state.began = Instant::now();
        loop {
            self.state.publish();
            let progress = match self.perform().await {
                WorkerEvent::Input(input) => self.state.step(input),
                WorkerEvent::Order(Some(order)) => self.state.order(order).await,
                WorkerEvent::Order(None) => {
                    self.orders = None;
                    continue;
                }
                WorkerEvent::Stop => return,
            };
            if let Some(progress) = progress
                && self.send_progress(progress).await.is_err()
            {
                return;
            }
        }
    }

    /// Performs the machine's task to its end, or takes a request that arrived before its start or during a wait.
    async fn perform(&mut self) -> WorkerEvent {
        let Worker {
            sink,
            state,
            stop,
            orders,
            ..
        } = self;
        if let Some(order) = waiting(orders) {
            return WorkerEvent::Order(Some(order));
        }
        match state.machine.task() {
            Task::Open => tokio::select! {
                biased;
                opened = sink.open() => WorkerEvent::Input(WorkerInput::Opened(opened)),
                () = stop.cancelled() => WorkerEvent::Stop,
                never = state.attend() => match never {},
            },
            Task::Fetch => state.fetch(stop, orders).await,
            Task::FetchRetries(seqs) => {
                WorkerEvent::Input(WorkerInput::RetriesFetched(state.feed.recall(seqs).await))
            }
            // The delivered part of a run is stored; the next start continues with the rest.
            Task::FetchSnapshot(_) if stop.is_cancelled() => WorkerEvent::Stop,
            Task::FetchSnapshot(run) => {
                WorkerEvent::Input(WorkerInput::SnapshotFetched(state.feed.snapshot_page(run).await))
            }
            Task::Deliver(delivery) => WorkerEvent::Input(deliver(sink.as_mut(), state, &delivery).await),
            Task::Wait(delay) => {
                let event = state.wait(delay, stop, orders).await;
                if let WorkerEvent::Input(WorkerInput::More(batch)) = &event
                    && batch.records.iter().any(|record| sink.may_correct(record))
                {
                    state.machine.may_be_corrected();
                }
                event
            }
            Task::Rest => tokio::select! {
                biased;
                () = stop.cancelled() => WorkerEvent::Stop,
                order = next(orders) => WorkerEvent::Order(order),
                never = state.attend() => match never {},
            },
        }
    }

    async fn send_progress(&mut self, progress: StepProgress) -> Result<(), WriterGone> {
        self.state.status.count(&progress);
        let now = (self.state.clock)();
        self.state.meters.count(&progress, now);
        let (status, at) = (&self.state.status, Instant::now().into_std());
        report::not_restated(status, &progress, &mut self.state.sink_log, at);
        let dead_letters = self.state.machine.letters();
        report::rejected(status, &progress, dead_letters, &mut self.state.sink_log, at);
        let settled = settled(&progress);
        if !settled.is_empty() {
            self.sink.forget_deferred(&settled);
        }
        let progress = progress.of_sink(Arc::clone(&self.state.status.sink), now);
        self.progress.send(progress).await.map_err(|_| {
            report::writer_gone(&self.state.status);
            WriterGone
        })
    }

    async fn close(mut self) {
        match tokio::time::timeout(CLOSE_BOUND, self.sink.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report::close_failed(&self.state.status, &error),
            Err(_) => report::close_abandoned(&self.state.status, CLOSE_BOUND),
        }
        self.state.publish();
        self.state.status.state = Phase::Closed;
        self.state.published.send_replace(self.state.status);
    }
}

async fn deliver(sink: &mut dyn Sink, state: &mut WorkerState, delivery: &Delivery) -> WorkerInput {
    let began = Instant::now();
    let result = tokio::select! {
        biased;
        result = sink.deliver(delivery) => result,
        never = state.attend() => match never {},
    };
    state
        .meters
        .deliver_duration
        .record(began.elapsed().as_secs_f64());
    state.shrunk(sink.take_shrunk());
    WorkerInput::Delivered(result)
}

impl WorkerState {
    /// Reads ahead and keeps the status fresh while something else is awaited. Cancel safe.
    async fn attend(&mut self) -> Infallible {
        loop {
            tokio::select! {
                biased;
                () = self.feed.progress() => {}
                () = sleep(STATUS_EVERY) => self.publish(),
            }
        }
    }

    async fn fetch(
        &mut self,
        stop: &CancellationToken,
        orders: &mut Option<mpsc::Receiver<OperatorRequest>>,
    ) -> WorkerEvent {
        let due = self.machine.due().map(|due| self.began + due);
        loop {
            if stop.is_cancelled() {
                self.feed.end_lingering();
                self.feed.end_last_window();
            }
            if let Some(read) = self.feed.take() {
                return WorkerEvent::Input(WorkerInput::Fetched(read.map(|read| read.batch)));
            }
            if stop.is_cancelled() && self.feed.is_drained() {
                return WorkerEvent::Stop;
            }
            tokio::select! {
                biased;
                () = self.feed.progress() => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                order = next(orders) => return WorkerEvent::Order(order),
                () = until(due), if !stop.is_cancelled() => return WorkerEvent::Input(WorkerInput::Due),
                () = sleep(STATUS_EVERY) => self.publish(),
            }
        }
    }

    /// Waits for the next attempt. Batches that arrive meanwhile are added to it.
    async fn wait(
        &mut self,
        delay: Duration,
        stop: &CancellationToken,
        orders: &mut Option<mpsc::Receiver<OperatorRequest>>,
    ) -> WorkerEvent {
        let end = Instant::now() + delay;
        loop {
            if self.machine.wants_more(self.feed.limit())
                && let Some(read) = self.feed.take_read()
            {
                return WorkerEvent::Input(WorkerInput::More(read.batch));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return WorkerEvent::Stop,
                () = sleep_until(end) => return WorkerEvent::Input(WorkerInput::Waited),
                order = next(orders) => return WorkerEvent::Order(order),
                () = self.feed.progress() => {}
                () = sleep(STATUS_EVERY) => self.publish(),
            }
        }
    }

    fn step(&mut self, input: WorkerInput) -> Option<StepProgress> {
        let now = self.began.elapsed();
        if matches!(input, WorkerInput::More(_)) {
            // This is the previous failure: it counts once.
            return self.machine.step(input, now);
        }
        self.watched(|machine| machine.step(input, now))
    }

    async fn order(&mut self, order: OperatorRequest) -> Option<StepProgress> {
        report::ordered(&self.status, &order);
        let OperatorRequest::Replay(replay) = order else {
            return self.watched(|machine| machine.order(&order));
        };
        let named = replay.records.len() as u64;
        let replay = match self.without_outdated(replay).await {
            Ok(replay) => replay,
            Err(problem) => {
                report::replay_failed(&self.status, named, &problem);
                self.status.replay.count(named, 0, named, Some(problem));
                return None;
            }
        };
        let order = OperatorRequest::Replay(replay);
        let (queued, not_queued) = (self.machine.replayed, self.machine.not_replayed);
        let progress = self.watched(|machine| machine.order(&order));
        let queued = self.machine.replayed - queued;
        let not_queued = self.machine.not_replayed - not_queued;
        if not_queued > 0 {
            report::replay_failed(&self.status, not_queued, &NotQueued::QueueFull);
        }
        let counts = &mut self.status.replay;
        counts.count(named, queued, not_queued, Some(NotQueued::QueueFull));
        progress
    }

    /// Leaves the paths out that have a newer record which was handled since the order was made, or one that is about to
    /// be delivered. Nothing else is handled until the rest is queued.
    async fn without_outdated(&mut self, order: ReplayOrder) -> Result<ReplayOrder, NotQueued> {
        let Some(current_to) = order.current_to else {
            return Ok(order);
        };
        let order = order.without(&self.machine.paths_under_way());
        let handled = self.machine.handled();
        if current_to >= handled {
            return Ok(order);
        }
        match self.feed.newer(order.paths(), current_to, handled).await {
            Ok(Some(newer)) => Ok(order.without(&newer)),
            Ok(None) => Err(NotQueued::TooManyNewer),
            Err(error) => Err(NotQueued::of(&error)),
        }
    }

    /// A step of the machine, with its log lines and metrics.
    fn watched(&mut self, step: impl FnOnce(&mut Machine) -> Option<StepProgress>) -> Option<StepProgress> {
        let before = self.machine.failure().cloned();
        let parked_before = self.machine.parked().0;
        let progress = step(&mut self.machine);
        for kind in self.machine.take_failed_paths() {
            self.status.retries += 1;
            self.meters.retried(SinkFailureKind::Sink(kind));
        }
        let phase = self.machine.phase();
        let after = self.machine.failure();
        if let (Phase::BackingOff, Some(failure)) = (phase, after)
            && failure.kind != SinkFailureKind::ParkedFull
        {
            self.status.retries += 1;
            self.meters.retried(failure.kind);
        }
        if parked_before > 0 {
            let rejected = progress.as_ref().map_or(0, |progress| set_aside(progress).0);
            self.sink_log.add_rejected_while_parked(rejected);
        }
        let now = Instant::now().into_std();
        if let Some(line) = self.sink_log.moved(before.as_ref(), after, phase, now) {
            report::moved(&self.status, line, before.as_ref(), after);
        }
        if self.sink_log.parked(parked_before, self.machine.parked().0, now) {
            let new_dead_letters = self.sink_log.take_rejected_while_parked();
            report::parked(&self.status, parked_before, &self.machine, new_dead_letters);
        }
        progress
    }

    fn shrunk(&mut self, records: u64) {
        if records > 0 && self.status.shrunk == 0 {
            report::shrunk(&self.status);
        }
        self.status.shrunk += records;
        self.meters.shrunk.increment(records);
    }

    fn publish(&mut self) {
        let status = &mut self.status;
        status.state = self.machine.phase();
        status.cursor = self.machine.cursor();
        status.tail = self.feed.tail().max(status.cursor);
        let filtered = self.feed.filtered();
        self.meters.filtered.increment(filtered - status.filtered);
        status.filtered = filtered;
        status.lag_records = status.tail.0 - status.cursor.0;
        self.oldest = match self.machine.oldest_left() {
            Some(record) => Some(record.time.captured),
            None if status.state == Phase::Halted && self.oldest.is_some() => self.oldest,
            None => self.feed.first_captured(),
        };
        status.lag_seconds = match self.oldest {
            Some(captured) if status.lag_records > 0 => captured.age_seconds((self.clock)()),
            _ => 0.0,
        };
        status.error = self.machine.failure().cloned();
        status.dead_letters = self.machine.letters() as u64;
        status.run = self.machine.run().map(RunStatus::of);
        status.parked = ParkedStatus::of(&self.machine, self.began.elapsed());
        self.meters.show(status);
        self.published.send_replace(status.clone());
    }

    fn panicked(&mut self, panic: &(dyn std::any::Any + Send)) {
        let words = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("without words");
        self.halted(
            format!("the worker panicked: {words}"),
            "this is a defect of zkbridge: report it with the log, and restart; the cursor is kept",
        );
    }

    /// Halts the worker: the cursors of the journal and of the machine differ, so the next record is not known.
    fn refused(&mut self, refused: &RefusedProgress) {
        self.halted(refused.cause(), RefusedProgress::HELP);
    }

    /// Halts the worker itself, which no request of an operator undoes.
    fn halted(&mut self, message: String, remedy: &'static str) {
        let failure = SinkFailure {
            kind: SinkFailureKind::Worker,
            message,
            remedy,
            calls_operator: true,
            failures: 1,
            retry_after_seconds: None,
        };
        report::moved(&self.status, Line::Halted, None, Some(&failure));
        self.status.state = Phase::Halted;
        self.status.error = Some(failure);
        self.meters.show(&self.status);
        self.published.send_replace(self.status.clone());
    }
}

/// A request that has arrived.
fn waiting(orders: &mut Option<mpsc::Receiver<OperatorRequest>>) -> Option<OperatorRequest> {
    orders.as_mut()?.try_recv().ok()
}

/// The next request; `None` if the sender is closed. Cancel safe.
async fn next(orders: &mut Option<mpsc::Receiver<OperatorRequest>>) -> Option<OperatorRequest> {
    match orders {
        Some(orders) => orders.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
