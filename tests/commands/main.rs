//! The commands that look at a bridge, each on a real running one and beside its journal without one. What they print
//! is compared with files in `golden/`, after times, zxids and sizes are masked. `ZKBRIDGE_TESTS=offline` leaves these
//! out, and says so.

#![allow(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

#[path = "../end_to_end/bridge.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod bridge;
mod doctor;
mod golden;
mod journals;
mod printed;
mod records;
mod reload;
mod replay;
mod stage;
mod status;
mod verify;
