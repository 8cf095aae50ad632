//! Journals that are being opened. Opening one can take as long as its whole file: values are masked by a new mask, or
//! the file has an older format. At a first start it can begin with the history in the files of servers.
//!
//! Invariants: each is opened on a thread of its own, which delays no other source, no signal and no page; a stop of the
//! bridge waits for none. The process may end meanwhile: a journal is changed in whole transactions, and the next start
//! goes on.

use std::sync::Arc;
use std::time::Duration;

use bridge_config::{Config, Name, SinkConfig, SourceConfig};
use bridge_core::pipeline::SourceStatus;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::reload::are_equal;
use super::source::{FailedSource, OpenedSource, PreparedSource};
use super::{Bridge, CursorChange, environment, wall_clock};
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
    end: oneshot::Receiver<Opened>,
}

/// Sources of a start or a reload, by the state of their journals.
#[derive(Default)]
pub(super) struct Openings {
    pub(super) ended: Vec<(SourceConfig, Opened)>,
    pub(super) waiting: Vec<OpeningSource>,
}

/// Notifies at the end of a thread, even if it panics.
struct AtEnd(Arc<Notify>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl OpeningSource {
    /// Begins to open the journal. `any_ended` is notified at the end.
    pub(super) fn begin(
        source: PreparedSource,
        sinks: Vec<SinkConfig>,
        changes: Vec<CursorChange>,
        any_ended: &Arc<Notify>,
    ) -> OpeningSource {
        let config = source.config().clone();
        let reason = match source.begins_with_history() {
            true => BACKFILLING,
            false => OPENING,
        };
        let (send, mut end) = oneshot::channel();
        let at_end = AtEnd(Arc::clone(any_ended));
        let work = move || {
            let _at_end = at_end;
            // The bridge may have ended.
            let _ = send.send(source.open(&changes));
        };
        let name = &config.name;
        let thread = std::thread::Builder::new().name(format!("opening-{name}"));
        if let Err(error) = thread.spawn(work) {
            let failure = environment(format!(
                "no thread to open the journal of source '{name}': {error}"
            ));
            let (send, failed) = oneshot::channel();
            // The receiver is here.
            let _ = send.send(Err(failure));
            end = failed;
        }
        let mode = source_type(&config.kind).mode();
        let status = SourceStatus::opening(name.shared(), mode, wall_clock()(), reason.to_owned());
        OpeningSource {
            config,
            sinks,
            status: watch::Sender::new(status),
            end,
        }
    }

    pub(super) fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Its end, if it has ended.
    fn try_end(&mut self) -> Option<Opened> {
        match self.end.try_recv() {
            Ok(opened) => Some(opened),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(Err(panicked(&self.config.name))),
        }
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

fn panicked(name: &Name) -> Failure {
    environment(format!(
        "opening the journal of source '{name}' ended with a panic, which is a bug of zkbridge"
    ))
}

/// Waits for the ends, up to [`OPEN_WAIT`] and until the bridge is to end.
pub(super) async fn wait(opening: Vec<OpeningSource>, ending: &CancellationToken) -> Openings {
    let until = Instant::now() + OPEN_WAIT;
    let mut openings = Openings::default();
    for mut source in opening {
        let ended = tokio::select! {
            biased;
            ended = timeout_at(until, &mut source.end) => ended.ok(),
            () = ending.cancelled() => None,
        };
        match ended {
            Some(Ok(opened)) => openings.ended.push((source.config, opened)),
            Some(Err(_)) => {
                let panicked = panicked(&source.config.name);
                openings.ended.push((source.config, Err(panicked)));
            }
            None => {
                tracing::info!(
                    source = &*source.config.name,
                    "the journal is still being opened; the source starts when that is done"
                );
                openings.waiting.push(source);
            }
        }
    }
    openings
}

impl Bridge {
    /// Notified when a journal was opened after [`OPEN_WAIT`]: call [`Bridge::start_opened`] then.
    pub fn any_opened(&self) -> Arc<Notify> {
        Arc::clone(&self.any_opened)
    }

    /// Whether no journal is being opened.
    pub fn has_opened_all(&self) -> bool {
        self.opening.is_empty()
    }

    /// Starts the sources whose journals were opened since. Those that failed are shown as halted.
    pub fn start_opened(&mut self) {
        let mut has_changed = false;
        for mut source in std::mem::take(&mut self.opening) {
            let Some(opened) = source.try_end() else {
                self.opening.push(source);
                continue;
            };
            has_changed = true;
            let name = source.config.name.clone();
            // A failure is logged and shown.
            if self.start_source(source.config, opened).is_ok() {
                tracing::info!(source = &*name, "the journal is open, and the source starts");
            }
        }
        if has_changed {
            self.show();
        }
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
