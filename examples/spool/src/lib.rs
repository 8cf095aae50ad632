//! The spool sink: batches of records as files in a folder, for programs that take what lies there and remove it.
//!
//! | file | role |
//! | --- | --- |
//! | `config` | the options that users see |
//! | `encode` | records as a file; pure |
//! | `sink` | the conversation with the folder |
//! | `error` | the file system's errors as kinds of the engine |
//!
//! A reader must never see a file that is not whole, and a record must never count as delivered before its file would
//! survive a loss of power.

mod config;
mod encode;
mod error;
mod sink;
#[cfg(test)]
mod tests;

pub use config::SpoolConfig;
pub use sink::SpoolSink;
