//! Cursors and configured sinks: sinks that have no cursor in a journal yet, with how many records they get when they
//! start, and cursors whose sink is not configured.

use bridge_config::Name;
use bridge_core::delivery::Start;
use bridge_core::journal::{Journal, SinkCursor};
use bridge_core::number::Seq;
use serde::Serialize;

use super::Journals;
use super::socket::ask_cursor_change;
use crate::bridge::{CursorChange, journal_file, journal_options, unconfigured};
use crate::exit::{Exit, Failure};
use crate::terminal::count;

/// A line for people on a cursor whose sink is not configured.
pub fn unconfigured_text((source, cursor): &(Name, SinkCursor)) -> String {
    format!(
        "warning: no sink is configured for the cursor of '{sink}' in source '{source}': 'zkbridge sink rename {sink} NEW' \
         gives it to another sink, 'zkbridge sink forget {sink}' removes it\n",
        sink = cursor.sink
    )
}

/// A sink that is configured and has no cursor in the journal of one of its sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewSink {
    /// The sink.
    pub sink: String,
    /// The source.
    pub source: String,
    /// As it is configured.
    pub start: Start,
    /// The number of records that it gets from before its start, at most: its filters may select fewer. Of a snapshot
    /// only the znodes are counted.
    pub records: u64,
}

impl NewSink {
    /// A line for people.
    pub fn to_text(&self) -> String {
        let NewSink {
            sink,
            source,
            start,
            records,
        } = self;
        let first = match start {
            Start::Snapshot => format!("the present state: at most {}", count(*records, "znode")),
            Start::Earliest => format!("the history: at most {}", count(*records, "record")),
            Start::Now => "the next change".to_owned(),
        };
        format!("new sink '{sink}' of source '{source}' starts with {first}\n")
    }
}

impl Journals {
    /// The cursors in all journals.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn cursors(&self) -> Result<Vec<SinkCursor>, Failure> {
        let mut all = Vec::new();
        for source in &self.config().sources {
            if let Some(journal) = self.existing(source)? {
                all.extend(journal.cursors()?);
            }
        }
        Ok(all)
    }

    /// The cursors whose sinks are not configured, each with the name of its source.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn unconfigured(&self) -> Result<Vec<(Name, SinkCursor)>, Failure> {
        let mut all = Vec::new();
        for source in &self.config().sources {
            if let Some(journal) = self.existing(source)? {
                let found = unconfigured(self.config(), source, journal.cursors()?);
                all.extend(found.into_iter().map(|cursor| (source.name.clone(), cursor)));
            }
        }
        Ok(all)
    }

    /// Changes cursors in the journals: by the bridge that runs, or here where none does. True if a bridge did it.
    ///
    /// # Errors
    /// If the change is refused, or a journal cannot be read or written.
    pub async fn change_cursor(&self, change: &CursorChange) -> Result<bool, Failure> {
        if let Some(answer) = ask_cursor_change(&self.config().data_dir, change).await? {
            return match answer.refused {
                Some(refused) => Err(Failure::new(Exit::Runtime, refused)),
                None => Ok(true),
            };
        }
        change.check(self.config(), &self.cursors()?)?;
        for source in &self.config().sources {
            if self.existing(source)?.is_some() {
                let file = journal_file(self.config(), source);
                change.apply(&mut Journal::open(&file, &journal_options(source))?)?;
            }
        }
        Ok(false)
    }

    /// The sinks without a cursor in a journal that has records. A source without records starts with its first
    /// listing, whose size is not known.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn new_sinks(&self) -> Result<Vec<NewSink>, Failure> {
        let mut found = Vec::new();
        for source in &self.config().sources {
            let Some(journal) = self.existing(source)? else {
                continue;
            };
            let tail = journal.tail()?;
            for sink in &self.config().sinks {
                let is_new = sink.sources.contains(&source.name) && journal.cursor(&sink.name)?.is_none();
                if !is_new || tail == Seq::ZERO {
                    continue;
                }
                let records = match sink.start {
                    Start::Snapshot => journal.reader()?.count_living()?,
                    Start::Earliest => journal.overview()?.records,
                    Start::Now => 0,
                };
                found.push(NewSink {
                    sink: sink.name.to_string(),
                    source: source.name.to_string(),
                    start: sink.start,
                    records,
                });
            }
        }
        Ok(found)
    }
}
