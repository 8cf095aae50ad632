//! The journal from outside: what is appended is read, survives, and fits the image.

mod backup;
mod beside;
mod costs;
mod crash;
mod facts;
mod folding;
mod folding_random;
mod history;
mod inspection;
mod limits;
mod masking;
mod opening;
mod place;
mod progress;
mod random;
mod records;
mod renames;
mod scratch;
mod sink_snapshot;
mod sinks;
mod stretches;
mod subtrees;
mod tail_cache;
mod terms;
mod wal;
mod waypoints;
