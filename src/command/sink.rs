//! `zkbridge sink`: an operator's word to a sink.

use bridge_config::{Config, SinkConfig, load};
use bridge_core::delivery::Order;
use clap::{Args, Subcommand};
use serde_json::json;

use super::serving;
use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::operator::Journals;

const EXAMPLES: &str = "\
Examples:
  zkbridge sink enable hook --config zkbridge.toml

A destination that says that it is gone for good disables its sink, over
restarts too, until it is enabled. A sink that has halted for another reason
goes on without a restart. Works beside a running bridge and without one.

Exit codes: 0 done, 1 the bridge did not take it, 2 no such sink,
3 the journal cannot be used";

/// What to do with a sink.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SinkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let a sink go on that was disabled or has halted
    Enable(EnableArgs),
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct EnableArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: the sink, and of which sources
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: &SinkArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Enable(args) => serving::block_on(enable(args)),
    }
}

async fn enable(args: &EnableArgs) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let name = &args.name;
    let sources = configured(journals.config(), name)?.sources.clone();
    let mut enabled = Vec::new();
    for (source, mut reader) in journals.readers()? {
        let stands = reader
            .cursor(name)
            .map_err(|error| Failure::new(Exit::Environment, error.to_string()))?;
        if stands.is_none() || !sources.contains(&source.name) {
            continue;
        }
        let is_enabled = |reader: &mut bridge_core::journal::Reader| Ok(reader.disabled(name)?.is_none());
        journals
            .carry_out(&source.name, name, &Order::Enable, is_enabled)
            .await?;
        enabled.push(source.name.to_string());
    }
    if enabled.is_empty() {
        let message = format!("sink '{name}' has no place in a journal yet: run the bridge first");
        return Err(Failure::new(Exit::Runtime, message));
    }
    print(&match args.json {
        true => format!(
            "{:#}\n",
            json!({"sink": name, "enabled": true, "sources": enabled})
        ),
        false => format!("sink '{name}' is enabled\n"),
    })
}

/// The sink of this name.
pub fn configured<'a>(config: &'a Config, name: &str) -> Result<&'a SinkConfig, Failure> {
    let found = config.sinks.iter().find(|sink| *sink.name == *name);
    found.ok_or_else(|| {
        let known: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
        let message = format!("no sink has the name '{name}'; there is {}", known.join(", "));
        Failure::new(Exit::Configuration, message)
    })
}

/// The journals of the configuration that a command is given.
pub fn journals(flag: &ConfigFlag) -> Result<Journals, Failure> {
    let loaded = load(&flag.config).map_err(|refused| {
        eprintln!("{refused}");
        Failure::new(Exit::Configuration, "")
    })?;
    Ok(Journals::new(loaded.config))
}
