//! The conversation with the folder.
//!
//! As in a mail folder, a file is written in `tmp`, synchronised, and moved to `new`, where readers look. It counts when
//! that folder is synchronised as well. After a failure the same records may come in files of other lengths: a reader
//! then meets them twice, with the same ids.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::amount::Size;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;

use crate::config::SpoolConfig;
use crate::encode::{Encoded, encode};
use crate::error;

/// So many files are more than a reader that runs leaves.
const MANY_FILES: usize = 10_000;

/// A spool folder as a destination.
pub struct SpoolSink {
    config: Arc<SpoolConfig>,
    spool: Option<Arc<Spool>>,
    /// How many files lay there at `open`.
    waiting: usize,
}

impl SpoolSink {
    /// A sink with these options. The folder is not touched before `open`.
    pub fn new(config: &SpoolConfig) -> SpoolSink {
        SpoolSink {
            config: Arc::new(config.clone()),
            spool: None,
            waiting: 0,
        }
    }

    async fn prove(&mut self) -> Result<(), SinkError> {
        self.spool = None;
        let config = Arc::clone(&self.config);
        let opened = spawn_blocking(move || Spool::open(&config)).await;
        let (spool, waiting) =
            opened.unwrap_or_else(|_| Err(error::broken("the thread that opens ended")))?;
        self.waiting = waiting;
        self.spool = Some(Arc::new(spool));
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        let Some(spool) = self.spool.clone() else {
            return Err(DeliverError::after(0, error::broken("the sink was not opened")));
        };
        // A dropped future does not stop this thread. It holds the lock, so that the next attempt waits for its end.
        let (largest, records) = (self.config.largest, records.to_vec());
        let written = spawn_blocking(move || spool.write(&records, largest)).await;
        written.unwrap_or_else(|_| {
            let error = error::broken("the thread that writes ended");
            Err(DeliverError::after(0, error))
        })
    }
}

impl Sink for SpoolSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.prove().boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.deliver_batch(&batch.records).boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        // What was reported is durable; nothing else is held back.
        self.spool = None;
        async { Ok(()) }.boxed()
    }

    fn remarks(&self) -> Vec<String> {
        if self.waiting < MANY_FILES {
            return Vec::new();
        }
        vec![format!(
            "{} files wait in {}: see whether anybody takes them",
            self.waiting,
            self.config.folder.join("new").display()
        )]
    }
}

/// The folders.
struct Spool {
    tmp: PathBuf,
    new: PathBuf,
}

impl Spool {
    /// Makes the folders where they are missing, and proves that they can be written.
    fn open(config: &SpoolConfig) -> Result<(Spool, usize), SinkError> {
        let (tmp, new) = (config.folder.join("tmp"), config.folder.join("new"));
        for folder in [&tmp, &new] {
            fs::create_dir_all(folder).map_err(|error| error::at(folder, "make the folder", error))?;
        }
        sync_folder(&config.folder)?;
        let waiting = fs::read_dir(&new).map_err(|error| error::at(&new, "read", error))?;
        let waiting = waiting.take(MANY_FILES).count();
        let spool = Spool { tmp, new };
        spool.lock()?;
        Ok((spool, waiting))
    }

    /// Waits until no other writes; let go when it is dropped, also by a crash.
    fn lock(&self) -> Result<File, SinkError> {
        let path = self.tmp.join("lock");
        let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| error::at(&path, "lock", error))
    }

    fn write(&self, batch: &[Arc<Record>], largest: Size) -> Result<(), DeliverError> {
        let encoded = encode(batch, largest);
        if !encoded.lines.is_empty() {
            // Nothing of a file counts before all of it does.
            self.add(&encoded)
                .map_err(|error| DeliverError::after(0, error))?;
        }
        if encoded.rejected.is_empty() {
            return Ok(());
        }
        Err(DeliverError {
            done: batch.len(),
            rejected: encoded.rejected,
            ..DeliverError::default()
        })
    }

    fn add(&self, Encoded { name, lines, .. }: &Encoded) -> Result<(), SinkError> {
        let (unfinished, finished) = (self.tmp.join(name), self.new.join(name));
        let _held = self.lock()?;
        File::create(&unfinished)
            .and_then(|mut file| file.write_all(lines).and_then(|()| file.sync_all()))
            .map_err(|error| error::at(&unfinished, "write", error))?;
        fs::rename(&unfinished, &finished).map_err(|error| error::at(&finished, "move a file to", error))?;
        sync_folder(&self.new)
    }
}

fn sync_folder(folder: &Path) -> Result<(), SinkError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| error::at(folder, "synchronise", error))
}
