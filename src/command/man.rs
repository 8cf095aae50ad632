//! `zkbridge man`: prints the manual pages.

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::command::print;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge man | man -l -
  zkbridge man tail | man -l -
  zkbridge man > /usr/local/share/man/man1/zkbridge.1";

/// Options of `man`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// Print the page of this command, as in: tail, or journal export
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut page = Cli::command();
    page.build();
    let mut name = page.get_name().to_owned();
    for word in &args.command {
        let below = page.find_subcommand(word).cloned();
        page = below.ok_or_else(|| {
            Failure::new(
                Exit::Configuration,
                format!("{name} has no command '{word}'\nhelp: list the commands with 'zkbridge --help'"),
            )
        })?;
        name = format!("{name}-{word}");
    }
    let mut text = Vec::new();
    let rendered = Man::new(page).title(name).render(&mut text);
    rendered.map_err(|error| Failure::new(Exit::Runtime, format!("the page cannot be written: {error}")))?;
    print(&String::from_utf8_lossy(&text))
}
