//! `zkbridge dlq`: the records that a sink could not deliver, and will not without a person.

mod text;

use bridge_core::delivery::Order;
use bridge_core::journal::{JournalError, Letter, Reader};
use bridge_core::number::Seq;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::serving;
use super::sink::journals;
use crate::cli::ConfigFlag;
use crate::command::print;
use crate::exit::{Exit, Failure};
use crate::operator::{Carried, Journals, SinkLetters, letters_of};

const EXAMPLES: &str = "\
Examples:
  zkbridge dlq list
  zkbridge dlq show --sink changes --seq 1842
  zkbridge dlq retry --sink changes --path /services/payments
  zkbridge dlq drop --sink changes --all

Works beside a running bridge and without one. With rejected_path = \"block\"
a retry takes along what waits before a record of the same path. Values of
znodes are printed by 'show' alone.

Exit codes: 0 done, 1 no dead letter is meant or the bridge did not take the
order, 2 the command line or the configuration is wrong, 3 a journal cannot
be used";

/// What to do with dead letters.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them with their reasons
    List(Choice),
    /// Print them whole, with the values of their znodes
    Show(Choice),
    /// Try them again, in order
    Retry(Choice),
    /// Let them go for good
    Drop(Choice),
}

/// Which dead letters.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Choice {
    #[command(flatten)]
    config: ConfigFlag,
    /// Of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of this znode and what is below it
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// With this seq; may be given several times
    #[arg(long, value_name = "N")]
    seq: Vec<u64>,
    /// All that there are, where nothing else is given
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: &DlqArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::List(choice) => list(choice),
        Verb::Show(choice) => show(choice),
        Verb::Retry(choice) => serving::block_on(order(choice, "retried", Order::Retry)),
        Verb::Drop(choice) => serving::block_on(order(choice, "dropped", Order::Drop)),
    }
}

impl Choice {
    fn wants(&self, source: &str, sink: &str, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let path = letter.path.as_deref();
        is(&self.source, source)
            && is(&self.sink, sink)
            && (self.seq.is_empty() || self.seq.contains(&letter.seq.0))
            && self
                .path
                .as_deref()
                .is_none_or(|top| path.is_some_and(|path| is_at_or_below(top, path)))
    }

    fn is_narrow(&self) -> bool {
        self.sink.is_some() || self.source.is_some() || self.path.is_some() || !self.seq.is_empty()
    }

    /// What is lost or sent again by mistake must be named.
    fn must_be_narrow(&self) -> Result<(), Failure> {
        if self.is_narrow() || self.all {
            return Ok(());
        }
        let message = "say which dead letters: --sink, --source, --path, --seq, or --all for all of them";
        Err(Failure::new(Exit::Configuration, message))
    }

    fn find(&self) -> Result<(Journals, Vec<SinkLetters>), Failure> {
        let journals = journals(&self.config)?;
        let found = journals.letters(|source, sink, letter| self.wants(source, sink, letter))?;
        Ok((journals, found))
    }
}

fn is_at_or_below(top: &str, path: &str) -> bool {
    let rest = path.strip_prefix(top.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn list(choice: &Choice) -> Result<(), Failure> {
    let (_, found) = choice.find()?;
    if !choice.json {
        return print(&text::list(&found));
    }
    let letters: Vec<Value> = found
        .iter()
        .flat_map(|of| of.letters.iter().map(|letter| described(of, letter)))
        .collect();
    print(&format!("{:#}\n", json!({"dead_letters": letters})))
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

fn show(choice: &Choice) -> Result<(), Failure> {
    choice.must_be_narrow()?;
    let (journals, found) = choice.find()?;
    let mut shown = Vec::new();
    for of in &found {
        for letter in &of.letters {
            let Some(whole) = journals.letter(of, letter.seq)? else {
                continue;
            };
            if !choice.json {
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
    match choice.json {
        true => print(&format!("{:#}\n", json!({"dead_letters": shown}))),
        false => Ok(()),
    }
}

fn none() -> Failure {
    Failure::new(Exit::Runtime, "no dead letter is meant: see 'zkbridge dlq list'")
}

async fn order(choice: &Choice, word: &str, order: fn(Vec<Seq>) -> Order) -> Result<(), Failure> {
    choice.must_be_narrow()?;
    let (journals, found) = choice.find()?;
    if found.is_empty() {
        return Err(none());
    }
    let mut outcomes = Vec::new();
    for of in &found {
        let count = of.letters.len();
        let is_gone = |reader: &mut Reader| is_gone(reader, of);
        let orders = order(of.letters.iter().map(|letter| letter.seq).collect());
        let carried = journals.carry_out(&of.source, &of.sink, &orders, is_gone).await?;
        if !choice.json {
            print(&text::ordered(of, count, word, carried))?;
        }
        outcomes.push(json!({
            "source": of.source,
            "sink": of.sink,
            "records": count,
            "done": carried == Carried::Out,
        }));
    }
    match choice.json {
        true => print(&format!("{:#}\n", json!({word: outcomes}))),
        false => Ok(()),
    }
}

/// Whether none of the letters stands there as it did: it is gone, or was tried and rejected once more.
fn is_gone(reader: &mut Reader, of: &SinkLetters) -> Result<bool, JournalError> {
    let left = letters_of(reader, &of.sink)?;
    let stands = |letter: &Letter| {
        let as_before = |left: &Letter| (left.seq, left.attempts) == (letter.seq, letter.attempts);
        left.iter().any(as_before)
    };
    Ok(!of.letters.iter().any(stands))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_itself_and_what_is_below() {
        let check = |top, path, expected| assert_eq!(is_at_or_below(top, path), expected, "{top} {path}");
        check("/a", "/a", true);
        check("/a", "/a/b/c", true);
        check("/a/", "/a/b", true);
        check("/a", "/ab", false);
        check("/a/b", "/a", false);
        check("/", "/a", true);
    }
}
