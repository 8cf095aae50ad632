//! `zkbridge reload`: makes a running bridge read its configuration again.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;

use super::serving;
use crate::bridge::Reloaded;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, NewSink, ReloadAnswer, ask_reload, unconfigured_text};

const EXAMPLES: &str = "\
Examples:
  zkbridge check && zkbridge reload
  zkbridge reload --json | jq .changed

Adds, changes and removes sources and sinks. A changed sink drains first and
continues at its cursor; a changed source stops, with its sinks, and continues
with its journal. data_dir, http and log need a restart. An invalid file changes
nothing, and neither does a source or sink that cannot work. SIGHUP does the
same; the log then has the result.

The bridge reads the file that it was started with. --config only locates the
bridge by its data_dir.

Exit codes: 0 done, 1 the bridge rejected the file and changed nothing, or took
it over except for sources that the message names, 2 the configuration is wrong,
3 no bridge runs";

/// Options of `reload`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReloadArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: started, changed, stopped and untouched sinks,
    /// what changed among the sources, and the records that new sinks get
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &ReloadArgs) -> Result<(), Failure> {
    let journals = Journals::new(args.config.load()?.config);
    let data_dir = &journals.config().data_dir;
    // Counted before the bridge gives them their cursors. A journal that cannot be read is for the bridge to report.
    let new_sinks = journals.new_sinks().unwrap_or_default();
    let answer = serving::block_on(ask_reload(data_dir))?.ok_or_else(|| {
        Failure::new(
            Exit::Environment,
            format!(
                "no bridge runs on {}; the configuration is valid for the next start\nhelp: start it with 'zkbridge run'",
                data_dir.display()
            ),
        )
    })?;
    if let Some(refused) = answer.refused {
        return Err(Failure::new(Exit::Runtime, format!("reload rejected: {refused}")));
    }
    match args.json {
        true => print_json(&Done {
            done: &answer.done,
            new_sinks: &new_sinks,
        })?,
        false => {
            let new_sinks: String = new_sinks.iter().map(NewSink::to_text).collect();
            let unconfigured = journals.unconfigured().unwrap_or_default();
            let unconfigured: String = unconfigured.iter().map(unconfigured_text).collect();
            print(&(text(&answer) + &new_sinks + &unconfigured))?;
        }
    }
    match answer.done.exception() {
        None => Ok(()),
        Some(exception) => Err(Failure::new(Exit::Runtime, exception)),
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    done: &'a Reloaded,
    #[serde(skip_serializing_if = "<[NewSink]>::is_empty")]
    new_sinks: &'a [NewSink],
}

fn text(answer: &ReloadAnswer) -> String {
    let done = &answer.done;
    let kinds = [
        ("started", &done.started),
        ("changed", &done.changed),
        ("stopped", &done.stopped),
        ("untouched", &done.untouched),
    ];
    let sources = [
        ("started", &done.sources.started),
        ("changed", &done.sources.changed),
        ("stopped", &done.sources.stopped),
        ("failed", &done.sources.failed),
        ("opening", &done.sources.opening),
    ];
    lines("source", &sources) + &lines("sink", &kinds)
}

fn lines(kind: &str, done: &[(&str, &BTreeSet<String>)]) -> String {
    let lines = done.iter().flat_map(|(what, names)| {
        names
            .iter()
            .map(move |name| format!("{what:<10} {kind} '{name}'\n"))
    });
    lines.collect()
}
