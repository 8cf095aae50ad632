//! ZooKeeper's transactions as its servers write them into logs and send them to each other.
//!
//! Everything here is a pure function of bytes: no socket, no file is opened, no clock is read. Input is never trusted.
//! A length allocates no more than the bytes that are there, and anything that ZooKeeper does not write is an error that
//! names the field and its position. Lines 3.4 to 3.9 are read; their differences are in the documentation of each type.

pub mod compression;
pub mod digest;
pub mod jute;
pub mod log_file;
pub mod quorum;
pub mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transaction;
pub mod tree;
