//! The status document as text, within the width of the terminal.

use std::collections::BTreeMap;

use bridge_console::Style;
use bridge_core::record::Mode;
use bridge_query::status::{
    BridgeStatus, HistorySummary, JournalSummary, SinkFault, SinkSummary, SourceSummary,
};

use crate::terminal::{Tone, bytes, count, line, moment, span};

/// The most lines on things that need attention; the sections of the sinks have all.
const ATTENTION_MAX: usize = 10;

/// The whole document.
pub fn for_people(status: &BridgeStatus, style: &Style) -> String {
    let mut text = head(status, style);
    for source in &status.sources {
        text.push('\n');
        text.push_str(&source_lines(source, status, style));
    }
    for sink in &status.sinks {
        text.push('\n');
        text.push_str(&sink_lines(sink, style));
    }
    text
}

fn head(status: &BridgeStatus, style: &Style) -> String {
    let (word, tone) = match (status.running, status.ready) {
        (true, true) => ("running, ready", Tone::Good),
        (true, false) => ("running, not ready", Tone::Warning),
        (false, _) => ("not running; state of the journals", Tone::Warning),
    };
    let mut text = format!("zkbridge {}: {}", status.version, tone.paint(word, style));
    if let Some(headline) = status.attention_headline() {
        text.push_str(&format!("; {}", Tone::Bad.paint(&headline, style)));
    }
    text.push('\n');
    for words in status.attention.iter().take(ATTENTION_MAX) {
        text.push_str(&line("attention", words, Tone::Bad, style));
    }
    if status.attention.len() > ATTENTION_MAX {
        let more = status.attention.len() - ATTENTION_MAX;
        text.push_str(&line("", &format!("and {more} more"), Tone::Bad, style));
    }
    text
}

/// `source main: live since …`.
fn heading(what: &str, state: &str, tone: Tone, rest: &str, style: &Style) -> String {
    let state = state.replace('_', " ");
    let what = Tone::Strong.paint(what, style);
    format!("{what}: {}{rest}\n", tone.paint(&state, style))
}

fn source_lines(source: &SourceSummary, status: &BridgeStatus, style: &Style) -> String {
    let tone = match &*source.state {
        "live" => Tone::Good,
        "halted" => Tone::Bad,
        _ => Tone::Warning,
    };
    let since = source
        .since
        .map(|since| format!(" since {}", moment(since, status.time)));
    let what = format!("source {}", source.source);
    let mut text = heading(&what, &source.state, tone, &since.unwrap_or_default(), style);
    let mut add = |label: &str, words: Option<String>, tone: Tone| {
        if let Some(words) = words {
            text.push_str(&line(label, &words, tone, style));
        }
    };
    add("halted", source.halted.clone(), Tone::Bad);
    add("trouble", source.trouble.clone(), Tone::Bad);
    let version = source
        .server
        .as_ref()
        .map(|version| format!("ZooKeeper {version}"));
    let server = match (&source.connected_to, version) {
        (Some(at), Some(version)) => Some(format!("{at}, {version}")),
        (Some(at), None) => Some(at.clone()),
        (None, version) => version,
    };
    add("server", server, Tone::Plain);
    match &source.history {
        Some(history) => {
            for (label, words, tone) in history_lines(history, source) {
                add(label, Some(words), tone);
            }
        }
        None => {
            let (words, tone) = watch(source, status);
            add("watch", words, tone);
        }
    }
    add(
        "last zxid",
        source.reported.map(|zxid| zxid.to_string()),
        Tone::Plain,
    );
    let last_event = source.last_event.map(|at| moment(at, status.time));
    let no_event = status.running.then(|| "none since the start".to_owned());
    add("last event", last_event.or(no_event), Tone::Plain);
    let waiting = source.waiting.filter(|waiting| *waiting > 0);
    add(
        "waiting",
        waiting.map(|waiting| count(waiting, "event")),
        Tone::Plain,
    );
    add(
        "full scans",
        source.walks.map(|walks| walks.to_string()),
        Tone::Plain,
    );
    // Transactions that a source reads later are no gap, and neither is the time before the first listing.
    let is_open = source.state == "detached" && source.history.is_none() && source.reported.is_some();
    let gaps = source.gaps.as_ref().map(|known| gaps(known, is_open));
    add("gaps", gaps, if is_open { Tone::Warning } else { Tone::Plain });
    let unreadable = source
        .unreadable
        .map(|unreadable| blind_spots(unreadable, source));
    let is_blind = source.unreadable.is_some_and(|unreadable| unreadable > 0);
    add(
        "unreadable",
        unreadable,
        if is_blind { Tone::Warning } else { Tone::Plain },
    );
    add("journal", Some(journal(&source.journal, status)), Tone::Plain);
    text
}

