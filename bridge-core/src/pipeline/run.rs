//! The loop of the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;

use super::hold::{FULL, Patience};
use super::status::{JournalStatus, SourceStatus};
use crate::capture::{Capture, CaptureOptions, CaptureState, Effect, Input, StepError};
use crate::delivery::WallClock;
use crate::journal::{Journal, JournalError, JournalErrorKind, Note};
use crate::metrics as names;
use crate::number::Seq;
use crate::source::{Command, Connection, Order, Report};

/// Reports of one transaction at most, so that what is waiting becomes durable soon.
const BATCH_REPORTS: usize = 64;
/// No new report joins a transaction after this.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// The rhythm in which cursors are stored that no batch took along, and the status is looked at.
const BEAT: Duration = Duration::from_millis(200);
/// Beats between two ticks of the machine (a second), and two shows of the metrics.
const BEATS_PER_TICK: u64 = 5;
/// Beats between two rounds of retention (ten seconds).
const BEATS_PER_RETENTION: u64 = 50;
/// Records that one round of retention removes at most, in slices.
const RETENTION_SLICE: usize = 2_000;
/// Slices of one round.
const RETENTION_SLICES: usize = 10;

/// All that a pipeline needs.
pub struct PipelineSetup {
    /// How to capture.
    pub capture: CaptureOptions,
    /// Open, and owned from now on.
    pub journal: Journal,
    /// From the connection; the pipeline's capture ends when it closes.
    pub reports: mpsc::Receiver<Report>,
    /// To the connection.
    pub commands: mpsc::Sender<Order>,
    /// From the delivery workers; the pipeline ends when both have closed.
    pub notes: mpsc::Receiver<Note>,
    /// The time of day.
    pub clock: WallClock,
}

/// What others watch of a pipeline.
#[derive(Clone, Debug)]
pub struct Watches {
    /// The last durable record.
    pub durable: watch::Receiver<Seq>,
    /// How the source stands.
    pub status: watch::Receiver<SourceStatus>,
}

/// The pipeline of one source. Nothing happens before [`Pipeline::run`].
pub struct Pipeline {
    capture: Capture,
    journal: Journal,
    reports: Option<mpsc::Receiver<Report>>,
    commands: Option<mpsc::Sender<Order>>,
    /// The last that was reported.
    connection: Connection,
    notes: Option<mpsc::Receiver<Note>>,
    clock: WallClock,
    /// Not stored yet, by sink.
    news: BTreeMap<Arc<str>, Note>,
    durable: watch::Sender<Seq>,
    published: watch::Sender<SourceStatus>,
    status: SourceStatus,
    patience: Patience,
    beats: u64,
    /// The machine has more to do when nothing waits.
    has_more: bool,
}

/// What the loop waits for.
enum Turn {
    Report(Option<Report>),
    Note(Option<Note>),
    Beat,
    More,
}

impl Pipeline {
    /// Prepares a pipeline.
    pub fn new(setup: PipelineSetup) -> (Pipeline, Watches) {
        let PipelineSetup {
            capture,
            journal,
            reports,
            commands,
            notes,
            clock,
        } = setup;
        let status = SourceStatus::new(capture.cluster.clone(), clock());
        let (durable, durable_watch) = watch::channel(journal.tail());
        let (published, status_watch) = watch::channel(status.clone());
        let pipeline = Pipeline {
            capture: Capture::new(capture),
            journal,
            reports: Some(reports),
            commands: Some(commands),
            connection: Connection::default(),
            notes: Some(notes),
            clock,
            news: BTreeMap::new(),
            durable,
            published,
            status,
            patience: Patience::default(),
            beats: 0,
            has_more: false,
        };
        (
            pipeline,
            Watches {
                durable: durable_watch,
                status: status_watch,
            },
        )
    }

