//! The core of zkbridge: records, the capture machine, the journal and the delivery engine.
//!
//! This crate names no connector and opens no socket. Sources and sinks are other crates that depend on it.

pub mod amount;
pub mod book;
pub mod capture;
pub mod delivery;
pub mod entry;
mod fold;
pub mod format;
pub mod journal;
pub mod metrics;
pub mod number;
pub mod objection;
pub mod oversize;
pub mod path;
pub mod pipeline;
pub mod record;
mod repeats;
pub mod restate;
pub mod secret;
pub mod sink;
pub mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
