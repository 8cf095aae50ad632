//! The table for people and the JSON for programs.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::figures::{Figures, Summary};
use crate::goals::{Outcome, outcomes};
use crate::machine;
use crate::scenario::OTHERS;
use crate::settings::Settings;
use crate::subject::{COMPRESSION, Subject};
use crate::topic::PARTITIONS;

/// Characters of a line of prose.
const WIDTH: usize = 118;

/// The file of the tables.
pub const TABLE: &str = "bench.md";

/// A number with its significant digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 1_000.0 => thousands(value),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if value == 0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    if value < 0.0 { format!("-{shown}") } else { shown }
}

fn cell(summary: Option<Summary>) -> String {
    match summary {
        None => "–".to_owned(),
        Some(it) if (it.least, it.most) == (it.median, it.median) => number(it.median),
        Some(it) => format!("{} ({}–{})", number(it.median), number(it.least), number(it.most)),
    }
}

/// The tables, as Markdown.
pub fn table(figures: &Figures, settings: &Settings) -> String {
    let mut text = format!("{}\n\n{}", wrapped(&conditions(settings)), others(figures));
    text += &goal_table(&outcomes(figures));
    for scenario in figures.scenarios() {
        let _ = write!(text, "\n**{scenario}**\n\n");
        text += &scenario_table(figures, scenario);
    }
    text
}

/// Wraps a text to the width of the project's documents.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

fn goal_table(outcomes: &[Outcome]) -> String {
    let mut text = "| goal | wanted | result: median (range) | met |\n| --- | --- | --- | --- |\n".to_owned();
    for outcome in outcomes {
        let met = match outcome.is_met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        let (title, goal) = (outcome.title, &outcome.goal);
        let _ = writeln!(text, "| {title} | {goal} | {} | {met} |", cell(outcome.reached));
    }
    text
}

fn scenario_table(figures: &Figures, scenario: &str) -> String {
    let subjects = figures.subjects(scenario);
    let names: Vec<String> = subjects.iter().map(Subject::to_string).collect();
    let mut text = format!("| median (range) | {} |\n", names.join(" | "));
    let _ = writeln!(text, "| --- |{}", " --- |".repeat(subjects.len()));
    for measure in figures.measures(scenario) {
        let cells: Vec<String> = subjects
            .iter()
            .map(|subject| cell(figures.summary(scenario, *subject, measure)))
            .collect();
        let _ = writeln!(text, "| {measure} | {} |", cells.join(" | "));
    }
    text
}

fn conditions(settings: &Settings) -> String {
    let sizes = &settings.sizes;
    format!(
        "{} cores ({}), Linux {}; ZooKeeper {}, one server, `forceSync=no`; Kafka {}, one broker, {PARTITIONS} \
         partitions; everything on this machine, over loopback. Values of {} bytes. Producers: idempotent, \
         `acks=all`, {COMPRESSION}, linger 5 ms unless stated otherwise. The bridge: release build, journal with \
         fsync (`durability = \"power_loss\"`) unless stated otherwise. {} repetitions.",
        cores(),
        machine::processor(),
        machine::kernel(),
        bridge_servers::ZOOKEEPER_NEWEST,
        bridge_servers::KAFKA_NEWEST,
        sizes.value_bytes,
        sizes.repetitions,
    )
}

/// The processor time of other programs during the measurements.
fn others(figures: &Figures) -> String {
    let rounds = figures.rounds().iter();
    let values = rounds.filter_map(|round| round.measures.get(OTHERS).copied());
    match Summary::of(values) {
        None => String::new(),
        took => format!("Meanwhile other programs took {} % of one core.\n\n", cell(took)),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All measurements, for programs.
pub fn json(figures: &Figures, settings: &Settings) -> Value {
    let mut summaries = Vec::new();
    for scenario in figures.scenarios() {
        for subject in figures.subjects(scenario) {
            for measure in figures.measures(scenario) {
                let Some(summary) = figures.summary(scenario, subject, measure) else {
                    continue;
                };
                summaries.push(json!({
                    "scenario": scenario, "subject": subject, "measure": measure, "summary": summary,
                }));
            }
        }
    }
    json!({
        "conditions": {
            "cores": cores(),
            "processor": machine::processor(),
            "kernel": machine::kernel(),
            "zookeeper": bridge_servers::ZOOKEEPER_NEWEST,
            "zookeeper_force_sync": false,
            "kafka": bridge_servers::KAFKA_NEWEST,
            "partitions": PARTITIONS,
            "compression": COMPRESSION,
            "value_bytes": settings.sizes.value_bytes,
            "repetitions": settings.sizes.repetitions,
        },
        "goals": outcomes(figures),
        "summaries": summaries,
        "rounds": figures.rounds(),
    })
}

/// Writes `bench.md` and `bench.json`.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(figures: &Figures, settings: &Settings, folder: &Path) -> Result<()> {
    let put = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    };
    put(TABLE, table(figures, settings))?;
    put("bench.json", format!("{:#}\n", json(figures, settings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(0.123, "0.12");
        check(12.34, "12.3");
        check(123.4, "123");
        check(24_700.3, "24,700");
        check(1_234_567.0, "1,234,567");
        check(-1_234.0, "-1,234");
    }

    #[test]
    fn prose_is_wrapped_and_keeps_its_words() {
        let text = ["word"; 100].join(" ");
        let wrapped = wrapped(&text);
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH), "{wrapped}");
        assert_eq!(wrapped.replace('\n', " "), text);
    }

    #[test]
    fn a_cell_has_the_range_where_there_is_one() {
        let cell = |values: &[f64]| cell(Summary::of(values.iter().copied()));
        assert_eq!(cell(&[]), "–");
        assert_eq!(cell(&[5.0]), "5.00");
        assert_eq!(cell(&[1.0, 2.0, 4.0]), "2.00 (1.00–4.00)");
    }
}
