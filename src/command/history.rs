//! `zkbridge history`: every journalled version of one znode, or its value at a moment.

use std::io::{IsTerminal, Write};

use bridge_console::text::escaped;
use bridge_console::{Color, Style};
use bridge_core::journal::{Position, Reader};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Op};
use clap::Args;
use serde_json::json;

use super::sink::journals;
use crate::bridge::wall_clock;
use crate::cli::ConfigFlag;
use crate::command::{print, print_on};
use crate::exit::{Exit, Failure};
use crate::history::{AsOfQuery, AsOfValue, entry, then_lines};
use crate::operator::unusable;
use crate::position::Typed;

const EXAMPLES: &str = "\
Examples:
  zkbridge history /services/payments
  zkbridge history /services/payments -n 3
  zkbridge history /config/limits --at 2026-11-22T13:40:00Z
  zkbridge history /config/limits --at 0x300001a2f > limits.then
  zkbridge history /config/limits --json | jq -r .op

The newest record comes first. --at prints the value that the znode had, as it
is when the output is no terminal, and says on standard error what is not
certain: values that nobody could read or that went with a record that a full
journal compacted, gaps, records that retention removed.
Reads the journal alone, beside a running bridge and without one.

Exit codes: 0 printed, 1 no record of this znode, or with --at: not certain,
2 the command line or the configuration is wrong, 3 there is no journal";

/// Records read at once.
const STRETCH: usize = 200;

/// Which znode.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct HistoryArgs {
    /// The znode
    #[arg(value_name = "PATH")]
    path: ZnodePath,
    #[command(flatten)]
    config: ConfigFlag,
    /// In the journal of this source; where it is left out, all are looked at
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only its value at this moment: a zxid (0x300001a2f), a time in UTC
    /// (2026-11-22T13:40:00Z), how long ago (15m), or a record's number
    #[arg(long, value_name = "ZXID|TIME")]
    at: Option<Typed>,
    /// Only so many records, the newest
    #[arg(short = 'n', long = "lines", value_name = "N", conflicts_with = "at")]
    count: Option<usize>,
    /// Print whole records, one a line; with --at one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub fn run(args: &HistoryArgs) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let mut found = 0;
    for (source, mut reader) in journals.readers()? {
        if args
            .source
            .as_deref()
            .is_some_and(|wanted| *wanted != *source.name)
        {
            continue;
        }
        found += match args.at {
            Some(at) => usize::from(value_at(args, &mut reader, at)?),
            None => records(args, &mut reader)?,
        };
    }
    if found > 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Runtime,
        format!(
            "no journal has a record of {}: it never was below a root that is watched, or retention has removed all",
            escaped(&args.path)
        ),
    ))
}

/// Prints the records of a journal; returns how many there were.
fn records(args: &HistoryArgs, reader: &mut Reader) -> Result<usize, Failure> {
    let style = Style::for_stdout(Color::Auto);
    let (mut from, mut left, mut shown): (Option<Seq>, _, _) = (None, args.count.unwrap_or(usize::MAX), 0);
    loop {
        let read = reader
            .history(&args.path, from, left.min(STRETCH))
            .map_err(unusable)?;
        let Some(read) = read.filter(|read| !read.records.is_empty()) else {
            return Ok(shown);
        };
        let mut text = String::new();
        for record in &read.records {
            match args.json {
                true => text.push_str(&(String::from_utf8_lossy(&record.to_json()) + "\n")),
                false => text.push_str(&entry(record, read.compacted.get(&record.seq).copied(), &style)),
            }
        }
        if shown == 0 && !args.json {
            print(&format!(
                "{} in source {}\n",
                escaped(&args.path),
                reader.cluster()
            ))?;
        }
        (shown, left) = (shown + read.records.len(), left - read.records.len());
        if !print_on(&text)? || left == 0 {
            return Ok(shown);
        }
        let Some(next) = read.next else {
            if read.is_cut && !args.json {
                print("        (retention has removed what may have been before)\n")?;
            }
            return Ok(shown);
        };
        from = Some(next);
    }
}

/// Prints the value; `false` if the journal knows no such path.
fn value_at(args: &HistoryArgs, reader: &mut Reader, at: Typed) -> Result<bool, Failure> {
    let Some((then, source)) = look(args, reader, at)? else {
        return Ok(false);
    };
    if args.json {
        let object = json!({"path": args.path, "source": source, "then": then});
        print(&format!("{object:#}\n"))?;
    } else {
        if let Some(data) = &then.data {
            write_value(data)?;
        }
        eprint!("{}", then_lines(&then));
    }
    match then.certain {
        true => Ok(true),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}

fn look(args: &HistoryArgs, reader: &mut Reader, at: Typed) -> Result<Option<(AsOfValue, String)>, Failure> {
    let mut account = AsOfQuery::new(at.0.into());
    let mut from = None;
    let source = reader.cluster().to_string();
    let reported = reported(reader, &args.path)?;
    let beyond = beyond(reader, at)?;
    // Into the record behind the moment, if there is one by now.
    let mut compacted = None;
    let doubting = |mut then: AsOfValue, compacted: Option<u64>| {
        let compacted = compacted.filter(|_| !then.certain);
        then.certain &= beyond.is_none();
        then.doubts.extend(beyond.clone());
        then.doubts.extend(compacted.map(|count| {
            format!("{count} records went into the next one as the journal was full: their values are gone")
        }));
        then
    };
    loop {
        let Some(read) = reader.history(&args.path, from, STRETCH).map_err(unusable)? else {
            return Ok(None);
        };
        if from.is_none() && read.records.is_empty() {
            return Ok(None);
        }
        for record in &read.records {
            if let Some(then) = account.take(record, reported) {
                return Ok(Some((doubting(then, compacted), source)));
            }
            if record.op != Op::Acl {
                compacted = read.compacted.get(&record.seq).copied();
            }
        }
        match read.next {
            Some(next) => from = Some(next),
            None => return Ok(Some((doubting(account.end(read.is_cut), compacted), source))),
        }
    }
}

/// What is open because nobody can know of the moment yet.
fn beyond(reader: &mut Reader, at: Typed) -> Result<Option<String>, Failure> {
    Ok(match at.0 {
        Position::Seq(seq) => {
            let tail = reader.tail().map_err(unusable)?;
            (seq > tail).then(|| format!("the journal's last record is {tail}: there is no record {seq} yet"))
        }
        Position::Time(time) => {
            let now = wall_clock()();
            (time > now).then(|| format!("{time} is still to come"))
        }
        // The account itself knows how far the journal has come.
        Position::Zxid(_) => None,
    })
}

/// Everything up to it is journalled, for the root of the path.
fn reported(reader: &mut Reader, path: &ZnodePath) -> Result<Option<Zxid>, Failure> {
    let roots = reader.overview().map_err(unusable)?.roots;
    let root = roots.iter().find(|root| root.path.covers(path));
    Ok(root.map(|root| root.reported))
}

/// As it is, or where a terminal would obey it, escaped.
fn write_value(data: &Data) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = match (out.is_terminal(), std::str::from_utf8(&data.bytes)) {
        (true, Ok(text)) => writeln!(out, "{}", escaped(text)),
        (true, Err(_)) => writeln!(
            out,
            "({} bytes that are no text; write them into a file)",
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
