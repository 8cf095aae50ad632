//! `zkbridge tail`: prints the last records of the journals, and those that follow.

use std::sync::Arc;
use std::time::Duration;

use bridge_config::SinkConfig;
use bridge_console::{Color, Style, format_line};
use bridge_core::delivery::CompiledFilter;
use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::outbound::TemplateForm;
use bridge_core::record::{Op, Record};
use bridge_query::{Follower, JournalQuery, PAGE_MAX, PathPattern, Range, Selection};
use clap::{Args, ValueEnum};

use super::argument::word_of;
use super::lines::LineFlags;
use super::question::say_known_since;
use super::serving::{self, Signals};
use super::sink::configured;
use super::template::{OwnTemplate, shown};
use super::{argument, json_line, print_on};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::terminal::notice;

const EXAMPLES: &str = "\
Examples:
  zkbridge tail                                    the last 10 records
  zkbridge tail -f --path /services                and those that follow
  zkbridge tail --op delete --from 1h              all deletes of an hour
  zkbridge tail --from 0x300001a2f -n 5            the first 5 from there on
  zkbridge tail --sink changes --json | jq .path   the records of a sink
  zkbridge tail -f --format '{{ op }} {{ path }}'  lines of your own

Reads only the journals, with or without a running bridge. A path selects the
znode and everything below it; in a glob * is within one name, ** across names.
Without --path, control records (gaps, snapshots) are printed too.
A line has the width of the terminal; with --wide, and into a pipe, it has the
date, the zxid, the writer and the whole value.
--color always keeps colours in a pipe. --format takes a template as sinks do,
over the same variables: a record with an empty result has no line.

Exit codes: 0 printed, 1 a record has no result for --format, 2 the command
line or the configuration is wrong, 3 there is no journal, 130 -f was ended by
Ctrl-C";

/// Records printed without `-n` and `--from`.
const COUNT: usize = 10;

/// Poll interval of `-f`. A poll that finds nothing is one search in an index.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Options of `tail`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TailArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Print new records as they come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Print only records of this path and below, or of a glob; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Print only records with this operation; repeatable
    #[arg(long, value_name = "OP", value_parser = word_of(Op::ALL, Op::as_str))]
    op: Vec<Op>,
    /// Print only the records of this sink, by its sources and filters
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Read only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Begin at this position: a record's number, a zxid (0x300001a2f), a
    /// time (2026-11-22T13:40:00Z, 12:30 local), a date, or an age (15m)
    #[arg(long, alias = "since", value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    from: Option<Position>,
    /// Print N records: the last, or with --from the first [default: 10, or
    /// all with --from]
    #[arg(short = 'n', long = "lines", value_name = "N")]
    count: Option<usize>,
    #[command(flatten)]
    lines: LineFlags,
    /// Print whole records as JSON lines
    #[arg(long)]
    json: bool,
    /// Print each record by this template
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["json", "hex", "wide"])]
    format: Option<String>,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorWord,
}

/// When to colour.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ColorWord {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also in a pipe
    Always,
    /// Never
    Never,
}

impl From<ColorWord> for Color {
    fn from(word: ColorWord) -> Color {
        match word {
            ColorWord::Auto => Color::Auto,
            ColorWord::Always => Color::Always,
            ColorWord::Never => Color::Never,
        }
    }
}

/// Runs the command.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let own = args.format.as_deref().map(own_format).transpose()?;
    let journals = args.config.journals()?;
    let sink = match &args.sink {
        None => None,
        Some(name) => Some(configured(journals.config(), name)?),
    };
    let selection = selection(args, sink)?;
    let mut opened = journals.of_source(args.source.as_deref())?;
    opened.retain(|(source, _)| sink.is_none_or(|sink| sink.sources.contains(&source.name)));
    let mut tails: Vec<Tail> = opened
        .into_iter()
        .map(|(_, journal)| Tail::new(journal))
        .collect();
    if tails.is_empty() {
        let message = "the sources of this sink have no journal yet\nhelp: run the bridge first";
        return Err(Failure::new(Exit::Environment, message));
    }
    let mut printer = Printer {
        style: args.lines.style(args.color.into()),
        json: args.json,
        own,
        names_sources: tails.len() > 1,
        printed: 0,
    };
    let goes_on = match args.from {
        Some(from) => print_from(&mut tails, from, args.count, &selection, &mut printer)?,
        None => print_last(&mut tails, args.count.unwrap_or(COUNT), &selection, &mut printer)?,
    };
    if printer.printed == 0 {
        notice("no record matches");
    }
    match args.follow && goes_on {
        true => serving::block_on(follow(&mut tails, &selection, &mut printer)),
        false => Ok(()),
    }
}

