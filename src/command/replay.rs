//! `zkbridge replay`: journalled records for one sink once more.

use std::io::IsTerminal;
use std::time::Duration;

use bridge_console::text::escaped;
use bridge_core::delivery::{CompiledFilter, Filter, Order, PARKED_MAX};
use bridge_core::journal::{ReadLimit, Reader};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use clap::Args;
use serde_json::{Value, json};

use super::serving;
use super::sink::{configured, journals};
use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, ask_status, unusable};
use crate::position::Typed;
use crate::status::SinkSeen;
use crate::terminal::count;

const EXAMPLES: &str = "\
Examples:
  zkbridge replay --sink changes --from 1h
  zkbridge replay --sink hook --from 0x300001a2f --path '/services/**'
  zkbridge replay --sink changes --from 1200 --to 1842

Records that the sink had got already come once more, with the same ids and in
the order of their path, in turns with new ones, which wait behind older ones
of their path. Its filters hold. Dead letters are left to 'zkbridge dlq retry'.
Beside a running bridge it shows how far it is; after Ctrl-C what was ordered
(up to 500 records) still comes. Without one up to 10,000 records are put down
for the next start. To tell a destination what exists now, 'zkbridge snapshot'
is shorter.

Exit codes: 0 delivered, or put down, 1 nothing is meant, or the sink has
halted, 2 the command line or the configuration is wrong, 3 the journal cannot
be used, 130 ended by Ctrl-C";

/// Records of one order: what comes after Ctrl-C, and what new records of a path may wait for.
const AT_ONCE: usize = 500;

/// Names of znodes in one order: what a request over the socket takes with ease.
const NAMES_BYTES: usize = 512 << 10;

/// How often a running bridge is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to deliver, and to whom.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// The sink that gets it
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// From here on: a record's number, a zxid, a time or how long ago
    #[arg(long, value_name = "SEQ|ZXID|TIME")]
    from: Typed,
    /// Up to here; where it is left out, up to what the sink has got
    #[arg(long, value_name = "SEQ|ZXID|TIME")]
    to: Option<Typed>,
    /// Only of these paths, and no control records; may be given several times
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Delivers them.
pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    serving::block_on(replay(args))
}

async fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let sink = configured(journals.config(), &args.sink)?;
    let wrong =
        |error: bridge_core::delivery::BadFilter| Failure::new(Exit::Configuration, error.to_string());
    let paths = Filter {
        paths: args.path.clone(),
        ..Filter::default()
    };
    let choice = Choice {
        of_sink: CompiledFilter::new(&sink.filter).map_err(wrong)?,
        of_paths: CompiledFilter::new(&paths).map_err(wrong)?,
        has_paths: !args.path.is_empty(),
    };
    let running = ask_status(&journals.config().data_dir).await?;
    let is_running = running.is_some();
    let mut reports = Vec::new();
    for (source, mut reader) in journals.readers()? {
        let is_meant = args
            .source
            .as_deref()
            .is_none_or(|wanted| *wanted == *source.name);
        if !is_meant || !sink.sources.contains(&source.name) {
            continue;
        }
        // What the bridge says is newer than what its journal says.
        let seen = running.iter().flat_map(|status| &status.sinks);
        let mut seen = seen.filter(|sink| sink.sink == args.sink && sink.source == *source.name);
        let cursor = match seen.next() {
            Some(sink) => Some(sink.cursor),
            None => reader.cursor(&args.sink).map_err(unusable)?,
        };
        let Some(range) = range(args, &mut reader, cursor)? else {
            continue;
        };
        let lane = Lane {
            journals: &journals,
            source: source.name.to_string(),
            sink: args.sink.clone(),
        };
        let records = match is_running {
            true => lane.deliver(&mut reader, &choice, range).await?,
            false => lane.put_down(&mut reader, &choice, range).await?,
        };
        if records > 0 {
            reports.push(json!({"source": lane.source, "records": records}));
        }
    }
    say(args, &reports, is_running)
}

fn say(args: &ReplayArgs, reports: &[Value], is_running: bool) -> Result<(), Failure> {
    if args.json {
        let report = json!({"sink": args.sink, "delivered": is_running, "sources": reports});
        print(&format!("{report:#}\n"))?;
    }
    let total: u64 = reports
        .iter()
        .filter_map(|report| report["records"].as_u64())
        .sum();
    if total == 0 {
        let message = format!(
            "sink '{}' has got no such record that the journal still has: look with 'zkbridge tail --sink {} --from …'",
            args.sink, args.sink
        );
        return Err(Failure::new(Exit::Runtime, message));
    }
    let what = count(total, "record");
    match (args.json, is_running) {
        (true, _) => Ok(()),
        (false, true) => print(&format!("sink '{}': {what} delivered once more\n", args.sink)),
        (false, false) => print(&format!(
            "sink '{}': {what} put down, to be delivered once more with the next start\n",
            args.sink
        )),
    }
}

/// Which records are meant.
struct Choice {
    of_sink: CompiledFilter,
    of_paths: CompiledFilter,
    has_paths: bool,
}

