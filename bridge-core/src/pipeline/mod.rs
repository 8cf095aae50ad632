//! The pipeline of one source: the only place where reports of the connection become durable records.
//!
//! It owns the capture machine and the journal's writer on a thread of its own, because the journal's work blocks and
//! because record and image must change together. Everything that waits when a batch begins goes into one transaction,
//! so that one sync to disk serves many changes under load and a single change waits for nothing.
//!
//! It must never show a record to the delivery workers before it is durable.

mod flow;
mod group_commit;
mod history_status;
mod latency;
mod lateness;
mod run;
mod standstill;
mod status;
mod ticker;
mod troubles;

#[cfg(test)]
mod tests;

pub use flow::{Flow, PipelineEvent};
pub use history_status::{HistoryLag, HistoryStatus, TreeStatus};
pub use run::{Pipeline, PipelineSetup, Watches, WriterTask};
pub use status::{JournalStatus, SourceStatus};
