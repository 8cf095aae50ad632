//! The program's reports on itself, on standard error: standard output belongs to what a command prints.
//!
//! Never znode data, never secrets. A log that nobody reads costs lines, and never the time of the bridge: lines are written
//! by a thread of their own, and those for which it has no room are dropped and counted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use bridge_config::{LogConfig, LogFormat, LogLevel};
use bridge_core::metrics as names;
use metrics::counter;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::cli::LogFlags;

/// Lines that wait to be written: a few megabytes.
const LINES_MAX: usize = 10_000;

/// Time between two looks at the number of dropped lines.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Counts the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging: as the configuration says, flags first. Once per process. Dropping the guard writes the lines that wait,
/// within a second.
pub fn start(options: &LogConfig, flags: &LogFlags) -> Result<WorkerGuard, TryInitError> {
    let level = flags.log_level.unwrap_or(options.level);
    let format = flags.log_format.unwrap_or(options.format);
    let terminal = stderr().is_terminal();
    let (writer, guard) = unhurried(stderr());
    DROPPED.get_or_init(|| writer.error_counter());
    let writer = Prioritised {
        lines: writer,
        is_on: is_journal(std::env::var_os("JOURNAL_STREAM").as_deref(), stderr()),
    };
    let lines = fmt::layer().with_writer(writer).with_ansi(terminal);
    let registry = tracing_subscriber::registry().with(filter(level));
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
        LogFormat::Auto if !terminal => registry.with(lines.json().flatten_event(true)).try_init()?,
        LogFormat::Auto | LogFormat::Text => registry.with(lines).try_init()?,
    }
    Ok(guard)
}

/// Puts the priority before each line where standard error is the journal of systemd, which takes it away again: with it
/// `journalctl -p err` finds errors (sd-daemon(3)).
#[derive(Clone)]
struct Prioritised {
    lines: NonBlocking,
    is_on: bool,
}

impl<'a> MakeWriter<'a> for Prioritised {
    type Writer = PrioritisedLine;

    fn make_writer(&'a self) -> PrioritisedLine {
        PrioritisedLine {
            to: self.lines.clone(),
            line: Vec::new(),
        }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> PrioritisedLine {
        let mut writer = self.make_writer();
        if self.is_on {
            writer.line.extend_from_slice(priority(*about.level()));
        }
        writer
    }
}

/// One line, handed on as a whole so that its priority is never apart from it.
struct PrioritisedLine {
    to: NonBlocking,
    line: Vec<u8>,
}

impl Write for PrioritisedLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PrioritisedLine {
    fn drop(&mut self) {
        // It drops lines instead of failing.
        let _ = self.to.write_all(&self.line);
    }
}

/// The priorities of syslog.
fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        Level::DEBUG | Level::TRACE => b"<7>",
    }
}

/// Whether a file is the stream that systemd connects to its journal: `JOURNAL_STREAM` is its device and inode.
fn is_journal(stream: Option<&OsStr>, file: impl AsFd) -> bool {
    let Some((device, inode)) = stream
        .and_then(OsStr::to_str)
        .and_then(|text| text.split_once(':'))
    else {
        return false;
    };
    let metadata = file
        .as_fd()
        .try_clone_to_owned()
        .and_then(|file| File::from(file).metadata());
    metadata.is_ok_and(|metadata| device.parse() == Ok(metadata.dev()) && inode.parse() == Ok(metadata.ino()))
}

fn unhurried(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(to)
}

/// Counts dropped lines until `stop` is cancelled, and says in the log how many there were.
pub async fn watch_dropped(stop: CancellationToken) {
    let Some(dropped) = DROPPED.get() else {
        return;
    };
    let mut known = 0;
    let mut beat = interval(COUNT_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        let lines = dropped.dropped_lines();
        counter!(names::LOG_DROPPED_LINES).absolute(lines as u64);
        if lines > known {
            tracing::warn!(
                lines = lines - known,
                help = "read standard error faster, or log less",
                "log lines were dropped"
            );
            known = lines;
        }
    }
}

/// The source already logs everything about its sessions, with its name and a remedy. The ZooKeeper client also warns
/// of sessions that it has closed itself, if the server closes the connection before its reply arrives.
const CLIENT: &str = "zookeeper_client";

fn filter(level: LogLevel) -> Targets {
    let all = level_filter(level);
    let of_client = match all {
        LevelFilter::INFO | LevelFilter::WARN => LevelFilter::ERROR,
        other => other,
    };
    Targets::new().with_default(all).with_target(CLIENT, of_client)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that nobody reads: a write ends when the other end of the channel is dropped.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_file_that_is_the_stream_of_the_journal_gets_priorities() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let check = |stream: Option<String>, expected: bool| {
            let stream = stream.map(std::ffi::OsString::from);
            assert_eq!(is_journal(stream.as_deref(), &file), expected, "{stream:?}");
        };
        check(Some(format!("{}:{}", metadata.dev(), metadata.ino())), true);
        check(Some(format!("{}:{}", metadata.dev(), metadata.ino() + 1)), false);
        check(Some("nonsense".to_owned()), false);
        check(None, false);
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_nobody_waits() {
        let (unread, stuck) = mpsc::channel();
        let (mut writer, guard) = unhurried(Stuck(stuck));
        for _ in 0..2 * LINES_MAX {
            writer.write_all(b"a line\n").unwrap();
        }
        let dropped = writer.error_counter().dropped_lines();
        assert!((LINES_MAX - 2..=LINES_MAX).contains(&dropped), "{dropped}");
        drop(unread);
        drop(guard);
    }
}
