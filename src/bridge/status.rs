//! What can be seen of a running bridge, by `/status`, `/readyz` and the commands.

use bridge_core::delivery::SinkStatus;
use bridge_core::pipeline::SourceStatus;
use serde::Serialize;
use tokio::sync::watch;

/// Everything as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct BridgeStatus {
    /// The version of the program.
    pub version: &'static str,
    /// Whether every source is live.
    pub ready: bool,
    /// Why not, in sentences.
    pub not_ready: Vec<String>,
    /// The sources.
    pub sources: Vec<SourceStatus>,
    /// The sinks, one for each source that they take from.
    pub sinks: Vec<SinkStatus>,
}

/// A window on a running bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    sources: Vec<watch::Receiver<SourceStatus>>,
    sinks: Vec<watch::Receiver<SinkStatus>>,
}

impl View {
    pub(super) fn new(
        sources: Vec<watch::Receiver<SourceStatus>>,
        sinks: Vec<watch::Receiver<SinkStatus>>,
    ) -> View {
        View { sources, sinks }
    }

    /// The statuses of the sources, for those who want to be told of changes.
    pub fn sources(&self) -> Vec<watch::Receiver<SourceStatus>> {
        self.sources.clone()
    }

    /// The statuses of the sinks.
    pub fn sinks(&self) -> Vec<watch::Receiver<SinkStatus>> {
        self.sinks.clone()
    }

    /// Everything as it stands now.
    pub fn status(&self) -> BridgeStatus {
        let sources: Vec<SourceStatus> = self
            .sources
            .iter()
            .map(|status| status.borrow().clone())
            .collect();
        let sinks = self.sinks.iter().map(|status| status.borrow().clone()).collect();
        let not_ready: Vec<String> = sources.iter().filter_map(why_not_ready).collect();
        BridgeStatus {
            version: env!("CARGO_PKG_VERSION"),
            ready: not_ready.is_empty(),
            not_ready,
            sources,
            sinks,
        }
    }
}

/// A source is ready when its watches are armed, its roots compared and its journal takes records.
fn why_not_ready(source: &SourceStatus) -> Option<String> {
    let name = &source.source;
    if let Some(halted) = &source.halted {
        return Some(format!("source '{name}' has stopped: {halted}"));
    }
    if let Some(trouble) = &source.trouble {
        return Some(format!("source '{name}' is {}: {trouble}", source.state));
    }
    (!source.is_live()).then(|| format!("source '{name}' is {}", source.state))
}
