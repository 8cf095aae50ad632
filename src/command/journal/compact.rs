//! `zkbridge journal compact`: what retention lets go is removed, and its space given back.

use bridge_core::journal::{Compacted, Journal, JournalErrorKind};
use serde_json::json;

use super::{Checked, chosen};
use crate::bridge::{journal_file, journal_options, wall_clock};
use crate::command::print;
use crate::command::sink::journals;
use crate::exit::{Exit, Failure};
use crate::operator::unusable;
use crate::terminal::{bytes, count};

pub(super) fn run(args: &Checked) -> Result<(), Failure> {
    let journals = journals(&args.config)?;
    let config = journals.config();
    let mut reports = Vec::new();
    for (source, reader) in chosen(&journals, args.source.as_deref())? {
        // A reader would keep its part of the log.
        drop(reader);
        let opened = Journal::open(&journal_file(config, source), &journal_options(source));
        let mut journal = opened.map_err(|error| match error.kind {
            JournalErrorKind::InUse => Failure::new(
                Exit::Environment,
                format!(
                    "{error}; a running bridge applies retention by itself and uses the space again, so that only a \
                     file that is to shrink needs it stopped"
                ),
            ),
            _ => unusable(error),
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
        true => print(&format!("{:#}\n", json!({"compacted": reports}))),
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
