//! `zkbridge run` with `capture = "observer"` and `"txnlog"` on real servers: every version of every znode is recorded once
//! and exactly, with its author.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod backfill;
mod beside;
mod examination;
#[path = "../commands/golden.rs"]
#[allow(dead_code, reason = "the tests of the commands need more of it")]
mod golden;
mod judge;
mod large;
mod lists;
mod observer;
mod restore;
mod stage;
mod status;
mod txnlog;
mod who;
