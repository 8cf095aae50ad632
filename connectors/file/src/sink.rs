//! One conversation with a file.

use std::sync::Arc;

use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::config::FileConfig;
use crate::error;
use crate::log::{Log, Wanted};

/// Appends records to a file.
///
/// The file is locked for each batch, so that several sources and also several processes can share it. A file that was
/// moved away or removed (as programs for log rotation do it) is replaced by a new one with the next batch.
pub struct FileSink {
    config: Arc<FileConfig>,
    /// `None` before `open`, and while a write is under way: a dropped `deliver` leaves it with the thread that writes,
    /// which lets the lock go at the end of the batch.
    log: Option<Log>,
}

impl FileSink {
    /// A sink with these options. The file is not touched before `open`.
    pub fn new(config: FileConfig) -> FileSink {
        FileSink {
            config: Arc::new(config),
            log: None,
        }
    }

    async fn open_log(&mut self) -> Result<(), SinkError> {
        self.log = None;
        let config = Arc::clone(&self.config);
        self.log = Some(blocking(move || Log::open(config)).await?);
        Ok(())
    }

    async fn append(&mut self, records: &[Arc<Record>]) -> Result<(), SinkError> {
        let Some(log) = self.log.take() else {
            return Err(SinkError::new(
                SinkErrorKind::Broken,
                format!("{} is not open", self.config.path.display()),
            ));
        };
        let records = records.to_vec();
        let waiting = Waiting(Wanted::default());
        let wanted = waiting.0.clone();
        self.log = Some(blocking(move || log.append(&records, &wanted)).await?);
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), SinkError> {
        match self.log.take() {
            Some(log) => blocking(move || log.sync()).await,
            None => Ok(()),
        }
    }
}

/// Tells the thread that writes when the future that waits for it is dropped.
struct Waiting(Wanted);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Sink for FileSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.open_log().boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        async move { self.append(&batch.records).await.map_err(error::nothing_done) }.boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sync().boxed()
    }
}

/// Runs work on the disk off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(SinkError::new(SinkErrorKind::Broken, "the thread that writes the file ended").because(error))
        }
    }
}
