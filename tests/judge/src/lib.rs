//! The judge compares the true history of ZooKeeper with the records in Kafka.
//!
//! ```text
//! a server's transaction log ──▶ truth ──┐
//! a client at the end ─────────▶ tree  ──┼──▶ verdict: complaints, and a class for every change
//! a consumer of the topic ─────▶ topic ──┘
//! ```
//!
//! It is written from ZooKeeper's formats and from the contract of the record, on plain JSON. It must never depend on
//! another crate of the workspace: the product's types would share the product's mistakes.

pub mod topic;
pub mod tree;
pub mod truth;
pub mod verdict;
