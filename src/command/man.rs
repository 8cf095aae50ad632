//! `zkbridge man`: prints the manual pages.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::command::print;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge man | man -l -
  zkbridge man tail | man -l -
  zkbridge man --output /usr/local/share/man/man1   every page, one file each";

/// Options of `man`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// Print the page of this command, as in: tail, or journal export
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder instead
    #[arg(short, long, value_name = "FOLDER", conflicts_with = "command")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut page = Cli::command();
    page.build();
    let mut name = page.get_name().to_owned();
    if let Some(folder) = &args.output {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        return write_pages(page, &name, folder);
    }
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
    print(&String::from_utf8_lossy(&rendered(page, &name)?))
}

/// Writes the page of a command and of those below it.
fn write_pages(command: Command, name: &str, folder: &Path) -> Result<(), Failure> {
    // clap adds its own command `help` to each that has others.
    let below = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help");
    for below in below {
        write_pages(below.clone(), &format!("{name}-{}", below.get_name()), folder)?;
    }
    let file = folder.join(format!("{name}.1"));
    fs::write(&file, rendered(command, name)?).map_err(|error| cannot_write(&file, &error))
}

fn rendered(page: Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let written = Man::new(page).title(name).render(&mut text);
    written.map_err(|error| Failure::new(Exit::Runtime, format!("the page cannot be written: {error}")))?;
    Ok(text)
}

fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Environment,
        format!("{} cannot be written: {error}", file.display()),
    )
}
