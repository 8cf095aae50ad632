//! The NATS sink at real servers: the newest, and the one of Debian 12. `ZKBRIDGE_TESTS=offline` leaves them out, and
//! says so.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod buckets;
mod clusters;
mod contract;
mod credentials;
mod encryption;
mod faults;
mod fences;
mod messages;
mod oversize;
mod reached;
mod refusals;
mod rig;
mod streams;
