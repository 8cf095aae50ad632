//! Journals that are being opened. Opening one can take as long as its whole file: values are masked by a new mask, or
//! the file has an older format. At a first start it can begin with the history in the files of servers.
//!
//! Invariants: each is opened by a task of its own, which delays no other source, no signal and no page. A stop of the
//! bridge interrupts it and waits for its end within [`DRAIN`]. A journal is changed in whole transactions, and the next
//! start goes on. A task that panics is a source that has halted.

use std::future::pending;
use std::time::Duration;

use bridge_config::{Config, Name, SinkConfig, SourceConfig};
use bridge_core::pipeline::SourceStatus;
use futures::future::{join_all, select_all};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::reload::are_equal;
use super::source::{FailedSource, OpenedSource, PreparedSource};
use super::{Bridge, CursorChange, DRAIN, environment, wall_clock};
use crate::exit::{Exit, Failure};
use crate::source_type::source_type;

/// Longest time for which a start or a reload waits for journals; sources with others start afterwards.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(5);

/// In the status of a source whose journal is being opened.
const OPENING: &str = "its journal is being opened: with a new mask or after an upgrade that takes as long as its whole \
                       file; the log says when it is done";

/// The same while the journal is made from transaction logs.
const BACKFILLING: &str = "its journal begins with the history in transaction logs, which are being read; the log of the \
                           bridge says how far";

/// The end of an opening.
pub(super) type Opened = Result<OpenedSource, Failure>;

/// A source whose journal is being opened.
pub(super) struct OpeningSource {
    pub(super) config: SourceConfig,
    /// The sinks that take from it.
    sinks: Vec<SinkConfig>,
    status: watch::Sender<SourceStatus>,
    stop: CancellationToken,
    task: JoinHandle<Opened>,
}

/// Sources of a start or a reload, by the state of their journals.
pub(super) struct Openings {
    pub(super) ended: Vec<(SourceConfig, Opened)>,
    pub(super) waiting: Vec<OpeningSource>,
}

impl OpeningSource {
    /// Begins to open the journal. Needs a runtime.
    pub(super) fn begin(
        source: PreparedSource,
        sinks: Vec<SinkConfig>,
        changes: Vec<CursorChange>,
    ) -> OpeningSource {
        let config = source.config().clone();
        let reason = match source.begins_with_history() {
            true => BACKFILLING,
            false => OPENING,
        };
        OpeningSource::spawn(config, sinks, reason, move |stop| source.open(&changes, stop))
    }

    fn spawn(
        config: SourceConfig,
        sinks: Vec<SinkConfig>,
        reason: &str,
        open: impl FnOnce(&CancellationToken) -> Opened + Send + 'static,
    ) -> OpeningSource {
        let mode = source_type(&config.kind).mode();
        let status = SourceStatus::opening(config.name.shared(), mode, wall_clock()(), reason.to_owned());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        OpeningSource {
            config,
            sinks,
            status: watch::Sender::new(status),
            stop,
            task: spawn_blocking(move || open(&stopped)),
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Whether a configuration has the same source with the same sinks.
    fn is_as_in(&self, config: &Config) -> bool {
        let sinks = sinks_of(config, &self.config.name);
        let mut pairs = sinks.iter().zip(&self.sinks);
        config.sources.contains(&self.config)
            && sinks.len() == self.sinks.len()
            && pairs.all(|(wanted, own)| are_equal(wanted, own))
    }
}

/// The sinks that take from a source.
pub(super) fn sinks_of(config: &Config, source: &Name) -> Vec<SinkConfig> {
    let own = config.sinks.iter().filter(|sink| sink.sources.contains(source));
    own.cloned().collect()
}

/// The result of a task, which is a failure if it panicked.
fn opened(name: &Name, ended: Result<Opened, JoinError>) -> Opened {
    ended.unwrap_or_else(|error| {
        Err(environment(format!(
            "opening the journal of source '{name}' ended with a panic, which is a bug of zkbridge: {error}"
        )))
    })
}

/// Removes the first source whose journal is opened or has failed. Never returns if there is none. Cancel safe.
async fn next_opened(opening: &mut Vec<OpeningSource>) -> (SourceConfig, Opened) {
    if opening.is_empty() {
        return pending().await;
    }
    let (ended, at, _) = select_all(opening.iter_mut().map(|source| &mut source.task)).await;
    let config = opening.remove(at).config;
    let opened = opened(&config.name, ended);
    (config, opened)
}

/// Waits for the ends, up to [`OPEN_WAIT`] and until the bridge is to end.
pub(super) async fn wait(mut waiting: Vec<OpeningSource>, ending: &CancellationToken) -> Openings {
    let until = Instant::now() + OPEN_WAIT;
    let mut ended = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        tokio::select! {
            biased;
            opened = next_opened(&mut waiting) => ended.push(opened),
            () = ending.cancelled() => break,
            () = sleep_until(until) => break,
        }
    }
    for source in &waiting {
        tracing::info!(
            source = &*source.config.name,
            "the journal is still being opened; the source starts when that is done"
        );
    }
    Openings { ended, waiting }
}

/// Interrupts the opening of these journals, and waits for their ends within [`DRAIN`]. Not cancel safe.
pub(super) async fn stop(opening: Vec<OpeningSource>) {
    let ends = opening.into_iter().map(async |source| {
        source.stop.cancel();
        let name = &*source.config.name;
        match timeout(DRAIN, source.task).await {
            Ok(Ok(_)) => tracing::info!(
                source = name,
                "the opening of the journal was interrupted; the next start does it again"
            ),
            Ok(Err(error)) => tracing::error!(source = name, %error, "the opening of the journal panicked"),
            Err(_) => tracing::warn!(
                source = name,
                "the opening of the journal did not end in time; the next start does it again"
            ),
        }
    });
    join_all(ends).await;
}

impl Bridge {
    /// Starts the next source whose journal is opened after [`OPEN_WAIT`]. One that failed is shown as halted. Never
    /// returns if no journal is being opened. Cancel safe.
    pub async fn start_opened(&mut self) {
        let (config, opened) = next_opened(&mut self.opening).await;
        let name = config.name.clone();
        // A failure is logged and shown.
        if self.start_source(config, opened).is_ok() {
            tracing::info!(source = &*name, "the journal is open, and the source starts");
        }
        self.show();
    }

