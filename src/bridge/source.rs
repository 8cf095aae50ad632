//! One source: its journal, its connection, its pipeline and the tasks of the sinks that take from it. It starts and
//! stops without the other sources.
//!
//! A source stops in the order of its records: the connection first, so that nothing new comes; then the sinks drain
//! within a bound; then the pipeline stores the last cursors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_config::{Config, SourceConfig};
use bridge_core::delivery::{SinkStatus, Workers};
use bridge_core::derive::Derivation;
use bridge_core::dropped_roots::delete_dropped_root;
use bridge_core::folder::folder_of;
use bridge_core::image_txn::ImageTxn as _;
use bridge_core::journal::{
    Journal, JournalError, JournalErrorKind, JournalOptions, Reader, in_use_by_another,
};
use bridge_core::machine::SourceMachine;
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::{Pipeline, PipelineSetup, SourceStatus};
use bridge_core::record::Masking;
use bridge_core::scope::Scope;
use bridge_core::source::Link;
use bridge_query::past_file;
use bridge_services::ServiceMachine;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cursors::CursorChange;
use super::first_start::begin_with_history;
use super::mask::{key_file, masking};
use super::sink_task::{EnteredSink, PreparedSink, SinkTask, SourceHandles};
use super::{Decisions, configuration, environment, wall_clock};
use crate::exit::Failure;
use crate::source_type::source_type;

/// Capacity of the queue of source events; each holds at most what one read or one burst of events brought.
const REPORTS: usize = 64;
/// Capacity of the queue of requests to the connection: more than the windows of the machine ever ask for at once.
const REQUESTS: usize = 64;
/// Capacity of the queue of the sinks' progress.
const PROGRESS_CAPACITY: usize = 256;
/// Capacity of the queue of sinks that need a cursor.
const WRITER_TASKS: usize = 1;

/// A source whose options and sinks are checked. Nothing is opened, connected or written.
pub(super) struct PreparedSource {
    config: SourceConfig,
    file: PathBuf,
    /// The file of the key of masked values.
    key_file: PathBuf,
    machine: Box<dyn SourceMachine>,
    scope: Arc<Scope>,
    sinks: Vec<PreparedSink>,
}

/// A source whose journal is open.
pub(super) struct OpenedSource {
    config: SourceConfig,
    journal: Journal,
    /// For the temporary files of the connection.
    folder: PathBuf,
    machine: Box<dyn SourceMachine>,
    scope: Arc<Scope>,
    sinks: Vec<EnteredSink>,
}

/// A running source.
pub(super) struct RunningSource {
    pub(super) config: SourceConfig,
    pub(super) status: watch::Receiver<SourceStatus>,
    pub(super) handles: SourceHandles,
    pub(super) sinks: Vec<SinkTask>,
    pub(super) workers: Workers,
    stop_connection: CancellationToken,
    connection: JoinHandle<()>,
    pipeline: RunningPipeline,
}

