//! The queries against real journals.

mod answers;
mod as_of;
mod ended;
mod gaps;
mod lists;
mod past;
mod plans;
mod pool;
mod random;
mod scratch;
mod status;
mod subtree;
mod tree;
mod tree_at;
mod visible;
