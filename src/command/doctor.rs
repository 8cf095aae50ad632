//! `zkbridge doctor`: examines everything that the bridge relies on, and names a remedy for each finding.

use bridge_console::{Color, Style};
use clap::Args;
use serde_json::json;

use super::serving;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::doctor::{Level, examine, for_people};
use crate::exit::{Exit, Failure};
use crate::operator::ask_status;

const EXAMPLES: &str = "\
Examples:
  zkbridge doctor
  zkbridge doctor --znodes 100000        look for unreadable znodes in more
  zkbridge doctor --json | jq '.lines[] | select(.level != \"ok\")'

Examines the configuration, the running bridge, the machine (disk space, speed
of fsync, open files), each server of each ensemble (version, role, response
time), the session and the roots, and each destination. Proposes sections for
services and elections that it recognises in the tree. If no bridge runs, it
opens each destination as at a start, which creates configured files and
topics.

Exit codes: 0 no failure (a warning is none), 1 at least one failure,
2 the configuration is wrong";

/// Options of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Read N znodes of each root, to find unreadable ones and to estimate
    /// the duration of a full scan
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    znodes: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let loaded = args.config.load()?;
    let lines = serving::block_on(async {
        let running = ask_status(&loaded.config.data_dir).await?;
        Ok(examine(&loaded, running.as_ref(), args.znodes).await)
    })?;
    let is_fine = lines.iter().all(|line| line.level < Level::Failure);
    match args.json {
        true => print_json(&json!({"ok": is_fine, "lines": lines}))?,
        false => print(&for_people(&lines, &Style::for_stdout(Color::Auto)))?,
    }
    match is_fine {
        true => Ok(()),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}
