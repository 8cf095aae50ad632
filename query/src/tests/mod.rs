//! The queries against real journals.

mod as_of;
mod lists;
mod pool;
mod scratch;
mod status;
mod visible;
