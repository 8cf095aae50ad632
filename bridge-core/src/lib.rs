//! The core of zkbridge: records, the capture machine, the journal and the delivery engine.
//!
//! This crate names no connector and opens no socket. Sources and sinks are other crates that depend on it.

pub mod amount;
pub mod append;
pub mod backoff;
pub mod capture;
pub mod committed;
pub mod delivery;
pub mod derive;
pub mod dropped_roots;
pub mod example;
pub mod file_path;
mod fold;
pub mod folder;
pub mod format;
pub mod image_txn;
pub mod issue;
pub mod journal;
mod log_throttle;
pub mod machine;
pub mod metrics;
pub mod number;
pub mod outbound;
pub mod oversize;
pub mod path;
pub mod path_glob;
pub mod pipeline;
pub mod record;
pub mod resnapshot;
pub mod scope;
pub mod secret;
pub mod sink;
pub mod source;
pub mod subtree;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text_value;
pub mod unreadable_span;
