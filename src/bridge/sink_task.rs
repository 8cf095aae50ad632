//! The task that delivers one source's records to one sink. It starts and stops while the source runs.
//!
//! ```text
//! PreparedSink ──enter──▶ EnteredSink ──start──▶ SinkTask ──stop──▶ its cursor stays in the journal
//! options checked         in the journal         at work
//! ```

use std::sync::Arc;

use bridge_config::{Name, SinkConfig};
use bridge_core::delivery::{
    CompiledFilter, READ_LIMIT, Refusals, Setup, SinkBacklog, SinkStatus, Worker, Workers,
};
use bridge_core::journal::{Journal, JournalWriter, Reader, SinkProgress, SinkRun, SinkState};
use bridge_core::number::Seq;
use bridge_core::outbound::{JsonOnly, NotJson};
use bridge_core::pipeline::WriterTask;
use bridge_core::record::{self, Timestamp};
use bridge_core::scope::Scope;
use bridge_core::sink::Sink;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::control::{ORDERS, OrderHandle};
use super::source::{journal_failure, rand_seed};
use super::{DRAIN, configuration, environment, sinks, wall_clock};
use crate::exit::Failure;

/// The state that a source shares with the tasks of its sinks.
pub(super) struct SourceHandles {
    pub(super) source: Name,
    /// The watched scope, which bounds the snapshots of its sinks.
    pub(super) scope: Arc<Scope>,
    pub(super) progress: mpsc::Sender<SinkProgress>,
    pub(super) writer_tasks: mpsc::Sender<WriterTask>,
    pub(super) durable: watch::Receiver<Seq>,
    pub(super) refusals: Refusals,
    /// Stops every task of this source.
    pub(super) stop: CancellationToken,
}

/// A sink whose options are checked. Nothing is connected, opened or written.
pub(super) struct PreparedSink {
    config: SinkConfig,
    destination: Box<dyn Sink>,
    filter: CompiledFilter,
    scope: Arc<Scope>,
}

/// A sink with a cursor in the journal.
pub(super) struct EnteredSink {
    prepared: PreparedSink,
    reader: Reader,
    cursor: Seq,
    backlog: SinkBacklog,
}

/// A running task.
pub(super) struct SinkTask {
    pub(super) config: SinkConfig,
    pub(super) orders: OrderHandle,
    status: watch::Receiver<SinkStatus>,
    stop: CancellationToken,
}

impl PreparedSink {
    pub(super) fn new(sink: &SinkConfig, source: &Name, scope: &Arc<Scope>) -> Result<PreparedSink, Failure> {
        let destination = sinks::sink(&sink.kind, &sink.name, source)?;
        Ok(PreparedSink {
            destination: match sink.not_json {
                NotJson::Deliver => destination,
                NotJson::Reject => Box::new(JsonOnly::new(destination)),
            },
            filter: CompiledFilter::new(&sink.filter)
                .map_err(|error| configuration(error.to_string()))?
                .for_format(sink.kind.format()),
            config: sink.clone(),
            scope: Arc::clone(scope),
        })
    }

    /// Gives it a cursor in the journal, or finds the one that it has.
    pub(super) fn enter(mut self, source: &Name, journal: &mut Journal) -> Result<EnteredSink, Failure> {
        let cursor = enter(&self.config, source, journal)?;
        // The reader sees only what is committed, and so a snapshot that was begun for it.
        journal.commit().map_err(journal_failure)?;
        let mut reader = journal.reader_for(&self.config.name).map_err(journal_failure)?;
        reader.set_scope(Arc::clone(&self.scope));
        if self.destination.reads_subtrees() {
            let mut image = Reader::open(journal.file()).map_err(journal_failure)?;
            image.set_scope(Arc::clone(&self.scope));
            self.destination.attach(Box::new(image));
        }
        let backlog =
            SinkBacklog::load(&mut reader, &self.config.name, wall_clock()()).map_err(journal_failure)?;
        Ok(EnteredSink {
            prepared: self,
            reader,
            cursor,
            backlog,
        })
    }

    /// As [`PreparedSink::enter`] while the source runs: its pipeline is the journal's only writer.
    pub(super) async fn enter_beside(self, handles: &SourceHandles) -> Result<EnteredSink, Failure> {
        let (answer, answered) = oneshot::channel();
        let source = handles.source.clone();
        let writer_task: WriterTask = Box::new(move |journal| {
            // The receiver is gone only with the bridge.
            let _ = answer.send(self.enter(&source, journal));
        });
        let gone = || {
            environment(format!(
                "the journal of source '{}' has failed; see the log",
                handles.source
            ))
        };
        handles.writer_tasks.send(writer_task).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Gives a sink its first cursor, and a snapshot of the present state if it starts with one.
fn enter(sink: &SinkConfig, source: &Name, journal: &mut Journal) -> Result<Seq, Failure> {
    if let Some(cursor) = journal.cursor(&sink.name).map_err(journal_failure)? {
        return Ok(cursor);
    }
    let oldest = journal.oldest().map_err(journal_failure)?;
    let first = sink.start.first_cursor(oldest, journal.tail());
    let cursor = journal
        .register_sink(&sink.name, first.cursor)
        .map_err(journal_failure)?;
    if first.has_snapshot {
        let now = wall_clock()();
        let run = SinkRun::new(run_id(source, &sink.name, now), None, now);
        journal.begin_run(&sink.name, &run).map_err(journal_failure)?;
    }
    tracing::info!(
        sink = &*sink.name,
        source = &**source,
        cursor = %cursor,
        start = sink.start.name(),
        "a new sink starts"
    );
    Ok(cursor)
}

/// The id of a snapshot for one sink.
pub fn run_id(source: &str, sink: &str, now: Timestamp) -> Uuid {
    let name = format!("{source}\n{sink}\n{now}\n{}", rand_seed(sink, source));
    Uuid::new_v5(&record::NAMESPACE, name.as_bytes())
}

impl EnteredSink {
    /// Starts the task. It needs a runtime.
    pub(super) fn start(self, handles: &SourceHandles, workers: &mut Workers) -> SinkTask {
        let (send, orders) = mpsc::channel(ORDERS);
        let stop = handles.stop.child_token();
        let (source, config) = (handles.source.shared(), self.prepared.config);
        let sink: Arc<str> = config.name.shared();
        let seed = rand_seed(&sink, &source);
        let (worker, status) = Worker::new(Setup {
            sink: sink.clone(),
            source: source.clone(),
            destination: self.prepared.destination,
            tail: Box::new(self.reader),
            durable: handles.durable.clone(),
            progress: handles.progress.clone(),
            refusals: handles.refusals.clone(),
            cursor: self.cursor,
            backlog: self.backlog,
            orders,
            filter: self.prepared.filter,
            merge: config.merge.period(),
            retry: config.retry,
            rejects: config.reject,
            limit: READ_LIMIT,
            clock: wall_clock(),
            seed,
            stop: stop.clone(),
            drain: DRAIN,
        });
        workers.start((worker, status.clone()));
        let orders = OrderHandle {
            source,
            sink,
            orders: send,
        };
        SinkTask {
            config,
            orders,
            status,
            stop,
        }
    }
}

impl SinkTask {
    /// Stops the task, and waits until it has drained and closed within the worker's own bounds. Not cancel safe.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        // The worker holds the other end until it is gone.
        while self.status.changed().await.is_ok() {}
    }
}
