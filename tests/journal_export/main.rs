//! `zkbridge journal export`: other programs read what it writes.

mod formats;
mod outputs;
mod story;
