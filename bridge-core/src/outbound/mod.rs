//! What sinks that send messages have in common.
//!
//! A [`Projection`] makes messages of a record, [`fit`] makes them no larger than the destination takes, and [`Tally`] says
//! how far a batch has come and makes the report of `deliver` from it.
//!
//! *Invariants.* Nothing in here knows a destination, a client library or a protocol.

mod fitting;
mod projection;
mod tally;

pub use fitting::{Fitted, Misfit, fit};
pub use projection::{MessagePlace, Messages, Projection};
pub use tally::Tally;
