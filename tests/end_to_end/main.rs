//! zkbridge on real servers: the real binary between a real ZooKeeper and a real Kafka, through everything that may
//! happen to them. `ZKBRIDGE_TESTS=offline` leaves these out, and says so.
//!
//! Every scenario ends with the same judgement (`bridge-judge`): what arrived is compared with what the server's own
//! transaction log says happened and with the tree as a client reads it.

#![allow(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

mod access;
mod blind_spots;
mod bridge;
mod canary;
mod changes;
mod faults;
mod lines;
mod liveness;
mod load;
mod merging;
mod metrics;
mod nats;
mod older;
mod refusals;
mod resident;
mod restarts;
mod rewind;
mod roots;
mod secrets;
mod secured;
mod sizes;
mod snapshots;
mod stage;
mod values;
mod webhook;
mod writer;

use bridge_judge::{topic, truth, verdict};
