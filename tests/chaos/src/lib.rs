//! Chaos: the real bridge between real servers, while several clients work at random and everything fails at random.
//!
//! ```text
//! run ──▶ act (servers of one version, one bridge, one topic) ──▶ round
//!                      work and faults ──▶ everything healed ──▶ at rest within a bound ──▶ judged from the act's start
//! ```
//!
//! A seed chooses versions, work and faults; what meets what is a matter of the machine's moments, so a seed repeats
//! the choices and not the outcome. It must never use the product's own types: what it does to the bridge and what it
//! knows of it, any user could.

mod act;
mod bridge;
mod faults;
mod gardener;
mod remains;
mod round;
mod run;
mod tally;
mod work;

pub use run::{Chaos, Length};
