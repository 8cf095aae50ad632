//! `zkbridge journal`: checks, compacts and exports the journals.

mod check;
mod compact;
mod export;

use clap::{Args, Subcommand};

use crate::cli::ConfigFlag;
use crate::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  zkbridge journal check
  zkbridge journal export --from 1d | gzip > yesterday.jsonl.gz
  zkbridge journal export --path '/config/**' --output config.jsonl
  zkbridge journal compact

check and export read beside a running bridge and without one. compact needs
the bridge to be stopped: while it runs it applies retention by itself, and
only the file does not shrink.

Exit codes: 0 done, 1 check found something wrong, or the disk is full,
2 the command line or the configuration is wrong, 3 there is no journal, it
cannot be used, or compact found a running bridge";

/// Options of `journal`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct JournalArgs {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Check the files, records, image and cursors for damage
    Check(ChosenJournals),
    /// Remove expired records and shrink the file
    Compact(ChosenJournals),
    /// Write records as JSON lines
    Export(export::ExportArgs),
}

/// Options of `journal check` and `journal compact`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct ChosenJournals {
    #[command(flatten)]
    config: ConfigFlag,
    /// Take only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &JournalArgs) -> Result<(), Failure> {
    match &args.command {
        JournalCommand::Check(args) => check::run(args),
        JournalCommand::Compact(args) => compact::run(args),
        JournalCommand::Export(args) => export::run(args),
    }
}
