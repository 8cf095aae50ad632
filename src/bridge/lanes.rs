//! Lanes: the way of one source's records to one sink. They can be begun and ended while the source goes on.
//!
//! ```text
//! Blank ──enter──▶ Lane ──start──▶ RunningLane ──end──▶ its cursor stays in the journal
//! options checked  in the journal  at work
//! ```

use std::sync::Arc;

use bridge_config::{Name, SinkConfig};
use bridge_core::delivery::{CompiledFilter, READ_LIMIT, Setup, SinkBacklog, SinkStatus, Worker, Workers};
use bridge_core::journal::{Journal, Reader, SinkProgress, SinkRun};
use bridge_core::number::Seq;
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

/// What the lanes of a source stand on.
pub(super) struct SourceHandles {
    pub(super) source: Name,
    /// What it watches, which bounds the snapshots of its sinks.
    pub(super) scope: Arc<Scope>,
    pub(super) notes: mpsc::Sender<SinkProgress>,
    pub(super) visits: mpsc::Sender<WriterTask>,
    pub(super) durable: watch::Receiver<Seq>,
    /// Ends every lane.
    pub(super) stop: CancellationToken,
}

/// A sink whose options are checked. Nothing is connected, opened or written.
pub(super) struct PreparedSink {
    config: SinkConfig,
    destination: Box<dyn Sink>,
    filter: CompiledFilter,
    scope: Arc<Scope>,
}

/// One that the journal knows.
pub(super) struct Lane {
    blank: PreparedSink,
    reader: Reader,
    cursor: Seq,
    aside: SinkBacklog,
}

/// One at work.
pub(super) struct RunningLane {
    pub(super) config: SinkConfig,
    pub(super) lever: OrderHandle,
    status: watch::Receiver<SinkStatus>,
    stop: CancellationToken,
}

impl PreparedSink {
    pub(super) fn new(sink: &SinkConfig, source: &Name, scope: &Arc<Scope>) -> Result<PreparedSink, Failure> {
        Ok(PreparedSink {
            destination: sinks::sink(&sink.kind, &sink.name, source)?,
            filter: CompiledFilter::new(&sink.filter).map_err(|error| configuration(error.to_string()))?,
            config: sink.clone(),
            scope: Arc::clone(scope),
        })
    }

    /// Enters it in the journal where it begins, or finds where it stands.
    pub(super) fn enter(self, source: &Name, journal: &mut Journal) -> Result<Lane, Failure> {
        let cursor = enter(&self.config, source, journal)?;
        // A run that was begun for it is read beside.
        journal.commit().map_err(journal_failure)?;
        let mut reader = journal.reader_for(&self.config.name).map_err(journal_failure)?;
        reader.set_scope(Arc::clone(&self.scope));
        let aside =
            SinkBacklog::load(&mut reader, &self.config.name, wall_clock()()).map_err(journal_failure)?;
        Ok(Lane {
            blank: self,
            reader,
            cursor,
            aside,
        })
    }

    /// The same while the source is at work: its pipeline is the journal's one writer.
    pub(super) async fn enter_beside(self, ground: &SourceHandles) -> Result<Lane, Failure> {
        let (tell, told) = oneshot::channel();
        let source = ground.source.clone();
        let visit: WriterTask = Box::new(move |journal| {
            // Who asked is waiting, or gone with the bridge.
            let _ = tell.send(self.enter(&source, journal));
        });
        let gone = || {
            environment(format!(
                "the journal of source '{}' has failed; see the log",
                ground.source
            ))
        };
        ground.visits.send(visit).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

/// Enters a sink where it begins. Where retention has removed the first records, that is the tail, and a run is made for
/// it that tells what there is.
fn enter(sink: &SinkConfig, source: &Name, journal: &mut Journal) -> Result<Seq, Failure> {
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
        let run = SinkRun::new(run_id(source, &sink.name, now), None, now);
        journal.begin_run(&sink.name, &run).map_err(journal_failure)?;
    }
    Ok(cursor)
}

/// The id of a run for one sink.
pub fn run_id(source: &str, sink: &str, now: Timestamp) -> Uuid {
    let name = format!("{source}\n{sink}\n{now}\n{}", rand_seed(sink, source));
    Uuid::new_v5(&record::NAMESPACE, name.as_bytes())
}

impl Lane {
    pub(super) fn start(self, ground: &SourceHandles, workers: &mut Workers) -> RunningLane {
        let (orders, orders_end) = mpsc::channel(ORDERS);
        let stop = ground.stop.child_token();
        let (source, config) = (ground.source.shared(), self.blank.config);
        let sink: Arc<str> = config.name.shared();
        let seed = rand_seed(&sink, &source);
        let (worker, status) = Worker::new(Setup {
            sink: sink.clone(),
            source: source.clone(),
            destination: self.blank.destination,
            tail: Box::new(self.reader),
            durable: ground.durable.clone(),
            notes: ground.notes.clone(),
            cursor: self.cursor,
            aside: self.aside,
            orders: orders_end,
            filter: self.blank.filter,
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
        let lever = OrderHandle { source, sink, orders };
        RunningLane {
            config,
            lever,
            status,
            stop,
        }
    }
}

impl RunningLane {
    /// Asks it to end, and waits until it has drained and closed within the worker's own bounds.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        // The worker holds the other end until it is gone.
        while self.status.changed().await.is_ok() {}
    }
}