/// A pipeline's thread.
pub(super) struct RunningPipeline {
    ended: oneshot::Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl PreparedSource {
    /// Checks the options of a source and of the sinks that take from it.
    ///
    /// # Errors
    /// If the configuration asks for what cannot be.
    pub(super) fn new(
        config: &Config,
        source: &SourceConfig,
        decisions: &Decisions,
    ) -> Result<PreparedSource, Failure> {
        let accepted = decisions
            .accept_baseline
            .iter()
            .any(|name| **name == *source.name);
        let (machine, scope) =
            source_type(&source.kind).machine(&source.name, accepted, !source.mask.is_empty())?;
        let scope = Arc::new(scope);
        let own = config
            .sinks
            .iter()
            .filter(|sink| sink.sources.contains(&source.name));
        let sinks = own.map(|sink| PreparedSink::new(sink, &source.name, &scope));
        Ok(PreparedSource {
            file: journal_file(config, source),
            key_file: key_file(config, source),
            config: source.clone(),
            machine,
            sinks: sinks.collect::<Result<_, _>>()?,
            scope,
        })
    }

    pub(super) fn config(&self) -> &SourceConfig {
        &self.config
    }

    /// The failure of a start beside the process that has the journal open; `None` if none is known.
    pub(super) fn in_use(&self) -> Option<Failure> {
        in_use_by_another(&self.file).map(journal_failure)
    }

    /// Whether [`PreparedSource::open`] makes a journal with the history in the files of servers.
    pub(super) fn begins_with_history(&self) -> bool {
        source_type(&self.config.kind).begins_with_history() && !self.file.exists()
    }

    /// Opens the journal and gives each sink a cursor in it. Blocks on the disk.
    ///
    /// # Errors
    /// If the journal cannot be opened or written, cannot begin with the history that it is to have, or `stop` is
    /// cancelled. The next start goes on.
    pub(super) fn open(
        self,
        changes: &[CursorChange],
        stop: &CancellationToken,
    ) -> Result<OpenedSource, Failure> {
        let source = &self.config;
        if self.begins_with_history() {
            begin_with_history(source, &self.file, &self.key_file, stop)?;
        }
        let options = JournalOptions {
            stop: stop.clone(),
            ..journal_options(source)
        };
        let mut journal = Journal::open(&self.file, &options).map_err(journal_failure)?;
        // Before anything is appended or read: without its masks the source must not run.
        let had_masks = journal.has_masks().map_err(journal_failure)?;
        let masking = masking(source, &self.key_file, had_masks)?;
        if let Some(masking) = &masking {
            mask_past(source, &options, &self.file, masking)?;
        }
        let replaced = journal.set_masking(masking).map_err(journal_failure)?;
        if replaced > 0 {
            tracing::info!(
                source = &*source.name,
                values = replaced,
                "values of masked paths in the journal were replaced by their digests"
            );
        }
        let services = services(source)?;
        let listed = journal
            .set_derivation(services, wall_clock()())
            .map_err(journal_failure)?;
        if listed > 0 {
            tracing::info!(
                source = &*source.name,
                events = listed,
                "the options of services are new: what is registered was listed"
            );
        }
        for change in changes {
            change.apply(&mut journal).map_err(journal_failure)?;
        }
        leave_dropped_roots(source, &mut journal, &self.file, &self.scope)?;
        let sinks = self.sinks.into_iter();
        let sinks = sinks.map(|sink| sink.enter(&source.name, &mut journal));
        let sinks = sinks.collect::<Result<_, _>>()?;
        journal.end_opening().map_err(journal_failure)?;
        Ok(OpenedSource {
            sinks,
            config: self.config,
            journal,
            folder: folder_of(&self.file).to_owned(),
            machine: self.machine,
            scope: self.scope,
        })
    }
}

/// Masks the values in the history from before the journal, where there is one.
fn mask_past(
    source: &SourceConfig,
    options: &JournalOptions,
    journal: &Path,
    masking: &Arc<Masking>,
) -> Result<(), Failure> {
    let file = past_file(journal);
    if !file.exists() {
        return Ok(());
    }
    let mut past = Journal::open(&file, options).map_err(journal_failure)?;
    let replaced = past
        .set_masking(Some(Arc::clone(masking)))
        .map_err(journal_failure)?;
    if replaced > 0 {
        tracing::info!(
            source = &*source.name,
            values = replaced,
            "values of masked paths in the backfilled history were replaced by their digests"
        );
    }
    Ok(())
}

/// The machine that derives service events, if the source has sections for it.
fn services(source: &SourceConfig) -> Result<Option<Box<dyn Derivation>>, Failure> {
    if source.services.is_empty() {
        return Ok(None);
    }
    let machine = ServiceMachine::new(&source.name, &source.services)
        .map_err(|error| configuration(format!("source '{}': {error}", source.name)))?;
    Ok(Some(Box::new(machine)))
}

/// A source whose journal cannot be opened. The others run; a reload tries it again.
pub(super) struct FailedSource {
    pub(super) config: SourceConfig,
    pub(super) status: watch::Receiver<SourceStatus>,
}

impl FailedSource {
    /// Logs the failure, and shows it as a source that has halted.
    pub(super) fn new(config: SourceConfig, failure: &Failure) -> FailedSource {
        tracing::error!(
            source = &*config.name,
            error = failure.message,
            "the source cannot be started; the others run without it"
        );
        let mode = source_type(&config.kind).mode();
        let cause = failure.message.clone();
        let status = SourceStatus {
            journal_failed: true,
            ..SourceStatus::halted(config.name.shared(), mode, wall_clock()(), cause)
        };
        FailedSource {
            config,
            status: watch::Sender::new(status).subscribe(),
        }
    }
}

impl OpenedSource {
    /// Starts the source. Needs a runtime.
    ///
    /// # Errors
    /// If there is no thread for the pipeline.
    pub(super) fn start(self) -> Result<RunningSource, Failure> {
        let stop_workers = CancellationToken::new();
        let stop_connection = CancellationToken::new();
        let mut workers = Workers::new(stop_workers.clone());
        let (progress, progress_end) = mpsc::channel(PROGRESS_CAPACITY);
        let (reports, reports_end) = mpsc::channel(REPORTS);
        let (requests, requests_end) = mpsc::channel(REQUESTS);
        let (writer_tasks, writer_tasks_end) = mpsc::channel(WRITER_TASKS);
        let name = self.config.name.shared();
        let (pipeline, watches) = Pipeline::new(PipelineSetup {
            source: name.clone(),
            machine: self.machine,
            journal: self.journal,
            reports: reports_end,
            requests,
            progress: progress_end,
            writer_tasks: writer_tasks_end,
            clock: wall_clock(),
            seed: rand_seed("", &name),
        });
        let handles = SourceHandles {
            source: self.config.name.clone(),
            scope: self.scope,
            progress,
            writer_tasks,
            durable: watches.durable,
            refusals: watches.refusals,
            stop: stop_workers,
        };
        let sinks = self.sinks.into_iter();
        let sinks = sinks.map(|sink| sink.start(&handles, &mut workers)).collect();
        let link = Link {
            requests: requests_end,
            reports,
            stop: stop_connection.clone(),
        };
        let connection = source_type(&self.config.kind).connection(&name, &self.folder);
        let connection = tokio::spawn(connection.run(link));
        let pipeline = RunningPipeline::start(pipeline, &name)?;
        Ok(RunningSource {
            config: self.config,
            status: watches.status,
            handles,
            sinks,
            workers,
            stop_connection,
            connection,
            pipeline,
        })
    }
}

/// A seed of the jitter: different for each sink task and each start.
pub fn rand_seed(sink: &str, source: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write(sink.as_bytes());
    hasher.write(source.as_bytes());
    hasher.finish()
}

impl RunningSource {
    /// Stops the source within the drain bound and a little more. Returns the last status of each sink. Not cancel safe.
    pub(super) async fn stop(self) -> Vec<SinkStatus> {
        self.stop_connection.cancel();
        if let Err(error) = self.connection.await {
            tracing::error!(
                source = &*self.config.name,
                error = error.to_string(),
                "the connection's task did not end properly"
            );
        }
        let statuses = self.workers.stop().await;
        // The pipeline ends when the last handle is gone.
        drop((self.handles, self.sinks));
        self.pipeline.join().await;
        statuses
    }
}

impl RunningPipeline {
    fn start(pipeline: Pipeline, name: &str) -> Result<RunningPipeline, Failure> {
        let (send, ended) = oneshot::channel();
        let work = move || {
            // A failure is in the log and in the status.
            let _ = pipeline.run();
            let _ = send.send(());
        };
        let thread = std::thread::Builder::new()
            .name(format!("pipeline-{name}"))
            .spawn(work)
            .map_err(|error| environment(format!("no thread for source '{name}': {error}")))?;
        Ok(RunningPipeline { ended, thread })
    }

