//! Commands that sinks run: one run at a time, within bounds of time and output, without a shell.
//!
//! | file | role |
//! | --- | --- |
//! | `command` | a program with its arguments, environment, working directory and timeout; its checks |
//! | `program` | finds the program as a start of it would |
//! | `input` | the standard input of a run |
//! | `output` | the last bytes of an output |
//! | `run` | one run: starts it, reads its output, ends it |
//! | `runner` | runs that follow each other, also if a run is given up |
//!
//! *Invariants.* No shell reads a command, and it gets no variable of this process. Its process group ends with it, at
//! its timeout, when it writes too much, and when the future of its run is dropped; the next run starts after that, and
//! no zombie is left. The input of a run is whole before it starts, so that a command never reads a part of it, not even
//! when this process is killed. Its output costs bounded memory.

mod command;
mod input;
mod output;
mod program;
mod run;
mod runner;
#[cfg(test)]
mod tests;

pub use command::{ChildCommand, OptionNames};
pub use output::OutputTail;
pub use run::{FinishedRun, RunEnd};
pub use runner::Runner;
