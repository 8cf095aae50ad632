//! Sinks that have no cursor in a journal yet, and how many records they get when they start.

use bridge_core::delivery::Start;
use bridge_core::number::Seq;
use serde::Serialize;

use super::Journals;
use crate::exit::Failure;
use crate::terminal::count;

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
