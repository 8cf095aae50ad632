//! The world of a source that reads transactions.
//!
//! ```text
//!  leader (proposals, commits, elections) ─wire─▶ driver (spool, stage) ─▶ Flow (machine, pipeline) ─▶ Tap ─▶ journal
//!     └──────────────────────────────▶ judge ◀──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The leader answers as ZooKeeper's does: with the history after a position, with its whole tree, or by cutting the
//! history; from its log it may send the ends of earlier epochs that were never committed. The judge knows only what was
//! committed, and why a gap may be.

mod driver;
mod habit;
mod judge;
mod leader;
mod plan;
mod reached;
mod world;

use crate::run::{Failure, caught};

pub use habit::TransactionHabit;
pub use plan::TransactionPlan;
pub use reached::{Encountered, Encounters};
pub use world::TransactionWorld;

/// Plays one seed.
///
/// # Panics
///
/// When something broke.
pub fn play(seed: u64, habit: Option<TransactionHabit>, is_traced: bool) -> Encounters {
    let plan = TransactionPlan::new(seed, habit);
    if is_traced {
        println!("{plan:#?}");
    }
    TransactionWorld::new(plan, habit, is_traced).play()
}

/// Plays one seed and catches what breaks.
///
/// # Errors
/// The judge's complaint.
pub fn try_play(seed: u64, habit: Option<TransactionHabit>) -> Result<Encounters, Failure> {
    caught(seed, || play(seed, habit, false))
}
