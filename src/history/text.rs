//! A record of a path for people: two lines, or three.

use bridge_console::{Style, value_words};
use bridge_core::record::{Fidelity, Record, ZxidKind};

use super::as_of::AsOfValue;
use crate::terminal::{Tone, broken, count};

/// What stands below a record is set in by so much.
const INDENT: &str = "        ";

/// Zxids of overwritten versions that are shown; the rest are in the record.
const SHOWN_MAX: usize = 3;

/// When and what, what is special about it, what changed. `compacted`: how many records a full journal has taken into
/// this one.
pub fn entry(record: &Record, compacted: Option<u64>, style: &Style) -> String {
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
    let notes = notes(record, compacted.unwrap_or(0));
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

fn notes(record: &Record, compacted: u64) -> Vec<String> {
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
        None if compacted > 0 => notes.push(format!(
            "{} before it went into it as the journal was full",
            count(compacted, "record")
        )),
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
            let unread = missed.saturating_sub(compacted);
            notes.push(match (compacted, unread) {
                (0, unread) => format!("{} before it{at} could not be read", count(unread, "value")),
                (compacted, 0) => format!(
                    "{} before it{at} went into it as the journal was full",
                    count(compacted, "record")
                ),
                (compacted, unread) => format!(
                    "{} before it{at} went into it as the journal was full, and {} could not be read",
                    count(compacted, "record"),
                    count(unread, "value")
                ),
            });
        }
    }
    notes
}

/// What is said about a value at a moment, besides the value.
pub fn then_lines(then: &AsOfValue) -> String {
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

#[cfg(test)]
mod tests {
    use bridge_console::Color;
    use bridge_core::testing::a_record;

    use super::*;

    #[track_caller]
    fn check(missed: Option<u64>, compacted: Option<u64>, expected: Option<&str>) {
        let record = a_record().missed(missed).build();
        let text = entry(&record, compacted, &Style::for_stdout(Color::Never));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match expected {
            Some(words) => assert!(text.contains(words), "'{words}' is not in: {text}"),
            None => assert!(!text.contains("before it"), "{text}"),
        }
    }

    #[test]
    fn what_nobody_could_read_is_told_apart_from_what_a_full_journal_has_compacted() {
        check(Some(0), None, None);
        check(Some(2), None, Some("2 values before it could not be read"));
        check(
            Some(2),
            Some(2),
            Some("2 records before it went into it as the journal was full"),
        );
        check(Some(3), Some(2), Some("full, and 1 value could not be read"));
        check(None, Some(2), Some("2 records before it went into it"));
    }
}
