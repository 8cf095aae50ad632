//! `zkbridge sink`: lists, tests and resumes sinks, and forgets or renames their cursors.

use bridge_config::{Config, SinkConfig};
use bridge_core::delivery::OperatorRequest;
use bridge_query::JournalQuery;
use clap::{Args, Subcommand};
use serde_json::json;

use super::serving;
use super::sink_test::{self, TestArgs};
use crate::bridge::CursorChange;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json, status};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge sink list
  zkbridge sink enable hook --config zkbridge.toml
  zkbridge sink test hook
  zkbridge sink rename hook alerts
  zkbridge sink forget hook

A sink is known by its name: the journal keeps a cursor for each name, and every
record after it. After a [[sink]] got another name in the configuration, 'rename'
gives the old cursor to it and reloads. 'forget' removes the cursor of a sink
that is no longer configured, or no longer for that source, with its dead
letters.

A destination that reports that it is gone for good disables its sink; the sink
stays disabled over restarts until it is enabled. A sink that halted for
another reason resumes without a restart. Works with or without a running
bridge.

Exit codes: 0 done, 1 the bridge refused the order, 2 no such sink or cursor,
3 the journal cannot be used";

/// Options of `sink`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SinkArgs {
    #[command(subcommand)]
    command: SinkCommand,
}

#[derive(Debug, Subcommand)]
enum SinkCommand {
    /// Resume a sink that halted or was disabled
    Enable(EnableArgs),
    /// List the sinks of the configuration and the cursors of the journals
    List(ListArgs),
    /// Remove the cursor and the dead letters of a sink that is not configured
    Forget(ForgetArgs),
    /// Give a cursor to the sink that has another name in the configuration
    Rename(RenameArgs),
    /// Send one marked example to the destination and print its answer
    Test(TestArgs),
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: for each sink and source its state, cursor and lag
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct ForgetArgs {
    /// Name of the sink
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct RenameArgs {
    /// Name of the cursor in the journals
    #[arg(value_name = "OLD")]
    old: String,
    /// Name of the sink in the configuration
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct EnableArgs {
    /// Name of the sink
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: the sink and its sources
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &SinkArgs) -> Result<(), Failure> {
    match &args.command {
        SinkCommand::Enable(args) => serving::block_on(enable(args)),
        SinkCommand::List(args) => serving::block_on(list(args)),
        SinkCommand::Test(args) => serving::block_on(sink_test::test(args)),
        SinkCommand::Forget(args) => {
            let change = CursorChange::Forget(args.name.clone());
            serving::block_on(change_cursor(&args.config, &change))
        }
        SinkCommand::Rename(args) => {
            let (old, new) = (args.old.clone(), args.new.clone());
            serving::block_on(change_cursor(&args.config, &CursorChange::Rename { old, new }))
        }
    }
}

async fn change_cursor(config: &ConfigFlag, change: &CursorChange) -> Result<(), Failure> {
    let by_bridge = config.journals()?.change_cursor(change).await?;
    let by = if by_bridge { " by the running bridge" } else { "" };
    print(&match change {
        CursorChange::Forget(name) => format!("the cursor of sink '{name}' is removed{by}\n"),
        CursorChange::Rename { old, new } => format!("sink '{new}' has the cursor of '{old}'{by}\n"),
    })
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let status = status::look(&args.config.journals()?, false).await?;
    if args.json {
        let sinks = status.sinks.iter().map(|sink| {
            json!({
                "sink": sink.sink, "source": sink.source, "state": sink.state, "cursor": sink.cursor,
                "lag_records": sink.lag_records, "dead_letters": sink.dead_letters,
                "parked": sink.parked.records,
            })
        });
        return print_json(&sinks.collect::<Vec<_>>());
    }
    let mut text = format!(
        "{:<20} {:<12} {:<14} {:>12} {:>12} {:>12}\n",
        "SINK", "SOURCE", "STATE", "CURSOR", "LAG", "DEAD LETTERS"
    );
    for sink in &status.sinks {
        text.push_str(&format!(
            "{:<20} {:<12} {:<14} {:>12} {:>12} {:>12}\n",
            sink.sink,
            sink.source,
            sink.state.replace('_', " "),
            sink.cursor.0,
            sink.lag_records,
            sink.dead_letters
        ));
    }
    print(&text)
}

async fn enable(args: &EnableArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let name = &args.name;
    let sources = configured(journals.config(), name)?.sources.clone();
    let mut enabled = Vec::new();
    for (source, journal) in journals.open()? {
        if journal.cursor(name)?.is_none() || !sources.contains(&source.name) {
            continue;
        }
        let is_enabled = |journal: &JournalQuery| Ok(journal.disabled(name)?.is_none());
        journals
            .carry_out(&source.name, name, &OperatorRequest::Enable, is_enabled)
            .await?;
        enabled.push(source.name.to_string());
    }
    if enabled.is_empty() {
        let message = format!("sink '{name}' has no cursor in a journal yet\nhelp: run the bridge first");
        return Err(Failure::new(Exit::Runtime, message));
    }
    match args.json {
        true => print_json(&json!({"sink": name, "enabled": true, "sources": enabled})),
        false => print(&format!("sink '{name}' is enabled\n")),
    }
}

/// The sink of this name.
pub fn configured<'a>(config: &'a Config, name: &str) -> Result<&'a SinkConfig, Failure> {
    let found = config.sinks.iter().find(|sink| *sink.name == *name);
    found.ok_or_else(|| {
        let known: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
        let message = format!(
            "no sink has the name '{name}'\nhelp: give one of: {}",
            known.join(", ")
        );
        Failure::new(Exit::Configuration, message)
    })
}
