//! The statuses of a running bridge, for `/status`, `/readyz` and the commands.

use std::sync::{Arc, RwLock};

use bridge_core::delivery::SinkStatus;
use bridge_core::pipeline::SourceStatus;
use bridge_query::JournalQuery;
use bridge_query::status::BridgeStatus;
use tokio::sync::watch;

use super::wall_clock;

/// The statuses of a running bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    seen: Arc<RwLock<Seen>>,
}

/// The statuses that there are. A reload replaces them.
#[derive(Debug)]
struct Seen {
    sources: Vec<watch::Receiver<SourceStatus>>,
    sinks: Vec<watch::Receiver<SinkStatus>>,
    unconfigured: Vec<Arc<UnconfiguredSinks>>,
}

/// The cursors in the journal of one source whose sinks are not configured.
#[derive(Debug)]
pub(super) struct UnconfiguredSinks {
    pub(super) journal: JournalQuery,
    pub(super) sinks: Vec<Arc<str>>,
}

/// Nothing panics under this lock: it is held to copy or replace lists.
const UNPOISONED: &str = "the lists of statuses are whole";

impl View {
    /// Of these sources and sinks.
    pub(crate) fn new(
        sources: Vec<watch::Receiver<SourceStatus>>,
        sinks: Vec<watch::Receiver<SinkStatus>>,
    ) -> View {
        View {
            seen: Arc::new(RwLock::new(Seen {
                sources,
                sinks,
                unconfigured: Vec::new(),
            })),
        }
    }

    /// Replaces the sources and sinks.
    pub(super) fn show(
        &self,
        sources: Vec<watch::Receiver<SourceStatus>>,
        sinks: Vec<watch::Receiver<SinkStatus>>,
        unconfigured: Vec<Arc<UnconfiguredSinks>>,
    ) {
        *self.seen.write().expect(UNPOISONED) = Seen {
            sources,
            sinks,
            unconfigured,
        };
    }

    /// The statuses of the sources, to wait for changes.
    pub fn sources(&self) -> Vec<watch::Receiver<SourceStatus>> {
        self.seen.read().expect(UNPOISONED).sources.clone()
    }

    /// The statuses of the sinks.
    pub fn sinks(&self) -> Vec<watch::Receiver<SinkStatus>> {
        self.seen.read().expect(UNPOISONED).sinks.clone()
    }

    /// The present status of everything. Only the cursors without a configured sink are read from a journal, on a thread
    /// that may block.
    pub async fn status(&self) -> BridgeStatus {
        let sources: Vec<SourceStatus> = self
            .sources()
            .iter()
            .map(|status| status.borrow().clone())
            .collect();
        let sinks: Vec<SinkStatus> = self
            .sinks()
            .iter()
            .map(|status| status.borrow().clone())
            .collect();
        let status = BridgeStatus::of_running(&sources, &sinks, wall_clock()());
        let unconfigured = self.seen.read().expect(UNPOISONED).unconfigured.clone();
        if unconfigured.is_empty() {
            return status;
        }
        let without = status.clone();
        let read = tokio::task::spawn_blocking(move || with_unconfigured(status, &unconfigured));
        // It fails only if it panics: the rest of the status is still true.
        read.await.unwrap_or(without)
    }
}

fn with_unconfigured(mut status: BridgeStatus, unconfigured: &[Arc<UnconfiguredSinks>]) -> BridgeStatus {
    for of_source in unconfigured {
        if let Err(error) = status.add_unconfigured(&of_source.journal, &of_source.sinks) {
            tracing::debug!(
                error = error.to_string(),
                "the cursors without a configured sink cannot be read"
            );
        }
    }
    status
}
