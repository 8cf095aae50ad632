//! `zkbridge journal`: backs up, checks, compacts and exports the journals.

mod backup;
mod check;
mod compact;
mod export;

use clap::{Args, Subcommand};

use crate::cli::ConfigFlag;
use crate::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  zkbridge journal backup /backup/2026-11-30
  zkbridge journal check
  zkbridge journal export --from 1d | gzip > yesterday.jsonl.gz
  zkbridge journal export --path '/config/**' --output config.jsonl
  zkbridge journal export --from 7d --to 1d --format sqlite --output week.db
  zkbridge journal compact

backup, check and export read beside a running bridge and without one. Until
a backup or a check ends, the write-ahead log of a running bridge grows by
what is captured, above its usual 96 MiB: leave room on the disk. compact needs
the bridge to be stopped: while it runs it applies retention by itself, and
only the file does not shrink. 'zkbridge restore-journal' takes a backup back.

Exit codes: 0 done, 1 check found something wrong, or the disk is full,
2 the command line or the configuration is wrong, 3 there is no journal, it
cannot be used, the copy cannot be written, or compact found a running bridge";

/// Options of `journal`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct JournalArgs {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Copy the journals into a folder, beside a running bridge
    Backup(backup::BackupArgs),
    /// Check the files, records, image and cursors for damage
    Check(ChosenJournals),
    /// Remove expired records and shrink the file
    Compact(ChosenJournals),
    /// Write records as JSON lines, CSV, Parquet or a SQLite database
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
        JournalCommand::Backup(args) => backup::run(args),
        JournalCommand::Check(args) => check::run(args),
        JournalCommand::Compact(args) => compact::run(args),
        JournalCommand::Export(args) => export::run(args),
    }
}
