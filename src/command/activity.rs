//! `zkbridge activity`: prints how many records of each kind a range has, by interval.

use std::collections::BTreeMap;

use bridge_console::{Color, Style};
use bridge_core::journal::Position;
use bridge_query::answer::{ActivityBucket, ActivityQuestion, AnswerList, RangeQuestion};
use bridge_query::{PAGE_MAX, PathPattern, Selection};
use clap::Args;

use super::question::{QuestionFlags, doubt_lines, pages};
use super::{argument, print, print_json};
use crate::bridge::wall_clock;
use crate::exit::Failure;
use crate::terminal::{count, notice, to_the_second};

const EXAMPLES: &str = "\
Examples:
  zkbridge activity --from yesterday --to today --buckets 24
  zkbridge activity /services --json

Counts a transaction at its time, and any other record at that of its capture.
Reads every record of the range, and only the journal.

Exit codes: 0 printed, 2 the command line or the configuration is wrong,
3 there is no journal";

/// The longest bar.
const BAR: u64 = 30;

/// Options of `activity`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ActivityArgs {
    /// Count only records of this path and below, or of a glob [default: all]
    #[arg(value_name = "PATH|GLOB")]
    under: Option<PathPattern>,
    /// The same as PATH|GLOB; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Begin at this position [default: the oldest record]
    #[arg(long, alias = "since", value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    from: Option<Position>,
    /// End with this position, a date as a whole day [default: the end of the
    /// journal]
    #[arg(long, alias = "until", value_name = "SEQ|ZXID|TIME", value_parser = argument::range_end)]
    to: Option<Position>,
    /// Divide the range into about N intervals, 500 at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    buckets: u32,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// Runs the command.
pub fn run(args: &ActivityArgs) -> Result<(), Failure> {
    let journal = args.flags.journal()?;
    let selection = Selection {
        paths: args.under.iter().chain(&args.path).cloned().collect(),
        ..Selection::default()
    };
    let now = wall_clock()();
    let list = pages(usize::MAX, |cursor, _| {
        let question = ActivityQuestion {
            range: RangeQuestion {
                from: args.from,
                to: args.to,
                cursor,
                limit: PAGE_MAX,
            },
            selection: &selection,
            filter: "",
            buckets: args.buckets,
        };
        Ok(journal.activity_between(&question, now)?)
    })?;
    let list = AnswerList {
        items: summed(list.items),
        ..list
    };
    if args.flags.json {
        return print_json(&list);
    }
    let most = list.items.iter().map(ActivityBucket::total).max().unwrap_or(0);
    let lines = list.items.iter().map(|bucket| line(bucket, most));
    let doubts = doubt_lines(&list.doubts, &Style::for_stdout(Color::Auto));
    print(&(doubts + &lines.collect::<String>()))?;
    let total = list.items.iter().map(ActivityBucket::total).sum();
    notice(format_args!(
        "{}, {}",
        count(total, "record"),
        count(list.gaps.iter().filter(|gap| !gap.is_end).count() as u64, "gap")
    ));
    Ok(())
}

/// Each interval once: one that goes on in the next page has two counts.
fn summed(items: Vec<ActivityBucket>) -> Vec<ActivityBucket> {
    let mut by_time: BTreeMap<_, ActivityBucket> = BTreeMap::new();
    for bucket in items {
        by_time
            .entry(bucket.from)
            .and_modify(|known| known.add(&bucket))
            .or_insert(bucket);
    }
    by_time.into_values().collect()
}

fn line(bucket: &ActivityBucket, most: u64) -> String {
    let total = bucket.total();
    let length = (total * BAR).div_ceil(most.max(1));
    let bar = "█".repeat(usize::try_from(length).unwrap_or(0));
    let ops: Vec<String> = bucket
        .ops
        .iter()
        .map(|(op, count)| format!("{op} {count}"))
        .collect();
    let missed = match bucket.missed {
        0 => String::new(),
        missed => format!(", {missed} missed"),
    };
    format!(
        "{}  {total:>8}  {bar}  {}{missed}\n",
        to_the_second(bucket.from),
        ops.join(", ")
    )
}
