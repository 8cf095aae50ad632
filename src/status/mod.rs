//! Where a bridge stands, as one document: `/status` of a running one and `zkbridge status --json` are the same.
//!
//! Where no bridge runs it is made from the journals, and what only a running one can know is null. Nothing here holds
//! data of znodes.

mod document;
mod journal;
mod text;

pub use document::{SinkSeen, Status};
pub use journal::of_journals;
pub use text::for_people;
