//! Checks of the machine: disk space and fsync time of the data directory, and the limit of open files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bridge_config::Config;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::Line;
use crate::bridge::{data_dir, journal_file};
use crate::command::check::nearest_existing;
use crate::terminal::bytes;

const SUBJECT: &str = "machine";

/// Every batch of changes waits for one fsync; a slower one delays every change.
const FSYNC_SLOW: Duration = Duration::from_millis(20);

/// Number of measurements; the result is their median.
const FSYNCS: usize = 15;

/// Bytes of one measurement: a small batch.
const FSYNC_BYTES: usize = 4096;

/// Room for one batch of large records and the write-ahead log.
const ROOM_MIN: u64 = 256 << 20;

/// Descriptors of the process itself: standard streams, the runtime, HTTP, the control socket and its clients.
const FILES: u64 = 64;

/// Descriptors of a source: journal, log, shared memory, lock, copier, connections.
const FILES_PER_SOURCE: u64 = 24;

/// Descriptors of a sink for one source: a reader, and connections to several brokers.
const FILES_PER_SINK: u64 = 32;

/// Runs the checks.
pub(super) fn examine(config: &Config) -> Vec<Line> {
    let folder = nearest_existing(&config.data_dir);
    let mut lines = vec![room(config, &folder), owner(config)];
    lines.push(speed(&folder));
    lines.push(files(config));
    lines
}

fn owner(config: &Config) -> Line {
    const CHECK: &str = "owner";
    let folder = config.data_dir.display();
    match data_dir::objection(&config.data_dir) {
        Ok(None) => Line::ok(SUBJECT, CHECK, format!("nobody else can write to {folder}")),
        Ok(Some(reason)) => {
            let message = format!("another user can change the journals in {folder}: {reason}");
            Line::warning(SUBJECT, CHECK, message, data_dir::HELP)
        }
        Err(error) => Line::warning(
            SUBJECT,
            CHECK,
            format!("{folder} cannot be looked at: {error}"),
            data_dir::HELP,
        ),
    }
}

fn room(config: &Config, folder: &Path) -> Line {
    const CHECK: &str = "disk space";
    let free = match statvfs(folder) {
        Ok(found) => found.blocks_available() * found.fragment_size(),
        Err(error) => {
            return Line::failure(
                SUBJECT,
                CHECK,
                format!("{} cannot be looked at: {error}", folder.display()),
                "give a data_dir on a file system that is there, and the permission to read it",
            );
        }
    };
    let wanted: u64 = config
        .sources
        .iter()
        .map(|source| source.journal.max_size.0)
        .sum();
    let taken: u64 = config
        .sources
        .iter()
        .filter_map(|source| std::fs::metadata(journal_file(config, source)).ok())
        .map(|metadata| metadata.len())
        .sum();
    let message = format!(
        "{} free in {}, and the journals may grow by {}",
        bytes(free),
        folder.display(),
        bytes(wanted.saturating_sub(taken))
    );
    if free < ROOM_MIN {
        return Line::failure(SUBJECT, CHECK, message, "make room, or give a data_dir elsewhere");
    }
    if free < wanted.saturating_sub(taken) {
        let remedy = "make room, or lower journal.max_size: a full disk holds capture, too, and other programs with it";
        return Line::warning(SUBJECT, CHECK, message, remedy);
    }
    Line::ok(SUBJECT, CHECK, message)
}

fn speed(folder: &Path) -> Line {
    const CHECK: &str = "fsync";
    let measured = match measure(folder) {
        Ok(measured) => measured,
        Err(error) => {
            return Line::failure(
                SUBJECT,
                CHECK,
                format!("{} cannot be written: {error}", folder.display()),
                "give another data_dir, or the permission to write there",
            );
        }
    };
    let message = format!(
        "{:.1} ms in {}",
        measured.as_secs_f64() * 1000.0,
        folder.display()
    );
    match measured > FSYNC_SLOW {
        false => Line::ok(SUBJECT, CHECK, message),
        true => Line::warning(
            SUBJECT,
            CHECK,
            message,
            "every batch of changes waits for it: give data_dir a faster disk, or, where the loss of power may cost \
             records, set journal.durability = \"process_crash\"",
        ),
    }
}

/// The median of several fsyncs.
fn measure(folder: &Path) -> io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let block = [0x5a; FSYNC_BYTES];
    let mut times = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        file.write_all(&block)?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[FSYNCS / 2])
}

fn files(config: &Config) -> Line {
    const CHECK: &str = "open files";
    let sinks: u64 = config.sinks.iter().map(|sink| sink.sources.len() as u64).sum();
    let needed = FILES + config.sources.len() as u64 * FILES_PER_SOURCE + sinks * FILES_PER_SINK;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < needed => Line::warning(
            SUBJECT,
            CHECK,
            format!("{soft} may be open here, and up to {needed} may be needed"),
            format!(
                "raise the limit to {} or more: LimitNOFILE in systemd, or 'ulimit -n'",
                needed.next_power_of_two()
            ),
        ),
        Ok((soft, _)) => Line::ok(
            SUBJECT,
            CHECK,
            format!("{soft} may be open here, {needed} are enough"),
        ),
        Err(error) => Line::warning(
            SUBJECT,
            CHECK,
            format!("the limit cannot be read: {error}"),
            "look at 'ulimit -n'",
        ),
    }
}
