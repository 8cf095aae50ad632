//! `zkbridge sink`: resumes sinks.

use bridge_config::{Config, SinkConfig};
use bridge_core::delivery::OperatorRequest;
use bridge_query::JournalQuery;
use clap::{Args, Subcommand};
use serde_json::json;

use super::serving;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge sink enable hook --config zkbridge.toml

A destination that reports that it is gone for good disables its sink; the sink
stays disabled over restarts until it is enabled. A sink that halted for
another reason resumes without a restart. Works with or without a running
bridge.

Exit codes: 0 done, 1 the bridge refused the order, 2 no such sink,
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
    }
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
            "no sink has the name '{name}'\nhelp: there is {}",
            known.join(", ")
        );
        Failure::new(Exit::Configuration, message)
    })
}