/// Behind which record, and up to which.
#[derive(Clone, Copy)]
struct Range {
    after: Seq,
    end: Seq,
}

/// What the sink has got of what is meant.
fn range(args: &ReplayArgs, reader: &mut Reader, cursor: Option<Seq>) -> Result<Option<Range>, Failure> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let Some(first) = reader.first_at(args.from.0).map_err(unusable)? else {
        return Ok(None);
    };
    let end = match args.to {
        Some(to) => reader.last_at(to.0).map_err(unusable)?.min(cursor),
        None => cursor,
    };
    Ok((first <= end).then_some(Range {
        after: Seq(first.0 - 1),
        end,
    }))
}

type Named = Vec<(Seq, Option<ZnodePath>)>;

/// The next records that are meant, at most so many; moves the range behind them.
fn next(reader: &mut Reader, choice: &Choice, range: &mut Range, most: usize) -> Result<Named, Failure> {
    let limit = ReadLimit {
        records: AT_ONCE,
        bytes: 8 << 20,
    };
    let (mut named, mut bytes) = (Named::new(), 0);
    while range.after < range.end {
        let records = reader.read(range.after, limit).map_err(unusable)?;
        if records.is_empty() {
            range.after = range.end;
        }
        for record in records {
            if record.seq > range.end || named.len() == most || bytes > NAMES_BYTES {
                if record.seq > range.end {
                    range.after = range.end;
                }
                return Ok(named);
            }
            range.after = record.seq;
            let is_meant = record.path.is_some() || !choice.has_paths;
            if is_meant && choice.of_paths.passes(&record) && choice.of_sink.passes(&record) {
                bytes += record.path.as_ref().map_or(0, |path| path.len());
                named.push((record.seq, record.path.clone()));
            }
        }
    }
    Ok(named)
}

/// One source's records for the sink.
struct Lane<'a> {
    journals: &'a Journals,
    source: String,
    sink: String,
}

impl Lane<'_> {
    /// No bridge runs: the journal keeps what is to come.
    async fn put_down(&self, reader: &mut Reader, choice: &Choice, mut range: Range) -> Result<u64, Failure> {
        let parked = crate::operator::parked_of(reader, &self.sink).map_err(unusable)?;
        let room = PARKED_MAX.saturating_sub(parked.len());
        let mut all = Named::new();
        loop {
            let some = next(reader, choice, &mut range, AT_ONCE)?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
            if all.len() > room {
                let message = format!(
                    "more than {room} records are meant, and no more can wait for the next start: start the bridge, and \
                     replay beside it"
                );
                return Err(Failure::new(Exit::Runtime, message));
            }
        }
        if all.is_empty() {
            return Ok(0);
        }
        let records = all.len() as u64;
        let order = Order::Replay(all);
        self.journals
            .carry_out(&self.source, &self.sink, &order, |_| Ok(true))
            .await?;
        Ok(records)
    }

    /// The running bridge delivers them, some at a time.
    async fn deliver(&self, reader: &mut Reader, choice: &Choice, mut range: Range) -> Result<u64, Failure> {
        let begun = range;
        let mut delivered = 0;
        loop {
            let some = next(reader, choice, &mut range, AT_ONCE)?;
            if some.is_empty() {
                break;
            }
            let named = some.len() as u64;
            let before = self.seen().await?.replayed.unwrap_or_default();
            let order = Order::Replay(some);
            self.journals
                .carry_out(&self.source, &self.sink, &order, |_| Ok(true))
                .await?;
            self.until_done(before + named).await?;
            delivered += named;
            show(&self.sink, delivered, begun, range);
        }
        if delivered > 0 && std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(delivered)
    }

    /// Waits until the sink has taken all orders up to this count, and delivered what they named.
    async fn until_done(&self, replayed: u64) -> Result<(), Failure> {
        let mut said = None;
        loop {
            let sink = self.seen().await?;
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

    async fn seen(&self) -> Result<SinkSeen, Failure> {
        let status = ask_status(&self.journals.config().data_dir).await?;
        let gone = || {
            let message = "the bridge has ended: what was ordered is delivered with its next start, and the rest is not";
            Failure::new(Exit::Runtime, message)
        };
        let sinks = status.ok_or_else(gone)?.sinks;
        let found = sinks
            .into_iter()
            .find(|sink| sink.sink == self.sink && sink.source == self.source);
        found.ok_or_else(|| {
            let message = format!(
                "the running bridge has no sink '{}': give it the same configuration",
                self.sink
            );
            Failure::new(Exit::Runtime, message)
        })
    }
}

/// How far it is, for who watches.
fn show(sink: &str, delivered: u64, begun: Range, range: Range) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let (done, all) = (range.after.0 - begun.after.0, begun.end.0 - begun.after.0);
    eprint!(
        "\r\u{1b}[Ksink '{sink}': {} delivered once more, {} %",
        count(delivered, "record"),
        done * 100 / all.max(1)
    );
}
