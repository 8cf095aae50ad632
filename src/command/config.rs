//! `zkbridge config`: the configuration as it takes effect.

use bridge_config::{Origin, Setting, load_settings};
use bridge_console::text::{columns, escaped};
use bridge_console::{Color, Style};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::terminal::Tone;

const EXAMPLES: &str = "\
Examples:
  zkbridge config show
  zkbridge config show --json | jq '.settings[] | select(.origin != \"default\")'

Every key with its value and where that comes from: a line of the file, a
variable of the environment, or the default. References such as ${NAME} are
shown as they are written, and secrets as ***.

Exit codes: 0 shown, 2 the configuration is wrong";

/// What to do with the configuration.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every key with its value and where that comes from
    Show(ShowArgs),
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let Verb::Show(args) = &args.verb;
    let settings = load_settings(&args.config.config).map_err(|refused| {
        eprintln!("{refused}");
        Failure::new(Exit::Configuration, "")
    })?;
    let file = args.config.config.display().to_string();
    print(&match args.json {
        true => format!("{:#}\n", json!({"file": file, "settings": settings})),
        false => for_people(&settings, &Style::for_stdout(Color::Auto)),
    })
}

/// The width of origins beside the values.
const ORIGIN_WIDTH: usize = 24;

fn for_people(settings: &[Setting], style: &Style) -> String {
    let room = style.width.saturating_sub(ORIGIN_WIDTH);
    let mut text = String::new();
    for Setting { key, value, origin } in settings {
        let value = if value.is_null() {
            "(not set)".to_owned()
        } else {
            value.to_string()
        };
        let words = format!("{key} = {}", escaped(&value));
        let tone = if *origin == Origin::Default {
            Tone::Quiet
        } else {
            Tone::Plain
        };
        let padding = " ".repeat(room.saturating_sub(columns(&words)).max(2));
        text.push_str(&format!(
            "{}{padding}{}\n",
            tone.paint(&words, style),
            tone.paint(&origin.to_string(), style)
        ));
    }
    text
}
