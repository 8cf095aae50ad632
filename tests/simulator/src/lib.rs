//! A simulator of everything around the bridge: an ensemble, a disk, destinations and a clock, from one seed, in one
//! thread and in virtual time. The capture machine, the decisions of the pipeline and the delivery machine are the
//! product's own.
//!
//! ```text
//!  Workload ─▶ Ensemble ─wire─▶ Client ─▶ Flow (capture, pipeline) ─▶ Tap ─▶ journal ─▶ Machine (delivery) ─▶ Sink
//!                  │                                                   │                                       │
//!                  └──────────────────────────▶ Judge ◀────────────────┴───────────────────────────────────────┘
//! ```
//!
//! [`transactions`] is a second world, for the machine that reads transactions: a leader that answers with histories,
//! snapshots and cuts, and a driver between it and the pipeline.
//!
//! [`run::play`] plays one seed. A seed that fails prints itself and is replayed, step by step, with `ZKBRIDGE_SEED`.
//! Nothing here may decide anything for the product: what lies to it is in [`controls`], and must be caught.

pub mod client;
pub mod controls;
pub mod coverage;
pub mod ensemble;
mod faults;
pub mod journal;
pub mod judge;
mod lies;
mod live;
mod peace;
pub mod plan;
mod process;
pub mod run;
pub mod sinks;
pub mod transactions;
mod unreadable;
pub mod workload;
pub mod world;