/// The state of a watch, as far as it is known.
fn watch(source: &SourceSummary, status: &BridgeStatus) -> (Option<String>, Tone) {
    let is_watch = source.mode.is_none_or(|mode| mode == Mode::Watch);
    let armed = source
        .armed_since
        .map(|since| format!("armed since {}", moment(since, status.time)));
    match armed.filter(|_| is_watch) {
        Some(armed) => (Some(armed), Tone::Plain),
        None => (
            (status.running && is_watch)
                .then(|| "not armed; changes are found by a later comparison".to_owned()),
            Tone::Warning,
        ),
    }
}

/// The lines of a source that reads transactions.
fn history_lines(history: &HistorySummary, source: &SourceSummary) -> Vec<(&'static str, String, Tone)> {
    let mut lines = Vec::new();
    let mode = match source.mode {
        Some(Mode::Txnlog) => "txnlog",
        _ => "observer",
    };
    let follows = match &history.follows {
        Some(follows) => (format!("{mode} of {follows}"), Tone::Plain),
        None => (format!("{mode}, not connected"), Tone::Warning),
    };
    lines.push(("capture", follows.0, follows.1));
    if let Some(transactions) = history.lag_transactions {
        let seconds = history.lag_seconds.unwrap_or_default();
        let (words, tone) = match transactions {
            0 => ("none".to_owned(), Tone::Plain),
            _ => (
                format!("{}, {seconds:.0} s", count(transactions, "transaction")),
                Tone::Warning,
            ),
        };
        lines.push(("lag", words, tone));
    }
    let proof = &history.proof;
    let proved = proof.zxid.map_or_else(
        || "nothing proved yet".to_owned(),
        |zxid| format!("proved up to {zxid}"),
    );
    let counts = format!(
        "{}: {proved}; since the start {} checked, {} unproven, {} mismatched",
        proof.mode, proof.checked, proof.unproven, proof.mismatched
    );
    let is_bad = proof.mismatched > 0 || proof.suspended.is_some();
    lines.push(("proof", counts, if is_bad { Tone::Warning } else { Tone::Plain }));
    if let Some(reason) = &proof.suspended {
        lines.push(("", format!("suspended: {reason}"), Tone::Warning));
    }
    if let Some(spool) = history.spool.as_ref().filter(|spool| spool.used_bytes > 0) {
        let words = format!("{} of {}", bytes(spool.used_bytes), bytes(spool.limit_bytes));
        lines.push(("spool", words, Tone::Plain));
    }
    if let Some(tree) = &history.tree {
        let words = match &*tree.phase {
            "arriving" => format!("arriving: {}", bytes(tree.bytes)),
            "comparing" => format!(
                "comparing: {} of {} in the whole tree",
                count(tree.compared, "captured znode"),
                tree.znodes
            ),
            phase => format!("{phase}: {}", count(tree.znodes, "znode")),
        };
        lines.push(("tree", words, Tone::Warning));
    }
    lines
}

/// `is_open`: changes of this moment are not seen, and the gap is recorded when they are again.
fn gaps(gaps: &BTreeMap<String, u64>, is_open: bool) -> String {
    let total: u64 = gaps.values().sum();
    let before = match total {
        0 => "none since the start".to_owned(),
        _ => {
            let reasons: Vec<String> = gaps
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            format!("{total} since the start: {}", reasons.join(", "))
        }
    };
    match is_open {
        true => format!("one is open now; {before}"),
        false => before,
    }
}

fn blind_spots(unreadable: u64, source: &SourceSummary) -> String {
    if unreadable == 0 {
        return "none".to_owned();
    }
    let named: Vec<&str> = source.unreadable_paths.iter().map(|path| path.as_str()).collect();
    let more = if named.len() as u64 == unreadable {
        ""
    } else {
        " …"
    };
    format!(
        "{}, whose changes are not seen: {}{more}",
        count(unreadable, "znode"),
        named.join(" ")
    )
}

fn journal(journal: &JournalSummary, status: &BridgeStatus) -> String {
    let oldest = journal
        .oldest
        .map(|at| format!(", the oldest from {}", moment(at, status.time)));
    let compacted = match journal.compacted {
        0 => String::new(),
        records => format!(", {} compacted", count(records, "record")),
    };
    format!(
        "{} up to seq {}, {} in use, file {}{}{compacted}",
        count(journal.records, "record"),
        journal.tail,
        bytes(journal.used_bytes),
        bytes(journal.file_bytes),
        oldest.unwrap_or_default()
    )
}

