//! `zkbridge changes`: prints the records of a range that pass a filter.

use bridge_console::{Color, format_line};
use bridge_core::journal::Position;
use bridge_core::number::SessionId;
use bridge_core::record::Op;
use bridge_query::answer::{ChangesOrder, ChangesQuestion};
use bridge_query::{JournalQuery, PathPattern};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::argument::{self, word_of};
use super::lines::{Dates, LineFlags};
use super::question::{COUNT, QuestionFlags, doubt_lines, pages, rest_words};
use super::{print, print_json};
use crate::bridge::wall_clock;
use crate::exit::{Exit, Failure};
use crate::terminal::notice;

const EXAMPLES: &str = "\
Examples:
  zkbridge changes /config --from yesterday --to today
  zkbridge changes /services --glob '/services/*/leader' --op delete
  zkbridge changes /config --user alice --from yesterday
  zkbridge changes --session 0x0100002f037b0000
  zkbridge changes /config --text timeout --newest --json

Control records (gaps, snapshots) belong to no path. --session finds the writer
in sources that read transactions, and the owner of ephemeral znodes in all.
--client and --user find the writer where [source.who] knew it in time.
A line has the width of the terminal; with --wide, and into a pipe, it has the
date, the zxid, the writer and the whole value.
Reads only the journal; --past reads the history from before it.

Exit codes: 0 printed, 2 the command line or the configuration is wrong,
3 there is no journal";

/// Options of `changes`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ChangesArgs {
    /// Print only records of this path and below, or of a glob [default: all]
    #[arg(value_name = "PATH|GLOB")]
    under: Option<PathPattern>,
    /// The same as PATH|GLOB; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Begin at this position: a record's number, a zxid, a time, a date, or
    /// an age (15m) [default: the oldest record]
    #[arg(long, alias = "since", value_name = "SEQ|ZXID|TIME", value_parser = argument::position)]
    from: Option<Position>,
    /// End with this position, a date as a whole day [default: the end of the
    /// journal]
    #[arg(long, alias = "until", value_name = "SEQ|ZXID|TIME", value_parser = argument::range_end)]
    to: Option<Position>,
    /// Print only records whose path also matches this glob
    #[arg(long, value_name = "GLOB")]
    glob: Option<PathPattern>,
    /// Print only records with this operation; repeatable
    #[arg(long, value_name = "OP", value_parser = word_of(Op::ALL, Op::as_str))]
    op: Vec<Op>,
    /// Print only records of this session
    #[arg(long, value_name = "SESSION", value_parser = argument::session)]
    session: Option<SessionId>,
    /// Print only records that this client wrote: its address, with or
    /// without the port
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmptyStringValueParser::new())]
    client: Option<String>,
    /// Print only records that this user wrote
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Print only records whose value holds this text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Print the newest records first
    #[arg(long)]
    newest: bool,
    /// Print the history from before the journal instead, which 'zkbridge
    /// backfill' has made; its records have numbers of their own
    #[arg(long)]
    past: bool,
    /// Print at most N records
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = COUNT, value_parser = argument::count)]
    count: usize,
    #[command(flatten)]
    lines: LineFlags,
    #[command(flatten)]
    flags: QuestionFlags,
}

/// Runs the command.
pub fn run(args: &ChangesArgs) -> Result<(), Failure> {
    let mut journal = args.flags.journal()?;
    if args.past {
        journal = past_of(&journal)?;
    }
    let selection = bridge_query::Selection {
        paths: args.under.iter().chain(&args.path).cloned().collect(),
        within: args.glob.clone(),
        ops: args.op.clone(),
        session: args.session,
        client: args.client.clone(),
        user: args.user.clone(),
        text: args.text.clone(),
        sink: None,
    };
    let now = wall_clock()();
    let list = pages(args.count, |cursor, limit| {
        let question = ChangesQuestion {
            from: args.from,
            to: args.to,
            selection: &selection,
            filter: "",
            order: match args.newest {
                true => ChangesOrder::Newest,
                false => ChangesOrder::Oldest,
            },
            cursor,
            limit,
        };
        Ok(journal.records_between(&question, now)?)
    })?;
    if args.flags.json {
        return print_json(&list);
    }
    let style = args.lines.style(Color::Auto);
    let mut text = doubt_lines(&list.doubts, &style);
    let mut dates = Dates::default();
    for record in &list.items {
        text.push_str(&dates.line(record, &style));
        text.push_str(&format_line(record, &style));
        text.push('\n');
    }
    print(&text)?;
    if list.items.is_empty() {
        notice(match list.doubts.is_empty() {
            true => "no record matches",
            false => "no record of the time that the journal knows matches",
        });
        if args.client.is_some() || args.user.is_some() {
            notice(
                "help: records name the client and the user only where [source.who] knew them when the record was captured; \
                 find the session of another record, and its changes with --session",
            );
        } else if args.session.is_some() {
            notice(
                "help: records name the session that wrote only where a source reads transactions (capture = \"observer\" or \
                 \"txnlog\"); 'zkbridge log' prints it from the transaction log of a server",
            );
        }
    }
    if let Some(words) = rest_words(&list, "records") {
        notice(words);
    }
    Ok(())
}

fn past_of(journal: &JournalQuery) -> Result<JournalQuery, Failure> {
    journal.past_journal()?.ok_or_else(|| {
        let message = format!(
            "there is no history from before the journal of {}\nhelp: make it with 'zkbridge backfill {0}', while the \
             servers have their old logs",
            journal.source()
        );
        Failure::new(Exit::Environment, message)
    })
}
