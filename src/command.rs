//! The commands, one file each.

pub mod argument;
pub mod check;
pub mod completions;
pub mod config;
pub mod dlq;
pub mod doctor;
pub mod history;
pub mod init;
pub mod journal;
pub mod man;
pub mod reload;
pub mod replay;
pub mod run;
pub mod schema;
pub mod serving;
pub mod sink;
pub mod snapshot;
pub mod status;
pub mod tail;
pub mod verify;
pub mod watch;

use std::io::{self, Write};

use crate::exit::{Exit, Failure};

/// Prints to standard output. A closed pipe is no failure: its reader has seen enough.
pub fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(|_| ())
}

/// The same; `false` once the reader of the output is gone.
pub fn print_on(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Exit::Runtime,
            format!("standard output cannot be written: {error}"),
        )),
    }
}
