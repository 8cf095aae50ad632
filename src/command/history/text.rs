//! The history of a znode as text: two or three lines for each record.

use bridge_console::text::escaped;
use bridge_console::{Style, data_words, value_words, writer_words};
use bridge_core::record::{Fidelity, Record, Timestamp, ZxidKind};
use bridge_query::{AsOfValue, Doubt, HistoryPage};

use crate::terminal::{Tone, broken, count};

/// Indents the lines below the head of a record.
const INDENT: &str = "        ";

/// Zxids of overwritten versions that are shown; the others are in the record.
const SHOWN_MAX: usize = 3;

/// The line above the versions in one journal.
pub fn heading(path: &str, source: &str) -> String {
    format!("{} in source {source}\n", escaped(path))
}

/// The head of a record, its value or change, and remarks. `compacted`: how many records were merged into it because
/// the journal was full.
pub fn version(record: &Record, compacted: Option<u64>, style: &Style) -> String {
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
    let value = value_words(record, style.values, style.room(INDENT.len()));
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
    notes.extend(writer_words(record));
    if record.time.changed.is_none() {
        notes.push("the time is that of the capture".to_owned());
    }
    match record.missed {
        Some(0) => {}
        None if compacted > 0 => notes.push(format!(
            "{} before it were merged into it because the journal was full",
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
                    "{} before it{at} were merged into it because the journal was full",
                    count(compacted, "record")
                ),
                (compacted, unread) => format!(
                    "{} before it{at} were merged into it because the journal was full, and {} could not be read",
                    count(compacted, "record"),
                    count(unread, "value")
                ),
            });
        }
    }
    notes
}

/// The line above the versions of the time before the journal, and why there may be others between.
pub fn past(doubt: Option<&Doubt>, style: &Style) -> String {
    let mut text = Tone::Quiet.paint("before the journal, from transaction logs:", style) + "\n";
    if let Some(doubt) = doubt {
        for line in broken(&doubt.to_string(), style.width.saturating_sub(INDENT.len())) {
            text.push_str(&format!("{INDENT}{}\n", Tone::Quiet.paint(&line, style)));
        }
    }
    text
}

/// The lines after the last version of a page.
pub fn end(page: &HistoryPage, style: &Style) -> String {
    if let Some(znode) = &page.unchanged
        && let Some(stat) = znode.node.stat
    {
        let head = match Timestamp::of_stat(stat.mtime) {
            Some(changed) => format!("unchanged since {changed}  {}", stat.mzxid),
            None => "unchanged since the ensemble began".to_owned(),
        };
        let mut text = format!("        {}\n", Tone::Strong.paint(&head, style));
        if let Some(data) = &znode.data {
            let value = data_words(data, style.values, style.room(INDENT.len()));
            text.push_str(&format!("{INDENT}{value}\n"));
        }
        let note = format!("version {}, retention has removed its records", stat.version);
        text.push_str(&format!("{INDENT}{}\n", Tone::Quiet.paint(&note, style)));
        return text;
    }
    match page.next.is_none() && page.is_cut {
        true => format!("{INDENT}(retention may have removed older records)\n"),
        false => String::new(),
    }
}

/// The remarks about a value at a moment.
pub fn doubts(value: &AsOfValue) -> String {
    let head = match (value.exists, value.data.is_some()) {
        (Some(false), _) => "it did not exist",
        (Some(true), true) if value.certain => "",
        (Some(true), true) => "the value is the last one known, and not certain",
        (Some(true), false) => "it existed, and its value is not known",
        (None, _) => "whether it existed is not known",
    };
    let lines = std::iter::once(head.to_owned()).chain(value.doubts.iter().map(ToString::to_string));
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .flat_map(|line| broken(&line, bridge_config::WIDTH))
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
        let text = version(&record, compacted, &Style::for_stdout(Color::Never));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match expected {
            Some(words) => assert!(text.contains(words), "'{words}' is not in: {text}"),
            None => assert!(!text.contains("before it"), "{text}"),
        }
    }

    #[test]
    fn unread_versions_and_compacted_ones_are_described_differently() {
        check(Some(0), None, None);
        check(Some(2), None, Some("2 values before it could not be read"));
        check(
            Some(2),
            Some(2),
            Some("2 records before it were merged into it because the journal was full"),
        );
        check(Some(3), Some(2), Some("full, and 1 value could not be read"));
        check(None, Some(2), Some("2 records before it were merged into it"));
    }
}
