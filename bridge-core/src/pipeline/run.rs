//! The loop of the pipeline.

mod journal_file;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout_at};

use self::journal_file::HeldJournal;
use super::flow::{Flow, PipelineEvent};
use super::group_commit::GroupCommit;
use super::history_status::{HistoryStatus, LagClock};
use super::latency::Arrivals;
use super::status::{JournalStatus, SourceStatus};
use super::ticker::Ticker;
use super::troubles::{TroubleLine, TroubleLog};
use crate::delivery::{RefusalSender, Refusals, WallClock};
use crate::journal::{Journal, JournalError, JournalWriter, RefusedProgress, SinkProgress};
use crate::log_throttle::LogThrottle;
use crate::machine::{CaptureState, SourceMachine};
use crate::metrics as names;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::source::{AddressedRequest, FeedMeasures, SourceError, SourceEvent};

/// Reports of one transaction at most, so that what is waiting becomes durable soon.
const BATCH_REPORTS: usize = 256;
/// No new report joins a transaction after this.
const BATCH_TIME: Duration = Duration::from_millis(30);

/// Work of another task on the journal, done on the pipeline's thread between two batches: the journal has one writer.
/// It must be short, and commit what it writes: the rest is rolled back.
pub type WriterTask = Box<dyn FnOnce(&mut Journal) + Send>;

/// All that a pipeline needs.
pub struct PipelineSetup {
    /// The name of the source.
    pub source: Arc<str>,
    /// Turns its inputs into appends and requests.
    pub machine: Box<dyn SourceMachine>,
    /// Open, and owned from now on.
    pub journal: Journal,
    /// From the connection; the pipeline's capture ends when it closes.
    pub reports: mpsc::Receiver<SourceEvent>,
    /// To the connection.
    pub requests: mpsc::Sender<AddressedRequest>,
    /// From the delivery workers; the pipeline ends when both have closed.
    pub progress: mpsc::Receiver<SinkProgress>,
    /// From who enters sinks while it runs. Closed, there are none.
    pub writer_tasks: mpsc::Receiver<WriterTask>,
    /// The time of day.
    pub clock: WallClock,
    /// The seed of the jitter between connections.
    pub seed: u64,
}

/// The channels through which others watch a pipeline.
#[derive(Clone, Debug)]
pub struct Watches {
    /// The last durable record.
    pub durable: watch::Receiver<Seq>,
    /// Progress of sinks that was refused.
    pub refusals: Refusals,
    /// The status of the source.
    pub status: watch::Receiver<SourceStatus>,
}

/// The pipeline of one source. Nothing happens before [`Pipeline::run`].
pub struct Pipeline {
    flow: Flow<Journal>,
    reports: Option<mpsc::Receiver<SourceEvent>>,
    requests: Option<mpsc::Sender<AddressedRequest>>,
    progress: Option<mpsc::Receiver<SinkProgress>>,
    writer_tasks: Option<mpsc::Receiver<WriterTask>>,
    clock: WallClock,
    durable: watch::Sender<Seq>,
    refusals: RefusalSender,
    /// Waits until the progress of all sinks is stored: its sink may have had another worker.
    writer_task: Option<WriterTask>,
    published: watch::Sender<SourceStatus>,
    status: SourceStatus,
    /// The measures of a connection that reads transactions.
    feed: FeedMeasures,
    lag: LagClock,
    /// When the present state of the source began.
    since: Instant,
    arrivals: Arrivals,
    pace: GroupCommit,
    troubles: TroubleLog,
    /// Failures to find out whether the journal is still in its place.
    unverified: LogThrottle,
    ticker: Ticker,
    /// Whether what was measured of the journal still holds.
    is_measured: bool,
    /// Another program keeps the journal locked, which shows as this trouble.
    held: Option<HeldJournal>,
    /// Blind spots that were logged, as far as they are named.
    logged_blind_spots: Vec<ZnodePath>,
}

