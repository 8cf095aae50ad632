//! What happened to one path, from its records alone: how each reads, and what can be said of its value at a moment.
//!
//! Nothing is guessed here: what the records leave open is said as a doubt.

mod moment;
mod text;

pub use moment::{Account, Then};
pub use text::{entry, then_lines};
