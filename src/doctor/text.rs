//! The findings as text for people.

use bridge_console::Style;
use bridge_console::text::escaped;

use super::{Level, Line};
use crate::terminal::{Tone, count, hanging};

/// Column of the texts, after the word for the level.
const TEXT_AT: usize = 9;

/// The lines grouped by subject, and the totals.
pub fn for_people(lines: &[Line], style: &Style) -> String {
    let mut text = String::new();
    let mut subject = None;
    for line in lines {
        if subject != Some(&line.subject) {
            text.push_str(&format!(
                "{}\n",
                Tone::Strong.paint(&escaped(&line.subject), style)
            ));
            subject = Some(&line.subject);
        }
        text.push_str(&one(line, style));
    }
    for line in lines {
        if let Some(section) = &line.section {
            text.push_str(&format!(
                "\n# for {}\n{}",
                escaped(&line.subject),
                escaped_lines(section)
            ));
        }
    }
    let of = |level| lines.iter().filter(|line| line.level == level).count() as u64;
    let (warnings, failures) = (of(Level::Warning), of(Level::Failure));
    let tone = match (warnings, failures) {
        (0, 0) => Tone::Good,
        (_, 0) => Tone::Warning,
        _ => Tone::Bad,
    };
    let sum = format!("{}, {}", count(failures, "failure"), count(warnings, "warning"));
    text.push_str(&format!("\n{}\n", tone.paint(&sum, style)));
    text
}

/// The lines of a section, which keep their line feeds.
fn escaped_lines(section: &str) -> String {
    section
        .lines()
        .map(|line| format!("{}\n", escaped(line)))
        .collect()
}

fn one(line: &Line, style: &Style) -> String {
    let (word, tone) = match line.level {
        Level::Ok => ("ok", Tone::Good),
        Level::Warning => ("warning", Tone::Warning),
        Level::Failure => ("failure", Tone::Bad),
    };
    let words = format!("{}: {}", line.check, line.message);
    let mut text = hanging((word, tone), (&words, Tone::Plain), TEXT_AT, style);
    if let Some(remedy) = &line.remedy {
        let help = format!("help: {remedy}");
        text.push_str(&hanging(("", Tone::Plain), (&help, Tone::Quiet), TEXT_AT, style));
    }
    text
}
