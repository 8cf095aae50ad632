//! A running bridge: every source with its pipeline, every sink with its workers, started together, seen together,
//! ended together.
//!
//! ```text
//! connection task ──reports──▶ pipeline thread ──durable tail──▶ worker of each sink
//!        ▲                      │  (machine + journal)  ▲                 │
//!        └─────── commands ─────┘                       └──── notes ──────┘
//! ```
//!
//! The end goes the way of the records: connections first, then the workers drain within a bound, then the pipelines
//! store the last cursors.

mod control;
mod descriptors;
mod http;
mod lanes;
mod listener;
mod reload;
mod sinks;
mod source;
mod view;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridge_config::Config;
use bridge_core::delivery::{SinkStatus, WallClock, Workers};
use bridge_core::pipeline::SourceStatus;
use bridge_core::record::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

pub use descriptors::raise_limit;
pub use lanes::run_id;
pub use reload::Reloaded;
pub use sinks::sink;
pub use source::{journal_file, journal_options};
pub use view::View;

use source::RunningSource;

/// How long workers may go on delivering after the end was asked for.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Wishes for another configuration that may wait.
const RELOADS: usize = 4;

/// An operator's wish for another configuration, and where the answer goes: what was done, or why nothing was.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, String>>;

/// What an operator decided for one start.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Sources whose present tree is the new baseline although it is older than the journal, or another.
    pub accept_baseline: Vec<String>,
    /// Sinks that are no longer configured and give up their place in the journals.
    pub forget_sinks: Vec<String>,
}

/// A running bridge. End it with [`Bridge::stop`].
pub struct Bridge {
    /// What it runs with.
    config: Config,
    sources: Vec<RunningSource>,
    workers: Workers,
    http: Option<http::Server>,
    control: Option<control::Control>,
    levers: control::Levers,
    reloads: Option<mpsc::Receiver<ReloadRequest>>,
    view: View,
    stop_sources: CancellationToken,
    descriptors: JoinHandle<()>,
}

impl Bridge {
    /// Opens every journal and listens, then starts everything. Fails before anything is started, or not at all.
    ///
    /// An operator's decisions hold for this start alone.
    pub async fn start(config: &Config, decisions: &Decisions) -> Result<Bridge, Failure> {
        let metrics = http::install_metrics()?;
        let listener = http::bind(&config.http).await?;
        let opened = config
            .sources
            .iter()
            .map(|source| source::Opened::open(config, source, decisions));
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let stop_sources = CancellationToken::new();
        let stop_workers = CancellationToken::new();
        let mut workers = Workers::new(stop_workers.clone());
        let mut sources = Vec::with_capacity(opened.len());
        for source in opened {
            sources.push(source.start(&mut workers, &stop_sources, &stop_workers)?);
        }
        let levers = control::Levers::default();
        let view = View::new(
            sources.iter().map(|source| source.status.clone()).collect(),
            workers.watches(),
        );
        let (ask, reloads) = mpsc::channel(RELOADS);
        let control = control::Control::start(&config.data_dir, levers.clone(), ask, view.clone());
        let http =
            listener.map(|listener| http::Server::start(listener, &config.http, view.clone(), metrics));
        let mut bridge = Bridge {
            config: config.clone(),
            sources,
            workers,
            http,
            control,
            levers,
            reloads: Some(reloads),
            view,
            stop_sources,
            descriptors: tokio::spawn(descriptors::watch(stop_workers)),
        };
        bridge.show_lanes();
        Ok(bridge)
    }

    /// Operators' wishes for another configuration, for the one who can read it; once. Dropped, they are refused.
    pub fn take_reloads(&mut self) -> mpsc::Receiver<ReloadRequest> {
        self.reloads.take().unwrap_or_else(|| mpsc::channel(RELOADS).1)
    }

    /// Lets the outside see and reach the lanes that there are.
    fn show_lanes(&mut self) {
        self.workers.forget_ended();
        self.view.show_sinks(self.workers.watches());
        let lanes = self.sources.iter().flat_map(|source| &source.lanes);
        self.levers
            .replace(lanes.map(|lane| lane.lever.clone()).collect());
    }

    /// What can be seen of it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The address that is listened on; `None` if none is.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.http.as_ref().map(http::Server::address)
    }

    /// Returns when no source can go on, with what stopped each. Cancel safe.
    pub async fn all_halted(&self) -> Vec<SourceStatus> {
        let mut halted = Vec::new();
        for source in &self.sources {
            let mut status = source.status.clone();
            // A pipeline that is gone has published why.
            let found = status
                .wait_for(|status| status.halted.is_some())
                .await
                .map(|status| status.clone());
            halted.push(found.unwrap_or_else(|_| source.status.borrow().clone()));
        }
        halted
    }

    /// Ends everything within the drain bound and a little more. Returns where the sinks stand.
    pub async fn stop(self) -> Vec<SinkStatus> {
        if let Some(control) = self.control {
            control.stop().await;
        }
        self.stop_sources.cancel();
        let mut pipelines = Vec::with_capacity(self.sources.len());
        for source in self.sources {
            pipelines.push(source.end_connection().await);
        }
        let statuses = self.workers.stop().await;
        for pipeline in pipelines {
            pipeline.join().await;
        }
        // It ended with the workers.
        let _ = self.descriptors.await;
        if let Some(http) = self.http {
            http.stop().await;
        }
        statuses
    }
}

/// The time of day.
pub fn wall_clock() -> WallClock {
    Arc::new(|| Timestamp::of(SystemTime::now()))
}

/// Something outside the configuration is not as it must be.
fn environment(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Environment, message)
}

/// The configuration asks for what cannot be.
fn configuration(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Configuration, message)
}
