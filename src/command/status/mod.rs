//! `zkbridge status`: shows the state of the bridge, or of its journals if it does not run.

mod text;

use std::io::IsTerminal;
use std::time::Duration;

use bridge_console::{Color, Style};
use bridge_query::status::BridgeStatus;
use clap::Args;

use self::text::for_people;
use super::serving::{self, Signals};
use crate::bridge::wall_clock;
use crate::cli::ConfigFlag;
use crate::command::{json_text, print, print_json};
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, ask_status};
use crate::terminal::ANEW;

const EXAMPLES: &str = "\
Examples:
  zkbridge status
  zkbridge status --watch                refresh every second until Ctrl-C
  zkbridge status --json | jq .ready     the document of /status
  zkbridge status --running              for the health check of a container

Asks the running bridge through its control socket. If none runs, it says so and
shows the state of the journals.

Exit codes: 0 shown, whatever the state, 1 the running bridge does not answer,
2 the configuration is wrong, 3 no bridge runs and there is no journal, or with
--running no bridge runs, 130 --watch was ended by Ctrl-C";

/// Refresh interval of `--watch`.
const REFRESH: Duration = Duration::from_secs(1);

/// Options of `status`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Refresh every second, in place on a terminal
    #[arg(short, long)]
    watch: bool,
    /// Print the JSON document of /status; with --watch one per line
    #[arg(long)]
    json: bool,
    /// Fail unless a bridge runs
    #[arg(long)]
    running: bool,
}

/// Runs the command.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let loaded = args.config.load()?;
    let journals = Journals::new(loaded.config);
    serving::block_on(async {
        if args.watch {
            return watch(args, &journals).await;
        }
        let status = look(&journals, args.running).await?;
        match args.json {
            true => print_json(&status),
            false => print(&for_people(&status, &Style::for_stdout(Color::Auto))),
        }
    })
}

/// The status of the bridge that runs, or of the journals; with `must_run` a bridge must run.
///
/// # Errors
/// If the bridge does not answer, no journal can be read, or none runs that must.
pub async fn look(journals: &Journals, must_run: bool) -> Result<BridgeStatus, Failure> {
    let data_dir = &journals.config().data_dir;
    match ask_status(data_dir).await? {
        Some(status) => Ok(status),
        None if must_run => Err(Failure::new(
            Exit::Environment,
            format!(
                "no bridge runs on {}\nhelp: start it with 'zkbridge run'",
                data_dir.display()
            ),
        )),
        None => of_journals(journals),
    }
}

/// The status of the journals, as no bridge runs.
fn of_journals(journals: &Journals) -> Result<BridgeStatus, Failure> {
    let config = journals.config();
    let opened = journals.open()?;
    let with_sinks = opened.iter().map(|(source, journal)| {
        let sinks = config.sinks.iter();
        let of_source = sinks.filter(|sink| sink.sources.contains(&source.name));
        let names: Vec<&str> = of_source.map(|sink| &*sink.name).collect();
        (journal, names)
    });
    Ok(BridgeStatus::of_journals(with_sinks, wall_clock()())?)
}

async fn watch(args: &StatusArgs, journals: &Journals) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut beat = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => return Err(Failure::new(Exit::Signal(signal), "")),
            _ = beat.tick() => {}
        }
        let status = look(journals, args.running).await?;
        let text = match args.json {
            true => json_text(&status, serde_json::to_string)?,
            false => for_people(&status, &Style::for_stdout(Color::Auto)),
        };
        let before = match (is_terminal, args.json) {
            (true, false) => ANEW,
            (false, false) => "\n",
            (_, true) => "",
        };
        if !crate::command::print_on(&format!("{before}{text}"))? {
            return Ok(());
        }
    }
}
