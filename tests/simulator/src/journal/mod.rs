//! The journal of the simulated bridge: a model of its transactions, for some seeds with the real one beside it, behind
//! a tap that lets the disk fail, the judge listen, and wrong habits lie.

mod aside;
mod model;
mod tap;
mod twin;

pub use aside::SetAside;
pub use model::{Disk, ModelJournal, State};
pub use tap::{Faults, Tap, Trail};
pub use twin::{Store, Twin};
