//! `zkbridge replay`: delivers journalled records to one sink again.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use bridge_console::text::escaped;
use bridge_core::delivery::{CompiledFilter, OperatorRequest, PARKED_MAX};
use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use bridge_query::status::SinkSummary;
use bridge_query::{JournalQuery, PathPattern, Range, Selection};
use clap::Args;
use serde_json::{Value, json};

use super::sink::configured;
use super::{argument, print, print_json, serving};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, ask_status};
use crate::terminal::count;

const EXAMPLES: &str = "\
Examples:
  zkbridge replay --sink changes --from 1h
  zkbridge replay --sink hook --from 0x300001a2f --path /services
  zkbridge replay --sink changes --from 1200 --to 1842

Delivers records that the sink has processed before, with the same ids and in
the order of each path. New records of a path wait for replayed ones. The
filters of the sink apply. For dead letters use 'zkbridge dlq retry'.
A range that ends before the last record of one of its paths is refused: a
destination that keeps the last record of each path would end with an old one.
With a running bridge it shows its progress; after Ctrl-C the records queued so
far (up to 500) are still delivered. Without one it queues up to 10,000 records
for the next start. To send the present state, use 'zkbridge snapshot'.

Exit codes: 0 delivered or queued, 1 no record matches, the range is refused, or
the sink has halted, 2 the command line or the configuration is wrong, 3 the journal cannot
be used, 130 ended by Ctrl-C";

/// Records of one order: the ones that are still delivered after Ctrl-C.
const AT_ONCE: usize = 500;

/// Paths with records after the range that are remembered: some 20 MB.
const LATER_PATHS_MAX: usize = 100_000;

/// Bytes of paths in one order, so that a request over the socket stays small.
const NAMES_BYTES: usize = 512 << 10;

/// Poll interval for the progress of a running bridge.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `replay`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Deliver to this sink
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Begin at this position: a record's number, a zxid, a time or an age
    #[arg(long, alias = "since", value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    from: Position,
    /// End at this position [default: the cursor of the sink]
    #[arg(long, alias = "until", value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    to: Option<Position>,
    /// Replay only records of this path and below, or of a glob, and no
    /// control records; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Replay the range although the destination then ends with old records of
    /// some paths
    #[arg(long)]
    force: bool,
    /// Replay only records of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    serving::block_on(replay(args))
}

async fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let sink = configured(journals.config(), &args.sink)?;
    let selection = Selection {
        sink: Some(CompiledFilter::new(&sink.filter).map_err(argument::bad_filter)?),
        ..argument::of_paths(&args.path)
    };
    let running = ask_status(&journals.config().data_dir).await?;
    let is_running = running.is_some();
    let mut replays = Vec::new();
    let opened = journals.of_source(args.source.as_deref())?;
    for (source, journal) in &opened {
        if !sink.sources.contains(&source.name) {
            continue;
        }
        // The cursor of a running bridge is newer than the one in its journal.
        let seen = running.iter().flat_map(|status| &status.sinks);
        let mut seen = seen.filter(|sink| sink.sink == args.sink && sink.source == *source.name);
        let cursor = match seen.next() {
            Some(sink) => Some(sink.cursor),
            None => journal.cursor(&args.sink)?,
        };
        let (Some(cursor), Some(range)) = (cursor, range(args, journal, cursor)?) else {
            continue;
        };
        if !args.force {
            refuse_stale_end(journal, &selection, range, cursor)?;
        }
        let replay = SourceReplay {
            journals: &journals,
            journal,
            selection: &selection,
            source: source.name.to_string(),
            sink: args.sink.clone(),
        };
        replays.push((replay, range));
    }
    let mut reports = Vec::new();
    for (replay, range) in replays {
        let records = match is_running {
            true => replay.deliver(range).await?,
            false => replay.queue(range).await?,
        };
        if records > 0 {
            reports.push(json!({"source": replay.source, "records": records}));
        }
    }
    print_result(args, &reports, is_running)
}

