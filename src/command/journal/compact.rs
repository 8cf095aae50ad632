//! `zkbridge journal compact`: removes expired records and shrinks the file.

use bridge_core::journal::{Compacted, Journal, JournalErrorKind};
use serde_json::json;

use super::ChosenJournals;
use crate::bridge::{journal_file, journal_options, wall_clock};
use crate::command::{print, print_json};
use crate::exit::{Exit, Failure};
use crate::terminal::{bytes, count};

pub(super) fn run(args: &ChosenJournals) -> Result<(), Failure> {
    let journals = args.config.journals()?;
    let config = journals.config();
    let mut reports = Vec::new();
    for (source, journal) in journals.of_source(args.source.as_deref())? {
        // An open reader would keep SQLite from truncating the write-ahead log.
        drop(journal);
        let opened = Journal::open(&journal_file(config, source), &journal_options(source));
        let mut journal = opened.map_err(|error| match error.kind {
            JournalErrorKind::InUse => Failure::new(
                Exit::Environment,
                format!(
                    "{error}\nhelp: stop the bridge to shrink the file; a running bridge applies retention itself and \
                     reuses the space"
                ),
            ),
            _ => error.into(),
        })?;
        let done = journal
            .compact(wall_clock()())
            .map_err(|error| Failure::new(Exit::Runtime, error.to_string()))?;
        reports.push(json!({
            "source": source.name.to_string(),
            "removed": done.removed,
            "bytes_before": done.bytes_before,
            "bytes_after": done.bytes_after,
        }));
        if !args.json {
            print(&sentence(&source.name, &done))?;
        }
    }
    match args.json {
        true => print_json(&json!({"compacted": reports})),
        false => Ok(()),
    }
}

fn sentence(name: &str, done: &Compacted) -> String {
    format!(
        "journal of {name}: {} removed, {} before, {} now\n",
        count(done.removed, "record"),
        bytes(done.bytes_before),
        bytes(done.bytes_after)
    )
}
