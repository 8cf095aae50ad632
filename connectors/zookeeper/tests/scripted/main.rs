//! The source against servers that are scripts: what a real one does only when it likes, or never.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod arming;
mod driver;
mod floods;
mod silence;
mod throttling;
mod wire;
mod writing;
