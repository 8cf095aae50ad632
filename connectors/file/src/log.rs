//! The written file: its lock, its end and its rotation. Every call here blocks.
//!
//! The lock is held for one batch at a time, so that several sinks (one for each source) can share a file and no line
//! is inside another.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bridge_core::amount::{Interval, Threshold};
use bridge_core::folder::{self, folder_of};
use bridge_core::record::Timestamp;
use bridge_core::sink::{SinkError, SinkErrorKind};
use tokio_util::sync::CancellationToken;

use crate::age;
use crate::closed;
use crate::config::FileConfig;
use crate::encode::line_start_of;
use crate::error;
use crate::tail::{self, End};

/// Others hold the lock for a batch, which takes milliseconds.
const LOCK_BOUND: Duration = Duration::from_secs(5);

/// If the file is removed more often than this while one batch is written, somebody wants it removed.
const REMOVED_MAX: usize = 3;

/// How often to ask for the lock.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The clock.
pub(crate) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The parameters of an open file: its options, and the clock.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) config: Arc<FileConfig>,
    pub(crate) clock: Clock,
}

/// An open file.
pub(crate) struct Log {
    plan: Plan,
    file: File,
    /// Its length when the lock was last let go, with a complete last line.
    length: u64,
    /// When it was made.
    begun: SystemTime,
    /// Whether the last batch began this file.
    has_rotated: bool,
}

impl Log {
    /// Opens or makes the file, and cuts what a crash left at its end.
    pub(crate) fn open(plan: Plan) -> Result<Log, SinkError> {
        let log = Log::open_locked(plan)?;
        log.unlock()?;
        Ok(log)
    }

    /// Appends lines; they are durable afterwards. Gives itself back, as the file may be another one by then.
    ///
    /// `stop` is checked under the lock: a delivery that was given up must not write after the next one, which opens the
    /// file under the same lock.
    pub(crate) fn append(self, lines: &[u8], stop: &CancellationToken) -> Result<Log, SinkError> {
        let mut log = self.lock_at_path()?;
        if stop.is_cancelled() {
            return Err(SinkError::new(
                SinkErrorKind::Broken,
                "the delivery was given up before the records were written",
            ));
        }
        log.has_rotated = false;
        log = log.rotated(lines.len() as u64)?.write(lines)?;
        // Removed between the check of its name and the write: its records could never be read.
        for _ in 0..REMOVED_MAX {
            if !log.is_removed()? {
                break;
            }
            log = Log::open_locked(log.plan)?.write(lines)?;
        }
        log.unlock()?;
        Ok(log)
    }

    /// Makes everything durable, also what others know of the file.
    pub(crate) fn sync(&self) -> Result<(), SinkError> {
        self.file.sync_all().map_err(|error| self.error("sync", error))
    }

    fn open_locked(plan: Plan) -> Result<Log, SinkError> {
        loop {
            let path = &plan.config.path;
            let file = open_file(path)?;
            lock(&file, path)?;
            // Another sink may have moved it away before the lock was given.
            if is_at(&file, path) {
                sync_folder(folder_of(path))?;
                let made = file.metadata().and_then(|metadata| metadata.created());
                let mut log = Log {
                    begun: age::begun(&file, made, (plan.clock)()),
                    plan,
                    file,
                    length: 0,
                    has_rotated: false,
                };
                log.length = log.cut_torn_line()?;
                return Ok(log);
            }
        }
    }

    /// Locks the file, or the one in its place by now.
    fn lock_at_path(mut self) -> Result<Log, SinkError> {
        lock(&self.file, self.path())?;
        if !is_at(&self.file, self.path()) {
            return Log::open_locked(self.plan);
        }
        if self.len()? != self.length {
            self.length = self.cut_torn_line()?;
        }
        Ok(self)
    }

    fn rotated(self, coming: u64) -> Result<Log, SinkError> {
        let now = (self.plan.clock)();
        if self.length == 0 || !self.is_full(coming) && !self.is_old(now) {
            return Ok(self);
        }
        let path = self.path();
        let moved = closed::free_name(path, Timestamp::of(now));
        fs::rename(path, &moved).map_err(|error| error::at(path, "rename", error))?;
        closed::remove_oldest(path, self.plan.config.keep)?;
        Ok(Log {
            has_rotated: true,
            ..Log::open_locked(self.plan.clone())?
        })
    }

