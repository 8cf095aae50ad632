//! The journal of the simulated bridge: a model of its transactions, for some seeds with the real one beside it, behind
//! a tap that lets the disk fail, the judge listen, and wrong habits lie.

mod model;
mod sink_state;
mod tap;
mod twin;

pub use model::{Disk, ModelJournal, State};
pub use sink_state::SinkBacklog;
pub use tap::{Faults, Tap, Trail};
pub use twin::{Store, Twin};
