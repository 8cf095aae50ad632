//! The HTTP API of a running bridge on a real ZooKeeper: its own description, and many callers at once.
//! `ZKBRIDGE_TESTS=offline` skips these tests, and prints their names.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

#[path = "../end_to_end/bridge.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod bridge;
mod caller;
mod described;
#[path = "../commands/refusing.rs"]
mod refusing;
#[path = "../end_to_end/resident.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod resident;
#[path = "../commands/stage.rs"]
#[allow(dead_code, reason = "the tests of the commands need more of it")]
mod stage;
mod viewers;
