//! `zkbridge doctor`: everything that the bridge relies on, each with a remedy where it is not as it should be.

use bridge_config::load;
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
  zkbridge doctor --znodes 100000        read more to find what may not be read
  zkbridge doctor --json | jq '.lines[] | select(.level != \"ok\")'

Looks at the configuration, the running bridge, the machine (disk space, speed
of fsync, open files), each server of each ensemble (version, role, time to
answer), the session and the roots, and each destination. Where no bridge runs
a destination is opened as at a start: a file or topic that the configuration
wants is made.

Exit codes: 0 no failure (warnings are none), 1 at least one failure,
2 the configuration is wrong";

/// What to look at.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// So many znodes of each root are read: for those that may not be, and
    /// to estimate how long a walk takes
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    znodes: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Looks at all of it.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let loaded = load(&args.config.config).map_err(|refused| {
        eprintln!("{refused}");
        Failure::new(Exit::Configuration, "")
    })?;
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
