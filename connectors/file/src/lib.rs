//! The file sink: JSON lines, one record per line, durable before the cursor moves.
//!
//! Made for audit trails: records are only ever appended. It must never cut or change a line that is complete.

mod age;
mod closed;
mod compress;
mod config;
mod encode;
mod error;
mod log;
mod sink;
mod tail;
#[cfg(test)]
mod tests;

pub use config::{Compress, FileConfig, Keep};
pub use sink::FileSink;
