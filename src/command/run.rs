//! `zkbridge run`: captures, journals and delivers until a signal, or until every source has halted.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::IsTerminal;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bridge_config::{Loaded, load};
use clap::Args;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config_changes::ConfigChanges;
use super::serving::{self, SignalRequest, Signals};
use crate::bridge::{Bridge, CursorChange, DRAIN, Decisions, ReloadRequest, Reloaded, raise_limit};
use crate::cli::{ConfigFlag, LogFlags};
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::operator::Journals;
use crate::service_manager::ServiceManager;
use crate::terminal::{count, notice};
use crate::version;

const EXAMPLES: &str = "\
Examples:
  zkbridge run --config zkbridge.toml
  zkbridge run --config zkbridge.toml --accept-baseline main

While it runs, http.listen serves /metrics, /healthz, /readyz, /status and the
API below /api/v1.
SIGTERM or Ctrl-C drain the sinks for up to 10 s, and the exit code is 0; a
second one ends at once, with 128 and its number.
SIGHUP, or 'zkbridge reload', reads the configuration again: sources and sinks
change without a restart, and an invalid file changes nothing.

Exit codes: 0 after a drain, 1 a journal failed, 2 the configuration is wrong,
3 something that it relies on is missing, 4 every source has halted and needs
an operator, 128+n ended by signal n";

/// Options of `run`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Accept the present tree of this source although it is older than its
    /// journal, or another: what differs is reported in a gap
    #[arg(long, value_name = "SOURCE")]
    pub accept_baseline: Vec<String>,
    /// Give up the place of a sink that is no longer configured, so that it
    /// no longer holds back what retention may remove
    #[arg(long, value_name = "SINK")]
    pub forget_sink: Vec<String>,
    /// Look every 5 s whether the configuration file has changed, and reload
    /// it then
    #[arg(long)]
    pub reload_on_change: bool,
}

/// Runs the bridge until a signal, or until every source has halted.
pub fn run(args: &RunArgs, flags: &LogFlags) -> Result<(), Failure> {
    // Before it is loaded: a change in between is seen as one.
    let mut changes = ConfigChanges::of(args.reload_on_change.then_some(&*args.config.config));
    let loaded = args.config.load()?;
    let _log = logging::start(&loaded.config.log, flags)
        .map_err(|error| Failure::new(Exit::Runtime, format!("logging cannot start: {error}")))?;
    log_start(&loaded);
    for warning in &loaded.warnings {
        tracing::warn!(key = warning.key, remedy = warning.remedy, "{}", warning.message);
    }
    raise_limit();
    check_accepted(args, &loaded.config)?;
    check_forgotten(args, &loaded.config)?;
    let decisions = Decisions {
        accept_baseline: args.accept_baseline.clone(),
        forget_sinks: args.forget_sink.clone(),
    };
    serving::block_on(async {
        let mut signals = serving::Signals::new()?.with_hangups()?;
        let ending = CancellationToken::new();
        let overdue = Overdue::after(&ending);
        let start = Bridge::start(&loaded.config, &decisions, &ending);
        let started = attend(&mut signals, (&ending, &overdue), start).await?;
        let mut bridge = started.done?;
        if let Some(address) = bridge.address() {
            tracing::info!(%address, "serving /metrics /healthz /readyz /status /api/v1");
        }
        if std::io::stderr().is_terminal() && loaded.config.sinks.is_empty() {
            notice("no [[sink]] is configured: changes are kept in the journal only");
        }
        let service_manager = Arc::new(ServiceManager::of_environment());
        service_manager.ready(&summary(&loaded, &bridge));
        let end_of_signs = CancellationToken::new();
        let signs = {
            let (service_manager, end) = (Arc::clone(&service_manager), end_of_signs.clone());
            tokio::spawn(async move { service_manager.live(end).await })
        };
        let mut reloads = bridge.take_reloads();
        // Of signals that came while something else was under way.
        let (mut first, mut hung_up) = (started.signal, started.has_hung_up);
        let end = loop {
            if first.is_some() {
                break Ok(());
            }
            let request = tokio::select! {
                biased;
                request = signals.request() => match request {
                    SignalRequest::End(signal) => {
                        first = Some(signal);
                        continue;
                    }
                    SignalRequest::Reload => None,
                },
                () = std::future::ready(()), if hung_up => None,
                () = changes.next() => None,
                halted = bridge.all_halted() => break Err(serving::halted(&halted)),
                () = bridge.start_opened() => continue,
                Some(request) = reloads.recv() => Some(request),
            };
            let (change, answer) = match request {
                Some(ReloadRequest { change, answer }) => (change, Some(answer)),
                None => (None, None),
            };
            let work = change_bridge(&mut bridge, &args.config.config, change, &ending);
            let attended = attend(&mut signals, (&ending, &overdue), work).await?;
            (first, hung_up) = (attended.signal, attended.has_hung_up);
            if let Some(answer) = answer {
                // The command may have given up.
                let _ = answer.send(attended.done);
            }
        };
        ending.cancel();
        tracing::info!(drain_seconds = DRAIN.as_secs(), "draining");
        service_manager.stopping();
        let second = async {
            match first {
                Some(first) => signals.second(first).await,
                None => signals.next().await,
            }
        };
        let end = tokio::select! {
            sinks = bridge.stop() => {
                let delivered: u64 = sinks.iter().map(|sink| sink.delivered).sum();
                let rejected: u64 = sinks.iter().map(|sink| sink.rejected).sum();
                let undelivered: u64 = sinks.iter().map(|sink| sink.lag_records).sum();
                tracing::info!(delivered, rejected, undelivered, "stopped");
                end
            }
            signal = second => Err(at_once(signal)),
            () = overdue.passed() => Err(by_force(first)),
        };
        end_of_signs.cancel();
        // It ends at once.
        let _ = signs.await;
        end
    })
}