/// The inputs that the loop waits for.
enum Turn {
    Report(Option<SourceEvent>),
    Progress(Option<SinkProgress>),
    WriterTask(Option<WriterTask>),
    Beat,
    More,
    Compact,
}

impl Pipeline {
    /// Prepares a pipeline.
    pub fn new(setup: PipelineSetup) -> (Pipeline, Watches) {
        let PipelineSetup {
            source,
            machine,
            journal,
            reports,
            requests,
            progress,
            writer_tasks,
            clock,
            seed,
        } = setup;
        let status = SourceStatus::new(source, journal.mode(), clock());
        let (durable, durable_watch) = watch::channel(journal.tail());
        let (published, status_watch) = watch::channel(status.clone());
        let refusals = RefusalSender::default();
        let refusals_watch = refusals.subscribe();
        let pipeline = Pipeline {
            flow: Flow::new(machine, journal, seed),
            reports: Some(reports),
            requests: Some(requests),
            progress: Some(progress),
            writer_tasks: Some(writer_tasks),
            clock,
            durable,
            refusals,
            writer_task: None,
            published,
            status,
            feed: FeedMeasures::default(),
            lag: LagClock::default(),
            since: Instant::now(),
            arrivals: Arrivals::default(),
            pace: GroupCommit::new(Instant::now()),
            troubles: TroubleLog::default(),
            unverified: LogThrottle::default(),
            ticker: Ticker::new(tokio::time::Instant::now()),
            is_measured: false,
            held: None,
            logged_blind_spots: Vec::new(),
        };
        (
            pipeline,
            Watches {
                durable: durable_watch,
                refusals: refusals_watch,
                status: status_watch,
            },
        )
    }

    /// Captures and journals until the connection has ended and all workers are done. Blocks: give it a thread of its own.
    ///
    /// # Errors
    /// The journal cannot be written any more. Everything durable stays so.
    ///
    /// # Panics
    /// Never: a runtime without sockets needs nothing of the system.
    pub fn run(mut self) -> Result<(), JournalError> {
        // Of its own, so that its timers wake this thread, and not first one of those that run the sinks.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.expect("a runtime without sockets needs nothing of the system");
        let result = runtime.block_on(self.run_inside());
        if let Err(error) = &result {
            tracing::error!(
                source = &*self.status.source,
                error = error.to_string(),
                "the journal failed"
            );
            self.status.halted = Some(error.to_string());
            self.status.journal_failed = true;
        }
        self.publish();
        result
    }

    async fn run_inside(&mut self) -> Result<(), JournalError> {
        self.measure()?;
        let beat = sleep_until(self.ticker.due(false));
        tokio::pin!(beat);
        loop {
            let has_waiting = self.flow.has_progress() || self.flow.journal().is_within_transaction();
            let due = self.ticker.due(has_waiting);
            if beat.deadline() != due {
                beat.as_mut().reset(due);
            }
            let turn = tokio::select! {
                biased;
                report = next(&mut self.reports), if self.reports.is_some() => Turn::Report(report),
                progress = next(&mut self.progress), if self.progress.is_some() => Turn::Progress(progress),
                task = next(&mut self.writer_tasks), if self.writer_tasks.is_some() && self.writer_task.is_none() => Turn::WriterTask(task),
                () = &mut beat => Turn::Beat,
                () = std::future::ready(()), if self.flow.has_more() => Turn::More,
                () = std::future::ready(()), if self.flow.is_crowded() => Turn::Compact,
            };
            match turn {
                Turn::Report(Some(report)) => self.batch(report).await?,
                Turn::Report(None) => {
                    self.reports = None;
                    self.requests = None;
                    self.flow.ended();
                }
                Turn::Progress(Some(progress)) => {
                    self.flow.take_progress(progress);
                    if self.flow.is_urgent() {
                        self.commit().await?;
                    }
                }
                Turn::Progress(None) => self.progress = None,
                Turn::WriterTask(Some(writer_task)) => {
                    self.writer_task = Some(writer_task);
                    self.run_writer_task().await?;
                }
                Turn::WriterTask(None) => self.writer_tasks = None,
                Turn::Beat => self.beat().await?,
                Turn::More => self.go_on().await?,
                // Waiting records are journalled first, and the cursors in the same transaction.
                Turn::Compact => self.commit().await?,
            }
            if self.reports.is_none() && self.progress.is_none() {
                return self.flow.store_progress();
            }
        }
    }

