//! `zkbridge check`: whether the configuration is right, as far as can be known without a connection.

mod connections;
mod paths;

use std::path::Path;

use bridge_config::{Loaded, Problem, Refused, count};
use bridge_console::{Color, Style};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::operator::Journals;

pub use connections::{Finding, look_at_ensemble, nearest_existing, open_sink};
pub use paths::unmatched_paths;

const EXAMPLES: &str = "\
Examples:
  zkbridge check                     check zkbridge.toml
  zkbridge check --config prod.yaml
  zkbridge check --connect           and whether all of it can be reached
  zkbridge check --json              for programs

Exit codes: 0 no errors (warnings are none), 2 errors in the file,
3 a source or sink cannot be used";

/// Options of `check`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Connect to every source and sink, too, and see whether they can be used
    #[arg(long)]
    connect: bool,
}

/// Checks the configuration and reports.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let result = bridge_config::load(&args.config.config);
    let new_sinks = match &result {
        Ok(loaded) => Journals::new(loaded.config.clone()).new_sinks(),
        Err(_) => Ok(Vec::new()),
    };
    // A journal that cannot be read is no mistake of the file.
    let new_sinks = new_sinks.unwrap_or_default();
    let findings = match &result {
        Ok(loaded) if args.connect => connections::look(&loaded.config)?,
        _ => Vec::new(),
    };
    if args.json {
        let mut report = for_programs(&result);
        if !new_sinks.is_empty() {
            report["new_sinks"] = json!(new_sinks);
        }
        if args.connect {
            report["connections"] = findings.iter().map(Finding::to_json).collect();
            report["ok"] = (result.is_ok() && findings.iter().all(|finding| finding.is_fine())).into();
        }
        print(&format!("{report:#}\n"))?;
    } else {
        let style = Style::for_stdout(Color::Auto);
        let findings: String = findings.iter().map(|finding| finding.to_text(&style)).collect();
        let new_sinks: String = new_sinks
            .iter()
            .map(|sink| format!("  {}", sink.to_text()))
            .collect();
        print(&format!("{}{new_sinks}{findings}", for_people(&result)))?;
    }
    match result {
        Err(_) => Err(Failure::new(Exit::Configuration, "")),
        Ok(_) if findings.iter().all(Finding::is_fine) => Ok(()),
        Ok(_) => Err(Failure::new(Exit::Environment, "")),
    }
}

fn for_people(result: &Result<Loaded, Refused>) -> String {
    match result {
        Err(refused) => format!("{refused}\n"),
        Ok(loaded) => {
            let mut text: String = loaded
                .warnings
                .iter()
                .map(|warning| warning.to_text(&loaded.file))
                .collect();
            text.push_str(&summary(loaded));
            text
        }
    }
}

fn summary(loaded: &Loaded) -> String {
    let mut text = format!("{}: {}\n", loaded.file.display(), count(&loaded.warnings));
    for source in &loaded.config.sources {
        let sinks = loaded
            .config
            .sinks
            .iter()
            .filter(|sink| sink.sources.contains(&source.name));
        let sinks: Vec<String> = sinks.map(|sink| sink.name.to_string()).collect();
        let to = if sinks.is_empty() {
            "no sink".to_owned()
        } else {
            sinks.join(", ")
        };
        text.push_str(&format!("  {} -> {to}\n", source.name));
    }
    text
}

fn for_programs(result: &Result<Loaded, Refused>) -> Value {
    let listed = |file: &Path, problems: &[Problem]| -> Vec<Value> {
        problems.iter().map(|problem| problem.to_json(file)).collect()
    };
    match result {
        Ok(loaded) => json!({
            "ok": true,
            "file": loaded.file.display().to_string(),
            "sources": loaded.config.sources.iter().map(|source| source.name.to_string()).collect::<Vec<_>>(),
            "sinks": loaded.config.sinks.iter().map(|sink| sink.name.to_string()).collect::<Vec<_>>(),
            "problems": listed(&loaded.file, &loaded.warnings),
        }),
        Err(refused) => json!({
            "ok": false,
            "file": refused.file.display().to_string(),
            "problems": listed(&refused.file, &refused.problems),
        }),
    }
}