    /// Whether the last batch closed a file.
    pub(crate) fn has_rotated(&self) -> bool {
        self.has_rotated
    }

    fn is_full(&self, coming: u64) -> bool {
        match self.plan.config.rotate {
            Threshold::Off => false,
            Threshold::At(limit) => self.length + coming > limit.0,
        }
    }

    fn is_old(&self, now: SystemTime) -> bool {
        match self.plan.config.rotate_every {
            Interval::Off => false,
            // A clock that was set back makes no file old.
            Interval::Every(span) => now.duration_since(self.begun).is_ok_and(|age| age >= span.0),
        }
    }

    fn is_removed(&self) -> Result<bool, SinkError> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.nlink() == 0)
            .map_err(|error| self.error("look at", error))
    }

    fn path(&self) -> &Path {
        &self.plan.config.path
    }

    fn write(mut self, lines: &[u8]) -> Result<Log, SinkError> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| self.error("write to", error))?;
        self.length += lines.len() as u64;
        Ok(self)
    }

    fn cut_torn_line(&self) -> Result<u64, SinkError> {
        let body = self.plan.config.body.as_deref();
        let own_start = body.map(line_start_of).unwrap_or_default();
        let end =
            tail::end_of(&self.file, own_start).map_err(|error| self.error("read the end of", error))?;
        match end {
            End::Whole => self.len(),
            End::Foreign => Err(error::unusable(
                self.path(),
                "its last line is not complete and no record, so it belongs to something else",
            )),
            End::Torn(complete) => {
                tracing::warn!(
                    path = %self.path().display(),
                    complete_bytes = complete,
                    "cut a line that a crash left incomplete, its record comes again"
                );
                let cut = self.file.set_len(complete).and_then(|()| self.file.sync_all());
                cut.map_err(|error| self.error("cut the last line of", error))?;
                Ok(complete)
            }
        }
    }

    fn len(&self) -> Result<u64, SinkError> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| self.error("look at", error))
    }

    fn unlock(&self) -> Result<(), SinkError> {
        self.file.unlock().map_err(|error| self.error("unlock", error))
    }

    fn error(&self, tried: &str, error: std::io::Error) -> SinkError {
        error::at(self.path(), tried, error)
    }
}

fn open_file(path: &Path) -> Result<File, SinkError> {
    let folder = folder_of(path);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| error::at(folder, "make the folder", error))?;
    refuse_what_is_no_file(path)?;
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| error::at(path, "open", error))
}

/// Before it is opened: to open a pipe for writing waits for a reader.
fn refuse_what_is_no_file(path: &Path) -> Result<(), SinkError> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(error::unusable(path, "it is a folder")),
        Ok(there) if !there.is_file() => Err(error::unusable(path, "it is a device or a pipe")),
        _ => Ok(()),
    }
}

/// The lock is let go when the file is closed, if not before.
fn lock(file: &File, path: &Path) -> Result<(), SinkError> {
    let deadline = Instant::now() + LOCK_BOUND;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error::at(path, "lock", error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(SinkError::new(
                    SinkErrorKind::Unavailable,
                    format!(
                        "{} is locked by another process for more than {} s",
                        path.display(),
                        LOCK_BOUND.as_secs()
                    ),
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
        }
    }
}

/// Whether the path still names this file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let Ok((open, there)) = file.metadata().and_then(|open| Ok((open, fs::metadata(path)?))) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), SinkError> {
    folder::sync_folder(folder).map_err(|error| error::at(folder, "sync the folder", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_given_up_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zk.jsonl");
        let plan = Plan {
            config: Arc::new(FileConfig::new(&path)),
            clock: Arc::new(SystemTime::now),
        };
        let log = Log::open(plan.clone()).unwrap();
        let stop = CancellationToken::new();
        let log = log.append(b"1\n", &stop).unwrap();
        let before = fs::read(&path).unwrap();

        stop.cancel();
        let error = log.append(b"2\n", &stop).err().unwrap();

        assert!(error.message.contains("given up"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        // And lets the lock go.
        Log::open(plan).unwrap();
    }
}
