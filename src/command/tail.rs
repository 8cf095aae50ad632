//! `zkbridge tail`: the last records of the journals, and those that follow.

use std::sync::Arc;
use std::time::Duration;

use bridge_config::{Config, SinkConfig, SourceConfig};
use bridge_console::{Color, Style, format_line};
use bridge_core::delivery::{CompiledFilter, Filter, OpClass};
use bridge_core::journal::{JournalError, Position, ReadLimit, Reader};
use bridge_core::number::Seq;
use bridge_core::record::{Op, Record};
use clap::{Args, ValueEnum};

use super::serving::{self, Signals};
use super::sink::journals;
use crate::cli::ConfigFlag;
use crate::command::print_on;
use crate::exit::{Exit, Failure};
use crate::operator::unusable;
use crate::position::Typed;

const EXAMPLES: &str = "\
Examples:
  zkbridge tail                                    the last 10 records
  zkbridge tail -f --path '/services/**'           and those that follow
  zkbridge tail --op delete --from 1h              all deletes of an hour
  zkbridge tail --from 0x300001a2f -n 5            the first 5 from there on
  zkbridge tail --sink changes --json | jq .path   what a sink gets

Reads the journals alone, beside a running bridge and without one. In globs *
is within one name, ** across names; without --path control records (gaps,
snapshots) are shown, too. A colour may be had in a pipe by --color always.

Exit codes: 0 printed, 2 the command line or the configuration is wrong,
3 there is no journal, 130 -f was ended by Ctrl-C";

/// Records printed where nothing says how many.
const COUNT: usize = 10;

/// How often `-f` looks for more. A look that finds nothing is one search in an index.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Read at once.
const LIMIT: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 8 << 20,
};

/// Which records.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TailArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only of these paths; may be given several times
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Only these operations; may be given several times
    #[arg(long, value_name = "OP")]
    op: Vec<OpWord>,
    /// Only what this sink gets, by its sources and filters
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// From here on: a record's number, a zxid (0x300001a2f), a time in UTC
    /// (2026-11-22T13:40:00Z), or how long ago (15m)
    #[arg(long, value_name = "SEQ|ZXID|TIME")]
    from: Option<Typed>,
    /// So many of them; 10 without --from, else all
    #[arg(short = 'n', long = "lines", value_name = "N")]
    count: Option<usize>,
    /// Print whole records as JSON lines
    #[arg(long)]
    json: bool,
    /// Whether to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorWord,
}

/// An operation as the record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpWord(Op);

impl ValueEnum for OpWord {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [OpWord; 10] = [
            OpWord(Op::Create),
            OpWord(Op::Update),
            OpWord(Op::Delete),
            OpWord(Op::Acl),
            OpWord(Op::Snapshot),
            OpWord(Op::SnapshotBegin),
            OpWord(Op::SnapshotEnd),
            OpWord(Op::GapBegin),
            OpWord(Op::GapEnd),
            OpWord(Op::Heartbeat),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.as_str()))
    }
}

/// When there are colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ColorWord {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// In a pipe, too
    Always,
    /// Not even on a terminal
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

/// Prints them.
pub fn run(args: &TailArgs) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let choice = Choice::new(args, journals.config())?;
    let mut tails = Vec::new();
    for (source, reader) in journals.readers()? {
        if choice.wants(source) {
            tails.push(Tail {
                reader,
                after: Seq::ZERO,
            });
        }
    }
    if tails.is_empty() {
        let message =
            "no source that is meant has a journal: look at --source and --sink, or run the bridge first";
        return Err(Failure::new(Exit::Environment, message));
    }
    let printer = Printer {
        style: Style::for_stdout(args.color.into()),
        json: args.json,
        names_sources: tails.len() > 1,
    };
    let goes_on = match args.from {
        Some(from) => forward(&mut tails, from.0, args, &choice, &printer)?,
        None => last(&mut tails, args.count.unwrap_or(COUNT), &choice, &printer)?,
    };
    match args.follow && goes_on {
        true => serving::block_on(follow(&mut tails, &choice, &printer)),
        false => Ok(()),
    }
}

/// A journal, and how far it was printed.
struct Tail {
    reader: Reader,
    after: Seq,
}

/// Which records are meant.
struct Choice {
    filter: CompiledFilter,
    ops: Vec<Op>,
    has_paths: bool,
    sink: Option<(SinkConfig, CompiledFilter)>,
    source: Option<String>,
}

impl Choice {
    fn new(args: &TailArgs, config: &Config) -> Result<Choice, Failure> {
        let usage = |message: String| Failure::new(Exit::Configuration, message);
        let filter = Filter {
            paths: args.path.clone(),
            ops: OpClass::ALL.to_vec(),
            ..Filter::default()
        };
        let filter = CompiledFilter::new(&filter).map_err(|error| usage(error.to_string()))?;
        let sink = match &args.sink {
            None => None,
            Some(name) => Some(super::sink::configured(config, name)?),
        };
        if let Some(name) = &args.source
            && !config.sources.iter().any(|source| *source.name == **name)
        {
            let known: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
            return Err(usage(format!(
                "no source has the name '{name}'; there is {}",
                known.join(", ")
            )));
        }
        let sink = sink.map(|sink| {
            let filter = CompiledFilter::new(&sink.filter).map_err(|error| usage(error.to_string()))?;
            Ok::<_, Failure>((sink.clone(), filter))
        });
        Ok(Choice {
            filter,
            ops: args.op.iter().map(|op| op.0).collect(),
            has_paths: !args.path.is_empty(),
            sink: sink.transpose()?,
            source: args.source.clone(),
        })
    }

