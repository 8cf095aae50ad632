//! The observer against real ensembles, and against leaders that are scripts.

#![allow(clippy::unwrap_used, reason = "what helps a test fails as the test does")]

mod ensembles;
mod filling;
mod guarded;
mod leader;
mod player;
mod refusals;
mod scripted;
mod workload;
