//! What can be seen of a running bridge, by `/status`, `/readyz` and the commands.

use bridge_core::delivery::SinkStatus;
use bridge_core::pipeline::SourceStatus;
use tokio::sync::watch;

use super::wall_clock;
use crate::status::Status;

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
    pub fn status(&self) -> Status {
        let sources: Vec<SourceStatus> = self
            .sources
            .iter()
            .map(|status| status.borrow().clone())
            .collect();
        let sinks: Vec<SinkStatus> = self.sinks.iter().map(|status| status.borrow().clone()).collect();
        Status::of_running(&sources, &sinks, wall_clock()())
    }
}
