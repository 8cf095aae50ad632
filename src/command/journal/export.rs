//! `zkbridge journal export`: writes records as JSON lines.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_query::{JournalQuery, PAGE_MAX, PathPattern, Range, Selection};
use clap::Args;

use super::EXAMPLES;
use crate::cli::ConfigFlag;
use crate::command::{argument, json_line};
use crate::exit::{Exit, Failure};
use crate::terminal::count;

/// Only the owner of the file may read the data of znodes.
const MODE: u32 = 0o600;

/// Options of `journal export`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    config: ConfigFlag,
    /// Export only the journal of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Begin at this position: a record's number, a zxid, a time or an age
    #[arg(long, value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    from: Option<Position>,
    /// End at this position
    #[arg(long, value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    to: Option<Position>,
    /// Export only records of this path and below, or of a glob, and no
    /// control records; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let selection = argument::of_paths(&args.path);
    let opened = journals.of_source(args.source.as_deref())?;
    let mut out = BufWriter::new(output(args)?);
    let mut written = 0;
    for (_, journal) in opened {
        written += export(args, &selection, &journal, &mut out)?;
    }
    finish(out.flush())?;
    if written == 0 {
        eprintln!("no record matches");
    }
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
            format!("{} exists already: name another file", file.display()),
        )),
        Err(error) => Err(Failure::new(
            Exit::Environment,
            format!("{} cannot be written: {error}", file.display()),
        )),
    }
}

fn export(
    args: &ExportArgs,
    selection: &Selection,
    journal: &JournalQuery,
    out: &mut impl Write,
) -> Result<u64, Failure> {
    let until = match args.to {
        Some(to) => journal.cut(to)?.seq,
        None => journal.tail()?,
    };
    let after = match args.from {
        Some(from) => match journal.cut(from)?.first {
            Some(first) => Seq(first.0 - 1),
            None => return Ok(0),
        },
        None => Seq::ZERO,
    };
    let mut left = Some(Range { after, until });
    let mut written = 0;
    while let Some(range) = left {
        let page = journal.changes(range, selection, PAGE_MAX)?;
        for record in &page.records {
            if !finish(out.write_all(json_line(record).as_bytes()))? {
                return Ok(written);
            }
            written += 1;
        }
        left = page.next;
    }
    Ok(written)
}

/// `false` once the reader of the output is gone.
fn finish(done: io::Result<()>) -> Result<bool, Failure> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Exit::Runtime,
            format!("the records cannot be written: {error}; the export is not complete"),
        )),
    }
}
