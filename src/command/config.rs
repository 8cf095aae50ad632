//! `zkbridge config`: the configuration as it takes effect.

use bridge_config::{Origin, Setting, load_settings};
use bridge_console::text::{columns, escaped};
use bridge_console::{Color, Style};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::{ConfigFlag, refused};
use crate::command::print;
use crate::exit::Failure;
use crate::terminal::Tone;

const EXAMPLES: &str = "\
Examples:
  zkbridge config show
  zkbridge config show --json | jq '.settings[] | select(.origin != \"default\")'

Every key with its value and where that comes from: a line of the file, a
variable of the environment, or the default. References such as ${NAME} are
shown as they are written, and secrets as ***.

Exit codes: 0 shown, 2 the configuration is wrong";

/// Options of `config`.
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

/// Runs the command.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let Verb::Show(args) = &args.verb;
    let settings = load_settings(&args.config.config).map_err(refused)?;
    let file = args.config.config.display().to_string();
    print(&match args.json {
        true => format!("{:#}\n", json!({"file": file, "settings": settings})),
        false => for_people(&settings, &Style::for_stdout(Color::Auto)),
    })
}

/// The width of origins beside the values.
const ORIGIN_WIDTH: usize = 24;

/// Indentation of a value on lines of its own.
const INDENT: usize = 4;

fn for_people(settings: &[Setting], style: &Style) -> String {
    settings.iter().map(|setting| one(setting, style)).collect()
}

/// One line; if key, value and origin do not fit, the value is on the lines below.
fn one(Setting { key, value, origin }: &Setting, style: &Style) -> String {
    let value = match value.is_null() {
        true => "(not set)".to_owned(),
        false => escaped(&value.to_string()).into_owned(),
    };
    let tone = match origin {
        Origin::Default => Tone::Quiet,
        Origin::File(_) | Origin::Variable(_) => Tone::Plain,
    };
    let origin = origin.to_string();
    let room = style.width.saturating_sub(ORIGIN_WIDTH);
    let whole = format!("{} = {value}", escaped(key));
    let is_short = columns(&whole) + 2 + columns(&origin).max(ORIGIN_WIDTH - 2) <= style.width;
    let (head, below) = match is_short {
        true => (whole, Vec::new()),
        false => (
            format!("{} =", escaped(key)),
            cut(&value, style.width.saturating_sub(INDENT)),
        ),
    };
    let padding = " ".repeat(room.saturating_sub(columns(&head)).max(2));
    let mut text = format!(
        "{}{padding}{}\n",
        tone.paint(&head, style),
        tone.paint(&origin, style)
    );
    for part in below {
        text.push_str(&format!("{:INDENT$}{}\n", "", tone.paint(&part, style)));
    }
    text
}

/// A text in parts of at most `width` columns, cut after commas if there are any: a value has no other good place for a
/// break.
fn cut(text: &str, width: usize) -> Vec<String> {
    let width = width.max(INDENT);
    let mut parts = Vec::new();
    let mut rest = text;
    while columns(rest) > width {
        let mut used = 0;
        let end = rest.char_indices().find_map(|(at, char)| {
            used += columns(char.encode_utf8(&mut [0; 4]));
            (used > width).then_some(at)
        });
        let end = end.filter(|end| *end > 0).unwrap_or(rest.len());
        let end = rest[..end].rfind(',').map_or(end, |comma| comma + 1);
        let (part, after) = rest.split_at(end);
        parts.push(part.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: &str, value: serde_json::Value) -> String {
        let setting = Setting {
            key: key.into(),
            value,
            origin: Origin::File(7),
        };
        one(&setting, &Style::PLAIN)
    }

    #[test]
    fn a_value_that_is_too_long_for_a_line_is_printed_below_its_key() {
        let pad = " ".repeat(56 - 18);
        assert_eq!(
            shown("log.level", "info".into()),
            format!("log.level = \"info\"{pad}line 7\n")
        );
        let ops = json!(["create", "update", "delete", "acl", "snapshot", "control"]);
        let pad = " ".repeat(56 - 13);
        assert_eq!(
            shown("sink[0].ops", ops),
            format!(
                "sink[0].ops ={pad}line 7\n    [\"create\",\"update\",\"delete\",\"acl\",\"snapshot\",\"control\"]\n"
            )
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let many: Vec<String> = (0..40).map(|at| format!("/services/number-{at}")).collect();
        for value in [json!(many), json!("x".repeat(300)), json!("日本".repeat(90))] {
            let text = shown("source[0].roots", value.clone());
            assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
            let whole: String = text
                .lines()
                .skip(1)
                .map(|line| line.trim_start().to_owned())
                .collect();
            assert_eq!(whole, value.to_string());
        }
    }
}