fn at_once(signal: u8) -> Failure {
    Failure::new(Exit::Signal(signal), "ended at once by a second signal")
}

/// The longest time from the request of an end to the end of the process: the drain, the ends of what closes after it,
/// and less than the 30 s after which the supervisors of `docker/` end it.
const END_BOUND: Duration = Duration::from_secs(25);

/// Returns when the end that was asked for is overdue: a file, a library or a computation does not return.
struct Overdue(watch::Receiver<bool>);

impl Overdue {
    /// Counts from the time at which `ending` is cancelled. Needs a runtime; its task ends with that.
    fn after(ending: &CancellationToken) -> Overdue {
        let (send, overdue) = watch::channel(false);
        let ending = ending.clone();
        tokio::spawn(async move {
            ending.cancelled().await;
            tokio::time::sleep(END_BOUND).await;
            send.send_replace(true);
        });
        Overdue(overdue)
    }

    /// Returns when it is overdue. Cancel safe.
    async fn passed(&self) {
        let mut overdue = self.0.clone();
        // The task sends before it ends.
        let _ = overdue.wait_for(|is_overdue| *is_overdue).await;
    }
}

fn by_force(signal: Option<u8>) -> Failure {
    let exit = signal.map_or(Exit::Runtime, Exit::Signal);
    let message = format!(
        "the bridge did not end within {} s and was ended by force: nothing that is durable is lost\nhelp: look in the \
         log and at the disks for what does not return, such as a certificate file that is a pipe",
        END_BOUND.as_secs()
    );
    Failure::new(exit, message)
}

/// A change of the bridge that was carried out while signals were served.
struct Attended<T> {
    done: T,
    /// The signal that asked for the end meanwhile.
    signal: Option<u8>,
    /// Whether SIGHUP asked for a reload meanwhile.
    has_hung_up: bool,
}

/// Carries a change of the bridge out to its end, which a signal brings nearer by `ending`: what has begun to stop still
/// drains, and no journal is waited for.
///
/// # Errors
/// If a second signal ends the process at once, or the end is overdue.
async fn attend<T>(
    signals: &mut Signals,
    (ending, overdue): (&CancellationToken, &Overdue),
    change: impl Future<Output = T>,
) -> Result<Attended<T>, Failure> {
    let mut change = pin!(change);
    let mut has_hung_up = false;
    loop {
        let signal = tokio::select! {
            biased;
            done = &mut change => return Ok(Attended { done, signal: None, has_hung_up }),
            request = signals.request() => match request {
                SignalRequest::Reload => {
                    has_hung_up = true;
                    continue;
                }
                SignalRequest::End(signal) => signal,
            },
        };
        ending.cancel();
        return tokio::select! {
            biased;
            done = change => Ok(Attended { done, signal: Some(signal), has_hung_up }),
            second = signals.second(signal) => Err(at_once(second)),
            () = overdue.passed() => Err(by_force(Some(signal))),
        };
    }
}

/// Removes a cursor, or reads the configuration again and takes it over. Returns what was done, or why nothing was.
async fn change_bridge(
    bridge: &mut Bridge,
    file: &Path,
    change: Option<CursorChange>,
    ending: &CancellationToken,
) -> Result<Reloaded, String> {
    if let Some(CursorChange::Forget(name)) = &change {
        let done = bridge.forget_sink(name).await;
        return done
            .map(|()| Reloaded::default())
            .map_err(|failure| failure.message);
    }
    let loaded = tokio::select! {
        loaded = read_again(file) => loaded,
        () = ending.cancelled() => return Err("the bridge ends".to_owned()),
    };
    reload(bridge, loaded, change.as_ref()).await
}

/// The first line of the log.
fn log_start(loaded: &Loaded) {
    let config = &loaded.config;
    let sources: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
    let sinks: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
    tracing::info!(
        version = version::VERSION,
        commit = version::COMMIT,
        config = %loaded.file.display(),
        data_dir = %config.data_dir.display(),
        sources = sources.join(" "),
        sinks = sinks.join(" "),
        "starting"
    );
}