    /// Whether no journal is being opened.
    pub fn has_opened_all(&self) -> bool {
        self.opening.is_empty()
    }

    /// Starts a source, or logs its failure and shows it as halted.
    ///
    /// # Errors
    /// That failure.
    pub(super) fn start_source(&mut self, config: SourceConfig, opened: Opened) -> Result<(), Failure> {
        match opened.and_then(OpenedSource::start) {
            Ok(running) => {
                self.sources.push(running);
                Ok(())
            }
            Err(failure) => {
                self.failed.push(FailedSource::new(config, &failure));
                Err(failure)
            }
        }
    }

    /// Refuses a configuration that changes a source whose journal is being opened, or its sinks.
    pub(super) fn refuse_changes_of_opening(&self, config: &Config) -> Result<(), Failure> {
        match self.opening.iter().find(|source| !source.is_as_in(config)) {
            Some(source) => Err(is_opening(&source.config.name)),
            None => Ok(()),
        }
    }

    /// Refuses an order for the journals of all sources while one of them is being opened.
    pub(super) fn refuse_while_opening(&self) -> Result<(), Failure> {
        match self.opening.first() {
            Some(source) => Err(is_opening(&source.config.name)),
            None => Ok(()),
        }
    }
}

fn is_opening(name: &Name) -> Failure {
    Failure::new(
        Exit::Runtime,
        format!(
            "nothing was changed: the journal of source '{name}' is still being opened, and this changes the source or its \
             sinks\nhelp: repeat it when 'zkbridge status' shows the source as live"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::Decisions;
    use super::*;

    fn config(folder: &std::path::Path) -> Config {
        let file = folder.join("zkbridge.toml");
        let text = "data_dir = \"data\"\n[http]\nlisten = \"off\"\n[[source]]\nname = \"main\"\nconnect = \"127.0.0.1:1\"\n";
        std::fs::write(&file, text).unwrap();
        bridge_config::load(&file).unwrap().config
    }

    #[tokio::test]
    async fn a_panic_while_a_journal_is_opened_is_shown_as_a_source_that_has_halted() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let alone = Config {
            sources: Vec::new(),
            ..config.clone()
        };
        let ending = CancellationToken::new();
        let mut bridge = Bridge::start(&alone, &Decisions::default(), &ending)
            .await
            .unwrap();
        let source = config.sources[0].clone();
        bridge.config = config;
        let opening = OpeningSource::spawn(source, Vec::new(), OPENING, |_| panic!("a bug"));
        bridge.opening.push(opening);
        bridge.show();

        bridge.start_opened().await;

        assert!(bridge.has_opened_all());
        let halted = bridge.all_halted().await.swap_remove(0).halted.unwrap();
        assert!(halted.contains("source 'main' ended with a panic"), "{halted}");
        bridge.stop().await;
    }

    #[tokio::test]
    async fn a_stop_interrupts_an_opening_and_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let source = config(folder.path()).sources.remove(0);
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&has_ended);
        let open = move |stop: &CancellationToken| {
            while !stop.is_cancelled() {
                std::thread::yield_now();
            }
            ends.store(true, Ordering::Relaxed);
            Err(environment("interrupted"))
        };
        stop(vec![OpeningSource::spawn(source, Vec::new(), OPENING, open)]).await;
        assert!(has_ended.load(Ordering::Relaxed));
    }
}
