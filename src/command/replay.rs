//! `zkbridge replay`: delivers journalled records to one sink again. `totals` prints the result.

mod totals;

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::time::Duration;

use bridge_console::text::escaped;
use bridge_core::delivery::{CompiledFilter, OperatorRequest, PARKED_MAX, ReplayOrder};
use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use bridge_query::status::SinkSummary;
use bridge_query::{JournalQuery, PathPattern, Range, Selection};
use clap::Args;

use self::totals::{Stop, Total, print_result};
use super::sink::configured;
use super::{argument, serving};
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, ask_status};
use crate::terminal::{count, notice};

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
Records of a path that changes while the command runs are left out and counted.
With a running bridge it shows its progress; after Ctrl-C the records queued so
far (up to 500) are still delivered. Without one it queues up to 10,000 records
for the next start. To send the present state, use 'zkbridge snapshot'.

Exit codes: 0 delivered or queued, 1 no record matches, the range is refused,
the sink has halted or records could not be queued, 2 the command line or the
configuration is wrong, 3 the journal cannot be used, 130 ended by Ctrl-C";

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
    /// End at this position; a date is the whole day [default: the cursor of
    /// the sink]
    #[arg(long, alias = "until", value_name = "SEQ|ZXID|TIME", value_parser = argument::range_end)]
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
            later: (!args.force).then(|| LaterPaths {
                looked_to: cursor,
                paths: HashSet::new(),
            }),
        };
        replays.push((replay, range));
    }
    let mut totals = Vec::new();
    for (mut replay, range) in replays {
        let total = match is_running {
            true => replay.deliver(range).await?,
            false => replay.queue(range).await?,
        };
        if total != Total::default() {
            totals.push((replay.source, total));
        }
    }
    print_result(args, &totals, is_running)
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
    /// `None` with `--force`.
    later: Option<LaterPaths>,
}

/// The paths that have records after the range, as far as the sink has handled them.
struct LaterPaths {
    /// Up to this record.
    looked_to: Seq,
    paths: HashSet<ZnodePath>,
}

impl SourceReplay<'_> {
    /// Looks at what the sink has handled since, and leaves out the records of paths that have newer ones.
    fn without_outdated(&mut self, mut named: Named, cursor: Seq) -> Result<Named, Failure> {
        let Some(later) = &mut self.later else {
            return Ok(named);
        };
        let since = Range {
            after: later.looked_to,
            until: cursor,
        };
        each_record(self.journal, self.selection, since, |record| {
            later.paths.extend(record.path.clone());
            later.paths.len() <= LATER_PATHS_MAX
        })?;
        if later.paths.len() > LATER_PATHS_MAX {
            let message = format!(
                "more than {LATER_PATHS_MAX} paths have changed since the command began\nhelp: replay a shorter range, or \
                 with --force where the order of arrival does not matter"
            );
            return Err(Failure::new(Exit::Runtime, message));
        }
        later.looked_to = cursor.max(later.looked_to);
        named.retain(|(_, path)| path.as_ref().is_none_or(|path| !later.paths.contains(path)));
        Ok(named)
    }

    /// An order for the sink.
    fn order(&self, records: Named) -> OperatorRequest {
        OperatorRequest::Replay(ReplayOrder {
            records,
            current_to: self.later.as_ref().map(|later| later.looked_to),
        })
    }

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
    async fn queue(&self, mut range: Range) -> Result<Total, Failure> {
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
            return Ok(Total::default());
        }
        let letters = self.journal.dead_letters(&self.sink)?;
        let letters: HashSet<Seq> = letters.into_iter().map(|letter| letter.seq).collect();
        let named = all.len();
        all.retain(|(seq, _)| !letters.contains(seq));
        let total = Total {
            records: all.len() as u64,
            left_out: (named - all.len()) as u64,
            stop: None,
        };
        let order = self.order(all);
        self.journals
            .carry_out(&self.source, &self.sink, &order, |_| Ok(true))
            .await?;
        Ok(total)
    }

    /// The running bridge delivers the records, order by order.
    async fn deliver(&mut self, mut range: Range) -> Result<Total, Failure> {
        let all = range;
        let mut total = Total::default();
        loop {
            let some = self.next(&mut range)?;
            if some.is_empty() {
                break;
            }
            let found = some.len() as u64;
            let before = self.summary().await?;
            let some = self.without_outdated(some, before.cursor)?;
            let named = some.len() as u64;
            total.left_out += found - named;
            let Some((first, _)) = some.first() else {
                continue;
            };
            let first = *first;
            let order = self.order(some);
            self.journals
                .carry_out(&self.source, &self.sink, &order, |_| Ok(true))
                .await?;
            let after = self.until_done(&before, named).await?;
            // Another command may run beside this one.
            let counted = |of: fn(&SinkSummary) -> Option<u64>, most: u64| {
                let (after, before) = (of(&after), of(&before));
                let counted = after
                    .unwrap_or_default()
                    .saturating_sub(before.unwrap_or_default());
                counted.min(most)
            };
            let not_queued = counted(|sink| sink.replay_not_queued, named);
            if not_queued > 0 {
                total.stop = Some(Stop {
                    not_queued,
                    from: first,
                    problem: after.replay_problem.unwrap_or_default(),
                });
                break;
            }
            let left_out = counted(|sink| sink.replay_left_out, named);
            total.left_out += left_out;
            total.records += named - left_out;
            show_progress(&self.sink, total.records, all, range);
        }
        if total.records > 0 && std::io::stderr().is_terminal() {
            notice("");
        }
        Ok(total)
    }

    /// Waits until the sink has taken an order of so many records and delivered them, or could not queue some of them.
    async fn until_done(&self, before: &SinkSummary, named: u64) -> Result<SinkSummary, Failure> {
        let replayed = before.replayed.unwrap_or_default() + named;
        let mut said = None;
        loop {
            let sink = self.summary().await?;
            let is_stopped = sink.replay_not_queued > before.replay_not_queued;
            if sink.replayed >= Some(replayed) && (sink.parked.replaying == 0 || is_stopped) {
                return Ok(sink);
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
                notice(format_args!(
                    "waiting for the destination: {}",
                    escaped(waits.as_deref().unwrap_or_default())
                ));
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
    crate::terminal::unended_notice(format_args!(
        "\r\u{1b}[Ksink '{sink}': {} delivered again, {} %",
        count(delivered, "record"),
        done * 100 / total.max(1)
    ));
}
