//! The program's reports on itself, on standard error: standard output belongs to what a command prints.
//!
//! Never znode data, never secrets.

use std::io::{IsTerminal, stderr};

use bridge_config::{LogConfig, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::cli::LogFlags;

/// Starts logging: as the configuration says, flags first. Once per process.
pub fn start(options: &LogConfig, flags: &LogFlags) -> Result<(), TryInitError> {
    let level = flags.log_level.unwrap_or(options.level);
    let format = flags.log_format.unwrap_or(options.format);
    let terminal = stderr().is_terminal();
    let lines = fmt::layer().with_writer(stderr).with_ansi(terminal);
    let registry = tracing_subscriber::registry().with(filter(level));
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Auto if !terminal => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Auto | LogFormat::Text => registry.with(lines).try_init(),
    }
}

/// What the ZooKeeper client says of its sessions is said by the source already, with its name and a remedy. Beside that
/// it warns of sessions that it has itself asked to be closed, where the server is quicker than its reply.
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
