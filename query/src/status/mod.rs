//! The state of a bridge as one document: from the running bridge, or from the journals if none runs.

mod attention;
mod document;
mod stopped;

pub use document::{BridgeStatus, JournalSummary, SinkFault, SinkSummary, SourceSummary};
