//! `zkbridge journal export`: writes records for other programs.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_query::{JournalQuery, PAGE_MAX, PathPattern, Range, Selection, TreeQuestion};
use clap::Args;

use super::EXAMPLES;
use crate::bridge::wall_clock;
use crate::cli::ConfigFlag;
use crate::command::question::say_known_since;
use crate::command::{argument, print};
use crate::exit::{Exit, Failure};
use crate::export::{CsvTexts, ExportFormat, ExportWriter, NewFile, ZnodeRow, of_database, of_stream};
use crate::terminal::{count, notice};

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
    /// End at this position; a date is the whole day
    #[arg(long, value_name = "SEQ|ZXID|TIME", value_parser = argument::range_end)]
    to: Option<Position>,
    /// Export only records of this path and below, or of a glob, and no
    /// control records; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Format of the export
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    format: ExportFormat,
    /// With csv, write texts as they are. Otherwise one that a spreadsheet
    /// takes for a formula gets a ' in front
    #[arg(long)]
    exact: bool,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Counts the records that were written.
#[derive(Clone, Copy, Debug, Default)]
struct Exported {
    records: u64,
    znodes: u64,
}

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    check(args)?;
    let journals = args.config.journals()?;
    let opened = journals.of_source(args.source.as_deref())?;
    let file = args.output.as_deref().map(create).transpose()?;
    let mut writer = writer(args, file.as_ref()).map_err(|error| failed(&error))?;
    let mut exported = Exported::default();
    for (_, journal) in opened {
        // The reader of standard output has seen enough.
        if !export(args, &journal, &mut *writer, &mut exported)? {
            return Ok(());
        }
    }
    let takes_znodes = writer.takes_znodes();
    is_read(writer.finish())?;
    if exported.records == 0 {
        notice("no record matches");
    }
    if let (Some(file), Some(to)) = (file, &args.output) {
        file.put().map_err(|error| cannot_write(to, &error))?;
        let znodes = match takes_znodes {
            true => format!(" and {}", count(exported.znodes, "znode")),
            false => String::new(),
        };
        print(&format!(
            "{}{znodes} in {}\n",
            count(exported.records, "record"),
            to.display()
        ))?;
    }
    Ok(())
}

/// Refuses options that do not fit together.
fn check(args: &ExportArgs) -> Result<(), Failure> {
    let refused = |reason: &str| Err(Failure::new(Exit::Configuration, reason));
    if args.exact && args.format != ExportFormat::Csv {
        return refused(
            "--exact is for csv alone: all other formats have texts as they are\nhelp: leave it out",
        );
    }
    match (args.format, &args.output) {
        (ExportFormat::Sqlite, None) => refused(
            "a SQLite database cannot be written to standard output\nhelp: name a new file with --output",
        ),
        (ExportFormat::Csv | ExportFormat::Parquet, None) if io::stdout().is_terminal() => refused(
            "standard output is a terminal, which would obey what is in values\nhelp: name a new file with --output",
        ),
        _ => Ok(()),
    }
}

fn create(to: &Path) -> Result<NewFile, Failure> {
    NewFile::create(to).map_err(|error| cannot_write(to, &error))
}

fn writer(args: &ExportArgs, file: Option<&NewFile>) -> io::Result<Box<dyn ExportWriter>> {
    let texts = match args.exact {
        true => CsvTexts::Exact,
        false => CsvTexts::Guarded,
    };
    match (args.format, file) {
        (ExportFormat::Sqlite, Some(file)) => of_database(file),
        (format, Some(file)) => of_stream(format, Box::new(file.output()?), texts),
        (format, None) => of_stream(format, Box::new(io::stdout()), texts),
    }
}

/// `false` once the reader of the output is gone.
fn export(
    args: &ExportArgs,
    journal: &JournalQuery,
    writer: &mut dyn ExportWriter,
    exported: &mut Exported,
) -> Result<bool, Failure> {
    let selection = argument::of_paths(&args.path);
    let until = match args.to {
        Some(to) => journal.cut(to)?.seq,
        None => journal.tail()?,
    };
    if let Some(after) = begin(args, journal)? {
        let range = Range { after, until };
        if !export_records(journal, range, &selection, writer, exported)? {
            return Ok(false);
        }
    }
    if writer.takes_znodes() {
        export_znodes(journal, until, &args.path, writer, exported)?;
    }
    Ok(true)
}

