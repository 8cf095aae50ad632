//! The exec sink: runs a command for each record or batch, with lines on its standard input.
//!
//! | file | role |
//! | --- | --- |
//! | `config` | the options that users see |
//! | `encode` | records as lines; pure |
//! | `sink` | the runs of a delivery |
//! | `attempt` | the records of one call, and what became of each |
//! | `error` | the ends of a command as answers |
//!
//! The exit status is the answer: 0 is delivered, [`ExecConfig::refuse_status`] can never be delivered, and after
//! anything else the record is tried again. One run at a time, so that each path is in order.
//!
//! A record must never count as delivered before a run that had it on its input has ended with status 0.

mod attempt;
mod config;
mod encode;
mod error;
mod sink;
#[cfg(test)]
mod tests;

pub use config::ExecConfig;
pub use sink::ExecSink;
