//! What can be seen of a running bridge, by `/status`, `/readyz` and the commands.

use std::sync::{Arc, RwLock};

use bridge_core::delivery::SinkStatus;
use bridge_core::pipeline::SourceStatus;
use bridge_query::status::BridgeStatus;
use tokio::sync::watch;

use super::wall_clock;

/// A window on a running bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    sources: Vec<watch::Receiver<SourceStatus>>,
    sinks: Arc<RwLock<Vec<watch::Receiver<SinkStatus>>>>,
}

/// Nobody panics while holding the lock: it is held to copy a list.
const UNPOISONED: &str = "the list of sinks is whole";

impl View {
    pub(super) fn new(
        sources: Vec<watch::Receiver<SourceStatus>>,
        sinks: Vec<watch::Receiver<SinkStatus>>,
    ) -> View {
        View {
            sources,
            sinks: Arc::new(RwLock::new(sinks)),
        }
    }

    /// Shows other sinks from now on.
    pub(super) fn show_sinks(&self, sinks: Vec<watch::Receiver<SinkStatus>>) {
        *self.sinks.write().expect(UNPOISONED) = sinks;
    }

    /// The statuses of the sources, for those who want to be told of changes.
    pub fn sources(&self) -> Vec<watch::Receiver<SourceStatus>> {
        self.sources.clone()
    }

    /// The statuses of the sinks.
    pub fn sinks(&self) -> Vec<watch::Receiver<SinkStatus>> {
        self.sinks.read().expect(UNPOISONED).clone()
    }

    /// Everything as it stands now.
    pub fn status(&self) -> BridgeStatus {
        let sources: Vec<SourceStatus> = self
            .sources
            .iter()
            .map(|status| status.borrow().clone())
            .collect();
        let sinks: Vec<SinkStatus> = self
            .sinks()
            .iter()
            .map(|status| status.borrow().clone())
            .collect();
        BridgeStatus::of_running(&sources, &sinks, wall_clock()())
    }
}
