//! `zkbridge gaps`: prints the gaps of a range.

use bridge_console::text::escaped;
use bridge_console::{Color, Style};
use bridge_core::journal::Position;
use bridge_query::answer::RangeQuestion;
use bridge_query::{GapSpan, UnreadableItem};
use clap::Args;

use super::question::{COUNT, QuestionFlags, doubt_lines, pages, rest_words};
use super::{argument, print, print_json};
use crate::bridge::wall_clock;
use crate::exit::Failure;
use crate::terminal::{count, notice, span, to_the_second};

const EXAMPLES: &str = "\
Examples:
  zkbridge gaps
  zkbridge gaps --from yesterday --json

In a gap changes of a root may have been missed. It begins with the last moment
at which the bridge is known to have captured every change. At its end the
bridge has compared the tree with the journal, and the differences are records.
Znodes that the bridge could not read follow: changes of such a znode and of all
below it are missed. It may have begun at any moment after the first time shown.
Reads only the journal.

Exit codes: 0 printed, 2 the command line or the configuration is wrong,
3 there is no journal";

/// Options of `gaps`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct GapsArgs {
    /// Begin at this position [default: the oldest record]
    #[arg(long, alias = "since", value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    from: Option<Position>,
    /// End with this position, a date as a whole day [default: the end of the
    /// journal]
    #[arg(long, alias = "until", value_name = "SEQ|ZXID|TIME", value_parser = argument::range_end)]
    to: Option<Position>,
    /// Print at most N gaps
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = COUNT, value_parser = argument::count)]
    count: usize,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// Runs the command.
pub fn run(args: &GapsArgs) -> Result<(), Failure> {
    let journal = args.flags.journal()?;
    let now = wall_clock()();
    let list = pages(args.count, |cursor, limit| {
        let question = RangeQuestion {
            from: args.from,
            to: args.to,
            cursor,
            limit,
        };
        Ok(journal.gaps_between(&question, now)?)
    })?;
    if args.flags.json {
        return print_json(&list);
    }
    let style = Style::for_stdout(Color::Auto);
    let mut text = doubt_lines(&list.doubts, &style);
    for gap in &list.items {
        text.push_str(&gap_lines(gap));
    }
    for znode in &list.unreadable {
        text.push_str(&unreadable_lines(znode));
    }
    print(&text)?;
    if list.items.is_empty() {
        notice(match list.doubts.is_empty() {
            true => {
                "there is no gap; one that is open now is recorded when it ends, and 'zkbridge status' shows it"
            }
            false => {
                "there is no gap in the time that the journal knows; one that is open now is recorded when it ends, and \
                 'zkbridge status' shows it"
            }
        });
    }
    if let Some(words) = rest_words(&list, "gaps") {
        notice(words);
    }
    Ok(())
}

fn unreadable_lines(znode: &UnreadableItem) -> String {
    let since = match znode.since {
        None => "never read".to_owned(),
        Some(since) => match since.at {
            Some(at) => to_the_second(at),
            None => format!("seq {}", since.seq),
        },
    };
    let until = match znode.until {
        None => "still not readable".to_owned(),
        Some(until) => until
            .at
            .map_or_else(|| format!("seq {}", until.seq), to_the_second),
    };
    format!(
        "○ {since} – {until}\n    {}: unreadable{}, found {}\n",
        escaped(&znode.path),
        if znode.unnamed {
            ", too many to be named"
        } else {
            ""
        },
        to_the_second(znode.found.at)
    )
}

fn gap_lines(gap: &GapSpan) -> String {
    // The record of the begin is written when the bridge is back.
    let began = gap.since.or(gap.begin.map(|begin| begin.at));
    let begin = began.map_or_else(|| "before the range".to_owned(), to_the_second);
    let end = gap
        .end
        .map_or_else(|| "still open".to_owned(), |end| to_the_second(end.at));
    let length = match (began, gap.end) {
        (Some(began), Some(end)) => format!("  {}", span(end.at.0.saturating_sub(began.0).max(0))),
        _ => String::new(),
    };
    let differences = gap.differences.map_or_else(String::new, |found| {
        format!(", {} found", count(found, "difference"))
    });
    let to = gap.to_zxid.map_or_else(String::new, |to| format!(" up to {to}"));
    format!(
        "▨ {begin} – {end}{length}\n    {}: {}{differences}\n    after {}{to}\n",
        escaped(&gap.root),
        gap.reason.as_str(),
        gap.from_zxid
    )
}
