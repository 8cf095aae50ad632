//! What happened to one path, from its records alone: how each reads, and what can be said of its value at a moment.
//!
//! Nothing is guessed here: what the records leave open is said as a doubt.

mod as_of;
mod text;

pub use as_of::{AsOfQuery, AsOfValue};
pub use text::{entry, then_lines};
