//! The console sink: records for people at a terminal and for pipes, and the line format that every command shares.
//!
//! The content of a znode must never reach the terminal as a control sequence: all text goes through [`text::escaped`].

mod config;
mod diff;
mod encode;
mod error;
mod sink;
mod style;
#[cfg(test)]
mod tests;
pub mod text;

pub use config::{Color, ConsoleConfig, Format};
pub use encode::{data_words, format_line, value_words, writer_words};
pub use sink::ConsoleSink;
pub use style::{Layout, Style, ValueForm, WIDTH_UNKNOWN, paint};
