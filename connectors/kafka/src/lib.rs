//! The Kafka sink: change records into topics, at least once, in order per path.
//!
//! | file | role |
//! | --- | --- |
//! | `config` | the options that users see |
//! | `properties` | the options of librdkafka below them, and which of them would break a promise |
//! | `template` | the topic of a record |
//! | `encode` | a record as messages; pure |
//! | `producer` | one librdkafka producer and what it says |
//! | `statistics` | what librdkafka counts, as metrics |
//! | `topics` | whether a topic is there, and creating it |
//! | `partition` | the partition of a key, and which of them know the producer |
//! | `reports` | what became of messages, as librdkafka reports it |
//! | `in_flight` | messages in flight, in the order of the batch |
//! | `lingering` | messages whose partitions take nothing for now |
//! | `sink` | the conversation with the brokers |
//! | `error` | Kafka's errors as kinds of the engine |
//!
//! This crate must never report a record as durable before every in-sync replica has it, and never let a record pass
//! an earlier one of the same key.

mod config;
mod encode;
mod error;
mod in_flight;
mod lingering;
mod partition;
mod producer;
mod properties;
mod reports;
mod sink;
mod statistics;
mod template;
mod topics;

#[cfg(test)]
mod tests;

pub use bridge_core::format::Format;
pub use config::{Compression, CreateTopics, KafkaConfig, KeyBy, TimestampBy, TopicSettings};
pub use properties::Properties;
pub use sink::KafkaSink;