    /// Captures and journals until the connection has ended and all workers are done. Blocks: give it a thread of its
    /// own, inside a tokio runtime.
    ///
    /// # Errors
    /// The journal cannot be written any more. Everything durable stays so.
    pub fn run(mut self, runtime: &tokio::runtime::Handle) -> Result<(), JournalError> {
        let result = runtime.block_on(self.run_inside());
        if let Err(error) = &result {
            tracing::error!(
                source = &*self.status.source,
                error = error.to_string(),
                "the journal failed"
            );
            self.status.halted = Some(error.to_string());
        }
        self.publish();
        result
    }

    async fn run_inside(&mut self) -> Result<(), JournalError> {
        let mut beat = interval(BEAT);
        self.measure()?;
        loop {
            let turn = tokio::select! {
                biased;
                report = next(&mut self.reports), if self.reports.is_some() => Turn::Report(report),
                note = next(&mut self.notes), if self.notes.is_some() => Turn::Note(note),
                _ = beat.tick() => Turn::Beat,
                () = std::future::ready(()), if self.has_more => Turn::More,
            };
            match turn {
                Turn::Report(Some(report)) => self.batch(report).await?,
                Turn::Report(None) => {
                    self.reports = None;
                    self.commands = None;
                }
                Turn::Note(Some(note)) => self.take_note(note),
                Turn::Note(None) => self.notes = None,
                Turn::Beat => self.beat().await?,
                Turn::More => self.go_on().await?,
            }
            if self.reports.is_none() && self.notes.is_none() {
                return self.store_news();
            }
        }
    }

    /// One transaction from all that is waiting.
    async fn batch(&mut self, first: Report) -> Result<(), JournalError> {
        let began = Instant::now();
        self.take_report(first).await?;
        for _ in 1..BATCH_REPORTS {
            if began.elapsed() > BATCH_TIME {
                break;
            }
            let Some(Ok(report)) = self.reports.as_mut().map(mpsc::Receiver::try_recv) else {
                break;
            };
            self.take_report(report).await?;
        }
        self.commit().await
    }

    async fn take_report(&mut self, report: Report) -> Result<(), JournalError> {
        match report {
            Report::Server(version) => {
                self.journal.set_server(version.clone());
                self.status.server = version;
                Ok(())
            }
            Report::Trouble(trouble) => {
                let (source, message) = (&*self.status.source, trouble.to_string());
                tracing::error!(source, trouble = message, "the source has no connection");
                counter!(names::SOURCE_TROUBLES, "source" => source.to_owned()).increment(1);
                if trouble.kind.is_final() {
                    self.status.halted = Some(message);
                } else {
                    self.status.trouble = Some(message);
                }
                self.publish();
                Ok(())
            }
            Report::Connected { connection, session } => {
                self.connection = connection;
                self.step(Input::Connected { session }).await
            }
            Report::Input(input) => self.step(input).await,
        }
    }

    async fn step(&mut self, input: Input) -> Result<(), JournalError> {
        match &input {
            Input::Events(_) => self.status.last_event = Some((self.clock)()),
            Input::Connected { .. } => {
                counter!(names::SOURCE_CONNECTIONS, "source" => self.status.source.to_string()).increment(1);
                self.status.trouble = None;
            }
            _ => {}
        }
        let effects = match self.capture.step((self.clock)(), input, &mut self.journal) {
            Ok(effects) => effects,
            Err(error) => return self.failed(error).await,
        };
        for effect in effects {
            self.act(effect, Duration::ZERO).await;
        }
        self.note_state();
        Ok(())
    }

    /// A step failed: nothing of the open transaction becomes durable, and the connection is made anew.
    async fn failed(&mut self, error: StepError) -> Result<(), JournalError> {
        self.journal.rollback()?;
        let effects = self.capture.reset(&error);
        let (wait, trouble) = match error {
            StepError::Journal(error) => {
                if !matches!(error.kind, JournalErrorKind::Full | JournalErrorKind::DiskFull) {
                    return Err(error);
                }
                (FULL, Some(error.to_string()))
            }
            StepError::Lagging(_) | StepError::Doubt(_) => {
                tracing::warn!(
                    source = &*self.status.source,
                    reason = error.to_string(),
                    "comparing anew"
                );
                (self.patience.next(), None)
            }
        };
        if let Some(trouble) = trouble {
            tracing::error!(source = &*self.status.source, trouble, "capture is on hold");
            self.status.trouble = Some(trouble);
        }
        for effect in effects {
            self.act(effect, wait).await;
        }
        self.note_state();
        Ok(())
    }