    /// One transaction from all that is waiting.
    async fn batch(&mut self, first: SourceEvent) -> Result<(), JournalError> {
        self.begin()?;
        let (began, linger) = (Instant::now(), self.flow.journal().linger());
        self.take_report(first).await?;
        for _ in 1..BATCH_REPORTS {
            if began.elapsed() > BATCH_TIME || self.flow.journal().has_large_batch() {
                break;
            }
            let Some(report) = self.next_of_batch(began, linger).await else {
                break;
            };
            self.take_report(report).await?;
        }
        self.commit().await
    }

    /// A report that waits, or comes before the batch has to end. Its requests are sent at once, so that reads continue
    /// while a batch stays open for more.
    async fn next_of_batch(&mut self, began: Instant, linger: Duration) -> Option<SourceEvent> {
        let reports = self.reports.as_mut()?;
        if let Ok(report) = reports.try_recv() {
            return Some(report);
        }
        let until = self.pace.wait(began, linger, Instant::now())?;
        timeout_at(until.into(), reports.recv()).await.ok().flatten()
    }

    async fn take_report(&mut self, report: SourceEvent) -> Result<(), JournalError> {
        let before = self.flow.machine().counters().events;
        let taken = self.flow.report(report, (self.clock)());
        let events = self.flow.machine().counters().events;
        if events > before {
            self.status.last_event = Some((self.clock)());
            self.arrivals.came(events, Instant::now());
        }
        self.tell().await;
        taken
    }

    /// Hands on what the last decision led to.
    async fn tell(&mut self) {
        while let Some(event) = self.flow.next_event() {
            let source = &*self.status.source;
            match event {
                PipelineEvent::Request(request) => {
                    // A connection that has ended reports that to the machine itself.
                    if let Some(requests) = &self.requests {
                        let _ = requests.send(request).await;
                    }
                }
                PipelineEvent::Connected(server) => {
                    self.arrivals.forget();
                    if let Some(server) = server.as_deref() {
                        tracing::info!(source, to = server, "connected");
                    }
                    self.status.connected_to = server;
                    counter!(names::SOURCE_CONNECTIONS, "source" => source.to_owned()).increment(1);
                }
                PipelineEvent::Server(version) => {
                    if self.status.server != version {
                        let version = version
                            .as_deref()
                            .unwrap_or("not the same on all, or not reported");
                        tracing::info!(source, version, "version of the servers");
                    }
                    self.status.server = version;
                }
                PipelineEvent::Feed(measures) => self.feed = measures,
                PipelineEvent::Trouble(trouble) => self.trouble(&trouble),
                PipelineEvent::Anew(error) => {
                    tracing::warn!(source, reason = error.to_string(), "comparing anew")
                }
                PipelineEvent::Held(error) => {
                    let trouble = error.to_string();
                    tracing::error!(source, trouble, "capture is on hold");
                    self.status.trouble = Some(trouble);
                }
                PipelineEvent::Compacting => tracing::warn!(
                    source,
                    used_bytes = self.status.journal.used_bytes,
                    limit_bytes = self.status.journal.limit_bytes,
                    "the journal is near its limit: of the undelivered writes of a znode only the newest is kept"
                ),
                PipelineEvent::Compacted(records) => {
                    tracing::info!(source, records, "the undelivered records were compacted");
                }
                PipelineEvent::Refused(refused) => {
                    tracing::error!(
                        source,
                        sink = &*refused.sink,
                        error = refused.cause(),
                        help = RefusedProgress::HELP,
                        "progress refused, the sink halts"
                    );
                    self.refusals.send(refused);
                }
                PipelineEvent::Halted(halt) => {
                    let reason = halt.to_string();
                    tracing::error!(source, reason, "the source has stopped");
                    self.status.halted = Some(reason);
                    self.requests = None;
                }
            }
        }
        self.note_state();
    }

