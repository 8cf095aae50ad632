//! `zkbridge reload`: lets a running bridge read its configuration again.

use bridge_config::load;
use clap::Args;

use super::serving;
use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::operator::{ReloadAnswer, ask_reload};

const EXAMPLES: &str = "\
Examples:
  zkbridge check && zkbridge reload
  zkbridge reload --json | jq .changed

Sinks can be added, changed and taken out, with their filters; what is changed
drains first and goes on from its cursor. Sources, data_dir, http and log need
a restart. An invalid file changes nothing, and neither does one sink that
cannot work. SIGHUP does the same; the log then says what came of it.

The bridge reads the file that it was started with. --config serves to find it
by its data_dir.

Exit codes: 0 done, 1 the bridge refused, and nothing was changed, 2 the
configuration is wrong, 3 no bridge runs";

/// What to read again.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReloadArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print a JSON document: started, changed, stopped and untouched sinks
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: &ReloadArgs) -> Result<(), Failure> {
    let loaded = load(&args.config.config).map_err(|refused| {
        eprintln!("{refused}");
        Failure::new(Exit::Configuration, "")
    })?;
    let data_dir = &loaded.config.data_dir;
    let answer = serving::block_on(ask_reload(data_dir))?.ok_or_else(|| {
        Failure::new(
            Exit::Environment,
            format!(
                "no bridge runs on {}; what it will read at its start is fine",
                data_dir.display()
            ),
        )
    })?;
    if let Some(refused) = answer.refused {
        return Err(Failure::new(
            Exit::Runtime,
            format!("the bridge refused: {refused}"),
        ));
    }
    print(&match args.json {
        true => document(&answer)?,
        false => text(&answer),
    })
}

fn document(answer: &ReloadAnswer) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(&answer.done)
        .map_err(|error| Failure::new(Exit::Runtime, format!("what was done cannot be written: {error}")))?;
    Ok(text + "\n")
}

fn text(answer: &ReloadAnswer) -> String {
    let done = &answer.done;
    let kinds = [
        ("started", &done.started),
        ("changed", &done.changed),
        ("stopped", &done.stopped),
        ("untouched", &done.untouched),
    ];
    let lines = kinds.iter().flat_map(|(what, sinks)| {
        sinks
            .iter()
            .map(move |sink| format!("{what:<10} sink '{sink}'\n"))
    });
    lines.collect()
}
