//! One conversation with a file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::config::FileConfig;
use crate::encode;
use crate::error;
use crate::tail::{self, End};

/// A write that was under way when a sink was dropped ends within this; a batch takes milliseconds.
const LOCK_BOUND: Duration = Duration::from_secs(5);

/// How often to look whether it has ended.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Appends records to a file.
///
/// The file is locked, so that no other process or sink writes between the lines. A file that was moved away or
/// removed (as programs for log rotation do it) is replaced by a new one with the next batch.
pub struct FileSink {
    path: PathBuf,
    /// `None` before `open`, and while a write is under way: a dropped `deliver` leaves it with the thread that writes.
    file: Option<File>,
}

impl FileSink {
    /// A sink with these options. The file is not touched before `open`.
    pub fn new(config: &FileConfig) -> FileSink {
        FileSink {
            path: config.path.clone(),
            file: None,
        }
    }

    async fn open_file(&mut self) -> Result<(), SinkError> {
        self.file = None;
        let deadline = tokio::time::Instant::now() + LOCK_BOUND;
        loop {
            let path = self.path.clone();
            let opened = blocking(move || open_locked(&path)).await;
            let is_busy = matches!(&opened, Err(error) if error.kind == SinkErrorKind::Unavailable);
            if !is_busy || tokio::time::Instant::now() >= deadline {
                self.file = Some(opened?);
                return Ok(());
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    async fn append(&mut self, records: &[Arc<Record>]) -> Result<(), SinkError> {
        let Some(file) = self.file.take() else {
            return Err(SinkError::new(
                SinkErrorKind::Broken,
                format!("{} is not open", self.path.display()),
            ));
        };
        let path = self.path.clone();
        let records = records.to_vec();
        self.file = Some(blocking(move || append(file, &path, &records)).await?);
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), SinkError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let path = self.path.clone();
        blocking(move || file.sync_all().map_err(|error| error::at(&path, "sync", error))).await
    }
}

impl Sink for FileSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.open_file().boxed()
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
        Err(error) => Err(SinkError {
            kind: SinkErrorKind::Broken,
            message: "the thread that writes the file ended".into(),
            source: Some(Box::new(error)),
        }),
    }
}

fn append(file: File, path: &Path, records: &[Arc<Record>]) -> Result<File, SinkError> {
    let mut file = match is_still_at(&file, path) {
        true => file,
        false => open_locked(path)?,
    };
    file.write_all(&encode::lines(records))
        .and_then(|()| file.sync_data())
        .map_err(|error| error::at(path, "write to", error))?;
    Ok(file)
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let Ok((open, there)) = file.metadata().and_then(|open| Ok((open, fs::metadata(path)?))) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

fn open_locked(path: &Path) -> Result<File, SinkError> {
    let folder = folder_of(path);
    let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    make.map_err(|error| error::at(folder, "make the folder", error))?;
    refuse_what_is_no_file(path)?;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| error::at(path, "open", error))?;
    file.try_lock().map_err(|_| {
        SinkError::new(
            SinkErrorKind::Unavailable,
            format!(
                "{} is locked: another process or sink appends to it; give each sink a file of its own",
                path.display()
            ),
        )
    })?;
    cut_torn_line(&file, path)?;
    // Makes the file's name durable as well.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| error::at(folder, "sync the folder", error))?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Before it is opened: to open a pipe for writing waits for a reader.
fn refuse_what_is_no_file(path: &Path) -> Result<(), SinkError> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(error::unusable(path, "it is a folder")),
        Ok(there) if !there.is_file() => Err(error::unusable(path, "it is a device or a pipe")),
        _ => Ok(()),
    }
}

fn cut_torn_line(file: &File, path: &Path) -> Result<(), SinkError> {
    let io = |error| error::at(path, "read the end of", error);
    match tail::end_of(file).map_err(io)? {
        End::Whole => Ok(()),
        End::Foreign => Err(error::unusable(
            path,
            "its last line is not complete and no record, so it belongs to something else",
        )),
        End::Torn(complete) => {
            tracing::warn!(
                path = %path.display(),
                complete_bytes = complete,
                "cut a line that a crash left incomplete, its record comes again"
            );
            file.set_len(complete)
                .and_then(|()| file.sync_all())
                .map_err(|error| error::at(path, "cut the last line of", error))
        }
    }
}