    fn wants(&self, source: &SourceConfig) -> bool {
        let by_name = self
            .source
            .as_deref()
            .is_none_or(|wanted| *wanted == *source.name);
        let by_sink = self
            .sink
            .as_ref()
            .is_none_or(|(sink, _)| sink.sources.contains(&source.name));
        by_name && by_sink
    }

    fn passes(&self, record: &Record) -> bool {
        (self.ops.is_empty() || self.ops.contains(&record.op))
            && (record.path.is_some() || !self.has_paths)
            && self.filter.passes(record)
            && self.sink.as_ref().is_none_or(|(_, filter)| filter.passes(record))
    }
}

struct Printer {
    style: Style,
    json: bool,
    names_sources: bool,
}

impl Printer {
    /// `false` if nobody reads on.
    fn print<'a>(&self, records: impl IntoIterator<Item = &'a Arc<Record>>) -> Result<bool, Failure> {
        let mut text = String::new();
        for record in records {
            match (self.json, self.names_sources) {
                (true, _) => text.push_str(&String::from_utf8_lossy(&record.to_json())),
                (false, false) => text.push_str(&format_line(record, &self.style)),
                (false, true) => {
                    let line = format_line(record, &self.style);
                    text.push_str(&format!("{} {line}", record.cluster));
                }
            }
            text.push('\n');
        }
        print_on(&text)
    }
}

/// The last records that pass, in the order of their capture.
fn last(tails: &mut [Tail], count: usize, choice: &Choice, printer: &Printer) -> Result<bool, Failure> {
    let mut found = Vec::new();
    for tail in tails {
        found.extend(tail.last(count, choice).map_err(unusable)?);
    }
    found.sort_by_key(|record| record.time.captured);
    let from = found.len().saturating_sub(count);
    printer.print(&found[from..])
}

/// From a position on, journal by journal.
fn forward(
    tails: &mut [Tail],
    from: Position,
    args: &TailArgs,
    choice: &Choice,
    printer: &Printer,
) -> Result<bool, Failure> {
    let mut left = args.count.unwrap_or(usize::MAX);
    for tail in tails.iter_mut() {
        let end = tail.reader.tail().map_err(unusable)?;
        let first = tail.reader.first_at(from).map_err(unusable)?;
        tail.after = first.map_or(end, |seq| Seq(seq.0 - 1));
        while left > 0 {
            let mut records = tail.next(choice).map_err(unusable)?;
            let Some(found) = records.as_mut() else { break };
            found.truncate(left);
            left -= found.len();
            if !printer.print(found.iter())? {
                return Ok(false);
            }
        }
    }
    Ok(left > 0)
}

async fn follow(tails: &mut [Tail], choice: &Choice, printer: &Printer) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut beat = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => return Err(Failure::new(Exit::Signal(signal), "")),
            _ = beat.tick() => {}
        }
        for tail in tails.iter_mut() {
            while let Some(records) = tail.next(choice).map_err(unusable)? {
                if !printer.print(&records)? {
                    return Ok(());
                }
            }
        }
    }
}

impl Tail {
    /// The last records that pass, at most `count`, in their order; what follows comes with [`Tail::next`].
    fn last(&mut self, count: usize, choice: &Choice) -> Result<Vec<Arc<Record>>, JournalError> {
        self.after = self.reader.tail()?;
        let oldest = self.reader.oldest()?.unwrap_or(Seq(1));
        let mut found: Vec<Arc<Record>> = Vec::new();
        let mut end = self.after;
        while end >= oldest && found.len() < count {
            let begin = Seq(end.0.saturating_sub(LIMIT.records as u64).max(oldest.0 - 1));
            let mut stretch = self.stretch(begin, end)?;
            stretch.retain(|record| choice.passes(record));
            stretch.extend(found);
            found = stretch;
            end = begin;
        }
        let from = found.len().saturating_sub(count);
        Ok(found.split_off(from))
    }

    /// The records behind `begin` up to `end`.
    fn stretch(&mut self, begin: Seq, end: Seq) -> Result<Vec<Arc<Record>>, JournalError> {
        let mut found: Vec<Arc<Record>> = Vec::new();
        let mut after = begin;
        while after < end {
            let read = self.reader.read(after, LIMIT)?;
            let Some(last) = read.last() else { break };
            after = last.seq;
            found.extend(read.into_iter().filter(|record| record.seq <= end));
        }
        Ok(found)
    }

    /// The next records that pass, perhaps none; `None` at the end of the journal.
    fn next(&mut self, choice: &Choice) -> Result<Option<Vec<Arc<Record>>>, JournalError> {
        let mut records = self.reader.read(self.after, LIMIT)?;
        let Some(last) = records.last() else {
            return Ok(None);
        };
        self.after = last.seq;
        records.retain(|record| choice.passes(record));
        Ok(Some(records))
    }
}
