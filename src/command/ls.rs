//! `zkbridge ls`: prints the children of a znode at a moment.

use bridge_console::text::{escaped, size};
use bridge_console::{Color, Style};
use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_query::answer::{ChildItem, ChildrenQuestion, ZnodeKind};
use clap::Args;

use super::question::{COUNT, QuestionFlags, doubt_lines, moment_words, pages, rest_words, sign};
use super::{argument, print, print_json};
use crate::bridge::wall_clock;
use crate::exit::{Exit, Failure};
use crate::terminal::{Tone, notice, to_the_second};

const EXAMPLES: &str = "\
Examples:
  zkbridge ls /services
  zkbridge ls /services --at yesterday
  zkbridge ls /config --at 0x300001a2f --json

Prints the children that existed, and those that may have existed, each with a
sign and a word for how certain that is. Reads only the journal.

Exit codes: 0 printed, 1 the journal knows no such znode,
2 the command line or the configuration is wrong, 3 there is no journal";

/// Options of `ls`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LsArgs {
    /// Path of the parent
    #[arg(value_name = "PATH", default_value = "/", value_parser = argument::znode)]
    path: ZnodePath,
    /// Print the children at this moment [default: the end of the journal]
    #[arg(long, value_name = "ZXID|TIME", value_parser = argument::position)]
    at: Option<Position>,
    /// Print only names that begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Print at most N children
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = COUNT, value_parser = argument::count)]
    count: usize,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// Runs the command.
pub fn run(args: &LsArgs) -> Result<(), Failure> {
    let journal = args.flags.journal()?;
    let now = wall_clock()();
    let list = pages(args.count, |cursor, limit| {
        let question = ChildrenQuestion {
            path: &args.path,
            at: args.at,
            prefix: &args.prefix,
            after: None,
            cursor,
            limit,
        };
        Ok(journal.children_at(&question, now)?)
    })?;
    if list.items.is_empty() && journal.node(&args.path, args.at, now)?.is_none() && !args.path.is_slash() {
        return Err(super::question::never_seen(&args.path));
    }
    if args.flags.json {
        return print_json(&list);
    }
    let style = Style::for_stdout(Color::Auto);
    let mut text = format!("{} at {}\n", escaped(&args.path), moment_words(&list.to));
    text.push_str(&doubt_lines(&list.to.doubts, &style));
    let width = list.items.iter().map(|item| escaped(&item.name).chars().count());
    let width = width.max().unwrap_or(0).min(40);
    for item in &list.items {
        text.push_str(&child_line(item, width, &style));
        text.push_str(&doubt_lines(&item.doubts, &style));
    }
    print(&text)?;
    if let Some(words) = rest_words(&list, "children") {
        notice(words);
    }
    match list.items.is_empty() {
        true if list.complete => {
            notice("no child existed");
            Ok(())
        }
        true => Err(Failure::new(Exit::Runtime, "")),
        false => Ok(()),
    }
}

/// A child on one line; also of `tree`.
pub fn child_line(item: &ChildItem, width: usize, style: &Style) -> String {
    let (sign, word) = sign(item.certainty);
    let name = escaped(&item.name);
    let slash = if item.has_children { "/" } else { "" };
    let name = format!("{name}{slash}");
    let mut parts = vec![format!("{sign} {}", Tone::Strong.paint(&name, style))];
    let pad = (width + 1).saturating_sub(name.chars().count());
    parts.push(" ".repeat(pad));
    match (item.exists, item.version) {
        (Some(true), Some(version)) => {
            let bytes = item
                .size
                .map_or_else(|| "?".to_owned(), |bytes| size(bytes.into()));
            parts.push(format!("{bytes:>9}  v{version:<4}"));
        }
        (Some(true), None) => parts.push("value not known".to_owned()),
        _ => parts.push("perhaps".to_owned()),
    }
    if let Some(changed) = item.changed {
        parts.push(to_the_second(changed));
    }
    if item.kind == Some(ZnodeKind::Ephemeral) {
        parts.push("ephemeral".to_owned());
    }
    if !item.certain {
        parts.push(word.to_owned());
    }
    parts.join(" ").trim_end().to_owned() + "\n"
}
