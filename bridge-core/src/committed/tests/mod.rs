//! Tests of the machine for committed transactions.

mod bench;
mod doubts;
mod faults;
mod file;
mod machine;
mod net;
mod random;
mod roots;
mod sessions;
mod staging;
mod tree;