fn print_result(args: &ReplayArgs, reports: &[Value], is_running: bool) -> Result<(), Failure> {
    if args.json {
        let report = json!({"sink": args.sink, "delivered": is_running, "sources": reports});
        print_json(&report)?;
    }
    let total: u64 = reports
        .iter()
        .filter_map(|report| report["records"].as_u64())
        .sum();
    if total == 0 {
        let message = format!(
            "no record matches: sink '{}' has processed none of them, or the journal no longer has them\nhelp: list \
             its records with 'zkbridge tail --sink {} --from …'",
            args.sink, args.sink
        );
        return Err(Failure::new(Exit::Runtime, message));
    }
    let what = count(total, "record");
    match (args.json, is_running) {
        (true, _) => Ok(()),
        (false, true) => print(&format!("sink '{}': {what} delivered again\n", args.sink)),
        (false, false) => print(&format!(
            "sink '{}': {what} queued; they will be redelivered at the next start\n",
            args.sink
        )),
    }
}

/// The records that the sink has processed, of those that are asked for.
fn range(args: &ReplayArgs, journal: &JournalQuery, cursor: Option<Seq>) -> Result<Option<Range>, Failure> {
    let (Some(cursor), Some(first)) = (cursor, journal.cut(args.from)?.first) else {
        return Ok(None);
    };
    let until = match args.to {
        Some(to) => journal.cut(to)?.seq.min(cursor),
        None => cursor,
    };
    let range = Range {
        after: Seq(first.0 - 1),
        until,
    };
    Ok((!range.is_empty()).then_some(range))
}

/// Fails if the sink has processed a record after the range of a path that has one in the range. That one would be the
/// last that the destination gets.
fn refuse_stale_end(
    journal: &JournalQuery,
    selection: &Selection,
    range: Range,
    cursor: Seq,
) -> Result<(), Failure> {
    let after = Range {
        after: range.until,
        until: cursor,
    };
    let mut later = HashMap::new();
    each_record(journal, selection, after, |record| {
        if let Some(path) = &record.path {
            later.insert(path.clone(), record.seq);
        }
        later.len() <= LATER_PATHS_MAX
    })?;
    let mut stale: Option<(ZnodePath, Seq)> = None;
    each_record(journal, selection, range, |record| {
        let found = record.path.as_ref().and_then(|path| later.get_key_value(path));
        stale = found.map(|(path, seq)| (path.clone(), *seq));
        stale.is_none()
    })?;
    let reason = match stale {
        Some((path, seq)) => format!(
            "the range ends at record {}, and the last one of {path} is {seq}",
            range.until
        ),
        None if later.len() > LATER_PATHS_MAX => {
            format!("more than {LATER_PATHS_MAX} paths have records after the range")
        }
        None => return Ok(()),
    };
    let message = format!(
        "{reason}: a destination that keeps the last record of each path would end with an old one\nhelp: leave --to out, \
         or replay with --force where the order of arrival does not matter"
    );
    Err(Failure::new(Exit::Runtime, message))
}

/// Gives each selected record of a range to `take`, until that returns false.
fn each_record(
    journal: &JournalQuery,
    selection: &Selection,
    range: Range,
    mut take: impl FnMut(&Record) -> bool,
) -> Result<(), Failure> {
    let mut left = (!range.is_empty()).then_some(range);
    while let Some(range) = left {
        let page = journal.changes(range, selection, AT_ONCE)?;
        for record in &page.records {
            if !take(record) {
                return Ok(());
            }
        }
        left = page.next;
    }
    Ok(())
}

/// Names of records, as an order has them.
type Named = Vec<(Seq, Option<ZnodePath>)>;

/// The records of one source for the sink.
struct SourceReplay<'a> {
    journals: &'a Journals,
    journal: &'a JournalQuery,
    selection: &'a Selection,
    source: String,
    sink: String,
}

