//! What sinks that send messages have in common.
//!
//! [`Tally`] says how far a batch has come and makes the report of `deliver` from it.
//!
//! *Invariants.* Nothing in here knows a destination, a client library or a protocol.

mod tally;

pub use tally::Tally;
