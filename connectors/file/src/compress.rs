//! Compresses closed files while delivery continues.
//!
//! ```text
//! zk.T.jsonl                                     closed, complete
//! zk.T.jsonl  zk.T.jsonl.gz.tmp                  being compressed: the second counts for nothing
//! zk.T.jsonl  zk.T.jsonl.gz                      synchronised and renamed: the first counts for nothing
//!             zk.T.jsonl.gz                      done
//! ```
//!
//! After a crash in any of these states the next pass continues, so that every record is in one file that counts, and
//! in a second one at most until then. A file is never removed before its compressed form is durable.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bridge_core::folder::folder_of;
use bridge_core::sink::SinkError;
use tokio_util::sync::CancellationToken;

use crate::closed;
use crate::config::{Compress, FileConfig};
use crate::error;
use crate::log::{is_at, sync_folder};

/// The bytes that are compressed between two checks for a shutdown, which waits no longer than that.
const CHUNK: usize = 1 << 20;

/// Fast, and half the size of the fastest.
const ZSTD_LEVEL: i32 = 3;

/// Compresses every closed file that is not yet, oldest first, until it has to stop. Where nothing is to be
/// compressed it only ends what a crash left half done.
pub(crate) fn compress_all(config: &FileConfig, stop: &CancellationToken) -> Result<(), SinkError> {
    let closed = closed::list(&config.path)?;
    for one in closed.iter().filter(|one| !one.is_compressed) {
        if stop.is_cancelled() {
            return Ok(());
        }
        let is_done = closed
            .iter()
            .any(|other| other.is_compressed && other.time == one.time);
        if is_done || (config.compress != Compress::None && compress(&one.path, config.compress, stop)?) {
            remove(&one.path)?;
        }
    }
    Ok(())
}

/// Whether the compressed form is durable under its name.
fn compress(plain: &Path, how: Compress, stop: &CancellationToken) -> Result<bool, SinkError> {
    let compressed = with_ending(plain, how.ending());
    let staging = with_ending(&compressed, ".tmp");
    let Some(file) = claim(&staging, plain)? else {
        return Ok(false);
    };
    let written = write(plain, &file, how, stop).map_err(|error| error::at(plain, "compress", error))?;
    if !written {
        fs::remove_file(&staging).map_err(|error| error::at(&staging, "remove", error))?;
        return Ok(false);
    }
    fs::rename(&staging, &compressed).map_err(|error| error::at(&staging, "rename", error))?;
    sync_folder(folder_of(plain))?;
    Ok(true)
}

fn remove(plain: &Path) -> Result<(), SinkError> {
    match fs::remove_file(plain) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error::at(plain, "remove", error)),
        _ => sync_folder(folder_of(plain)),
    }
}

/// The file to write to, unless another sink that shares the folder is writing it.
fn claim(staging: &Path, plain: &Path) -> Result<Option<File>, SinkError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(staging);
    let file = opened.map_err(|error| error::at(staging, "open", error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error::at(staging, "lock", error)),
    }
    // Another sink may have finished it meanwhile: then it already has its final name, and the plain file is removed.
    if !is_at(&file, staging) {
        return Ok(None);
    }
    if !plain.exists() {
        fs::remove_file(staging).map_err(|error| error::at(staging, "remove", error))?;
        return Ok(None);
    }
    let emptied = file.set_len(0);
    emptied.map_err(|error| error::at(staging, "empty", error))?;
    Ok(Some(file))
}

/// False when it was given up; then nothing of it counts.
fn write(plain: &Path, to: &File, how: Compress, stop: &CancellationToken) -> io::Result<bool> {
    let from = File::open(plain)?;
    let out = BufWriter::new(to);
    let out = match how {
        Compress::None => return Ok(false),
        Compress::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            if !copy(from, &mut encoder, stop)? {
                return Ok(false);
            }
            encoder.finish()?
        }
        Compress::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
            // A reader finds out when a byte of it was damaged.
            encoder.include_checksum(true)?;
            if !copy(from, &mut encoder, stop)? {
                return Ok(false);
            }
            encoder.finish()?
        }
    };
    out.into_inner()?.sync_all()?;
    Ok(true)
}

fn copy(mut from: File, to: &mut impl Write, stop: &CancellationToken) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(true);
        }
        if stop.is_cancelled() {
            return Ok(false);
        }
        to.write_all(&chunk[..read])?;
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
