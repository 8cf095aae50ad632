//! The rotated files: their names, and which of them are kept.
//!
//! ```text
//! zk.jsonl                               the file that is written
//! zk.2026-11-22T13-40-00.123Z.jsonl      closed
//! zk.2026-11-22T12-40-00.123Z.jsonl.gz   closed and compressed
//! ```
//!
//! No other file in the folder is ever changed.

use std::fs;
use std::path::{Path, PathBuf};

use bridge_core::folder::folder_of;
use bridge_core::record::Timestamp;
use bridge_core::sink::SinkError;

use crate::config::{Compress, Keep};
use crate::error;

/// The endings of closed files, whatever is chosen today.
const ENDINGS: [Compress; 3] = [Compress::None, Compress::Gzip, Compress::Zstd];

/// A closed file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Closed {
    /// The time in its name, as text: the order of the texts is the order of the times.
    pub(crate) time: String,
    pub(crate) path: PathBuf,
    pub(crate) is_compressed: bool,
}

/// A name for the file of this path that is closed now.
pub(crate) fn free_name(path: &Path, mut time: Timestamp) -> PathBuf {
    let (before, after) = name_parts(path);
    loop {
        let name = format!("{before}{}{after}", time_in_name(time));
        let is_free = |ending: &Compress| {
            !folder_of(path)
                .join(format!("{name}{}", ending.ending()))
                .exists()
        };
        if ENDINGS.iter().all(is_free) {
            return folder_of(path).join(name);
        }
        time.0 += 1;
    }
}

/// Removes the oldest.
pub(crate) fn remove_oldest(path: &Path, keep: Keep) -> Result<(), SinkError> {
    let Keep::Newest(count) = keep else {
        return Ok(());
    };
    let closed = list(path)?;
    let mut times: Vec<&str> = closed.iter().map(|one| one.time.as_str()).collect();
    // One that is being compressed is there twice.
    times.dedup();
    let surplus = times.len().saturating_sub(count as usize);
    let gone = &times[..surplus];
    for oldest in closed.iter().filter(|one| gone.contains(&one.time.as_str())) {
        match fs::remove_file(&oldest.path) {
            // Another sink that shares the file was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error::at(&oldest.path, "remove", error)),
            Ok(()) => tracing::info!(path = %oldest.path.display(), "removed the oldest rotated file"),
        }
    }
    Ok(())
}

/// All of them, oldest first.
pub(crate) fn list(path: &Path) -> Result<Vec<Closed>, SinkError> {
    let folder = folder_of(path);
    let parts = name_parts(path);
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| error::at(folder, "list", error))?;
    for entry in entries {
        let entry = entry.map_err(|error| error::at(folder, "list", error))?;
        let name = entry.file_name();
        if let Some((time, is_compressed)) = name.to_str().and_then(|name| time_of(name, &parts)) {
            found.push(Closed {
                time: time.to_owned(),
                path: entry.path(),
                is_compressed,
            });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The parts before and after the time in the name of a closed file.
fn name_parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| ending.to_string_lossy());
    (
        format!("{stem}."),
        ending.map_or_else(String::new, |ending| format!(".{ending}")),
    )
}

/// The time in a name, and whether it is one of a compressed file.
fn time_of<'a>(name: &'a str, (before, after): &(String, String)) -> Option<(&'a str, bool)> {
    let rest = name.strip_prefix(before.as_str())?;
    ENDINGS.iter().find_map(|compress| {
        let rest = rest.strip_suffix(compress.ending())?;
        let time = rest.strip_suffix(after.as_str())?;
        is_time(time).then_some((time, *compress != Compress::None))
    })
}

/// Colons are not for every file system. The order of the names is the order of the times.
fn time_in_name(time: Timestamp) -> String {
    time.to_string().replace(':', "-")
}

/// Whether it has the shape of `2026-11-22T13-40-00.123Z`.
fn is_time(text: &str) -> bool {
    let shape = time_in_name(Timestamp(0));
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(letter, model)| {
            if model.is_ascii_digit() {
                letter.is_ascii_digit()
            } else {
                letter == model
            }
        })
}
