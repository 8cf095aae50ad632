//! A running bridge: its sources, each with its own connection, journal and sinks, with one HTTP listener and one
//! control socket.
//!
//! ```text
//! connection task ──events──▶ pipeline thread ──durable tail──▶ task of each sink
//!        ▲                     │  (machine + journal)  ▲                │
//!        └────── requests ─────┘                       └─── progress ───┘
//! ```
//!
//! Invariants: every configuration is checked before anything starts or changes; a source whose journal cannot be opened,
//! or takes long to open, stops no other source; a source starts and stops without the others.

mod control;
mod cursors;
pub mod data_dir;
mod descriptors;
mod first_start;
mod http;
mod listener;
mod listening_process;
mod mask;
mod opening;
mod read_in_time;
mod reload;
mod sink_task;
mod sinks;
mod source;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridge_config::{Config, Name};
use bridge_core::delivery::{SinkStatus, WallClock};
use bridge_core::pipeline::SourceStatus;
use bridge_core::record::Timestamp;
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::api::access::Access;
use crate::exit::{Exit, Failure};
use crate::{logging, operator};

pub use cursors::{CursorChange, unconfigured};
pub use descriptors::raise_limit;
pub use http::is_own_host;
pub use listener::Peer;
pub use mask::{key_file, masking, read_key};
pub use reload::Reloaded;
pub use sink_task::run_id;
pub use sinks::sink;
pub use source::{journal_file, journal_options, rand_seed};
pub use view::View;

use opening::{OpeningSource, Openings, sinks_of};
use source::{FailedSource, PreparedSource, RunningSource};

/// Time in which the sinks may still deliver after a stop was requested.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Capacity of the reload-request queue.
const RELOADS: usize = 4;

/// An operator's request to the bridge as a whole.
#[derive(Debug)]
pub struct ReloadRequest {
    /// `None`: to read the configuration again. A cursor is forgotten without that, and renamed together with it.
    pub change: Option<CursorChange>,
    /// Takes what was done, or why nothing was.
    pub answer: oneshot::Sender<Result<Reloaded, String>>,
}

/// Decisions of an operator for one start.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Sources whose present tree is the new baseline although it is older than the journal, or another.
    pub accept_baseline: Vec<String>,
    /// Sinks that are no longer configured and lose their cursors in the journals.
    pub forget_sinks: Vec<String>,
}

/// A running bridge. Stop it with [`Bridge::stop`].
pub struct Bridge {
    config: Config,
    sources: Vec<RunningSource>,
    failed: Vec<FailedSource>,
    opening: Vec<OpeningSource>,
    /// Ends the waits of a start or a reload.
    ending: CancellationToken,
    http: Option<http::Server>,
    control: Option<control::Control>,
    orders: control::OrderHandles,
    reloads: Option<mpsc::Receiver<ReloadRequest>>,
    view: View,
    stop: CancellationToken,
    /// The task that watches over the shared resources of the process.
    watches: JoinHandle<()>,
}

impl Bridge {
    /// Checks the configuration, binds the HTTP address, opens every journal, and then starts everything.
    ///
    /// An operator's decisions hold for this start alone. A source whose journal cannot be opened is shown as halted. One
    /// whose journal takes long to open starts later, with [`Bridge::start_opened`]: so do all that are not open when
    /// `ending` is cancelled. Not cancel safe.
    ///
    /// # Errors
    /// If the configuration asks for what cannot be, the address is taken, or no journal can be opened. Nothing has
    /// been started then.
    pub async fn start(
        config: &Config,
        decisions: &Decisions,
        ending: &CancellationToken,
    ) -> Result<Bridge, Failure> {
        let metrics = http::install_metrics()?;
        let prepared = config.sources.iter();
        let prepared = prepared.map(|source| PreparedSource::new(config, source, decisions));
        let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
        if let Ok(Some(reason)) = data_dir::objection(&config.data_dir) {
            tracing::warn!(
                data_dir = %config.data_dir.display(),
                reason,
                help = data_dir::HELP,
                "another user can change the journals"
            );
        }
        if let Some(reason) = data_dir::volatility(&config.data_dir) {
            tracing::warn!(
                data_dir = %config.data_dir.display(),
                reason,
                help = data_dir::VOLUME_HELP,
                "the journals do not outlive the container or the machine's next start"
            );
        }
        let listener = match http::bind(&config.http).await {
            Ok(listener) => listener,
            Err(failure) => return Err(other_bridge(&config.data_dir, &prepared).await.unwrap_or(failure)),
        };
        let forget = decisions.forget_sinks.iter().cloned();
        let forget: Vec<CursorChange> = forget.map(CursorChange::Forget).collect();
        let mut opening = Vec::with_capacity(prepared.len());
        for source in prepared {
            let name = source.config().name.clone();
            let changes = forget.iter().filter(|change| change.concerns(config, &name));
            let sinks = sinks_of(config, &name);
            let changes = changes.cloned().collect();
            opening.push(OpeningSource::begin(source, sinks, changes));
        }
        let Openings { mut ended, waiting } = opening::wait(opening, ending).await;
        if waiting.is_empty()
            && ended.iter().all(|(_, opened)| opened.is_err())
            && let Some((_, Err(failure))) = ended.pop()
        {
            return Err(failure);
        }
        let orders = control::OrderHandles::default();
        let view = View::new(Vec::new(), Vec::new());
        let (request, reloads) = mpsc::channel(RELOADS);
        let access = Access::new(&config.http);
        let connections = descriptors::http_connections();
        let api = Api::new(&config.data_dir, access.clone(), view.clone(), connections);
        let http =
            listener.map(|listener| http::Server::start(listener, &config.http, view.clone(), metrics, &api));
        let login = http.as_ref().map(|http| control::LoginLinks {
            address: http.address(),
            access,
        });
        let control = control::Control::start(&config.data_dir, orders.clone(), request, view.clone(), login);
        let stop = CancellationToken::new();
        let mut bridge = Bridge {
            config: config.clone(),
            sources: Vec::with_capacity(ended.len()),
            failed: Vec::new(),
            opening: waiting,
            ending: ending.clone(),
            http,
            control,
            orders,
            reloads: Some(reloads),
            view,
            watches: tokio::spawn(watch_process(stop.clone())),
            stop,
        };
        for (config, opened) in ended {
            // A failure is logged and shown.
            let _ = bridge.start_source(config, opened);
        }
        bridge.show();
        Ok(bridge)
    }

