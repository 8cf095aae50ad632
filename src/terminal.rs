//! Text for a terminal: colour, wrapping, spans of time, counts.
//!
//! `textwrap` breaks lines. Tables are too few and too simple for a crate (`comfy-table`): one, of dead letters, whose rows
//! are two lines. The one progress line, of `replay`, is written as it is, without `indicatif` and its thread.
//!
//! Text of znodes and destinations goes through [`escaped`], so that it never reaches the terminal as a control sequence.

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal, Write};

use anstyle::AnsiColor;
use bridge_console::text::{columns, escaped, size};
use bridge_console::{Color, Style, paint};
use bridge_core::record::Timestamp;
use textwrap::{Options, WordSeparator, WordSplitter};

/// Column of the texts of a section, after their labels.
const TEXT_AT: usize = 14;

/// Moves to the top left and clears the screen.
pub const ANEW: &str = "\u{1b}[H\u{1b}[J";

/// Narrower terminals get lines of this width.
const WIDTH_MIN: usize = 40;

/// The meaning of a word, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good.
    Good,
    /// A warning.
    Warning,
    /// An error: an operator must act.
    Bad,
    /// A heading.
    Strong,
    /// Less important.
    Quiet,
    /// Without colour.
    Plain,
}

impl Tone {
    /// The text in the colour of the tone, if the style has colours.
    pub fn paint(self, text: &str, style: &Style) -> String {
        let look = match self {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Strong => anstyle::Style::new().bold(),
            Tone::Quiet => anstyle::Style::new().dimmed(),
            Tone::Plain => anstyle::Style::new(),
        };
        paint(text, look, style)
    }
}

/// A label and its text, wrapped between words; further lines begin below the text.
pub fn line(label: &str, text: &str, tone: Tone, style: &Style) -> String {
    hanging((&format!("  {label}"), Tone::Quiet), (text, tone), TEXT_AT, style)
}

/// A label and its text, which begins in a column; each of its lines is wrapped between words. Both come with a tone.
pub fn hanging(label: (&str, Tone), text: (&str, Tone), column: usize, style: &Style) -> String {
    let mut lines = String::new();
    let width = style.width.saturating_sub(column);
    let parts = text.0.lines().flat_map(|line| broken(line, width));
    for (at, part) in parts.enumerate() {
        let head = if at == 0 { label.0 } else { "" };
        let head = label.1.paint(&format!("{head:<column$}"), style);
        lines.push_str(&format!("{head}{}\n", text.1.paint(&part, style)));
    }
    lines
}

/// A text in lines of at most `width` columns, wrapped between words; a longer word gets a line of its own.
pub fn broken(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(WIDTH_MIN - TEXT_AT))
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let text = escaped(text);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(Cow::into_owned).collect()
}

/// Writes a line to standard error. Where nobody can read it any more, it is dropped: `eprintln!` would panic.
pub fn notice(text: impl fmt::Display) {
    unended_notice(format_args!("{text}\n"));
}

/// The same without a line feed at its end.
pub fn unended_notice(text: impl fmt::Display) {
    let _ = write!(std::io::stderr().lock(), "{text}");
}

/// A message for standard error, wrapped between words and escaped on a terminal.
pub fn message(text: &str) -> String {
    match std::io::stderr().is_terminal() {
        true => within(text, Style::for_stdout(Color::Never).width),
        false => text.to_owned(),
    }
}

/// Wraps each line of a text.
fn within(text: &str, width: usize) -> String {
    let part = |line: &str| match columns(line) > width {
        true => broken(line, width),
        false => vec![escaped(line).into_owned()],
    };
    text.lines().flat_map(part).collect::<Vec<_>>().join("\n")
}

/// A span of time in at most two units: `3 s`, `2 min`, `1 h 5 min`, `3 d 2 h`.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) if ms < 1000 => format!("{} ms", ms.max(0)),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A time to the second, and its age.
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({} ago)", to_the_second(at), span(now.0 - at.0))
}

/// `2026-11-22T13:40:00Z`.
pub fn to_the_second(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{seconds}Z")
}

/// A count and its noun: `1 record`, `2 records`.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// A number of bytes in a readable unit, up to GiB.
#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub fn bytes(count: u64) -> String {
    const GIB: u64 = 1 << 30;
    match count >= GIB {
        true => format!("{:.1} GiB", count as f64 / GIB as f64),
        false => size(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_as_exact_as_a_person_takes_it_in() {
        let check = |ms, expected| assert_eq!(span(ms), expected, "{ms}");
        check(-5, "0 ms");
        check(999, "999 ms");
        check(59_999, "59 s");
        check(60_000, "1 min");
        check(3_900_000, "1 h 5 min");
        check(180_000_000, "2 d 2 h");
    }

    #[test]
    fn a_message_keeps_its_lines_and_each_is_broken() {
        assert_eq!(
            within("error: one two three four five six seven\n  second", 30),
            "error: one two three four five\nsix seven\n  second"
        );
    }

    #[test]
    fn a_long_text_is_broken_between_words_below_its_beginning() {
        let text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";
        let shown = line("error", text, Tone::Bad, &Style::PLAIN);
        assert_eq!(
            shown,
            "  error       one two three four five six seven eight nine ten eleven twelve\n              \
             thirteen fourteen\n"
        );
        let style = Style {
            color: true,
            ..Style::PLAIN
        };
        assert_eq!(
            line("a", "b\u{1b}[2J", Tone::Bad, &style),
            "\u{1b}[2m  a           \u{1b}[0m\u{1b}[31mb\\u{1b}[2J\u{1b}[0m\n"
        );
    }
}