/// The record before the first; `None` if there is none at or after `--from`.
fn begin(args: &ExportArgs, journal: &JournalQuery) -> Result<Option<Seq>, Failure> {
    let Some(from) = args.from else {
        return Ok(Some(Seq::ZERO));
    };
    say_known_since(journal, from)?;
    let Some(first) = journal.cut(from)?.first else {
        return Ok(None);
    };
    if first > Seq(1) && journal.oldest()? == Some(first) && Position::Seq(first) != from {
        notice(format_args!(
            "{}: retention has removed the records before {first}, of which --from may select some",
            journal.source()
        ));
    }
    Ok(Some(Seq(first.0 - 1)))
}

fn export_records(
    journal: &JournalQuery,
    range: Range,
    selection: &Selection,
    writer: &mut dyn ExportWriter,
    exported: &mut Exported,
) -> Result<bool, Failure> {
    let mut left = Some(range);
    while let Some(range) = left {
        let page = journal.changes(range, selection, PAGE_MAX)?;
        if !is_read(writer.records(&page.records))? {
            return Ok(false);
        }
        exported.records += page.records.len() as u64;
        left = page.next;
    }
    Ok(true)
}

fn export_znodes(
    journal: &JournalQuery,
    until: Seq,
    patterns: &[PathPattern],
    writer: &mut dyn ExportWriter,
    exported: &mut Exported,
) -> Result<(), Failure> {
    let now = wall_clock()();
    let mut unknown = 0;
    for under in tops(patterns) {
        let mut after = None;
        loop {
            let question = TreeQuestion {
                under: &under,
                patterns,
                at: Position::Seq(until),
                after: after.as_ref(),
                limit: PAGE_MAX,
            };
            let page = journal.tree_at(&question, now)?;
            let rows = page.znodes.into_iter().map(|(path, then)| ZnodeRow {
                source: Arc::clone(journal.source()),
                path,
                then,
            });
            let rows: Vec<ZnodeRow> = rows.collect();
            writer.znodes(&rows).map_err(|error| failed(&error))?;
            exported.znodes += rows.len() as u64;
            unknown += page.unknown;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    if unknown > 0 {
        notice(format_args!(
            "{}: {} more may have existed: the journal does not show that they did not",
            journal.source(),
            count(unknown, "znode")
        ));
    }
    Ok(())
}

/// The subtrees in which the patterns select paths; none is within another.
fn tops(patterns: &[PathPattern]) -> Vec<ZnodePath> {
    let mut tops: Vec<ZnodePath> = Vec::new();
    for pattern in patterns {
        let PathPattern::Subtree(top) = pattern else {
            return vec![ZnodePath::slash()];
        };
        if !tops.iter().any(|known| known.covers(top)) {
            tops.retain(|known| !top.covers(known));
            tops.push(top.clone());
        }
    }
    match tops.is_empty() {
        true => vec![ZnodePath::slash()],
        false => tops,
    }
}

/// `false` once the reader of the output is gone.
fn is_read(done: io::Result<()>) -> Result<bool, Failure> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Runtime,
        format!(
            "the records cannot be written: {error}; the export is not complete\nhelp: make room, or name a file elsewhere \
             with --output, and export again"
        ),
    )
}

fn cannot_write(to: &Path, error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{} exists already: name another file", to.display()),
        _ => format!(
            "{} cannot be written: {error}\nhelp: name a file in a folder that this user may write to",
            to.display()
        ),
    };
    Failure::new(Exit::Environment, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtrees_within_others_are_walked_once() {
        let check = |patterns: &[&str], expected: &[&str]| {
            let patterns: Vec<PathPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
            let tops: Vec<String> = tops(&patterns).iter().map(ToString::to_string).collect();
            assert_eq!(tops, expected);
        };
        check(&[], &["/"]);
        check(&["/a", "/a/b", "/c"], &["/a", "/c"]);
        check(&["/a/b", "/c", "/a"], &["/c", "/a"]);
        check(&["/a", "/a"], &["/a"]);
        check(&["/a", "/b/*"], &["/"]);
    }
}
