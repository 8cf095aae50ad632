//! `zkbridge cat`: prints the value of a znode at a moment.

use bridge_console::{ValueForm, data_words};
use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use clap::Args;

use super::history::{text, write_data};
use super::question::{QuestionFlags, never_seen};
use super::{argument, print, print_json};
use crate::bridge::wall_clock;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge cat /config/limits
  zkbridge cat /config/limits --at 15m > limits.then

Prints the value byte for byte unless the output is a terminal, and writes to
standard error what is not certain. Reads only the journal.

Exit codes: 0 printed and certain, 1 not certain, not existing, or unknown to
the journal, 2 the command line or the configuration is wrong, 3 there is no
journal";

/// Options of `cat`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CatArgs {
    /// Path of the znode
    #[arg(value_name = "PATH", value_parser = argument::znode)]
    path: ZnodePath,
    /// Print the value at this moment [default: the end of the journal]
    #[arg(long, value_name = "ZXID|TIME", value_parser = argument::position)]
    at: Option<Position>,
    /// Print all bytes in hex and ASCII
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// Runs the command.
pub fn run(args: &CatArgs) -> Result<(), Failure> {
    let journal = args.flags.journal()?;
    let node = journal.node(&args.path, args.at, wall_clock()())?;
    let node = node.ok_or_else(|| never_seen(&args.path))?;
    let then = &node.then;
    if args.flags.json {
        print_json(&node)?;
    } else {
        match &then.data {
            Some(data) if args.hex => print(&(data_words(data, ValueForm::Hex, usize::MAX) + "\n"))?,
            Some(data) => write_data(data)?,
            None => {}
        }
        crate::terminal::unended_notice(text::doubts(then));
    }
    match then.certain && then.exists == Some(true) {
        true => Ok(()),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}
