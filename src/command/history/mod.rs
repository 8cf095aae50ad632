//! `zkbridge history`: prints every journalled version of one znode, or its value at a moment.

pub(super) mod text;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use bridge_console::text::escaped;
use bridge_console::{Color, Style, ValueForm, data_words};
use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Record};
use bridge_query::answer::{ChangesOrder, ChangesQuestion};
use bridge_query::{JournalQuery, PAGE_MAX, PastPlace, PathPattern, Selection, Version};
use clap::Args;

use super::lines::LineFlags;
use super::question::{never_seen, watched};
use super::{argument, json_line, print, print_json, print_on};
use crate::bridge::wall_clock;
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::terminal::{count, notice};

const EXAMPLES: &str = "\
Examples:
  zkbridge history /services/payments
  zkbridge history /services/payments -n 3
  zkbridge history /services/payments --from yesterday --to today
  zkbridge history /config/limits --at 2026-11-22T13:40:00Z
  zkbridge history /config/limits --at 0x300001a2f > limits.then
  zkbridge history /config/limits --json | jq -r .op

Prints the newest record first. Values are cut to the width of the terminal,
unless --wide is given; into a pipe they are whole. --at prints the value that
the znode had, byte for byte unless the output is a terminal, and writes to
standard error what is not certain: values that could not be read, values of
records that a full journal merged, gaps, records that retention removed.
Reads only the journal, with or without a running bridge, and the history from
before it that 'zkbridge backfill' has made; records of that have numbers of
their own.

Exit codes: 0 printed, 1 no record of this znode, or with --at: not certain,
2 the command line or the configuration is wrong, 3 there is no journal";

/// Options of `history`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct HistoryArgs {
    /// Path of the znode
    #[arg(value_name = "PATH", value_parser = argument::znode)]
    path: ZnodePath,
    #[command(flatten)]
    config: ConfigFlag,
    /// Read only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print only the value at this moment: a zxid (0x300001a2f), a time
    /// (2026-11-22T13:40:00Z), a date, an age (15m), or a record's number
    #[arg(long, value_name = "ZXID|TIME", value_parser = argument::position)]
    at: Option<Position>,
    /// Print only versions at or after this moment
    #[arg(long, value_name = "SEQ|ZXID|TIME", value_parser = argument::position, conflicts_with = "at")]
    from: Option<Position>,
    /// Print only versions at or before this moment; a date is the whole day
    #[arg(long, value_name = "SEQ|ZXID|TIME", value_parser = argument::range_end, conflicts_with = "at")]
    to: Option<Position>,
    /// Print only the newest N records
    #[arg(short = 'n', long = "lines", value_name = "N", conflicts_with = "at")]
    count: Option<usize>,
    #[command(flatten)]
    lines: LineFlags,
    /// Print whole records as JSON lines; with --at one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let mut is_known = false;
    for (source, journal) in journals.of_source(args.source.as_deref())? {
        if let Some(at) = args.at {
            is_known |= print_value(args, &watched(&journals, source, journal)?, at)?;
            continue;
        }
        is_known |= print_versions(args, &journal)?;
        for doubt in journal.unreadable_of_versions(&args.path, (args.from, args.to))? {
            notice(doubt);
        }
        if args.count.is_none() && !args.json {
            is_known |= say_below(args, &journal)?;
        }
    }
    if is_known {
        return Ok(());
    }
    Err(never_seen(&args.path))
}

/// Prints the versions in a journal, and those of the time before it; `false` if nothing is known of the path.
fn print_versions(args: &HistoryArgs, journal: &JournalQuery) -> Result<bool, Failure> {
    let style = args.lines.style(Color::Auto);
    let mut left = args.count.unwrap_or(usize::MAX);
    let range = (args.from, args.to);
    let mut next: Option<Seq> = None;
    let mut oldest: Option<Arc<Record>> = None;
    let (mut is_known, mut is_empty) = (false, true);
    while let Some(page) = journal.history_between(&args.path, range, next, left.min(PAGE_MAX))? {
        if !is_known && !args.json {
            print(&text::heading(&args.path, journal.source()))?;
        }
        is_known = true;
        is_empty &= page.versions.is_empty();
        left -= page.versions.len().min(left);
        let with_zxid = page
            .versions
            .iter()
            .rev()
            .find(|version| version.record.zxid.is_some());
        oldest = with_zxid.map(|version| Arc::clone(&version.record)).or(oldest);
        let mut text = versions_text(args, &page.versions, &style);
        if left > 0 && !args.json {
            text.push_str(&text::end(&page, &style));
        }
        if !print_on(&text)? || left == 0 {
            return Ok(true);
        }
        match page.next {
            Some(seq) => next = Some(seq),
            None => break,
        }
    }
    let has_past = print_past(args, journal, oldest.as_deref(), is_known, left)?;
    if is_known && is_empty && !has_past {
        say_empty(args, journal)?;
    }
    Ok(is_known || has_past)
}

