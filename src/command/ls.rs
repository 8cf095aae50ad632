//! `zkbridge ls`: prints the children of a znode at a moment.

use bridge_console::text::{columns, escaped, size};
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

/// Longer names move their own values only.
const NAME_WIDTH_MAX: usize = 40;

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
    let width = name_width(list.items.iter().map(|item| (0, item)));
    for item in &list.items {
        text.push_str(&child_line(item, 0, width, &style));
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

/// The name of a child as it is printed: with a slash if it has children itself.
fn name_words(item: &ChildItem) -> String {
    let slash = if item.has_children { "/" } else { "" };
    format!("{}{slash}", escaped(&item.name))
}

/// The columns of the names of these children, each with the columns before it.
pub fn name_width<'a>(items: impl Iterator<Item = (usize, &'a ChildItem)>) -> usize {
    let width = items.map(|(indent, item)| indent + columns(&name_words(item)));
    width.max().unwrap_or(0).min(NAME_WIDTH_MAX)
}

/// A child on one line, after `indent` columns; also of `tree`. Its values begin after `width` columns for the indent and
/// the name.
pub fn child_line(item: &ChildItem, indent: usize, width: usize, style: &Style) -> String {
    let (sign, word) = sign(item.certainty);
    let name = name_words(item);
    let pad = width.saturating_sub(indent + columns(&name));
    let mut parts = vec![format!(
        "{}{sign} {}{}",
        " ".repeat(indent),
        Tone::Strong.paint(&name, style),
        " ".repeat(pad)
    )];
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

#[cfg(test)]
mod tests {
    use bridge_console::Layout;
    use bridge_query::Certainty;

    use super::*;

    fn child(name: &str, has_children: bool) -> ChildItem {
        ChildItem {
            name: name.to_owned(),
            exists: Some(true),
            size: Some(7),
            changed: None,
            mzxid: None,
            version: Some(3),
            kind: None,
            seq: None,
            has_children,
            certain: true,
            certainty: Certainty::Exact,
            doubts: Vec::new(),
        }
    }

    #[test]
    fn values_are_in_one_column_whether_a_name_ends_with_a_slash_is_indented_or_is_wide() {
        let style = Style::PLAIN.with_layout(Layout::Wide);
        let columns_of_values = |rows: &[(usize, ChildItem)]| {
            let width = name_width(rows.iter().map(|(indent, item)| (*indent, item)));
            let lines = rows
                .iter()
                .map(|(indent, item)| child_line(item, *indent, width, &style));
            let at = lines.map(|line| columns(&line[..line.find("7 B").expect("the size")]));
            at.collect::<Vec<_>>()
        };
        let rows = [
            (0, child("services", true)),
            (2, child("a", false)),
            (2, child("payments", true)),
            (4, child("x", true)),
            (0, child("東京", false)),
        ];
        let found = columns_of_values(&rows);
        assert!(found.iter().all(|at| *at == found[0]), "{found:?}");
        let longest = [
            (0, child(&"n".repeat(39), true)),
            (0, child(&"n".repeat(40), false)),
        ];
        let found = columns_of_values(&longest);
        assert_eq!(found[0], found[1], "at the greatest width");
    }
}
