//! The delivery to a file.

use std::sync::Arc;
use std::time::SystemTime;

use bridge_core::outbound::{self, LineProjection, Tally};
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::compress::compress_all;
use crate::config::FileConfig;
use crate::encode::line_projection;
use crate::log::{Clock, Log, Plan};

/// Appends records to a file.
///
/// The file is locked for each batch, so that several sources and also several processes can share it. A file that was
/// moved away or removed (as programs for log rotation do it) is replaced by a new one with the next batch.
pub struct FileSink {
    plan: Plan,
    lines: Arc<LineProjection>,
    /// `None` before `open`, and while a write is under way: a dropped `deliver` leaves it with the thread that writes,
    /// which lets the lock go at the end of the batch.
    log: Option<Log>,
    compressing: Option<Compressing>,
}

/// The thread that compresses closed files.
struct Compressing {
    thread: JoinHandle<()>,
    /// Stops the thread when it is dropped.
    stop: DropGuard,
}

impl FileSink {
    /// A sink with these options. The file is not touched before `open`.
    ///
    /// # Panics
    ///
    /// If [`FileConfig::objections`] has an error about `body`.
    pub fn new(config: FileConfig) -> FileSink {
        FileSink::with_clock(config, Arc::new(SystemTime::now))
    }

    /// The same with another clock.
    pub(crate) fn with_clock(config: FileConfig, clock: Clock) -> FileSink {
        let config = Arc::new(config);
        FileSink {
            lines: Arc::new(line_projection(&config)),
            plan: Plan { config, clock },
            log: None,
            compressing: None,
        }
    }

    async fn open_log(&mut self) -> Result<(), SinkError> {
        self.log = None;
        let plan = self.plan.clone();
        self.log = Some(blocking(move || Log::open(plan)).await?);
        self.compress();
        Ok(())
    }

    async fn append(&mut self, records: &[Arc<Record>]) -> Result<Tally, SinkError> {
        let Some(log) = self.log.take() else {
            return Err(SinkError::new(
                SinkErrorKind::Broken,
                format!("{} is not open", self.plan.config.path.display()),
            ));
        };
        let records = records.to_vec();
        // Cancelled when this future is dropped.
        let stop = CancellationToken::new();
        let _guard = stop.clone().drop_guard();
        let projection = Arc::clone(&self.lines);
        let (log, tally) = blocking(move || {
            let (lines, tally) = outbound::lines(&*projection, &records);
            Ok((log.append(&lines, &stop)?, tally))
        })
        .await?;
        if log.has_rotated() {
            self.compress();
        }
        self.log = Some(log);
        Ok(tally)
    }

    /// Compresses what was closed, beside the delivery: a large file takes longer than a batch may wait.
    fn compress(&mut self) {
        if self
            .compressing
            .as_ref()
            .is_some_and(|one| !one.thread.is_finished())
        {
            // The next rotation compresses the files that the running one does not see any more.
            return;
        }
        let config = Arc::clone(&self.plan.config);
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let thread = spawn_blocking(move || {
            if let Err(error) = compress_all(&config, &stop) {
                tracing::warn!(%error, "a closed file stays as it is, and is compressed later");
            }
        });
        self.compressing = Some(Compressing { thread, stop: guard });
    }

    /// Waits until all that was closed is compressed.
    #[cfg(test)]
    pub(crate) async fn compressed(&mut self) {
        if let Some(Compressing { thread, stop: _kept }) = self.compressing.take() {
            thread.await.expect("it does not panic");
        }
    }

    async fn let_go(&mut self) -> Result<(), SinkError> {
        if let Some(Compressing { thread, stop }) = self.compressing.take() {
            drop(stop);
            // It ends within a chunk. A panic of its thread was logged, and concerns no record.
            let _ = thread.await;
        }
        match self.log.take() {
            Some(log) => blocking(move || log.sync()).await,
            None => Ok(()),
        }
    }
}

impl Sink for FileSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.open_log().boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        async move {
            match self.append(&batch.records).await {
                Ok(tally) => tally.ended(),
                Err(error) => Err(DeliverError::after(0, error)),
            }
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.let_go().boxed()
    }
}

/// Runs work on the disk off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(SinkError::new(SinkErrorKind::Broken, "the thread that writes the file ended").because(error))
        }
    }
}
