//! One source: its journal opened, then its connection, its pipeline and the workers of the sinks that take from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_config::{Config, SinkConfig, SourceConfig, SourceKind};
use bridge_core::capture::{AclMode, CaptureOptions, DataMode, SnapshotMode};
use bridge_core::delivery::{Order, READ_LIMIT, SetAside, Setup, Sieve, Worker, Workers};
use bridge_core::journal::{Journal, JournalError, JournalOptions, Note, Reader, SinkRun};
use bridge_core::number::Seq;
use bridge_core::pipeline::{Pipeline, PipelineSetup, SourceStatus, Watches};
use bridge_core::record::{self, Timestamp};
use bridge_core::source::{Link, Source};
use bridge_zookeeper::ZookeeperSource;
use bridge_zookeeper::config::{Acls, Before, DataForm, Liveness, Snapshot, ZookeeperConfig};
use globset::GlobSetBuilder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::control::{Lever, ORDERS};
use super::{DRAIN, Decisions, configuration, environment, sinks, wall_clock};
use crate::exit::Failure;

/// Reports that may wait for the pipeline; each holds at most what one read or one burst of events brought.
const REPORTS: usize = 64;
/// Commands that may wait for the connection: more than the windows of the machine ever ask for at once.
const COMMANDS: usize = 64;
/// Notes that may wait for the pipeline.
const NOTES: usize = 256;
/// How often a silently dead watch is looked for.
const SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// A source whose journal is open, and nothing else.
pub(super) struct Opened {
    config: SourceConfig,
    journal: Journal,
    capture: CaptureOptions,
    lanes: Vec<Lane>,
}

/// A source at work.
pub(super) struct RunningSource {
    pub(super) status: watch::Receiver<SourceStatus>,
    /// The ways to its workers.
    pub(super) levers: Vec<Lever>,
    connection: JoinHandle<()>,
    pipeline: RunningPipeline,
}

