//! `zkbridge journal export`: records as JSON lines.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bridge_core::delivery::{CompiledFilter, Filter};
use bridge_core::journal::{ReadLimit, Reader};
use bridge_core::number::Seq;
use clap::Args;

use super::{EXAMPLES, chosen};
use crate::cli::ConfigFlag;
use crate::command::sink::journals;
use crate::exit::{Exit, Failure};
use crate::operator::unusable;
use crate::position::Typed;
use crate::terminal::count;

/// Read at once.
const LIMIT: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 8 << 20,
};

/// Data of znodes is for the owner of the file only.
const MODE: u32 = 0o600;

/// Which records, and where to.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// From here on: a record's number, a zxid, a time or how long ago
    #[arg(long, value_name = "SEQ|ZXID|TIME")]
    from: Option<Typed>,
    /// Up to here
    #[arg(long, value_name = "SEQ|ZXID|TIME")]
    to: Option<Typed>,
    /// Only of these paths, and no control records; may be given several times
    #[arg(long, value_name = "GLOB")]
    path: Vec<String>,
    /// Into this file, which must not exist; else to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let filter = Filter {
        paths: args.path.clone(),
        ..Filter::default()
    };
    let filter =
        CompiledFilter::new(&filter).map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    let readers = chosen(&journals, args.source.as_deref())?;
    let mut out = BufWriter::new(output(args)?);
    let mut written = 0;
    for (_, mut reader) in readers {
        written += export(args, &filter, &mut reader, &mut out)?;
    }
    finish(out.flush())?;
    if let Some(file) = &args.output {
        println!("{} in {}", count(written, "record"), file.display());
    }
    Ok(())
}

fn output(args: &ExportArgs) -> Result<Box<dyn Write>, Failure> {
    let Some(file) = &args.output else {
        return Ok(Box::new(io::stdout().lock()));
    };
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(file);
    match opened {
        Ok(opened) => Ok(Box::new(opened)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::new(
            Exit::Environment,
            format!("{} is there already: name another file", file.display()),
        )),
        Err(error) => Err(Failure::new(
            Exit::Environment,
            format!("{} cannot be written: {error}", file.display()),
        )),
    }
}

fn export(
    args: &ExportArgs,
    filter: &CompiledFilter,
    reader: &mut Reader,
    out: &mut impl Write,
) -> Result<u64, Failure> {
    let tail = reader.tail().map_err(unusable)?;
    let end = match args.to {
        Some(to) => reader.last_at(to.0).map_err(unusable)?.min(tail),
        None => tail,
    };
    let mut after = match args.from {
        Some(from) => match reader.first_at(from.0).map_err(unusable)? {
            Some(first) => Seq(first.0 - 1),
            None => return Ok(0),
        },
        None => Seq::ZERO,
    };
    let mut written = 0;
    while after < end {
        let records = reader.read(after, LIMIT).map_err(unusable)?;
        let Some(last) = records.last() else { break };
        after = last.seq;
        for record in records.iter().filter(|record| record.seq <= end) {
            if !filter.passes(record) || (record.path.is_none() && !args.path.is_empty()) {
                continue;
            }
            let line = out
                .write_all(&record.to_json())
                .and_then(|()| out.write_all(b"\n"));
            if !finish(line)? {
                return Ok(written);
            }
            written += 1;
        }
    }
    Ok(written)
}

/// `false` if nobody reads on.
fn finish(done: io::Result<()>) -> Result<bool, Failure> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Exit::Runtime,
            format!("the records cannot be written: {error}; what was written so far is not all"),
        )),
    }
}
