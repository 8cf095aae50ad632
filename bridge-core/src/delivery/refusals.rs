//! Progress of sinks that the journal's writer refused, from the pipeline to the workers: the worker halts its sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::journal::RefusedProgress;

/// For each sink, how often its progress was refused, and the last refusal.
type BySink = BTreeMap<Arc<str>, (u64, RefusedProgress)>;

/// The pipeline's end.
#[derive(Debug, Default)]
pub struct RefusalSender(watch::Sender<BySink>);

/// A worker's end. The default never reports one.
#[derive(Clone, Debug)]
pub struct Refusals(watch::Receiver<BySink>);

impl RefusalSender {
    /// Reports one to the worker of its sink.
    pub fn send(&self, refused: RefusedProgress) {
        self.0.send_modify(|by_sink| {
            let count = by_sink.get(&refused.sink).map_or(0, |(count, _)| *count);
            by_sink.insert(Arc::clone(&refused.sink), (count + 1, refused));
        });
    }

    /// The other end.
    pub fn subscribe(&self) -> Refusals {
        Refusals(self.0.subscribe())
    }
}

impl Default for Refusals {
    fn default() -> Refusals {
        RefusalSender::default().subscribe()
    }
}

impl Refusals {
    /// How often the progress of a sink was refused, by all its workers.
    pub(super) fn count(&self, sink: &str) -> u64 {
        self.0.borrow().get(sink).map_or(0, |(count, _)| *count)
    }

    /// Waits until the progress of a sink was refused more than `before` times. Cancel safe.
    pub(super) async fn refused(&mut self, sink: &str, before: u64) -> RefusedProgress {
        let is_new = |by_sink: &BySink| by_sink.get(sink).is_some_and(|(count, _)| *count > before);
        let found = match self.0.wait_for(is_new).await {
            Ok(by_sink) => by_sink.get(sink).map(|(_, refused)| refused.clone()),
            Err(_) => None,
        };
        match found {
            Some(refused) => refused,
            // The pipeline has ended.
            None => std::future::pending().await,
        }
    }
}
