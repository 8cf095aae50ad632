//! `zkbridge completions`: prints the completion script of a shell.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::command::print;
use crate::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  zkbridge completions bash > /etc/bash_completion.d/zkbridge
  zkbridge completions zsh > \"${fpath[1]}/_zkbridge\"
  zkbridge completions fish > ~/.config/fish/completions/zkbridge.fish";

/// Options of `completions`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// Name of the shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "zkbridge", &mut script);
    print(&String::from_utf8_lossy(&script))
}