/// The bridge in one line, for `systemctl status`.
fn summary(loaded: &Loaded, bridge: &Bridge) -> String {
    let (sources, sinks) = (loaded.config.sources.len(), loaded.config.sinks.len());
    let served = bridge.address().map_or_else(
        || "no HTTP listener".to_owned(),
        |address| format!("serving on {address}"),
    );
    format!(
        "{}, {}, {served}",
        count(sources as u64, "source"),
        count(sinks as u64, "sink")
    )
}

/// Names, as the log shows them.
fn named(sinks: &BTreeSet<String>) -> String {
    sinks.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Longest time for reading the configuration and the files that it names.
const READ_BOUND: Duration = Duration::from_secs(10);

/// Reads the configuration on a thread of its own: a disk that does not answer, or a fault of a parser, leaves the bridge
/// as it is. Cancel safe; the thread ends by itself, or with the process.
async fn read_again(file: &Path) -> Result<Loaded, String> {
    let file = file.to_owned();
    let (send, read) = oneshot::channel();
    let work = move || {
        // The caller may have given up.
        let _ = send.send(load(&file));
    };
    let thread = std::thread::Builder::new()
        .name("configuration".into())
        .spawn(work);
    thread.map_err(|error| format!("no thread to read the configuration: {error}"))?;
    match timeout(READ_BOUND, read).await {
        Ok(Ok(loaded)) => loaded.map_err(|refused| refused.to_string()),
        Ok(Err(_)) => {
            Err("reading the configuration ended with a panic, which is a bug of zkbridge".to_owned())
        }
        Err(_) => Err(format!(
            "the configuration cannot be read in {} s: look at the disk of the file and of those that it names",
            READ_BOUND.as_secs()
        )),
    }
}

/// Takes over the configuration that was read, in which a sink may have another name than its cursor. Logs and returns
/// the result.
async fn reload(
    bridge: &mut Bridge,
    loaded: Result<Loaded, String>,
    change: Option<&CursorChange>,
) -> Result<Reloaded, String> {
    let done = match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                tracing::warn!(key = warning.key, remedy = warning.remedy, "{}", warning.message);
            }
            let done = match change {
                None => bridge.reload(&loaded.config).await,
                Some(change) => bridge.reload_renamed(&loaded.config, change).await,
            };
            done.map_err(|failure| failure.message)
        }
        Err(refused) => Err(refused),
    };
    match &done {
        Ok(reloaded) => {
            tracing::info!(
                started = named(&reloaded.started),
                changed = named(&reloaded.changed),
                stopped = named(&reloaded.stopped),
                sources_started = named(&reloaded.sources.started),
                sources_changed = named(&reloaded.sources.changed),
                sources_stopped = named(&reloaded.sources.stopped),
                sources_failed = named(&reloaded.sources.failed),
                sources_opening = named(&reloaded.sources.opening),
                "configuration reloaded"
            );
            if let Some(reason) = reloaded.exception() {
                tracing::error!(reason, "configuration reloaded in part");
            }
        }
        Err(reason) => {
            tracing::error!(
                reason,
                "reload rejected; still running with the previous configuration"
            );
        }
    }
    done
}

fn check_accepted(args: &RunArgs, config: &bridge_config::Config) -> Result<(), Failure> {
    for name in &args.accept_baseline {
        if config.sources.iter().any(|source| **name == *source.name) {
            continue;
        }
        let known: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
        let message = format!(
            "--accept-baseline {name}: no source has this name\nhelp: give one of: {}",
            known.join(", ")
        );
        return Err(Failure::new(Exit::Configuration, message));
    }
    Ok(())
}

/// A journal that cannot be read is for the start to report.
fn check_forgotten(args: &RunArgs, config: &bridge_config::Config) -> Result<(), Failure> {
    let Ok(cursors) = Journals::new(config.clone()).cursors() else {
        return Ok(());
    };
    for name in &args.forget_sink {
        let checked = CursorChange::Forget(name.clone()).check(config, &cursors);
        checked.map_err(|failure| Failure {
            message: format!("--forget-sink {name}: {}", failure.message),
            ..failure
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_end_is_overdue_so_long_after_it_was_asked_for_and_never_before() {
        let ending = CancellationToken::new();
        let overdue = Overdue::after(&ending);
        assert!(timeout(END_BOUND * 10, overdue.passed()).await.is_err());
        ending.cancel();
        let asked = tokio::time::Instant::now();
        overdue.passed().await;
        assert_eq!(asked.elapsed().as_secs(), END_BOUND.as_secs());
        overdue.passed().await;
        let failure = by_force(Some(15));
        assert!(failure.message.contains("ended by force"), "{}", failure.message);
    }
}
