//! Real ZooKeeper and Kafka servers and a faulty network, for tests and the demo.
//!
//! * [`Proxy`]: a network between a client and a server that breaks in every way that matters.
//! * [`Child`]: a program under test, its output, its signals, its end.
//! * [`eventually`]: waiting for a condition with a bound.
//!
//! Nothing that is started here outlives the process that started it, however that ends, and nothing uses a fixed
//! port. This crate must never depend on another of the workspace: it is the outside world.

mod child;
mod error;
mod guarded;
mod patience;

pub use child::{Child, Line, Stream};
pub use error::{Error, Result};
pub use patience::{Look, eventually};
