//! The conversation with the folder.
//!
//! As in a mail folder, a file is written in `tmp`, synchronised, and moved to `new`, where readers look. It counts when
//! that folder is synchronised as well. Files are numbered as they are delivered, and that is the order of each path.
//! After a failure the same records may come in another file: a reader then meets them twice, with the same ids.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::amount::Size;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::config::SpoolConfig;
use crate::encode::{Encoded, encode};
use crate::error;

/// So many files are more than a reader that runs leaves.
const MANY_FILES: usize = 10_000;

/// A spool folder as a destination.
pub struct SpoolSink {
    config: Arc<SpoolConfig>,
    spool: Option<Arc<Spool>>,
    /// A write that may still be under way: a dropped future does not stop its thread.
    writing: Option<JoinHandle<Result<(), DeliverError>>>,
    /// How many files lay there at `open`.
    waiting: usize,
}

impl SpoolSink {
    /// A sink with these options. The folder is not touched before `open`.
    pub fn new(config: &SpoolConfig) -> SpoolSink {
        SpoolSink {
            config: Arc::new(config.clone()),
            spool: None,
            writing: None,
            waiting: 0,
        }
    }

    async fn prove(&mut self) -> Result<(), SinkError> {
        self.end_of_write().await;
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
        // The records of an earlier attempt must not arrive after this one.
        self.end_of_write().await;
        let (largest, records) = (self.config.largest, records.to_vec());
        self.writing = Some(spawn_blocking(move || spool.write(&records, largest)));
        self.end_of_write().await.unwrap_or_else(|| {
            let error = error::broken("the thread that writes ended");
            Err(DeliverError::after(0, error))
        })
    }

    /// Waits for the write under way; none if there is none, or its thread panicked. May be dropped and called again.
    async fn end_of_write(&mut self) -> Option<Result<(), DeliverError>> {
        let ended = self.writing.as_mut()?.await;
        self.writing = None;
        ended.ok()
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
        // Everything that was reported is durable; nothing else waits.
        async {
            self.end_of_write().await;
            self.spool = None;
            Ok(())
        }
        .boxed()
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

    /// Waits until no other writes; let go when it is dropped, also by a crash. The file holds the number of the file
    /// that was written last, in any process.
    fn lock(&self) -> Result<(PathBuf, File), SinkError> {
        let path = self.tmp.join("number");
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let locked = options.open(&path).and_then(|file| file.lock().map(|()| file));
        let locked = locked.map_err(|error| error::at(&path, "lock", error))?;
        Ok((path, locked))
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

    fn add(&self, Encoded { title, lines, .. }: &Encoded) -> Result<(), SinkError> {
        let (path, mut held) = self.lock()?;
        let number = next_number(&path, &mut held)?;
        let name = format!("{number:020}-{title}.jsonl");
        let (unfinished, finished) = (self.tmp.join(&name), self.new.join(&name));
        File::create(&unfinished)
            .and_then(|mut file| file.write_all(lines).and_then(|()| file.sync_all()))
            .map_err(|error| error::at(&unfinished, "write", error))?;
        fs::rename(&unfinished, &finished).map_err(|error| error::at(&finished, "move a file to", error))?;
        sync_folder(&self.new)
    }
}

/// Counts one file more, before it is written: a number is never used again, whatever happens to the file.
fn next_number(path: &Path, held: &mut File) -> Result<u64, SinkError> {
    let mut text = String::new();
    held.read_to_string(&mut text)
        .map_err(|error| error::at(path, "read", error))?;
    let last = if text.is_empty() {
        Some(0)
    } else {
        text.parse().ok()
    };
    let Some(number) = last.and_then(|last: u64| last.checked_add(1)) else {
        return Err(error::no_number(path, &text));
    };
    held.rewind()
        .and_then(|()| write!(held, "{number:020}"))
        .and_then(|()| held.sync_all())
        .map_err(|error| error::at(path, "write", error))?;
    Ok(number)
}

fn sync_folder(folder: &Path) -> Result<(), SinkError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| error::at(folder, "synchronise", error))
}