    /// Operators' requests for a reload, for the caller that can read the configuration. Only the first call gets them;
    /// if the receiver is dropped, requests are refused.
    pub fn take_reloads(&mut self) -> mpsc::Receiver<ReloadRequest> {
        self.reloads.take().unwrap_or_else(|| mpsc::channel(RELOADS).1)
    }

    /// Publishes the sources and sinks that there are: to the view, and to the control socket.
    fn show(&mut self) {
        for source in &mut self.sources {
            source.workers.forget_ended();
        }
        let sinks = self.sources.iter().flat_map(|source| source.workers.watches());
        self.view
            .show(self.statuses(), sinks.collect(), self.find_unconfigured());
        let tasks = self.sources.iter().flat_map(|source| &source.sinks);
        self.orders
            .replace(tasks.map(|task| task.orders.clone()).collect());
    }

    /// The statuses of all sources, in the order of the configuration.
    fn statuses(&self) -> Vec<watch::Receiver<SourceStatus>> {
        let status = |name: &Name| {
            let running = self.sources.iter().find(|source| source.config.name == *name);
            let failed = self.failed.iter().find(|source| source.config.name == *name);
            let failed = failed.map(|source| source.status.clone());
            let opening = self.opening.iter().find(|source| source.config.name == *name);
            let other = failed.or_else(|| opening.map(OpeningSource::status));
            running.map(|source| source.status.clone()).or(other)
        };
        let names = self.config.sources.iter().map(|source| &source.name);
        names.filter_map(status).collect()
    }

    /// Its statuses.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The address of the HTTP listener; `None` if there is none.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.http.as_ref().map(http::Server::address)
    }

    /// Returns when every source that there is now has halted, with the status of each. Cancel safe.
    pub fn all_halted(&self) -> impl Future<Output = Vec<SourceStatus>> + use<> {
        let statuses = self.statuses();
        async {
            let mut halted = Vec::new();
            for mut status in statuses {
                // A pipeline publishes why it ends before it goes.
                let found = status.wait_for(|status| status.halted.is_some()).await;
                let found = found.map(|status| status.clone()).ok();
                halted.push(found.unwrap_or_else(|| status.borrow().clone()));
            }
            halted
        }
    }

    /// Stops everything within the drain bound and a little more. Returns the last status of each sink. Not cancel safe.
    pub async fn stop(self) -> Vec<SinkStatus> {
        if let Some(control) = self.control {
            control.stop().await;
        }
        let stopping = join_all(self.sources.into_iter().map(RunningSource::stop));
        let (statuses, ()) = tokio::join!(stopping, opening::stop(self.opening));
        self.stop.cancel();
        // It ends at once.
        let _ = self.watches.await;
        if let Some(http) = self.http {
            http.stop().await;
        }
        statuses.into_iter().flatten().collect()
    }
}

/// If a bridge runs on this `data_dir`, the failure that names its process. Opens no journal.
async fn other_bridge(data_dir: &Path, sources: &[PreparedSource]) -> Option<Failure> {
    operator::ask_status(data_dir).await.ok()??;
    sources.iter().find_map(PreparedSource::in_use)
}

/// Watches the descriptors and the log until `stop` is cancelled.
async fn watch_process(stop: CancellationToken) {
    tokio::join!(descriptors::watch(stop.clone()), logging::watch_dropped(stop));
}

/// The time of day.
pub fn wall_clock() -> WallClock {
    Arc::new(|| Timestamp::of(SystemTime::now()))
}

/// A failure of the environment: the disk, the network, the system.
fn environment(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Environment, message)
}

/// A failure of the configuration.
fn configuration(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Configuration, message)
}
