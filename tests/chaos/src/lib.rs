//! Chaos: the real bridge between real servers, with random work of several clients and random faults.
//!
//! ```text
//! run ──▶ testbed (servers of one version, one bridge, one topic) ──▶ round
//!                      work and faults ──▶ all faults end ──▶ at rest within a bound ──▶ judged from its start
//! ```
//!
//! Trials come first: one fault each, whose verdict is known beforehand. Sources that read transactions have trials of
//! their own, and a second judge: every version, exactly, and no gap that no server forced.
//!
//! A seed determines versions, work and faults but not their timing, so it repeats the choices and not the result. This
//! crate must never use the product's types: it acts on the bridge as any user can.

mod bridge;
mod bridge_absence;
mod capture;
mod failure_files;
mod faults;
mod lossless;
mod operation_counts;
mod proxy_check;
mod round;
mod run;
mod testbed;
mod transaction_trials;
mod tree_admin;
mod trials;
mod work;

pub use capture::Capture;
pub use run::{Chaos, Length};
