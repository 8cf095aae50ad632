//! `zkbridge diff`: prints the paths of a subtree that differ between two moments.

use bridge_console::text::escaped;
use bridge_console::{Color, Style, data_words};
use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_query::AsOfValue;
use bridge_query::answer::{DiffItem, DiffKind, DiffQuestion};
use clap::Args;

use super::lines::LineFlags;
use super::question::{COUNT, QuestionFlags, doubt_lines, moment_words, pages, rest_words, version_words};
use super::{argument, print, print_json};
use crate::bridge::wall_clock;
use crate::exit::Failure;
use crate::terminal::{Tone, notice};

const EXAMPLES: &str = "\
Examples:
  zkbridge diff /config 1h now
  zkbridge diff /services 0x300001a2f 0x300001b00 --json
  zkbridge diff / yesterday today --kind created --kind deleted

Prints + created, - deleted, ~ changed, ± deleted and created again, = written
with the data that it had, and ? where it is not certain whether there is a
difference. Values are cut to the width of the terminal, unless --wide is given;
into a pipe they are whole. A change of an access control list alone is none.
Reads only the journal.

Exit codes: 0 printed, 2 the command line or the configuration is wrong,
3 there is no journal";

/// Options of `diff`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// Compare this path and everything below it
    #[arg(value_name = "PATH", value_parser = argument::znode)]
    under: ZnodePath,
    /// First moment
    #[arg(value_name = "A", value_parser = argument::position)]
    a: Position,
    /// Second moment [default: the end of the journal]
    #[arg(value_name = "B", value_parser = argument::position)]
    b: Option<Position>,
    /// Print only these differences, and those that are not certain;
    /// repeatable [default: all]
    #[arg(long, value_name = "KIND", value_parser = argument::word_of(DiffKind::ALL, DiffKind::as_str))]
    kind: Vec<DiffKind>,
    /// Print at most N paths
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = COUNT, value_parser = argument::count)]
    count: usize,
    #[command(flatten)]
    lines: LineFlags,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// Runs the command.
pub fn run(args: &DiffArgs) -> Result<(), Failure> {
    let journal = args.flags.journal()?;
    let now = wall_clock()();
    let list = pages(args.count, |cursor, limit| {
        let question = DiffQuestion {
            under: &args.under,
            a: args.a,
            b: args.b,
            kinds: &args.kind,
            cursor,
            limit,
        };
        Ok(journal.diff(&question, now)?)
    })?;
    if args.flags.json {
        return print_json(&list);
    }
    let style = args.lines.style(Color::Auto);
    let mut text = String::new();
    for (name, moment) in [("from", list.from.as_ref()), ("to", Some(&list.to))] {
        let Some(moment) = moment else { continue };
        text.push_str(&format!("{name:<4} {}\n", moment_words(moment)));
        text.push_str(&doubt_lines(&moment.doubts, &style));
    }
    for item in &list.items {
        text.push_str(&item_lines(item, &style));
    }
    text.push_str(&sums(&list.items, &args.kind));
    print(&text)?;
    if let Some(words) = rest_words(&list, "differences") {
        notice(words);
    }
    Ok(())
}

fn item_lines(item: &DiffItem, style: &Style) -> String {
    let mut text = format!(
        "{} {}\n",
        sign(item.kind),
        Tone::Strong.paint(&escaped(&item.path), style)
    );
    for (label, value) in [("a", &item.before), ("b", &item.after)] {
        let Some(value) = value else { continue };
        if value.exists == Some(false) && value.certain {
            continue;
        }
        text.push_str(&format!("  {label} {}\n", state_words(value, style)));
        text.push_str(&doubt_lines(&value.doubts, style));
    }
    text
}

fn state_words(value: &AsOfValue, style: &Style) -> String {
    match value.exists {
        Some(false) => "did not exist".to_owned(),
        None => "not known whether it existed".to_owned(),
        Some(true) => {
            let words = version_words(value);
            let space = style.room(words.chars().count() + 8);
            match &value.data {
                Some(data) => format!("{words}  {}", data_words(data, style.values, space)),
                None => words,
            }
        }
    }
}

fn sign(kind: DiffKind) -> &'static str {
    match kind {
        DiffKind::Created => "+",
        DiffKind::Deleted => "-",
        DiffKind::Changed => "~",
        DiffKind::Recreated => "±",
        DiffKind::Rewritten => "=",
        DiffKind::Uncertain => "?",
    }
}

/// The number of each kind that may be printed; of a rare one only where there are some.
fn sums(items: &[DiffItem], kinds: &[DiffKind]) -> String {
    let mut sums = Vec::new();
    for kind in DiffKind::ALL {
        let count = items.iter().filter(|item| item.kind == *kind).count();
        let is_named = match kind {
            DiffKind::Created | DiffKind::Deleted | DiffKind::Changed => {
                kinds.is_empty() || kinds.contains(kind)
            }
            DiffKind::Recreated | DiffKind::Rewritten | DiffKind::Uncertain => count > 0,
        };
        if is_named {
            sums.push(format!("{}{count}", sign(*kind)));
        }
    }
    sums.join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    use bridge_core::path::ZnodePath;

    use super::*;

    #[test]
    fn each_kind_of_difference_has_a_sign_and_a_count_of_its_own() {
        let of = |kinds: &[DiffKind]| {
            let items = kinds.iter().map(|kind| DiffItem {
                path: ZnodePath::slash(),
                kind: *kind,
                before: None,
                after: None,
            });
            items.collect::<Vec<_>>()
        };
        assert_eq!(sums(&[], &[]), "+0 -0 ~0\n");
        assert_eq!(sums(&of(DiffKind::ALL), &[]), "+1 -1 ~1 ±1 =1 ?1\n");
        let rewritten = of(&[DiffKind::Rewritten, DiffKind::Rewritten]);
        assert_eq!(sums(&rewritten, &[]), "+0 -0 ~0 =2\n");
        assert_eq!(sums(&[], &[DiffKind::Created, DiffKind::Rewritten]), "+0\n");
    }
}
