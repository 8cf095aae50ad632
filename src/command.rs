//! The commands, one file each.

pub mod check;
pub mod demo;
pub mod dlq;
pub mod init;
pub mod run;
pub mod schema;
pub mod serving;
pub mod sink;
pub mod watch;

use std::io::{self, Write};

use crate::exit::{Exit, Failure};

/// Prints to standard output. Who stops reading has seen enough, so a closed pipe is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Runtime,
            format!("standard output cannot be written: {error}"),
        )),
        _ => Ok(()),
    }
}