/// A pipeline's thread.
pub(super) struct RunningPipeline {
    ended: oneshot::Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Opened {
    pub(super) fn open(
        config: &Config,
        source: &SourceConfig,
        decisions: &Decisions,
    ) -> Result<Opened, Failure> {
        let SourceKind::Zookeeper(options) = &source.kind;
        let file = journal_file(config, source);
        let mut journal = Journal::open(&file, &journal_options(source)).map_err(journal_failure)?;
        for sink in &decisions.forget_sinks {
            if journal.remove_sink(sink).map_err(journal_failure)? {
                tracing::info!(
                    source = &*source.name,
                    sink,
                    "the sink gave up its place in the journal"
                );
            }
        }
        journal.commit().map_err(journal_failure)?;
        let accepted = decisions
            .accept_baseline
            .iter()
            .any(|name| **name == *source.name);
        let capture = capture_options(source, options, accepted)?;
        let lanes = lanes(config, source, &file, &mut journal)?;
        Ok(Opened {
            config: source.clone(),
            journal,
            capture,
            lanes,
        })
    }

    pub(super) fn start(
        self,
        workers: &mut Workers,
        stop_source: &CancellationToken,
        stop_workers: &CancellationToken,
    ) -> Result<RunningSource, Failure> {
        let (notes, notes_end) = mpsc::channel(NOTES);
        let (reports, reports_end) = mpsc::channel(REPORTS);
        let (commands, commands_end) = mpsc::channel(COMMANDS);
        let name = self.config.name.shared();
        let (pipeline, watches) = Pipeline::new(PipelineSetup {
            capture: self.capture,
            journal: self.journal,
            reports: reports_end,
            commands,
            notes: notes_end,
            clock: wall_clock(),
        });
        let mut levers = Vec::with_capacity(self.lanes.len());
        for lane in self.lanes {
            let (orders, orders_end) = mpsc::channel(ORDERS);
            levers.push(Lever {
                source: name.clone(),
                sink: lane.sink.clone(),
                orders,
            });
            workers.start(lane.worker(&name, &notes, &watches, orders_end, stop_workers));
        }
        let link = Link {
            commands: commands_end,
            reports,
            stop: stop_source.clone(),
        };
        let SourceKind::Zookeeper(options) = self.config.kind;
        let connection = tokio::spawn(Box::new(ZookeeperSource::new(options)).run(link));
        let pipeline = RunningPipeline::start(pipeline, &name)?;
        Ok(RunningSource {
            status: watches.status,
            levers,
            connection,
            pipeline,
        })
    }
}

/// The lanes of a source to its sinks, each with its cursor. New sinks are registered before anything runs.
fn lanes(
    config: &Config,
    source: &SourceConfig,
    file: &Path,
    journal: &mut Journal,
) -> Result<Vec<Lane>, Failure> {
    let mine = config
        .sinks
        .iter()
        .filter(|sink| sink.sources.contains(&source.name));
    let lanes = mine
        .map(|sink| lane(sink, source, file, journal))
        .collect::<Result<Vec<_>, _>>()?;
    journal.commit().map_err(journal_failure)?;
    Ok(lanes)
}

/// Enters a sink where it begins. Where retention has removed the first records, that is the tail, and a run is made for
/// it that tells what there is.
fn enter(sink: &SinkConfig, source: &SourceConfig, journal: &mut Journal) -> Result<Seq, Failure> {
    if let Some(cursor) = journal.cursor(&sink.name).map_err(journal_failure)? {
        return Ok(cursor);
    }
    let oldest = journal.oldest().map_err(journal_failure)?;
    let tail = journal.tail();
    let first = sink.start.first_cursor(oldest, tail);
    let cursor = journal
        .register_sink(&sink.name, first.unwrap_or(tail))
        .map_err(journal_failure)?;
    if first.is_err() {
        let now = wall_clock()();
        let run = SinkRun::new(run_id(&source.name, &sink.name, now), None, now);
        journal.begin_run(&sink.name, &run).map_err(journal_failure)?;
    }
    Ok(cursor)
}

/// The id of a run for one sink.
pub fn run_id(source: &str, sink: &str, now: Timestamp) -> Uuid {
    let name = format!("{source}\n{sink}\n{now}\n{}", rand_seed(sink, source));
    Uuid::new_v5(&record::NAMESPACE, name.as_bytes())
}

fn lane(
    sink: &SinkConfig,
    source: &SourceConfig,
    file: &Path,
    journal: &mut Journal,
) -> Result<Lane, Failure> {
    let destination = sinks::sink(&sink.kind, &sink.name, &source.name)?;
    let sieve = Sieve::new(&sink.filter).map_err(|error| configuration(error.to_string()))?;
    let cursor = enter(sink, source, journal)?;
    // A run that was begun for it is read beside.
    journal.commit().map_err(journal_failure)?;
    let mut reader = Reader::open(file).map_err(journal_failure)?;
    let aside = SetAside::load(&mut reader, &sink.name, wall_clock()()).map_err(journal_failure)?;
    Ok(Lane {
        sink: sink.name.shared(),
        destination,
        reader,
        cursor,
        sieve,
        merge: sink.merge.period(),
        aside,
        retry: sink.retry,
        rejects: sink.reject,
    })
}

/// One sink's way to its records.
struct Lane {
    sink: Arc<str>,
    destination: Box<dyn bridge_core::sink::Sink>,
    reader: Reader,
    cursor: Seq,
    sieve: Sieve,
    merge: Option<std::time::Duration>,
    aside: SetAside,
    retry: bridge_core::delivery::Retry,
    rejects: bridge_core::delivery::RejectPolicy,
}

impl Lane {
    fn worker(
        self,
        source: &Arc<str>,
        notes: &mpsc::Sender<Note>,
        watches: &Watches,
        orders: mpsc::Receiver<Order>,
        stop: &CancellationToken,
    ) -> (Worker, watch::Receiver<bridge_core::delivery::SinkStatus>) {
        let seed = rand_seed(&self.sink, source);
        Worker::new(Setup {
            sink: self.sink,
            source: source.clone(),
            destination: self.destination,
            tail: Box::new(self.reader),
            durable: watches.durable.clone(),
            notes: notes.clone(),
            cursor: self.cursor,
            aside: self.aside,
            orders,
            filter: self.sieve,
            merge: self.merge,
            retry: self.retry,
            rejects: self.rejects,
            limit: READ_LIMIT,
            clock: wall_clock(),
            seed,
            stop: stop.clone(),
            drain: DRAIN,
        })
    }
}

/// A seed of the jitter: different for each lane and each start.
fn rand_seed(sink: &str, source: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write(sink.as_bytes());
    hasher.write(source.as_bytes());
    hasher.finish()
}

impl RunningSource {
    /// Waits for the connection's end; the pipeline goes on until the workers are done.
    pub(super) async fn end_connection(self) -> RunningPipeline {
        if let Err(error) = self.connection.await {
            tracing::error!(
                error = error.to_string(),
                "the connection's task did not end properly"
            );
        }
        self.pipeline
    }
}

impl RunningPipeline {
    fn start(pipeline: Pipeline, name: &str) -> Result<RunningPipeline, Failure> {
        let runtime = tokio::runtime::Handle::current();
        let (tell, ended) = oneshot::channel();
        let work = move || {
            // What went wrong is logged and stands in the status.
            let _ = pipeline.run(&runtime);
            let _ = tell.send(());
        };
        let thread = std::thread::Builder::new()
            .name(format!("pipeline-{name}"))
            .spawn(work)
            .map_err(|error| environment(format!("no thread for source '{name}': {error}")))?;
        Ok(RunningPipeline { ended, thread })
    }