    pub(super) async fn join(self) {
        // An error means that the thread panicked, which the join finds.
        let _ = self.ended.await;
        if self.thread.join().is_err() {
            tracing::error!("a pipeline's thread panicked");
        }
    }
}

/// Logs the roots that the journal knows and the configuration no longer names. Their znodes stay in the history and in
/// the image, and are part of no snapshot; or they get deletes, if the source is configured so.
fn leave_dropped_roots(
    source: &SourceConfig,
    journal: &mut Journal,
    file: &Path,
    scope: &Scope,
) -> Result<(), Failure> {
    let mut reader = Reader::open(file).map_err(journal_failure)?;
    let known = reader.overview().map_err(journal_failure)?.roots;
    drop(reader);
    for root in known.iter().filter(|known| !scope.roots().contains(&known.path)) {
        if source.kind.options().deletes_dropped_roots() {
            delete_znodes_of(source, journal, &root.path, scope)?;
            continue;
        }
        tracing::warn!(
            source = &*source.name,
            root = root.path.as_str(),
            "a root is no longer watched: its znodes stay in the history, are part of no snapshot, and get no deletes"
        );
    }
    Ok(())
}

fn delete_znodes_of(
    source: &SourceConfig,
    journal: &mut Journal,
    root: &ZnodePath,
    scope: &Scope,
) -> Result<(), Failure> {
    // Another root has its znodes now, or they got their deletes at an earlier start.
    let is_watched = scope.roots().iter().any(|watched| watched.covers(root));
    let progress = journal.progress(root).map_err(journal_failure)?;
    if is_watched || !progress.listed && progress.run.is_none() {
        return Ok(());
    }
    let (source, root_text) = (&*source.name, root.as_str());
    tracing::warn!(
        source,
        root = root_text,
        "a root is no longer watched: its znodes get deletes, as dropped_roots = \"delete\""
    );
    match delete_dropped_root(journal, root, scope.roots(), wall_clock()()) {
        Ok(deletes) => tracing::info!(
            source,
            root = root_text,
            deletes,
            "the znodes of the root got deletes"
        ),
        // The rest waits for the next start: a journal that is full is no reason not to capture.
        Err(error) if error.kind == JournalErrorKind::Full => tracing::error!(
            source,
            root = root_text,
            error = error.to_string(),
            help = "let the sinks move on or raise max_size, then reload with a change of the source, or restart",
            "not all znodes of the root got deletes"
        ),
        Err(error) => return Err(journal_failure(error)),
    }
    Ok(())
}

pub(super) fn journal_failure(error: JournalError) -> Failure {
    environment(error.to_string())
}

/// The path of the journal of a source.
pub fn journal_file(config: &Config, source: &SourceConfig) -> PathBuf {
    config.data_dir.join(format!("{}.journal", source.name))
}

/// How the journal of a source is kept.
pub fn journal_options(source: &SourceConfig) -> JournalOptions {
    let mut journal = JournalOptions::new(&source.name);
    journal.mode = source_type(&source.kind).mode();
    journal.before = source.kind.options().before();
    journal.durability = source.journal.durability;
    journal.retention = source.journal.retention;
    journal.max_size = source.journal.max_size;
    journal.when_full = source.journal.when_full;
    journal
}
