//! The state of a bridge as one document: from the running bridge, or from the journals if none runs.

mod attention;
mod document;
mod stopped;

pub use document::{
    BridgeStatus, HistorySummary, JournalSummary, ProofSummary, SinkFault, SinkSummary, SourceSummary,
    SpoolSummary, TreeSummary,
};