    fn trouble(&mut self, trouble: &SourceError) {
        let (source, message) = (&*self.status.source, trouble.to_string());
        let now = Instant::now();
        self.troubles.follow(self.is_live(), now);
        match self.troubles.line(&message, trouble.kind.is_final(), now) {
            TroubleLine::Error { left_out } => {
                tracing::error!(source, trouble = message, left_out, "the source captures nothing");
            }
            TroubleLine::Info => tracing::info!(source, trouble = message, "the source connects again"),
            TroubleLine::Nothing => {}
        }
        counter!(names::SOURCE_TROUBLES, "source" => source.to_owned()).increment(1);
        if trouble.kind.is_final() {
            self.status.halted = Some(message);
        } else {
            self.status.trouble = Some(message);
        }
        self.publish();
    }

    fn is_live(&self) -> bool {
        self.flow.machine().state() == CaptureState::Live
    }

    fn note_state(&mut self) {
        let before = self.status.state;
        if !self.status.follow(self.flow.machine(), (self.clock)()) {
            return;
        }
        if !self.flow.machine().state().is_connected() {
            self.status.connected_to = None;
        }
        // A connection alone heals nothing: one that ends before its watches are armed may be followed by the next.
        if self.flow.machine().state().is_armed() {
            self.status.trouble = None;
        }
        self.troubles.follow(self.is_live(), Instant::now());
        let (status, took) = (&self.status, self.since.elapsed());
        self.since = Instant::now();
        if status.is_live() && before == CaptureState::Walking.as_str() {
            let source = status.source.to_string();
            histogram!(names::SOURCE_WALK_DURATION, "source" => source).record(took);
        }
        tracing::info!(
            source = &*status.source,
            state = status.state,
            server = status.server.as_deref(),
            "state changed"
        );
    }

    /// Takes over how far a source that reads transactions is.
    fn note_history(&mut self) {
        let report = self.flow.machine().history();
        let (feed, known) = (&self.feed, self.status.reported);
        self.status.history = report
            .map(|report| HistoryStatus::new(report, feed.view(), known, &mut self.lag, Instant::now()));
    }

    /// Makes the open transaction durable, with the cursors that are waiting, and wakes the workers.
    async fn commit(&mut self) -> Result<(), JournalError> {
        if self.flow.has_progress() {
            self.begin()?;
        }
        let began = Instant::now();
        let committed = self.flow.commit();
        self.tell().await;
        let Some(tail) = committed? else {
            return Ok(());
        };
        let is_new = self.durable.send_if_modified(|durable| {
            let is_new = *durable != tail;
            *durable = tail;
            is_new
        });
        self.is_measured &= !is_new;
        if is_new {
            let source = self.status.source.to_string();
            histogram!(names::JOURNAL_COMMIT_DURATION, "source" => source.clone()).record(began.elapsed());
            if let Some(took) = self.flow.journal().synchronised() {
                histogram!(names::JOURNAL_FSYNC_DURATION, "source" => source).record(took);
            }
        }
        // Measured anew with the next tick; until then what came is known.
        let came = tail.0 - self.status.journal.tail.0;
        self.status.journal.records += came;
        self.pace.committed(came, Instant::now());
        self.show_waits();
        self.status.journal.tail = tail;
        self.publish();
        // A slice after each batch, so that it keeps up with new records.
        self.is_measured &= self.flow.compact()? == 0;
        self.tell().await;
        Ok(())
    }