fn selection(args: &TailArgs, sink: Option<&SinkConfig>) -> Result<Selection, Failure> {
    let filter = sink.map(|sink| CompiledFilter::new(&sink.filter));
    Ok(Selection {
        ops: args.op.clone(),
        sink: filter.transpose().map_err(argument::bad_filter)?,
        ..argument::of_paths(&args.path)
    })
}

/// A journal, and the last record that was read of it.
struct Tail {
    journal: JournalQuery,
    follower: Follower,
}

struct Printer {
    style: Style,
    json: bool,
    own: Option<OwnTemplate>,
    names_sources: bool,
    printed: u64,
}

/// The template of `--format`.
fn own_format(source: &str) -> Result<OwnTemplate, Failure> {
    let own = OwnTemplate::parse(source, TemplateForm::Text);
    match own.objection() {
        None => Ok(own),
        Some(reason) => Err(Failure::new(
            Exit::Configuration,
            format!(
                "--format is no template: {reason}\nhelp: docs/messages.md has the variables and filters"
            ),
        )),
    }
}

/// The lines of a record; none if the result is empty.
fn own_lines(own: &OwnTemplate, record: &Record) -> Result<String, Failure> {
    let rendered = own
        .of(record)
        .and_then(|template| template.render(record).map_err(|failure| failure.reason));
    match rendered {
        Ok(text) => Ok(shown(&text, TemplateForm::Text)),
        Err(reason) => Err(Failure::new(
            Exit::Runtime,
            format!(
                "record {} has no result: {reason}\nhelp: correct --format, or leave such records out with --op or \
                 --path",
                record.seq.0
            ),
        )),
    }
}

impl Printer {
    /// Prints records; `false` once the reader of the output is gone.
    fn print<'a>(&mut self, records: impl IntoIterator<Item = &'a Arc<Record>>) -> Result<bool, Failure> {
        let mut text = String::new();
        for record in records {
            self.printed += 1;
            if let Some(own) = &self.own {
                text.push_str(&own_lines(own, record)?);
                continue;
            }
            if self.json {
                text.push_str(&json_line(record));
                continue;
            }
            if self.names_sources {
                text.push_str(&format!("{} ", record.cluster));
            }
            text.push_str(&format_line(record, &self.style));
            text.push('\n');
        }
        print_on(&text)
    }
}

/// Prints the last selected records of all journals, in the order of their capture.
fn print_last(
    tails: &mut [Tail],
    count: usize,
    selection: &Selection,
    printer: &mut Printer,
) -> Result<bool, Failure> {
    let mut found = Vec::new();
    for tail in tails {
        found.extend(tail.last(count, selection)?);
    }
    found.sort_by_key(|record| record.time.captured);
    let from = found.len().saturating_sub(count);
    printer.print(&found[from..])
}

/// Prints the selected records from a position on, journal by journal; `false` once enough are printed.
fn print_from(
    tails: &mut [Tail],
    from: Position,
    count: Option<usize>,
    selection: &Selection,
    printer: &mut Printer,
) -> Result<bool, Failure> {
    let mut left = count.unwrap_or(usize::MAX);
    for tail in tails.iter_mut() {
        say_known_since(&tail.journal, from)?;
        let cut = tail.journal.cut(from)?;
        tail.follower = Follower::new(cut.first.map_or(cut.tail, |first| Seq(first.0 - 1)));
        while left > 0 {
            let Some(page) = tail.follower.next(&tail.journal, selection)? else {
                break;
            };
            let records = &page.records[..page.records.len().min(left)];
            left -= records.len();
            if !printer.print(records)? {
                return Ok(false);
            }
        }
    }
    Ok(left > 0)
}

async fn follow(tails: &mut [Tail], selection: &Selection, printer: &mut Printer) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut ticks = tokio::time::interval(POLL_EVERY);
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => return Err(Failure::new(Exit::Signal(signal), "")),
            _ = ticks.tick() => {}
        }
        for tail in tails.iter_mut() {
            while let Some(page) = tail.follower.next(&tail.journal, selection)? {
                if !printer.print(&page.records)? {
                    return Ok(());
                }
            }
        }
    }
}

impl Tail {
    fn new(journal: JournalQuery) -> Tail {
        Tail {
            journal,
            follower: Follower::new(Seq::ZERO),
        }
    }

    /// The last selected records, at most `count`, in their order. The follower then continues after the tail.
    fn last(&mut self, count: usize, selection: &Selection) -> Result<Vec<Arc<Record>>, Failure> {
        let until = self.journal.tail()?;
        self.follower = Follower::new(until);
        let mut left = Some(Range {
            after: Seq::ZERO,
            until,
        });
        let mut found: Vec<Arc<Record>> = Vec::new();
        while let Some(range) = left.filter(|_| found.len() < count) {
            let limit = (count - found.len()).min(PAGE_MAX);
            let mut page = self.journal.newest(range, selection, limit)?;
            page.records.append(&mut found);
            found = page.records;
            left = page.next;
        }
        Ok(found)
    }
}
