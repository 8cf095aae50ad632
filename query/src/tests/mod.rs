//! The queries against real journals.

mod answers;
mod as_of;
mod counted;
mod deletes;
mod differences;
mod downtime;
mod ended;
mod gaps;
mod late_history;
mod lists;
mod neighbours;
mod past;
mod plans;
mod pool;
mod random;
mod scratch;
mod status;
mod subtree;
mod timeline;
mod tree;
mod tree_at;
mod tree_judge;
mod visible;
