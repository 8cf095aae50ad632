//! The journal of the simulated bridge: the model of the tests of the core, for some seeds with the real one beside it, in
//! a tap that lets the disk fail, the judge listen, and wrong habits lie.

mod tap;
mod twin;

pub use tap::{Faults, Tap, Trail};
pub use twin::{Store, Twin};
