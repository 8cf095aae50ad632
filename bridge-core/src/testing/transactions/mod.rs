//! A server that commits transactions, and the records that these must have, in their simplest form. The tests of the
//! machine for transactions and the simulator compare with them; they must not share code with the machine.

#![allow(
    clippy::missing_panics_doc,
    reason = "a test that asks for what is not allowed fails at once"
)]

mod expected;
mod random;
mod server;

pub use expected::{ExpectedRecord, expected, found};
pub use random::universe;
pub use server::{ClientOperation, CommittingServer, ServerNode, ServerTree, acl, path};
