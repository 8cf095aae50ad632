//! zkbridge on real servers: the real binary between a real ZooKeeper and a real Kafka, through everything that may
//! happen to them. `ZKBRIDGE_TESTS=offline` leaves these out, and says so.
//!
//! Every scenario ends with the same judgement (`verdict`): what arrived is compared with what the server's own
//! transaction log says happened (`truth`) and with the tree as a client reads it.

#![allow(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

mod bridge;
mod changes;
mod faults;
mod jute;
mod older;
mod refusals;
mod restarts;
mod roots;
mod stage;
mod topic;
mod truth;
mod values;
mod verdict;
mod writer;
