//! The render sink: the znodes below a path as a file that a template writes, and a command that makes a program read it.
//!
//! | file | role |
//! | --- | --- |
//! | `config` | the options that users see |
//! | `encode` | a subtree as the text of the file, or why the file stays; pure |
//! | `sink` | the conversation: when the image is read, and when a record counts as delivered |
//! | `target` | the file: its lock, its replacement, and the note that a reload is due |
//! | `preview` | the text that the sink would write, without its file |
//! | `commands` | the check of a new text, and the reload |
//! | `error` | failures as kinds of the engine |
//!
//! *Invariants.* The file holds a whole text at every moment, also after a loss of power. It never shows a part of a tree:
//! it stays as it is during a listing. A record counts as delivered when the file shows the state after it and the reload
//! has succeeded, and no crash in between leaves a reload out. No record leads the file back to an older state, not even
//! one that is delivered again.

mod commands;
mod config;
mod encode;
mod error;
mod preview;
mod sink;
mod target;
#[cfg(test)]
mod tests;

pub use config::{FileMode, Instead, RenderConfig};
pub use preview::RenderPreview;
pub use sink::RenderSink;
