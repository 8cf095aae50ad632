//! The commands, one file each.

pub mod check;
pub mod completions;
pub mod config;
pub mod demo;
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

/// Prints to standard output. Who stops reading has seen enough, so a closed pipe is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(|_| ())
}

/// The same; `false` if nobody reads on.
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
