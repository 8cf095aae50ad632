//! The Kafka sink at a real Apache Kafka. `ZKBRIDGE_TESTS=offline` leaves these out, and says so.

#![allow(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

mod contract;
mod messages;
mod rig;
