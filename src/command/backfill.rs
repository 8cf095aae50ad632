//! `zkbridge backfill`: makes the history from before a journal from the files of servers.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bridge_config::SourceConfig;
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{print, print_json, serving};
use crate::backfill::{BackfillPlan, Backfilled, Progress, backfill};
use crate::bridge::{journal_file, key_file};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::source_type::source_type;
use crate::terminal::{count, notice};

const EXAMPLES: &str = "\
Examples:
  zkbridge backfill main
  zkbridge backfill main --from /var/lib/zookeeper --from /mnt/zk2/data
  zkbridge history /config/limits --at 2026-10-01

Reads the transaction logs and snapshots of servers, from the oldest snapshot on
after which no transaction is missing. Every committed transaction becomes an
exact record with its session and time.
Before the first start of a source it makes its journal: the snapshot is the
first listing, the history follows, and sinks deliver it as their 'start' says.
For a source with a journal it makes the file <source>.history beside it: the
time before, for 'history' (also with --at), 'changes --past' and the API.
Nothing of it is delivered. The bridge may run meanwhile. To repeat the command
replaces that file.
Copied folders do as well as those of running servers. Their files have all
znodes, whatever access control lists say.

Exit codes: 0 done, 1 the files have no history before the journal, contradict
themselves or are of another ensemble, 2 the command line or the configuration
is wrong, 3 no snapshot can be used, or a file cannot be read or written";

/// How often the progress is printed.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Options of `backfill`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BackfillArgs {
    /// Name of the source
    #[arg(value_name = "SOURCE")]
    source: String,
    #[command(flatten)]
    config: ConfigFlag,
    /// Folder of a server, its dataDir or dataLogDir; repeatable. Default:
    /// directories of [source.txnlog]
    #[arg(long, value_name = "DIR")]
    from: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &BackfillArgs) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    let source = named(&config.sources, &args.source)?;
    let kind = source_type(&source.kind);
    let directories = match args.from.is_empty() {
        true => kind.log_directories(),
        false => &args.from,
    };
    if directories.is_empty() {
        let message = format!(
            "source '{}' names no folder with files of servers\nhelp: give --from DIR, or set directories in \
             [source.txnlog]",
            source.name
        );
        return Err(Failure::new(Exit::Configuration, message));
    }
    // A journal shows what was committed.
    let applied = match journal_file(&config, source).exists() {
        true => Vec::new(),
        false => serving::block_on(async { Ok(kind.applied().await) })?.unwrap_or_else(|reason| {
            notice(format_args!(
                "only what the logs themselves show to be committed is taken: {reason}"
            ));
            Vec::new()
        }),
    };
    let plan = BackfillPlan {
        journal: journal_file(&config, source),
        key_file: key_file(&config, source),
        source,
        directories,
        applied,
        // A signal ends the process.
        stop: CancellationToken::new(),
    };
    let done = backfill(&plan, progress(&source.name))?;
    match args.json {
        true => print_json(&for_programs(&source.name, &done)),
        false => print(&for_people(&source.name, &done)),
    }
}

fn named<'a>(sources: &'a [SourceConfig], name: &str) -> Result<&'a SourceConfig, Failure> {
    let found = sources.iter().find(|source| *source.name == *name);
    found.ok_or_else(|| {
        let known: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
        let message = format!(
            "no source has the name '{name}'\nhelp: give one of: {}",
            known.join(", ")
        );
        Failure::new(Exit::Configuration, message)
    })
}

/// Prints how far the work is, to somebody who watches.
fn progress(name: &str) -> impl FnMut(Progress) + use<> {
    let name = name.to_owned();
    let is_watched = std::io::stderr().is_terminal();
    let mut printed = Instant::now();
    move |progress| {
        if is_watched && printed.elapsed() >= PROGRESS_EVERY {
            printed = Instant::now();
            notice(format_args!(
                "{name}: {}, up to {} …",
                count(progress.records, "record"),
                progress.zxid
            ));
        }
    }
}

fn for_people(name: &str, done: &Backfilled) -> String {
    let what = match done.is_new_journal {
        true => "journal",
        false => "history",
    };
    let mut text = format!(
        "{what} of {name}: {} from {} to {} in {}\n",
        count(done.records, "record"),
        done.from,
        done.to,
        done.file.display()
    );
    for reason in &done.passed_over {
        text.push_str(&format!("  older files were not used: {reason}\n"));
    }
    if done.is_new_journal {
        text.push_str(&format!("  it ends where {}\n", done.reason));
    }
    text
}

fn for_programs(name: &str, done: &Backfilled) -> serde_json::Value {
    json!({
        "source": name,
        "file": done.file,
        "new_journal": done.is_new_journal,
        "from_zxid": done.from,
        "to_zxid": done.to,
        "records": done.records,
        "end": done.reason,
        "passed_over": done.passed_over,
    })
}
