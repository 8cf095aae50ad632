//! All workers of a process: started together, seen together, ended together.

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
    /// None yet. `stop` is the token that their setups hold (or a parent of it).
    pub fn new(stop: CancellationToken) -> Workers {
        Workers {
            tasks: JoinSet::new(),
            statuses: Vec::new(),
            stop,
        }
    }

    /// Leaves out those that have ended, as one does whose own token was cancelled.
    pub fn forget_ended(&mut self) {
        // A worker that is gone has dropped the other end.
        self.statuses.retain(|status| status.has_changed().is_ok());
    }

    /// Starts a worker as a task of its own.
    pub fn start(&mut self, (worker, status): (Worker, watch::Receiver<SinkStatus>)) {
        self.statuses.push(status);
        self.tasks.spawn(worker.run());
    }

    /// What each worker is doing, in the order of their starts.
    pub fn statuses(&self) -> Vec<SinkStatus> {
        self.statuses
            .iter()
            .map(|status| status.borrow().clone())
            .collect()
    }

    /// The same for those who want to be told of changes.
    pub fn watches(&self) -> Vec<watch::Receiver<SinkStatus>> {
        self.statuses.clone()
    }

    /// Asks all to end, waits until they have drained and closed within their bounds, and joins them. Notes come until
    /// then: the journal's writer has to outlive this.
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
