//! `zkbridge restore apply`: carries out a plan.

use std::path::PathBuf;

use bridge_console::{Color, Style};
use clap::Args;

use super::{RestoreSession, check_place, text};
use crate::cli::ConfigFlag;
use crate::command::{print, print_json, serving};
use crate::exit::{Exit, Failure};
use crate::restore::{Applied, ApplyOptions, BATCH_MAX, OnConflict, PlanFile, RestorePlace, apply};

const EXAMPLES: &str = "\
Examples:
  zkbridge restore apply config.plan
  zkbridge restore apply config.plan --on-conflict skip

Writes in requests of several operations, each whole or not at all. A znode
that has changed since the plan was made is a conflict and is never
overwritten. Operations that are done are noted in the file: run the command
again after an end of any kind, and it goes on. At the end it compares every
znode of the plan with the tree.

Exit codes: 0 the tree is as the plan wants it, 1 a conflict, or it is not,
2 the command line, the configuration or the plan is wrong, 3 ZooKeeper cannot
be reached, or the file cannot be written";

/// Options of `restore apply`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ApplyArgs {
    /// File of the plan
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stop at a znode that has changed since the plan was made, or skip it
    #[arg(long, value_name = "ACTION", value_enum, default_value_t = OnConflict::Stop)]
    on_conflict: OnConflict,
    /// Operations of one request at most
    #[arg(long, value_name = "N", default_value_t = BATCH_MAX, value_parser = batch)]
    batch: usize,
    #[command(flatten)]
    session: RestoreSession,
    #[command(flatten)]
    config: ConfigFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn batch(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if (1..=BATCH_MAX).contains(&count) => Ok(count),
        Ok(count) => Err(format!(
            "{count} is not from 1 to {BATCH_MAX}\nhelp: give a number in between"
        )),
        Err(error) => Err(format!("{error}\nhelp: give a whole number")),
    }
}

/// Runs the command.
pub fn run(args: &ApplyArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let opened = PlanFile::open(&args.file);
    let mut file = opened.map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    let header = &file.plan.header;
    let sources = journals.configured(Some(&header.source))?;
    let source = sources[0];
    let place = RestorePlace {
        under: header.under.clone(),
        to: header.to.clone(),
    };
    check_place(source, &place)?;
    let options = ApplyOptions {
        on_conflict: args.on_conflict,
        batch_max: args.batch,
    };
    let applied = serving::block_on(async {
        let tree = args.session.open(source).await?;
        let captured = file.plan.operations.iter();
        let mut captured = captured.filter(|operation| !tree.is_captured(operation.path()));
        if let Some(operation) = captured.next() {
            let message = format!(
                "{} is not captured by source '{}': exclude leaves it out, or it is the bridge's own\nhelp: make a new plan",
                operation.path().brief(),
                source.name
            );
            return Err(Failure::new(Exit::Configuration, message));
        }
        drop(captured);
        let mut rate = args.session.rate_limit();
        apply(&*tree, &mut file, options, &mut rate).await
    })?;
    let style = Style::for_stdout(Color::Auto);
    match args.json {
        true => print_json(&text::applied_document(&args.file, &applied))?,
        false => print(&text::applied_words(&applied, &style))?,
    }
    match is_as_planned(&applied) {
        true => Ok(()),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}

fn is_as_planned(applied: &Applied) -> bool {
    applied.stopped.is_none() && applied.skipped.is_empty() && applied.differences.is_empty()
}
