//! The NATS sink: change records into a JetStream stream, at least once, in order per path.
//!
//! | file | role |
//! | --- | --- |
//! | `config` | the options that users see |
//! | `template` | the subject of a record, and how names become tokens |
//! | `subjects` | which subjects a stream takes |
//! | `bucket` | the keys and entries of a bucket, and which records are older than they are |
//! | `encode` | a record as a message; pure |
//! | `connection` | one connection, and what the server says on it |
//! | `stream` | whether the stream is there and fit, and creating it |
//! | `fence` | the last message of each subject, so that nobody else's is written over |
//! | `last` | the last message of a subject |
//! | `refused` | the subjects to which the server does not let the sink publish |
//! | `in_flight` | messages in flight, in the order of the batch |
//! | `sink` | the conversation with the servers |
//! | `error` | NATS's errors as kinds of the engine |
//!
//! This crate must never have two messages of one path in flight at a time, and never count one as durable before
//! the stream has acknowledged it.

mod bucket;
mod config;
mod connection;
mod encode;
mod error;
mod fence;
mod in_flight;
mod last;
mod refused;
mod sink;
mod stream;
mod subjects;
mod template;

#[cfg(test)]
mod tests;

pub use config::{Auth, CreateStream, KeyBy, NatsConfig, Storage, StreamSettings, Tls, WhenFull};
pub use sink::NatsSink;
