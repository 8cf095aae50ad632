//! The ZooKeeper source: one session, its watches and its reads.

pub mod config;