    pub(super) async fn join(self) {
        // An error means that the thread panicked: joining tells.
        let _ = self.ended.await;
        if self.thread.join().is_err() {
            tracing::error!("a pipeline's thread panicked");
        }
    }
}

fn journal_failure(error: JournalError) -> Failure {
    environment(error.to_string())
}

/// Where the journal of a source is.
pub fn journal_file(config: &Config, source: &SourceConfig) -> PathBuf {
    config.data_dir.join(format!("{}.journal", source.name))
}

/// How the journal of a source is kept.
pub fn journal_options(source: &SourceConfig) -> JournalOptions {
    let SourceKind::Zookeeper(options) = &source.kind;
    let mut journal = JournalOptions::new(&source.name);
    journal.before = match options.before {
        Before::Full => bridge_core::journal::Before::Full,
        Before::Stat => bridge_core::journal::Before::Stat,
        Before::None => bridge_core::journal::Before::None,
    };
    journal.durability = source.journal.durability;
    journal.retention = source.journal.retention;
    journal.max_size = source.journal.max_size;
    journal.when_full = source.journal.when_full;
    journal
}

fn capture_options(
    source: &SourceConfig,
    options: &ZookeeperConfig,
    accept_baseline: bool,
) -> Result<CaptureOptions, Failure> {
    let mut capture = CaptureOptions::new(source.name.shared(), options.roots.clone());
    let mut exclude = GlobSetBuilder::new();
    for glob in &options.exclude {
        exclude.add(glob.glob().clone());
    }
    capture.exclude = exclude
        .build()
        .map_err(|error| configuration(error.to_string()))?;
    capture.snapshot = match options.snapshot {
        Snapshot::Initial => SnapshotMode::Initial,
        Snapshot::Always => SnapshotMode::Always,
    };
    capture.data = match options.data {
        DataForm::Auto => DataMode::Keep(record::DataForm::Auto),
        DataForm::Base64 => DataMode::Keep(record::DataForm::Base64),
        DataForm::Json => DataMode::Keep(record::DataForm::Json),
        DataForm::None => DataMode::Drop,
    };
    capture.max_data_bytes = usize::try_from(options.max_data.0).unwrap_or(usize::MAX);
    capture.acls = match options.acls {
        Acls::Notice => AclMode::Notice,
        Acls::Off => AclMode::Off,
    };
    capture.sample_every = match options.liveness {
        Liveness::Sample => Some(SAMPLE_EVERY),
        Liveness::Off => None,
    };
    capture.reconcile_every = options.reconcile_every.period();
    capture.heartbeat_every = options.heartbeat.period();
    capture.accept_baseline = accept_baseline;
    capture.seed = rand_seed(&source.name, "samples");
    Ok(capture)
}
