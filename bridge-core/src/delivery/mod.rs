//! Delivery: one worker and one durable cursor for each pair of sink and source.
//!
//! A worker reads the records after its cursor from the journal, filters them, passes batches to its
//! [`Sink`](crate::sink::Sink) and stores its progress in the journal. [`Machine`] makes all decisions and never
//! awaits; [`Worker`] drives it.
//!
//! *Invariants.* Nothing is delivered before it is durable in the journal. The cursor moves only to a record that the
//! sink reported, and never back. After a failure delivery continues after the cursor, in the order of `seq`. A slow,
//! failing or halted sink never delays capture or another sink: they only share the journal.

mod attempt;
mod dead_letters;
mod feed;
mod filter;
mod machine;
mod merge;
mod on_failure;
mod options;
mod outcome;
pub mod policy;
mod probing;
mod refusals;
mod replay;
mod report;
mod retry_backoff;
mod retry_queue;
mod sink_backlog;
mod sink_failure;
mod sink_log;
mod snapshot_cursor;
mod status;
mod steps;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

pub use dead_letters::{DEAD_LETTERS_MAX, DeadLetters};
pub use feed::{READ_LIMIT, Tail};
pub use filter::{BadFilter, CompiledFilter};
pub use machine::Machine;
pub use merge::{WINDOW_BYTES_MAX, WINDOW_RECORDS_MAX, merge};
pub use options::{
    Ephemeral, Filter, FirstCursor, OnReject, OpClass, RejectPolicy, RejectedPath, Retry, Start,
};
pub use probing::{PROBE_AFTER, RETRY_BYTES_MAX, RETRY_RECORDS_MAX};
pub use refusals::{RefusalSender, Refusals};
pub use replay::{ReplayCounts, ReplayOrder};
pub use retry_backoff::{Pace, RETRY_AFTER_MAX};
pub use retry_queue::{PARKED_AT_ONCE, PARKED_MAX, QueuedRetry};
pub use sink_backlog::SinkBacklog;
pub use sink_failure::{SinkFailure, SinkFailureKind};
pub use status::{ParkedPath, ParkedStatus, RunStatus, SinkStatus};
pub use steps::{
    FetchedBatch, MachineConfig, OperatorRequest, Parts, Phase, StepProgress, Task, WorkerInput,
};
pub use worker::{Setup, WallClock, Worker};
pub use workers::Workers;
