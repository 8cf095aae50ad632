//! The commands, one file each.

pub mod activity;
pub mod argument;
pub mod backfill;
pub mod cat;
pub mod changes;
pub mod check;
pub mod completions;
pub mod config;
pub mod config_changes;
pub mod diff;
pub mod dlq;
pub mod doctor;
pub mod gaps;
pub mod history;
pub mod init;
pub mod journal;
pub mod lines;
pub mod log;
pub mod ls;
pub mod man;
pub mod question;
pub mod reload;
pub mod replay;
pub mod restore;
pub mod restore_journal;
pub mod run;
pub mod schema;
pub mod services;
pub mod serving;
pub mod sink;
mod sink_test;
pub mod snapshot;
pub mod status;
pub mod tail;
pub mod template;
pub mod tree;
mod tree_preview;
pub mod ui;
pub mod verify;
pub mod watch;

use std::io::{self, Write};

use bridge_console::text::escaped_json;
use bridge_core::record::Record;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Prints a JSON document.
pub fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    print(&json_text(document, serde_json::to_string_pretty)?)
}

/// A document as JSON with a line feed, safe for a terminal.
pub fn json_text<T: Serialize>(
    document: &T,
    write: impl FnOnce(&T) -> serde_json::Result<String>,
) -> Result<String, Failure> {
    let text = write(document).map_err(|error| {
        Failure::new(
            Exit::Runtime,
            format!("the result cannot be written as JSON: {error}"),
        )
    })?;
    Ok(escaped_json(&text).into_owned() + "\n")
}

/// A record as a line of JSON, equal to the delivered one as JSON.
pub fn json_line(record: &Record) -> String {
    escaped_json(&String::from_utf8_lossy(&record.to_json())).into_owned() + "\n"
}

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
