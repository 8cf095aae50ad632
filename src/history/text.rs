//! A record of a path for people: two lines, or three.

use bridge_console::{Style, value_words};
use bridge_core::record::{Fidelity, Record, ZxidKind};

use super::moment::Then;
use crate::terminal::{Tone, broken, count};

/// What stands below a record is set in by so much.
const INDENT: &str = "        ";

/// Zxids of overwritten versions that are shown; the rest are in the record.
const SHOWN_MAX: usize = 3;

/// When and what, what is special about it, what changed.
pub fn entry(record: &Record, style: &Style) -> String {
    let zxid = match (record.zxid, record.zxid_kind) {
        (None, _) => "zxid not known".to_owned(),
        (Some(zxid), ZxidKind::UpperBound) => format!("≤ {zxid}"),
        (Some(zxid), _) => zxid.to_string(),
    };
    let time = record.time.changed.unwrap_or(record.time.captured);
    let head = format!(
        "{:>6}  {}  {:<8} {time}  {zxid}\n",
        record.seq,
        fidelity(record),
        record.op.as_str()
    );
    let mut text = Tone::Strong.paint(head.trim_end(), style) + "\n";
    let value = value_words(record, style.width.saturating_sub(INDENT.len()));
    if !value.is_empty() {
        text.push_str(&format!("{INDENT}{value}\n"));
    }
    let notes = notes(record);
    if !notes.is_empty() {
        for line in broken(&notes.join(", "), style.width.saturating_sub(INDENT.len())) {
            text.push_str(&format!("{INDENT}{}\n", Tone::Quiet.paint(&line, style)));
        }
    }
    text
}

fn fidelity(record: &Record) -> &'static str {
    match record.fidelity {
        Fidelity::Exact => "exact     ",
        Fidelity::Reconciled => "reconciled",
    }
}

fn notes(record: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    let stat = |state: &Option<bridge_core::record::State>| state.as_ref().and_then(|state| state.stat);
    let stat = stat(&record.after).or_else(|| stat(&record.before));
    if let Some(stat) = stat {
        notes.push(format!("version {}", stat.version));
        if stat.is_ephemeral() {
            notes.push(format!("ephemeral of session {}", stat.ephemeral_owner));
        }
    } else if record.ephemeral == Some(true) {
        notes.push("ephemeral".to_owned());
    }
    if record.time.changed.is_none() {
        notes.push("the time is that of the capture".to_owned());
    }
    match record.missed {
        Some(0) => {}
        None => {}
        Some(missed) => {
            let zxids: Vec<String> = record.superseded.iter().rev().map(ToString::to_string).collect();
            let shown = &zxids[..zxids.len().min(SHOWN_MAX)];
            let more = if zxids.len() > SHOWN_MAX { " …" } else { "" };
            let at = if shown.is_empty() {
                String::new()
            } else {
                format!(" at {}{more}", shown.join(" "))
            };
            notes.push(format!(
                "{} before it{at} could not be read",
                count(missed, "value")
            ));
        }
    }
    notes
}

/// What is said about a value at a moment, besides the value.
pub fn then_lines(then: &Then) -> String {
    let head = match (then.exists, then.data.is_some()) {
        (Some(false), _) => "it did not exist",
        (Some(true), true) if then.certain => "",
        (Some(true), true) => "the value is the last one known, and not certain",
        (Some(true), false) => "it existed, and its value is not known",
        (None, _) => "whether it existed is not known",
    };
    let lines = std::iter::once(head).chain(then.doubts.iter().map(String::as_str));
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .flat_map(|line| broken(line, bridge_config::WIDTH))
        .map(|line| line + "\n")
        .collect()
}