fn sink_lines(sink: &SinkSummary, style: &Style) -> String {
    let tone = match &*sink.state {
        "idle" | "delivering" => Tone::Good,
        "halted" => Tone::Bad,
        _ => Tone::Warning,
    };
    let what = format!("sink {} from {}", sink.sink, sink.source);
    let rest = match &*sink.state {
        "new" => ", begins at the next start",
        "unconfigured" => ": no [[sink]] has this name; see 'zkbridge sink rename' and 'sink forget'",
        _ => "",
    };
    let mut text = heading(&what, &sink.state, tone, rest, style);
    if sink.state == "new" {
        return text;
    }
    let mut add = |label: &str, words: String, tone: Tone| text.push_str(&line(label, &words, tone, style));
    if let Some(trouble) = &sink.error {
        add("error", error(trouble), Tone::Bad);
        add("", format!("help: {}", trouble.remedy), Tone::Plain);
    }
    add("cursor", format!("{} of {}", sink.cursor, sink.tail), Tone::Plain);
    add(
        "lag",
        lag(sink),
        if sink.lag_records == 0 {
            Tone::Plain
        } else {
            Tone::Warning
        },
    );
    if let Some(delivered) = sink.delivered {
        let retries = sink.retries.unwrap_or_default();
        let filtered = match sink.filtered.unwrap_or_default() {
            0 => String::new(),
            filtered => format!(", {} filtered out", count(filtered, "record")),
        };
        let failed = format!(
            "{} since the start{filtered}, {}",
            count(delivered, "record"),
            failed_attempts(retries)
        );
        add("delivered", failed, Tone::Plain);
    }
    let letters = sink.dead_letters;
    let rejected = match (letters, sink.rejected.unwrap_or_default()) {
        (0, 0) => "none".to_owned(),
        (0, since) => format!("{since} since the start, none kept"),
        _ => format!(
            "{}: see 'zkbridge dlq list --sink {}'",
            count(letters, "dead letter"),
            sink.sink
        ),
    };
    add(
        "rejected",
        rejected,
        if letters == 0 { Tone::Plain } else { Tone::Warning },
    );
    if let Some(snapshot) = &sink.snapshot {
        let of = snapshot
            .path
            .as_ref()
            .map_or_else(|| "all roots".to_owned(), ToString::to_string);
        let delivered = count(snapshot.delivered, "znode");
        add("snapshot", format!("of {of}, {delivered} delivered"), Tone::Plain);
    }
    if sink.parked.records > 0 {
        add("parked", parked(sink), Tone::Warning);
    }
    text
}

fn failed_attempts(retries: u64) -> String {
    match retries {
        0 => "no failed attempt".to_owned(),
        _ => count(retries, "failed attempt"),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "milliseconds of a lag")]
fn lag(sink: &SinkSummary) -> String {
    if sink.lag_records == 0 {
        return "none".to_owned();
    }
    let records = count(sink.lag_records, "record");
    match (sink.lag_seconds * 1000.0) as i64 {
        0 => records,
        oldest => format!("{records}, the oldest {} old", span(oldest)),
    }
}

fn error(trouble: &SinkFault) -> String {
    let again = match trouble.failures {
        0 | 1 => String::new(),
        failures => format!(", {failures} times in a row"),
    };
    format!("{}{again}: {}", trouble.kind, trouble.message)
}

fn parked(sink: &SinkSummary) -> String {
    let parked = &sink.parked;
    let next: Vec<String> = parked
        .next
        .iter()
        .map(|next| {
            let path = next.path.as_ref().map_or("(control)", |path| path.as_str());
            format!("{path} ({})", next.error)
        })
        .collect();
    let named = if next.is_empty() {
        String::new()
    } else {
        format!(": {}", next.join("; "))
    };
    format!(
        "{} of {} wait for a retry{named}",
        count(parked.records, "record"),
        count(parked.paths, "path")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_is_open_is_named_before_those_that_were() {
        let none = BTreeMap::new();
        let two = BTreeMap::from([("disconnected".to_owned(), 2)]);
        assert_eq!(gaps(&none, false), "none since the start");
        assert_eq!(gaps(&none, true), "one is open now; none since the start");
        assert_eq!(
            gaps(&two, true),
            "one is open now; 2 since the start: 2 disconnected"
        );
    }
}