impl SourceReplay<'_> {
    /// The next selected records of a range, as many as fit into one order; the range then begins after them.
    fn next(&self, range: &mut Range) -> Result<Named, Failure> {
        let (mut named, mut bytes) = (Named::new(), 0);
        while !range.is_empty() && named.len() < AT_ONCE {
            let page = self
                .journal
                .changes(*range, self.selection, AT_ONCE - named.len())?;
            for record in page.records {
                if bytes > NAMES_BYTES {
                    return Ok(named);
                }
                range.after = record.seq;
                bytes += record.path.as_ref().map_or(0, |path| path.len());
                named.push((record.seq, record.path.clone()));
            }
            range.after = page.next.map_or(range.until, |next| next.after);
        }
        Ok(named)
    }

    /// No bridge runs: the journal keeps the records for the next start.
    async fn queue(&self, mut range: Range) -> Result<u64, Failure> {
        let room = PARKED_MAX.saturating_sub(self.journal.retry_queue(&self.sink)?.len());
        let mut all = Named::new();
        loop {
            let some = self.next(&mut range)?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
            if all.len() > room {
                let message = format!(
                    "more than {room} records match, and the queue for the next start has no room for more\nhelp: start \
                     the bridge and repeat the command"
                );
                return Err(Failure::new(Exit::Runtime, message));
            }
        }
        if all.is_empty() {
            return Ok(0);
        }
        let records = all.len() as u64;
        let order = OperatorRequest::Replay(all);
        self.journals
            .carry_out(&self.source, &self.sink, &order, |_| Ok(true))
            .await?;
        Ok(records)
    }

    /// The running bridge delivers the records, order by order.
    async fn deliver(&self, mut range: Range) -> Result<u64, Failure> {
        let all = range;
        let mut delivered = 0;
        loop {
            let some = self.next(&mut range)?;
            if some.is_empty() {
                break;
            }
            let named = some.len() as u64;
            let before = self.summary().await?.replayed.unwrap_or_default();
            let order = OperatorRequest::Replay(some);
            self.journals
                .carry_out(&self.source, &self.sink, &order, |_| Ok(true))
                .await?;
            self.until_done(before + named).await?;
            delivered += named;
            show_progress(&self.sink, delivered, all, range);
        }
        if delivered > 0 && std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(delivered)
    }

    /// Waits until the sink has taken all orders up to this count and delivered their records.
    async fn until_done(&self, replayed: u64) -> Result<(), Failure> {
        let mut said = None;
        loop {
            let sink = self.summary().await?;
            if sink.replayed >= Some(replayed) && sink.parked.replaying == 0 {
                return Ok(());
            }
            if sink.state == "halted" {
                let why = sink
                    .error
                    .map(|trouble| format!("{}: {}", trouble.message, trouble.remedy));
                let message = format!("sink '{}' has halted: {}", self.sink, why.unwrap_or_default());
                return Err(Failure::new(Exit::Runtime, message));
            }
            let waits = sink.error.map(|trouble| trouble.message);
            let waits = waits.or_else(|| {
                sink.parked
                    .next
                    .into_iter()
                    .map(|next| next.error)
                    .find(|error| !error.is_empty())
            });
            if waits.is_some() && waits != said {
                eprintln!(
                    "waiting for the destination: {}",
                    escaped(waits.as_deref().unwrap_or_default())
                );
                said = waits;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn summary(&self) -> Result<SinkSummary, Failure> {
        let status = ask_status(&self.journals.config().data_dir).await?;
        let gone = || {
            let message = "the bridge has ended; it delivers the queued records at its next start, and the rest was not queued";
            Failure::new(Exit::Runtime, message)
        };
        let sinks = status.ok_or_else(gone)?.sinks;
        let found = sinks
            .into_iter()
            .find(|sink| sink.sink == self.sink && sink.source == self.source);
        found.ok_or_else(|| {
            let message = format!(
                "the running bridge has no sink '{}'\nhelp: use the configuration of the running bridge",
                self.sink
            );
            Failure::new(Exit::Runtime, message)
        })
    }
}

/// Shows the progress on a terminal.
fn show_progress(sink: &str, delivered: u64, all: Range, left: Range) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let (done, total) = (left.after.0 - all.after.0, all.until.0 - all.after.0);
    eprint!(
        "\r\u{1b}[Ksink '{sink}': {} delivered again, {} %",
        count(delivered, "record"),
        done * 100 / total.max(1)
    );
}