    async fn act(&mut self, effect: Effect, wait: Duration) {
        let command = match effect {
            Effect::Arm(roots) => Command::Arm(roots),
            Effect::Read { ticket, reads } => Command::Read { ticket, reads },
            Effect::Reconnect => Command::Reconnect { after: wait },
            Effect::Continue => {
                self.has_more = true;
                return;
            }
            Effect::Halt(halt) => {
                tracing::error!(
                    source = &*self.status.source,
                    reason = halt.to_string(),
                    "the source has stopped"
                );
                self.status.halted = Some(halt.to_string());
                self.commands = None;
                return;
            }
        };
        // A connection that is gone has said so, or will: the machine learns it from there.
        if let Some(commands) = &self.commands {
            let connection = self.connection;
            let _ = commands.send(Order { connection, command }).await;
        }
    }

    fn note_state(&mut self) {
        if !self.status.follow(&self.capture, (self.clock)()) {
            return;
        }
        let status = &self.status;
        tracing::info!(
            source = &*status.source,
            state = status.state,
            server = status.server.as_deref(),
            "state changed"
        );
        if self.capture.state() == CaptureState::Live {
            self.patience.is_live();
        }
    }

    /// Makes the open transaction durable, with the cursors that are waiting, and tells the workers.
    async fn commit(&mut self) -> Result<(), JournalError> {
        let began = Instant::now();
        let committed = self.write_news().and_then(|()| self.journal.commit());
        match committed {
            Ok(tail) => {
                self.news.clear();
                let is_new = self.durable.send_if_modified(|durable| {
                    let is_new = *durable != tail;
                    *durable = tail;
                    is_new
                });
                if is_new {
                    let source = self.status.source.to_string();
                    histogram!(names::JOURNAL_COMMIT_DURATION, "source" => source).record(began.elapsed());
                }
                self.status.journal.tail = tail;
                self.publish();
                Ok(())
            }
            Err(error) => self.failed(StepError::Journal(error)).await,
        }
    }

    fn write_news(&mut self) -> Result<(), JournalError> {
        self.news.values().try_for_each(|note| self.journal.note(note))
    }

    fn store_news(&mut self) -> Result<(), JournalError> {
        self.write_news()?;
        self.journal.commit()?;
        self.news.clear();
        Ok(())
    }

    /// Keeps the newest cursor of each sink, and all that it rejected.
    fn take_note(&mut self, note: Note) {
        match self.news.get_mut(&note.sink) {
            Some(waiting) => {
                waiting.cursor = waiting.cursor.max(note.cursor);
                waiting.rejected.extend(note.rejected);
            }
            None => {
                self.news.insert(note.sink.clone(), note);
            }
        }
    }

    async fn beat(&mut self) -> Result<(), JournalError> {
        self.beats += 1;
        if self.beats.is_multiple_of(BEATS_PER_TICK) {
            self.step(Input::Tick).await?;
            self.measure()?;
            self.status.show(&self.capture);
        }
        self.commit().await?;
        if self.beats.is_multiple_of(BEATS_PER_RETENTION) {
            self.retain()?;
        }
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), JournalError> {
        self.has_more = false;
        self.step(Input::Continue).await?;
        self.commit().await
    }

    fn retain(&mut self) -> Result<(), JournalError> {
        for _ in 0..RETENTION_SLICES {
            if !self.journal.maintain((self.clock)(), RETENTION_SLICE)?.more {
                break;
            }
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<(), JournalError> {
        let stats = self.journal.stats()?;
        self.status.journal = JournalStatus {
            tail: stats.tail,
            records: stats.records,
            oldest: stats.oldest.map(|(_, captured)| captured),
            used_bytes: stats.used_bytes,
            file_bytes: stats.file_bytes,
        };
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
