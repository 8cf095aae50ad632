//! `zkbridge journal`: looks after the journals themselves.

mod check;
mod compact;
mod export;

use bridge_config::SourceConfig;
use bridge_core::journal::Reader;
use clap::{Args, Subcommand};

use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::operator::Journals;

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

/// What to do with journals.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct JournalArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Look whether they are whole: the files, records, image and cursors
    Check(Checked),
    /// Remove what retention lets go, and give the space back
    Compact(Checked),
    /// Write records as JSON lines
    Export(export::ExportArgs),
}

/// Which journals, and for whom.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Checked {
    #[command(flatten)]
    config: ConfigFlag,
    /// Only that of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: &JournalArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Check(args) => check::run(args),
        Verb::Compact(args) => compact::run(args),
        Verb::Export(args) => export::run(args),
    }
}

/// The journals that are meant, each with a reader.
fn chosen<'a>(
    journals: &'a Journals,
    source: Option<&str>,
) -> Result<Vec<(&'a SourceConfig, Reader)>, Failure> {
    let mut readers = journals.readers()?;
    readers.retain(|(config, _)| source.is_none_or(|wanted| *wanted == *config.name));
    match (readers.is_empty(), source) {
        (true, Some(name)) => Err(Failure::new(
            Exit::Environment,
            format!(
                "source '{name}' has no journal: look at the names of the sources, or run the bridge first"
            ),
        )),
        _ => Ok(readers),
    }
}
