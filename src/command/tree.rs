//! `zkbridge tree`: prints a subtree at a moment.

use bridge_console::text::escaped;
use bridge_console::{Color, Style};
use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use bridge_query::JournalQuery;
use bridge_query::answer::{ChildItem, ChildrenQuestion, Moment};
use clap::Args;
use serde::Serialize;

use super::ls::{child_line, name_width};
use super::question::{QuestionFlags, doubt_lines, moment_words, never_seen, pages};
use super::{argument, print, print_json};
use crate::bridge::wall_clock;
use crate::exit::Failure;
use crate::terminal::notice;

const EXAMPLES: &str = "\
Examples:
  zkbridge tree /services --at 2026-11-22T13:40:00Z
  zkbridge tree --depth 2

Prints the znodes that existed, and those that may have existed, each with a
sign and a word for how certain that is. Reads only the journal.

Exit codes: 0 printed, 1 the journal knows no such znode,
2 the command line or the configuration is wrong, 3 there is no journal";

/// Znodes printed unless `-n` gives another number.
const COUNT: usize = 1_000;

/// Columns of a level.
const INDENT: usize = 2;

/// Options of `tree`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TreeArgs {
    /// Path of the top
    #[arg(value_name = "PATH", default_value = "/", value_parser = argument::znode)]
    path: ZnodePath,
    /// Print the tree at this moment [default: the end of the journal]
    #[arg(long, value_name = "ZXID|TIME", value_parser = argument::position)]
    at: Option<Position>,
    /// Print at most this many levels
    #[arg(long, value_name = "N", default_value_t = 10)]
    depth: usize,
    /// Print at most N znodes
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = COUNT, value_parser = argument::count)]
    count: usize,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// A subtree, as `--json` prints it.
#[derive(Debug, Serialize)]
struct TreeAnswer {
    path: ZnodePath,
    moment: Moment,
    items: Vec<TreeItem>,
    complete: bool,
    /// Znodes that were left out although it is not certain that they did not exist.
    unknown: u64,
}

/// A znode of it.
#[derive(Debug, Serialize)]
struct TreeItem {
    path: ZnodePath,
    depth: usize,
    #[serde(flatten)]
    child: ChildItem,
}

/// Runs the command.
pub fn run(args: &TreeArgs) -> Result<(), Failure> {
    let journal = args.flags.journal()?;
    let now = wall_clock()();
    let moment = journal.moment_under(&args.path, args.at, now)?;
    // Every level is asked at the same moment, whatever is appended meanwhile.
    let at = argument::position(&moment.at).expect("a moment is read again");
    let mut answer = TreeAnswer {
        path: args.path.clone(),
        moment,
        items: Vec::new(),
        complete: true,
        unknown: 0,
    };
    let visit = Visit {
        journal: &journal,
        at,
        now,
        depth: args.depth,
        count: args.count,
    };
    visit.below(&args.path, 1, &mut answer)?;
    let is_empty = answer.items.is_empty() && !args.path.is_slash();
    if is_empty && journal.node(&args.path, args.at, now)?.is_none() {
        return Err(never_seen(&args.path));
    }
    if args.flags.json {
        return print_json(&answer);
    }
    let style = Style::for_stdout(Color::Auto);
    let mut text = format!("{} at {}\n", escaped(&args.path), moment_words(&answer.moment));
    text.push_str(&doubt_lines(&answer.moment.doubts, &style));
    let indent = |item: &TreeItem| INDENT * (item.depth - 1);
    let width = name_width(answer.items.iter().map(|item| (indent(item), &item.child)));
    for item in &answer.items {
        text.push_str(&child_line(&item.child, indent(item), width, &style));
    }
    print(&text)?;
    if !answer.complete {
        notice("there are more znodes; raise -n or --depth to see them");
    }
    if answer.unknown > 0 {
        notice(format_args!(
            "{} more may have existed: the journal does not show that they did not",
            answer.unknown
        ));
    }
    Ok(())
}

/// A visit of the subtree, parents first.
struct Visit<'a> {
    journal: &'a JournalQuery,
    at: Position,
    now: Timestamp,
    depth: usize,
    count: usize,
}

impl Visit<'_> {
    fn below(&self, parent: &ZnodePath, depth: usize, answer: &mut TreeAnswer) -> Result<(), Failure> {
        let left = self.count.saturating_sub(answer.items.len());
        if left == 0 || depth > self.depth {
            answer.complete = false;
            return Ok(());
        }
        let list = pages(left, |cursor, limit| {
            let question = ChildrenQuestion {
                path: parent,
                at: Some(self.at),
                prefix: "",
                after: None,
                cursor,
                limit,
            };
            Ok(self.journal.children_at(&question, self.now)?)
        })?;
        answer.unknown += list.unknown;
        answer.complete &= list.complete;
        for child in list.items {
            if answer.items.len() >= self.count {
                answer.complete = false;
                return Ok(());
            }
            let path = parent.child(&child.name);
            let has_children = child.has_children;
            answer.items.push(TreeItem {
                path: path.clone(),
                depth,
                child,
            });
            if has_children {
                self.below(&path, depth + 1, answer)?;
            }
        }
        Ok(())
    }
}
