//! `zkbridge log`: prints transaction logs and snapshots of ZooKeeper, and checks them.

mod check;
mod input;
mod row;
mod selection;
mod snapshot;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use bridge_console::Style;
use bridge_query::PathPattern;
use bridge_transactions::log_file::{LogEnd, LogError, LogItem, LogReader};
use bridge_transactions::transaction::Transaction;
use bridge_zookeeper::txnlog::{LogTail, TailError};
use clap::Args;

use self::input::{Input, Kind};
use self::row::{Row, json_row, rows, text_row};
use self::selection::{Moment, RowSelection};
use super::lines::LineFlags;
use super::serving::{self, Signals};
use super::tail::ColorWord;
use super::{json_text, print_on};
use crate::exit::{Exit, Failure};
use crate::terminal::notice;

const EXAMPLES: &str = "\
Examples:
  zkbridge log /var/lib/zookeeper                  all logs of a server
  zkbridge log log.300000001 --path /services      the changes of a subtree
  zkbridge log /var/lib/zookeeper -f --type delete deletes as they happen
  zkbridge log /var/lib/zookeeper --from 12:30 --session 0x1000a2f0001
  zkbridge log snapshot.30000ffff --json | jq .path
  zkbridge log --check /var/lib/zookeeper          checksums, order, digests

Reads files of ZooKeeper 3.4 to 3.9, of a running or a stopped server, and
writes none. A folder is a server's dataLogDir or dataDir: its logs are printed;
a snapshot is printed if it is named. A multi is printed as its parts, each with
its number. Values are cut to the width of the terminal, unless --wide is given;
into a pipe they are whole. A log of a member of an ensemble can end with
transactions that were never committed.

Exit codes: 0 printed, 1 a file is damaged or a check has failed, 2 the command
line is wrong, 3 a file cannot be read, 130 -f was ended by Ctrl-C";

/// Poll interval of `-f`. A look that finds nothing reads a few bytes and lists the folder.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Options of `log`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// Transaction logs, snapshots, or folders with transaction logs
    #[arg(value_name = "FILE|FOLDER", required = true)]
    inputs: Vec<PathBuf>,
    /// Print only changes of this path and below, or of a glob; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Begin at this zxid (0x300001a2f) or time (2026-11-22T13:40:00Z, 15m)
    #[arg(long, alias = "since", value_name = "ZXID|TIME", value_parser = selection::moment)]
    from: Option<Moment>,
    /// End with this zxid or time; a date is the whole day
    #[arg(long, value_name = "ZXID|TIME", value_parser = selection::range_end)]
    to: Option<Moment>,
    /// Print only what this session did, or znodes that it owns
    #[arg(long, value_name = "ID", value_parser = selection::session)]
    session: Option<i64>,
    /// Print only this type, such as setData, multi or error; repeatable
    #[arg(long = "type", value_name = "TYPE", value_parser = selection::type_parser())]
    types: Vec<String>,
    /// Print the first N lines
    #[arg(short = 'n', long = "lines", value_name = "N")]
    count: Option<u64>,
    /// Print new transactions as they come, until Ctrl-C; for one folder
    #[arg(short, long, conflicts_with = "check")]
    follow: bool,
    /// Check instead of printing: checksums, order, and, where the logs
    /// begin at a snapshot, the digests of 3.6 and later
    #[arg(long, conflicts_with_all = ["path", "from", "to", "session", "types", "count", "wide", "hex"])]
    check: bool,
    #[command(flatten)]
    lines: LineFlags,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorWord,
}

/// Runs the command.
pub fn run(args: &LogArgs) -> Result<(), Failure> {
    let inputs = input::resolve(&args.inputs)?;
    if args.check {
        return check::run(&args.inputs, args.json);
    }
    let mut printer = RowPrinter {
        style: args.lines.style(args.color.into()),
        json: args.json,
        selection: RowSelection::new(args)?,
        left: args.count.unwrap_or(u64::MAX),
        has_failed: false,
    };
    if args.follow {
        let folder = input::only_folder(&args.inputs)?;
        let tail = LogTail::new(folder, printer.selection.first_zxid().saturating_sub(1));
        return serving::block_on(follow(tail, &mut printer));
    }
    for (at, input) in inputs.iter().enumerate() {
        // The name of a log says where the log before it ends.
        let next = inputs.get(at + 1).filter(|next| next.folder == input.folder);
        let is_before = next.is_some_and(|next| next.zxid <= Some(printer.selection.first_zxid()));
        if is_before && input.kind == Kind::Log && input.is_of_folder() {
            continue;
        }
        if !print_file(input, &mut printer)? {
            return Ok(());
        }
    }
    match printer.has_failed {
        true => Err(Failure::new(Exit::Runtime, "")),
        false => Ok(()),
    }
}