/// Says why a range has no version.
fn say_empty(args: &HistoryArgs, journal: &JournalQuery) -> Result<(), Failure> {
    let Some(begin) = args.from.or(args.to) else {
        return Ok(());
    };
    match journal.known_since(begin)? {
        Some(doubt) => notice(format_args!("no version is known: {doubt}")),
        None => notice("no version in this range"),
    }
    Ok(())
}

/// Says how many of the newest records are those of znodes below; `false` if none is.
fn say_below(args: &HistoryArgs, journal: &JournalQuery) -> Result<bool, Failure> {
    let selection = Selection {
        paths: vec![PathPattern::Subtree(args.path.clone())],
        ..Selection::default()
    };
    let (mut next, mut below) = (None::<String>, 0);
    // The newest page may have records of the znode itself only.
    loop {
        let question = ChangesQuestion {
            from: args.from,
            to: args.to,
            selection: &selection,
            filter: "",
            order: ChangesOrder::Newest,
            cursor: next.as_deref(),
            limit: PAGE_MAX,
        };
        let page = journal.records_between(&question, wall_clock()())?;
        let is_below = |record: &&Arc<Record>| record.path.as_ref() != Some(&args.path);
        below += page.items.iter().filter(is_below).count() as u64;
        next = page.next;
        if below > 0 || next.is_none() {
            break;
        }
    }
    if below == 0 {
        return Ok(false);
    }
    let (at_least, verb) = match (&next, below) {
        (Some(_), _) => ("at least ", "are"),
        (None, 1) => ("", "is"),
        (None, _) => ("", "are"),
    };
    let words = count(below, "record");
    notice(format_args!(
        "{at_least}{words} of znodes below {verb} printed by 'zkbridge changes {}'",
        escaped(&args.path)
    ));
    Ok(true)
}

/// Prints the versions of the time before a journal, of which `oldest` is the oldest record; `false` if there are none.
fn print_past(
    args: &HistoryArgs,
    journal: &JournalQuery,
    oldest: Option<&Record>,
    has_heading: bool,
    mut left: usize,
) -> Result<bool, Failure> {
    let style = args.lines.style(Color::Auto);
    let mut place = PastPlace::before(oldest);
    let mut is_first = true;
    while let Some(page) =
        journal.past_versions(&args.path, (args.from, args.to), place, left.min(PAGE_MAX))?
    {
        left -= page.versions.len().min(left);
        let mut text = String::new();
        if is_first && !args.json {
            if !has_heading {
                text.push_str(&text::heading(&args.path, journal.source()));
            }
            text.push_str(&text::past(page.doubt.as_ref(), &style));
        }
        is_first = false;
        text.push_str(&versions_text(args, &page.versions, &style));
        if !print_on(&text)? {
            return Ok(true);
        }
        match page.next {
            Some(next) if left > 0 => place = next,
            _ => break,
        }
    }
    Ok(!is_first)
}

fn versions_text(args: &HistoryArgs, versions: &[Version], style: &Style) -> String {
    let mut text = String::new();
    for version in versions {
        match args.json {
            true => text.push_str(&json_line(&version.record)),
            false => text.push_str(&text::version(&version.record, version.compacted, style)),
        }
    }
    text
}

/// Prints the value at a moment; `false` if the journal knows nothing of the path.
fn print_value(args: &HistoryArgs, journal: &JournalQuery, at: Position) -> Result<bool, Failure> {
    let Some(node) = journal.node(&args.path, Some(at), wall_clock()())? else {
        return Ok(false);
    };
    let value = &node.then;
    if args.json {
        print_json(&node)?;
    } else {
        if let Some(data) = &value.data {
            match args.lines.hex {
                true => print(&(data_words(data, ValueForm::Hex, usize::MAX) + "\n"))?,
                false => write_data(data)?,
            }
        }
        crate::terminal::unended_notice(text::doubts(value));
    }
    match value.certain {
        true => Ok(true),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}

/// Writes the data as it is, or escaped to a terminal.
pub(super) fn write_data(data: &Data) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = match (out.is_terminal(), std::str::from_utf8(&data.bytes)) {
        (true, Ok(text)) => writeln!(out, "{}", escaped(text)),
        (true, Err(_)) => writeln!(
            out,
            "({} bytes that are no text; redirect the output to a file)",
            data.bytes.len()
        ),
        (false, _) => out.write_all(&data.bytes),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Runtime,
            format!("standard output cannot be written: {error}"),
        )),
        _ => Ok(()),
    }
}
