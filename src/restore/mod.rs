//! Puts a subtree back as it was at a moment: a plan first, which writes nothing, then its application.
//!
//! ```text
//! journal ──state then──┐
//!                       ├──▶ planner ──▶ plan file ──▶ applier ──▶ ZooKeeper
//! ZooKeeper ──live tree─┘                    ▲             │
//!                                            └──progress───┘
//! ```
//!
//! `state` has the two states, `collect` reads them; `planner` makes a `draft` of operations (`operation`) of them, purely;
//! `plan_file` keeps them with the progress, and `plan_reader` reads the file within limits; `applier` decides what is sent
//! next, and `apply` sends it.
//!
//! Invariants: planning never writes to ZooKeeper. A run of a plan that ended anywhere is repeated until the tree is as the
//! plan wants it, and never overwrites what another client has written since.

mod applier;
mod apply;
mod collect;
mod draft;
mod operation;
mod plan_file;
mod plan_reader;
mod planner;
mod state;
#[cfg(test)]
mod tests;

pub use applier::{BATCH_MAX, Conflict, OnConflict};
pub use apply::{Applied, ApplyOptions, apply};
pub use collect::{RestorePlace, anchors, draft, live_tree, parent_lists};
pub use draft::{AclRule, PlanDraft, Refusals};
pub use operation::{Operation, acl_objection};
pub use plan_file::{OPERATIONS_MAX, PlanFile, PlanHeader, RestorePlan, VALUES_BYTES_MAX, reserved};
pub use planner::{LeftReason, PlanRules};
pub use state::LiveTree;
