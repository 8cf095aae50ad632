//! Tests of the machine for committed transactions.

mod bench;
mod machine;
mod net;
mod random;
mod tree;
