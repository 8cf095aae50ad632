//! The file with its lock, its end and its successors. Everything here blocks.
//!
//! The lock is held for one batch at a time, so that several sinks (one for each source) can share a file and no line
//! stands inside another.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bridge_core::record::{Record, Timestamp};
use bridge_core::sink::{SinkError, SinkErrorKind};

use crate::config::{FileConfig, Keep, Rotate};
use crate::encode;
use crate::error;
use crate::tail::{self, End};

/// Others hold the lock for a batch, which takes milliseconds.
const LOCK_BOUND: Duration = Duration::from_secs(5);

/// How often to ask for the lock.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Whether somebody still waits for a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// Nobody waits any more.
    pub(crate) fn give_up(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_given_up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Log {
    config: Arc<FileConfig>,
    file: File,
    /// Its length when the lock was last let go, with a complete last line.
    length: u64,
}

impl Log {
    /// Opens or makes the file, and cuts what a crash left at its end.
    pub(crate) fn open(config: Arc<FileConfig>) -> Result<Log, SinkError> {
        let log = Log::open_locked(config)?;
        log.unlock()?;
        Ok(log)
    }

    /// Appends the records; they are durable afterwards. Gives itself back, as the file may be another one by then.
    ///
    /// Whether they are still wanted is asked under the lock: whoever was given up must not write behind the next one,
    /// which opens the file under the same lock.
    pub(crate) fn append(self, records: &[Arc<Record>], wanted: &Wanted) -> Result<Log, SinkError> {
        let lines = encode::lines(records, self.config.format);
        let log = self.lock_at_path()?;
        if wanted.is_given_up() {
            return Err(SinkError::new(
                SinkErrorKind::Broken,
                "the delivery was given up before the records were written",
            ));
        }
        let log = log.rotated(lines.len() as u64)?.write(&lines)?;
        log.unlock()?;
        Ok(log)
    }

    /// Makes everything durable, also what others know of the file.
    pub(crate) fn sync(&self) -> Result<(), SinkError> {
        self.file.sync_all().map_err(|error| self.error("sync", error))
    }

    fn open_locked(config: Arc<FileConfig>) -> Result<Log, SinkError> {
        loop {
            let file = open_file(&config.path)?;
            lock(&file, &config.path)?;
            // Another sink may have moved it away before the lock was given.
            if is_at(&file, &config.path) {
                let mut log = Log {
                    config,
                    file,
                    length: 0,
                };
                log.length = log.cut_torn_line()?;
                sync_folder(folder_of(&log.config.path))?;
                return Ok(log);
            }
        }
    }

    /// Locks the file, or the one that stands in its place by now.
    fn lock_at_path(mut self) -> Result<Log, SinkError> {
        lock(&self.file, &self.config.path)?;
        if !is_at(&self.file, &self.config.path) {
            return Log::open_locked(self.config);
        }
        if self.len()? != self.length {
            self.length = self.cut_torn_line()?;
        }
        Ok(self)
    }

    fn rotated(self, coming: u64) -> Result<Log, SinkError> {
        let Rotate::At(limit) = self.config.rotate else {
            return Ok(self);
        };
        if self.length == 0 || self.length + coming <= limit.0 {
            return Ok(self);
        }
        let path = &self.config.path;
        let moved = free_name(path, Timestamp::of(SystemTime::now()));
        fs::rename(path, &moved).map_err(|error| error::at(path, "rename", error))?;
        remove_oldest(path, self.config.keep)?;
        Log::open_locked(Arc::clone(&self.config))
    }

    fn write(mut self, lines: &[u8]) -> Result<Log, SinkError> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| self.error("write to", error))?;
        self.length += lines.len() as u64;
        Ok(self)
    }

    fn cut_torn_line(&self) -> Result<u64, SinkError> {
        let end = tail::end_of(&self.file).map_err(|error| self.error("read the end of", error))?;
        match end {
            End::Whole => self.len(),
            End::Foreign => Err(error::unusable(
                &self.config.path,
                "its last line is not complete and no record, so it belongs to something else",
            )),
            End::Torn(complete) => {
                tracing::warn!(
                    path = %self.config.path.display(),
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
        error::at(&self.config.path, tried, error)
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

fn is_at(file: &File, path: &Path) -> bool {
    let Ok((open, there)) = file.metadata().and_then(|open| Ok((open, fs::metadata(path)?))) else {
        return false;
    };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), SinkError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| error::at(folder, "sync the folder", error))
}

/// What stands before and behind the time in the name of a rotated file.
fn name_parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| ending.to_string_lossy());
    (
        format!("{stem}."),
        ending.map_or_else(String::new, |ending| format!(".{ending}")),
    )
}

/// Colons are not for every file system. The order of the names is the order of the times.
fn time_in_name(time: Timestamp) -> String {
    time.to_string().replace(':', "-")
}

fn free_name(path: &Path, mut time: Timestamp) -> PathBuf {
    let (before, behind) = name_parts(path);
    loop {
        let name = folder_of(path).join(format!("{before}{}{behind}", time_in_name(time)));
        if !name.exists() {
            return name;
        }
        time.0 += 1;
    }
}

fn remove_oldest(path: &Path, keep: Keep) -> Result<(), SinkError> {
    let Keep::Newest(count) = keep else {
        return Ok(());
    };
    let folder = folder_of(path);
    let mut rotated = rotated_files(path).map_err(|error| error::at(folder, "list", error))?;
    rotated.sort_unstable();
    let surplus = rotated.len().saturating_sub(count as usize);
    for oldest in &rotated[..surplus] {
        fs::remove_file(oldest).map_err(|error| error::at(oldest, "remove", error))?;
        tracing::info!(path = %oldest.display(), "removed the oldest rotated file");
    }
    Ok(())
}

fn rotated_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (before, behind) = name_parts(path);
    let width = time_in_name(Timestamp(0)).len();
    let is_rotated = |name: &str| {
        name.strip_prefix(&before)
            .and_then(|rest| rest.strip_suffix(&behind))
            .is_some_and(|time| time.len() == width && is_time(time))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_rotated) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether it has the shape of `2026-11-22T13-40-00.123Z`: nothing else in the folder is ever removed.
fn is_time(text: &str) -> bool {
    let shape = time_in_name(Timestamp(0));
    text.bytes().zip(shape.bytes()).all(|(letter, model)| {
        if model.is_ascii_digit() {
            letter.is_ascii_digit()
        } else {
            letter == model
        }
    })
}

#[cfg(test)]
mod tests {
    use bridge_core::testing::some_records;

    use super::*;

    #[test]
    fn a_write_that_was_given_up_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zk.jsonl");
        let log = Log::open(Arc::new(FileConfig::new(&path))).unwrap();
        let wanted = Wanted::default();
        let log = log.append(&some_records(1, 1), &wanted).unwrap();
        let before = fs::read(&path).unwrap();

        wanted.give_up();
        let error = log.append(&some_records(2, 1), &wanted).unwrap_err();

        assert!(error.message.contains("given up"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        // And lets the lock go.
        Log::open(Arc::new(FileConfig::new(&path))).unwrap();
    }
}
