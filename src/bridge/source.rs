//! One source: its journal opened, then its connection, its pipeline and the workers of the sinks that take from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_config::{Config, SourceConfig, SourceKind};
use bridge_core::capture::{AclMode, CanaryOptions, CaptureOptions, DataMode, SnapshotMode};
use bridge_core::delivery::Workers;
use bridge_core::journal::{Journal, JournalError, JournalOptions, Reader};
use bridge_core::pipeline::{Pipeline, PipelineSetup, SourceStatus};
use bridge_core::record;
use bridge_core::scope::Scope;
use bridge_core::source::{Link, Source};
use bridge_zookeeper::config::{Acls, Before, DataForm, Liveness, Snapshot, ZookeeperConfig};
use bridge_zookeeper::{ZookeeperSource, fresh_canary};
use globset::GlobSetBuilder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lanes::{Lane, PreparedSink, RunningLane, SourceHandles};
use super::{Decisions, configuration, environment, wall_clock};
use crate::exit::Failure;

/// Reports that may wait for the pipeline; each holds at most what one read or one burst of events brought.
const REPORTS: usize = 64;
/// Commands that may wait for the connection: more than the windows of the machine ever ask for at once.
const COMMANDS: usize = 64;
/// Notes that may wait for the pipeline.
const NOTES: usize = 256;
/// Sinks that may wait to be entered.
const VISITS: usize = 1;
/// How often a silently dead watch is looked for.
const SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// How often the canary is written: as often as samples are read, so that both find a dead watch as soon.
const CANARY_EVERY: std::time::Duration = SAMPLE_EVERY;

/// A source whose journal is open, and nothing else.
pub(super) struct Opened {
    config: SourceConfig,
    journal: Journal,
    capture: CaptureOptions,
    scope: Arc<Scope>,
    lanes: Vec<Lane>,
}

/// A source at work.
pub(super) struct RunningSource {
    pub(super) status: watch::Receiver<SourceStatus>,
    /// What its lanes stand on.
    pub(super) ground: SourceHandles,
    /// Its ways to its sinks.
    pub(super) lanes: Vec<RunningLane>,
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
        let scope = Arc::new(Scope::new(options.roots.clone(), capture.exclude.clone()));
        log_dropped_roots(source, &file, &scope)?;
        let mine = config
            .sinks
            .iter()
            .filter(|sink| sink.sources.contains(&source.name));
        let lanes = mine
            .map(|sink| PreparedSink::new(sink, &source.name, &scope)?.enter(&source.name, &mut journal))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Opened {
            config: source.clone(),
            journal,
            capture,
            scope,
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
        let (visits, visits_end) = mpsc::channel(VISITS);
        let name = self.config.name.shared();
        let (pipeline, watches) = Pipeline::new(PipelineSetup {
            capture: self.capture,
            journal: self.journal,
            reports: reports_end,
            commands,
            notes: notes_end,
            visits: visits_end,
            clock: wall_clock(),
        });
        let ground = SourceHandles {
            source: self.config.name.clone(),
            scope: self.scope,
            notes,
            visits,
            durable: watches.durable,
            stop: stop_workers.clone(),
        };
        let lanes = self
            .lanes
            .into_iter()
            .map(|lane| lane.start(&ground, workers))
            .collect();
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
            ground,
            lanes,
            connection,
            pipeline,
        })
    }
}

/// A seed of the jitter: different for each lane and each start.
pub(super) fn rand_seed(sink: &str, source: &str) -> u64 {
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

/// Says which roots the journal knows and nobody watches any more: their znodes stay in its history and in the image,
/// and are part of no snapshot.
fn log_dropped_roots(source: &SourceConfig, file: &Path, scope: &Scope) -> Result<(), Failure> {
    let mut reader = Reader::open(file).map_err(journal_failure)?;
    let known = reader.overview().map_err(journal_failure)?.roots;
    for root in known.iter().filter(|known| !scope.roots().contains(&known.path)) {
        tracing::warn!(
            source = &*source.name,
            root = root.path.as_str(),
            "a root is no longer watched: its znodes stay in the history, are part of no snapshot, and get no deletes"
        );
    }
    Ok(())
}

pub(super) fn journal_failure(error: JournalError) -> Failure {
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
        Acls::List => AclMode::List,
        Acls::Off => AclMode::Off,
    };
    capture.sample_every = match options.liveness {
        // The canary proves the watch that covers it; that of another root is proved by samples still.
        Liveness::Sample | Liveness::Canary => Some(SAMPLE_EVERY),
        Liveness::Off => None,
    };
    capture.canary = (options.liveness == Liveness::Canary).then(|| CanaryOptions {
        path: fresh_canary(options, &source.name),
        every: CANARY_EVERY,
    });
    capture.own = Some(options.own_area());
    capture.reconcile_every = options.reconcile_every.period();
    capture.heartbeat_every = options.heartbeat.period();
    capture.accept_baseline = accept_baseline;
    capture.seed = rand_seed(&source.name, "samples");
    Ok(capture)
}
