//! `zkbridge dlq`: lists, prints, retries and drops dead letters.

mod text;

use bridge_console::{Color, Style};
use bridge_core::delivery::OperatorRequest;
use bridge_core::journal::Letter;
use bridge_core::number::Seq;
use bridge_query::{JournalQuery, PathPattern, QueryError};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::serving;
use crate::cli::ConfigFlag;
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::operator::{Carried, Journals, SinkLetters};

const EXAMPLES: &str = "\
Examples:
  zkbridge dlq list
  zkbridge dlq show --sink changes --seq 1842
  zkbridge dlq retry --sink changes --path /services/payments
  zkbridge dlq drop --sink changes --all

Works with or without a running bridge. With rejected_path = \"block\" a retry
includes earlier records of the same path. Only 'show' prints the values of
znodes.

Exit codes: 0 done, 1 no dead letter matches or the bridge refused the order,
2 the command line or the configuration is wrong, 3 a journal cannot be used";

/// Options of `dlq`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List dead letters with their reasons
    List(LetterSelection),
    /// Print whole dead letters, with the values of their znodes
    Show(LetterSelection),
    /// Retry dead letters, in order
    Retry(LetterSelection),
    /// Drop dead letters for good
    Drop(LetterSelection),
}

/// Selects dead letters.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct LetterSelection {
    #[command(flatten)]
    config: ConfigFlag,
    /// Take only those of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Take only those of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Take only those of this path and below, or of a glob; repeatable
    #[arg(long, value_name = "PATH|GLOB")]
    path: Vec<PathPattern>,
    /// Take only the one with this seq; repeatable
    #[arg(long, value_name = "N")]
    seq: Vec<u64>,
    /// Take all dead letters, if nothing else is given
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &DlqArgs) -> Result<(), Failure> {
    match &args.command {
        DlqCommand::List(selection) => list(selection),
        DlqCommand::Show(selection) => show(selection),
        DlqCommand::Retry(selection) => {
            serving::block_on(order(selection, "retried", OperatorRequest::Retry))
        }
        DlqCommand::Drop(selection) => serving::block_on(order(selection, "dropped", OperatorRequest::Drop)),
    }
}

impl LetterSelection {
    fn wants(&self, source: &str, sink: &str, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let path = letter.path.as_ref();
        is(&self.source, source)
            && is(&self.sink, sink)
            && (self.seq.is_empty() || self.seq.contains(&letter.seq.0))
            && (self.path.is_empty()
                || path.is_some_and(|path| self.path.iter().any(|pattern| pattern.selects(path))))
    }

    fn is_narrow(&self) -> bool {
        self.sink.is_some() || self.source.is_some() || !self.path.is_empty() || !self.seq.is_empty()
    }

    /// A retry or a drop must name its dead letters, so that none is sent again or lost by mistake.
    fn must_be_narrow(&self) -> Result<(), Failure> {
        if self.is_narrow() || self.all {
            return Ok(());
        }
        let message = "select dead letters with --sink, --source, --path, --seq, or --all";
        Err(Failure::new(Exit::Configuration, message))
    }

    fn find(&self) -> Result<(Journals, Vec<SinkLetters>), Failure> {
        let journals = self.config.journals()?;
        let found = journals.letters(|source, sink, letter| self.wants(source, sink, letter))?;
        Ok((journals, found))
    }
}

fn list(selection: &LetterSelection) -> Result<(), Failure> {
    let (_, found) = selection.find()?;
    if !selection.json {
        return match found.is_empty() && selection.is_narrow() {
            true => print("no dead letter matches\n"),
            false => print(&text::list(&found, &Style::for_stdout(Color::Never))),
        };
    }
    let letters: Vec<Value> = found
        .iter()
        .flat_map(|of| of.letters.iter().map(|letter| described(of, letter)))
        .collect();
    print_json(&json!({"dead_letters": letters}))
}

fn described(of: &SinkLetters, letter: &Letter) -> Value {
    json!({
        "source": of.source,
        "sink": of.sink,
        "seq": letter.seq,
        "path": letter.path,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "rejected_at": letter.at,
    })
}

fn show(selection: &LetterSelection) -> Result<(), Failure> {
    selection.must_be_narrow()?;
    let (journals, found) = selection.find()?;
    let mut shown = Vec::new();
    for of in &found {
        for letter in &of.letters {
            let Some(whole) = journals.letter(of, letter.seq)? else {
                continue;
            };
            if !selection.json {
                print(&text::whole(of, &whole))?;
            }
            let mut described = described(of, letter);
            described["record"] = serde_json::to_value(&*whole.record).unwrap_or_default();
            shown.push(described);
        }
    }
    if shown.is_empty() {
        return Err(none());
    }
    match selection.json {
        true => print_json(&json!({"dead_letters": shown})),
        false => Ok(()),
    }
}

fn none() -> Failure {
    Failure::new(
        Exit::Runtime,
        "no dead letter matches\nhelp: list them with 'zkbridge dlq list'",
    )
}

async fn order(
    selection: &LetterSelection,
    word: &str,
    order: fn(Vec<Seq>) -> OperatorRequest,
) -> Result<(), Failure> {
    selection.must_be_narrow()?;
    let (journals, found) = selection.find()?;
    if found.is_empty() {
        return Err(none());
    }
    let mut outcomes = Vec::new();
    for of in &found {
        let is_gone = |journal: &JournalQuery| is_gone(journal, of);
        let orders = order(of.letters.iter().map(|letter| letter.seq).collect());
        let carried = journals.carry_out(&of.source, &of.sink, &orders, is_gone).await?;
        if !selection.json {
            print(&text::ordered(of, word, carried))?;
        }
        outcomes.push(json!({
            "source": of.source,
            "sink": of.sink,
            "records": of.letters.len(),
            "done": carried == Carried::Out,
        }));
    }
    match selection.json {
        true => print_json(&json!({word: outcomes})),
        false => Ok(()),
    }
}

/// Whether none of the letters is still there as it was: each is gone, or was tried and rejected again.
fn is_gone(journal: &JournalQuery, of: &SinkLetters) -> Result<bool, QueryError> {
    let left = journal.dead_letters(&of.sink)?;
    let is_left = |letter: &Letter| {
        let as_before =
            |left: &Letter| (left.seq, left.attempts, left.at) == (letter.seq, letter.attempts, letter.at);
        left.iter().any(as_before)
    };
    Ok(!of.letters.iter().any(is_left))
}
