//! zkbridge: change data capture for Apache ZooKeeper.
fn main() {}