/// Prints a file; `false` once enough is printed.
fn print_file(input: &Input, printer: &mut RowPrinter) -> Result<bool, Failure> {
    match input.kind {
        Kind::Log => print_log(input, printer),
        Kind::Snapshot(compression) => snapshot::print(input, compression, printer),
    }
}

fn print_log(input: &Input, printer: &mut RowPrinter) -> Result<bool, Failure> {
    let file = File::open(&input.path).map_err(|cause| input.unreadable(&cause))?;
    let mut reader = match LogReader::new(file) {
        Ok(reader) => reader,
        Err(error) => return printer.fail(input, &error.to_string()),
    };
    let mut batch = String::new();
    loop {
        let is_more = match reader.next_item() {
            Ok(Some(LogItem::Transaction { transaction, .. })) => {
                let is_more = printer.transaction(&transaction, &mut batch)?;
                if batch.len() >= BATCH_BYTES && !print_on(&std::mem::take(&mut batch))? {
                    return Ok(false);
                }
                is_more
            }
            Ok(Some(LogItem::Damaged { at, fault })) => {
                if !print_on(&std::mem::take(&mut batch))? {
                    return Ok(false);
                }
                let fault = format!("the record at byte {at} is damaged and left out: {fault}");
                printer.fail(input, &fault)?
            }
            Err(error @ LogError::Record { .. }) => {
                printer.fail(input, &format!("{error}; it is left out"))?
            }
            Ok(Some(LogItem::End(end))) => {
                return Ok(print_on(&batch)? && printer.end(input, end)?);
            }
            Ok(None) => return print_on(&batch),
            Err(error) => {
                return Ok(print_on(&batch)? && printer.fail(input, &error.to_string())?);
            }
        };
        if !is_more {
            print_on(&batch)?;
            return Ok(false);
        }
    }
}

/// Words for a part of a log that was not written to its end.
fn torn(at: u64) -> String {
    match at {
        0 => "the header was written in part".to_owned(),
        at => format!("the last record, at byte {at}, was written in part"),
    }
}

/// Bytes that are written at once.
const BATCH_BYTES: usize = 64 << 10;

/// Prints selected rows.
struct RowPrinter {
    style: Style,
    json: bool,
    selection: RowSelection,
    /// Lines that may still be printed.
    left: u64,
    has_failed: bool,
}

impl RowPrinter {
    /// Appends the selected rows of a transaction; `false` once enough are printed.
    fn transaction(&mut self, transaction: &Transaction, batch: &mut String) -> Result<bool, Failure> {
        for row in rows(transaction) {
            if self.left > 0 && self.selection.selects(&row) {
                let line = self.line(&row)?;
                self.append(&line, batch);
            }
        }
        Ok(self.left > 0)
    }

    fn append(&mut self, line: &str, batch: &mut String) {
        batch.push_str(line);
        self.left -= 1;
    }

    fn line(&self, row: &Row<'_>) -> Result<String, Failure> {
        match self.json {
            true => json_text(&json_row(row), serde_json::to_string),
            false => Ok(text_row(row, &self.style) + "\n"),
        }
    }

    /// Reports the end of a log; `true` to go on with the next file.
    fn end(&mut self, input: &Input, end: LogEnd) -> Result<bool, Failure> {
        match end {
            LogEnd::Whole { .. } => Ok(true),
            LogEnd::Torn { at } => {
                notice(format_args!(
                    "note: {}: {}: the server is writing it, or was killed",
                    input.path.display(),
                    torn(at)
                ));
                Ok(true)
            }
            LogEnd::Damaged { at, fault } => {
                let fault = format!("damaged at byte {at}, and nothing after it can be read: {fault}");
                self.fail(input, &fault)
            }
        }
    }

    /// Reports a fault of a file; `true` to go on with the next one.
    fn fail(&mut self, input: &Input, fault: &str) -> Result<bool, Failure> {
        self.has_failed = true;
        notice(format_args!("error: {}: {fault}", input.path.display()));
        Ok(true)
    }
}

/// Prints transactions as they come.
async fn follow(mut tail: LogTail, printer: &mut RowPrinter) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut ticks = tokio::time::interval(POLL_EVERY);
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => return Err(Failure::new(Exit::Signal(signal), "")),
            _ = ticks.tick() => {}
        }
        loop {
            let transactions = tail.poll().map_err(|error| cannot_follow(&error))?;
            if transactions.is_empty() {
                break;
            }
            let mut batch = String::new();
            let mut is_more = true;
            for transaction in &transactions {
                is_more = is_more && printer.transaction(transaction, &mut batch)?;
            }
            if !print_on(&batch)? || !is_more {
                return Ok(());
            }
        }
    }
}

fn cannot_follow(error: &TailError) -> Failure {
    let exit = match error {
        TailError::Folder(_) | TailError::Io { .. } => Exit::Environment,
        TailError::Log { .. } | TailError::Rewound { .. } | TailError::Removed { .. } => Exit::Runtime,
    };
    Failure::new(exit, error.to_string())
}
