//! The queries against real journals.

mod as_of;
mod lists;
mod pool;
mod random;
mod scratch;
mod status;
mod visible;
