//! zkbridge on real servers: the real binary between a real ZooKeeper and a real Kafka, with every kind of fault.
//! `ZKBRIDGE_TESTS=offline` skips these tests, and prints their names.
//!
//! The judge (`bridge-judge`) checks the end of every scenario: it compares the records with the server's own transaction
//! log and with the tree as a client reads it.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod access;
mod addresses;
mod blind_spots;
mod bridge;
mod canary;
mod certificates;
mod changes;
mod exec;
mod exposed;
mod faults;
mod hostile;
mod lines;
mod liveness;
mod load;
mod masks;
mod merging;
mod metrics;
mod nats;
mod nginx;
mod older;
mod refusals;
mod registries;
mod render;
mod resident;
mod restarts;
mod rewind;
mod roots;
mod secrets;
mod secured;
mod services;
mod sizes;
mod snapshots;
mod stage;
mod strict_json;
mod throttled;
mod values;
mod webhook;
mod writer;

use bridge_judge::{topic, truth, verdict};
