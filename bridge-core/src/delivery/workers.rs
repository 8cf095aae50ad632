//! All workers of a process.

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::status::SinkStatus;
use super::worker::Worker;

/// The running workers. Dropping it aborts them; [`Workers::stop`] ends them properly.
pub struct Workers {
    tasks: JoinSet<()>,
    statuses: Vec<watch::Receiver<SinkStatus>>,
    stop: CancellationToken,
}

impl Workers {
    /// An empty set. `stop` is the token of their setups (or a parent of it).
    pub fn new(stop: CancellationToken) -> Workers {
        Workers {
            tasks: JoinSet::new(),
            statuses: Vec::new(),
            stop,
        }
    }

    /// Forgets workers that have ended, such as one whose own token was cancelled.
    pub fn forget_ended(&mut self) {
        // A worker that has ended has dropped the sender.
        self.statuses.retain(|status| status.has_changed().is_ok());
    }

    /// Starts a worker as a task of its own.
    pub fn start(&mut self, (worker, status): (Worker, watch::Receiver<SinkStatus>)) {
        self.statuses.push(status);
        self.tasks.spawn(worker.run());
    }

    /// The status of each worker, in the order of their starts.
    pub fn statuses(&self) -> Vec<SinkStatus> {
        self.statuses
            .iter()
            .map(|status| status.borrow().clone())
            .collect()
    }

    /// Receivers of the statuses, in the same order.
    pub fn watches(&self) -> Vec<watch::Receiver<SinkStatus>> {
        self.statuses.clone()
    }

    /// Stops all workers, waits until they have drained and closed within their bounds, and joins them. They send
    /// progress until then: the journal's writer has to outlive this call. Not cancel safe.
    pub async fn stop(mut self) -> Vec<SinkStatus> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(
                    error = error.to_string(),
                    "a delivery worker did not end properly"
                );
            }
        }
        self.statuses()
    }
}
