//! Dead letters as text, in lines within the width of a terminal. Only [`whole`] has the values of znodes.

use bridge_console::Style;
use bridge_console::text::{escaped, escaped_json, shortened};
use bridge_core::journal::{Letter, RejectedRecord};
use bridge_core::record::Timestamp;

use crate::operator::{Carried, SinkLetters};
use crate::terminal::{count, to_the_second};

/// Indents the lines below a path.
const INDENT: &str = "    ";

/// A table with two lines for each letter: its record, and why it could not be delivered.
pub fn list(found: &[SinkLetters], style: &Style) -> String {
    let letters: u64 = found.iter().map(|of| of.letters.len() as u64).sum();
    if letters == 0 {
        return "no dead letters\n".to_owned();
    }
    let mut text = String::new();
    for of in found {
        let heading = format!("sink {} from source {}", of.sink, of.source);
        let columns = format!("{:>10}  {:>5}  {:<20}  PATH", "SEQ", "TRIES", "REJECTED");
        text.push_str(&fitted(&heading, style));
        text.push_str(&fitted(&columns, style));
        for letter in &of.letters {
            text.push_str(&row(letter, style));
        }
    }
    text.push_str(&format!("{}\n", count(letters, "dead letter")));
    text
}

fn row(letter: &Letter, style: &Style) -> String {
    let path = letter.path.as_deref().unwrap_or("(control record)");
    let rejected = time(letter.at);
    let line = format!(
        "{:>10}  {:>5}  {rejected:<20}  {}",
        letter.seq.0,
        letter.attempts,
        escaped(path)
    );
    let reason = format!("{INDENT}{}", escaped(&letter.reason));
    fitted(&line, style) + &fitted(&reason, style)
}

/// To the second.
fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "unknown".to_owned(), to_the_second)
}

/// A letter with its record.
pub fn whole(of: &SinkLetters, found: &RejectedRecord) -> String {
    let letter = &found.letter;
    let record = serde_json::to_string_pretty(&*found.record)
        .unwrap_or_else(|error| format!("(it cannot be written as JSON: {error})"));
    format!(
        "record {} of source {}, refused by sink {}\n{INDENT}rejected {}, tried {}\n{INDENT}{}\n{}\n",
        letter.seq,
        of.source,
        of.sink,
        time(letter.at),
        count(u64::from(letter.attempts), "time"),
        escaped(&letter.reason),
        escaped_json(&record)
    )
}

/// The result of an order.
pub fn ordered(of: &SinkLetters, word: &str, carried: Carried) -> String {
    let records = count(of.letters.len() as u64, "record");
    let sink = &of.sink;
    match (carried, word) {
        (Carried::Later, _) => {
            format!("{records} of sink {sink}: accepted; done after the delivery under way\n")
        }
        (Carried::Out, "retried") => {
            format!("{records} of sink {sink}: no longer dead letters, delivered in turn\n")
        }
        (Carried::Out, _) => format!("{records} of sink {sink}: {word}\n"),
    }
}

/// A line that ends with an ellipsis if it is too long for a terminal.
fn fitted(line: &str, style: &Style) -> String {
    format!("{}\n", shortened(line.trim_end(), style.room(0)))
}

#[cfg(test)]
mod tests {
    use bridge_console::Layout;
    use bridge_core::number::Seq;
    use bridge_core::path::ZnodePath;

    use super::*;

    #[test]
    fn the_table_keeps_to_the_width_of_a_terminal_and_writes_no_control_characters() {
        let letter = |seq, path: &str, reason: &str| Letter {
            seq: Seq(seq),
            reason: reason.to_owned(),
            attempts: 3,
            at: Some(Timestamp(1_795_355_000_123)),
            path: Some(ZnodePath::parse(path).unwrap()),
        };
        let found = SinkLetters {
            source: "main".into(),
            sink: "changes".into(),
            letters: vec![
                letter(7, "/a", "too large"),
                letter(1842, &format!("/{}", "x".repeat(99)), &"why ".repeat(40)),
                letter(9, "/\u{1b}[31m", "a\nb"),
            ],
        };
        let found = [found];
        let text = list(&found, &Style::PLAIN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "sink changes from source main");
        assert_eq!(lines[2], "         7      3  2026-11-22T13:43:20Z  /a");
        assert_eq!(lines[3], "    too large");
        assert!(lines[4].ends_with("x…") && lines[5].ends_with('…'), "{text}");
        assert_eq!(lines[7], "    a\\nb");
        assert_eq!(lines[8], "3 dead letters");
        assert_eq!(list(&[], &Style::PLAIN), "no dead letters\n");
        let whole = list(&found, &Style::PLAIN.with_layout(Layout::Whole));
        assert!(whole.contains(&"x".repeat(99)) && !whole.contains('…'), "{whole}");
    }
}
