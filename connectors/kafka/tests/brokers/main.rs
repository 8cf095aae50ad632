//! The Kafka sink at brokers: a real Apache Kafka, and a mock where errors are injected. `ZKBRIDGE_TESTS=offline`
//! leaves the real ones out, and says so.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod contract;
mod faults;
mod formats;
mod guards;
mod injected;
mod malformed;
mod messages;
mod refusals;
mod rig;
mod secured;
mod statistics;
mod topics;
