//! The commands that inspect a bridge, each with a real running bridge and on the journal of a stopped one. Their output is
//! compared with the files in `golden/`, with times, zxids and sizes masked. `ZKBRIDGE_TESTS=offline` skips these tests,
//! and prints their names.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod blind_spots;
#[path = "../end_to_end/bridge.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod bridge;
mod doctor;
mod golden;
mod journals;
mod moments;
mod printed;
mod records;
mod refusing;
mod reload;
mod replay;
mod restore;
mod scope;
mod services;
mod sinks;
mod stage;
mod status;
mod verify;
mod watch;
