//! `zkbridge init`: a configuration with a comment on each key.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::command::print;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge init > zkbridge.toml
  zkbridge init --output zkbridge.toml   never overwrites a file";

/// Where the configuration goes.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// Write to this file, which must not be there yet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints the configuration, or writes it to a new file.
pub fn run(args: &InitArgs) -> Result<(), Failure> {
    let Some(file) = &args.output else {
        return print(bridge_config::COMMENTED);
    };
    write_new(file).map_err(|message| Failure::new(Exit::Environment, message))?;
    let file = file.display();
    print(&format!(
        "{file} is written. Set 'connect' in it, then: zkbridge check --config {file}\n"
    ))
}

fn write_new(file: &Path) -> Result<(), String> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let written = opened.and_then(|mut open| open.write_all(bridge_config::COMMENTED.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!(
            "{} is there already\nhelp: name another file, or remove it",
            file.display()
        ),
        _ => format!(
            "{} cannot be written: {error}\nhelp: name a file in a folder that this user may write to",
            file.display()
        ),
    })
}