    /// Durable events no longer count as waiting.
    fn show_waits(&mut self) {
        let machine = self.flow.machine();
        if machine.epoch().is_none() {
            self.arrivals.forget();
            return;
        }
        let settled = machine.counters().events.saturating_sub(machine.waiting() as u64);
        let source = &self.status.source;
        for wait in self.arrivals.durable(settled, Instant::now()) {
            histogram!(names::SOURCE_CAPTURE_DURATION, "source" => source.to_string()).record(wait);
        }
    }

    async fn beat(&mut self) -> Result<(), JournalError> {
        let beat = self.ticker.beat(tokio::time::Instant::now());
        if beat.is_tick {
            self.verify_place()?;
            self.begin()?;
            let ticked = self.flow.tick((self.clock)());
            self.tell().await;
            ticked?;
            self.measure()?;
            self.note_history();
            if let Some(instances) = self.flow.journal().instances() {
                self.status.show_instances(&instances);
            }
            self.status.show(self.flow.machine());
            self.tell_blind_spots();
        } else if self.flow.journal().is_within_transaction() {
            self.begin()?;
            let fired = self.flow.beat((self.clock)());
            self.tell().await;
            fired?;
        }
        self.commit().await?;
        self.run_writer_task().await?;
        if beat.is_for_retention {
            self.flow.retain((self.clock)())?;
            self.is_measured = false;
        }
        Ok(())
    }

    /// Runs the task that waits, once the progress of every sink is stored: a worker whose sink had another one must not
    /// start before the last progress of that. A full disk can make it wait; each beat tries again.
    async fn run_writer_task(&mut self) -> Result<(), JournalError> {
        if self.writer_task.is_none() {
            return Ok(());
        }
        if let Some(progress) = &mut self.progress {
            while let Ok(progress) = progress.try_recv() {
                self.flow.take_progress(progress);
            }
        }
        self.commit().await?;
        if !self.flow.has_progress()
            && let Some(writer_task) = self.writer_task.take()
        {
            writer_task(self.flow.journal());
            // A task that failed may have left a transaction, which would take nothing more.
            self.flow.journal().rollback()?;
            self.is_measured = false;
        }
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), JournalError> {
        self.begin()?;
        let gone_on = self.flow.go_on((self.clock)());
        self.tell().await;
        gone_on?;
        self.commit().await
    }

    /// Logs what may not be read when that has changed. Not while the tree is walked, which begins to count anew.
    fn tell_blind_spots(&mut self) {
        let status = &self.status;
        if !status.is_live() || self.logged_blind_spots == status.unreadable_paths {
            return;
        }
        self.logged_blind_spots.clone_from(&status.unreadable_paths);
        let (source, unreadable) = (&*status.source, status.unreadable);
        if unreadable == 0 {
            tracing::info!(source, "every znode may be read again");
            return;
        }
        let paths: Vec<&str> = status.unreadable_paths.iter().map(ZnodePath::as_str).collect();
        tracing::warn!(
            source,
            unreadable,
            paths = paths.join(" "),
            "znodes may not be read, so their changes are not seen: grant the bridge the permission 'r' on them"
        );
    }

    /// Measures the journal, unless nothing was written since.
    fn measure(&mut self) -> Result<(), JournalError> {
        if self.is_measured {
            return Ok(());
        }
        let stats = self.flow.journal().stats()?;
        self.status.journal = JournalStatus {
            tail: stats.tail,
            records: stats.records,
            oldest: stats.oldest.map(|(_, captured)| captured),
            compacted: stats.compacted,
            used_bytes: stats.used_bytes,
            limit_bytes: self.flow.journal().max_size().0,
            file_bytes: stats.file_bytes,
            log_bytes: stats.log_bytes,
        };
        self.is_measured = true;
        Ok(())
    }

    fn publish(&mut self) {
        self.published.send_if_modified(|published| {
            let has_changed = *published != self.status;
            if has_changed {
                published.clone_from(&self.status);
            }
            has_changed
        });
    }
}

async fn next<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => None,
    }
}
