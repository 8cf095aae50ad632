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
    /// The cursors in all journals, each with the name of its source.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn cursors(&self) -> Result<Vec<(Name, SinkCursor)>, Failure> {
        let mut all = Vec::new();
        for source in &self.config().sources {
            if let Some(journal) = self.existing(source)? {
                let cursors = journal.cursors()?.into_iter();
                all.extend(cursors.map(|cursor| (source.name.clone(), cursor)));
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
            if change.concerns(self.config(), &source.name) && self.existing(source)?.is_some() {
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

#[cfg(test)]
mod tests {
    use bridge_core::journal::{JournalWriter, SinkState};

    use super::*;

    /// Journals of the sources `a` and `b`, and one sink with these lines.
    fn journals(folder: &std::path::Path, sink: &str) -> Journals {
        let source = |name| {
            format!("[[source]]\nname = \"{name}\"\nconnect = \"127.0.0.1:1\"\nroots = [\"/{name}\"]\n")
        };
        let sink = format!("[[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n{sink}\n");
        let file = folder.join("zkbridge.toml");
        std::fs::write(&file, source("a") + &source("b") + &sink).unwrap();
        let mut config = bridge_config::load(&file).unwrap().config;
        config.data_dir = folder.join("data");
        Journals::new(config)
    }

    /// Enters cursors of these names into the journal of a source.
    fn enter(journals: &Journals, source: &str, sinks: &[&str]) {
        let mut sources = journals.config().sources.iter();
        let source = sources.find(|found| *found.name == *source).unwrap();
        let file = journal_file(journals.config(), source);
        let mut journal = Journal::open(&file, &journal_options(source)).unwrap();
        for sink in sinks {
            journal.register_sink(sink, Seq::ZERO).unwrap();
        }
        journal.commit().unwrap();
    }

    /// Each cursor as `source/sink`.
    fn entered(journals: &Journals) -> Vec<String> {
        let mut entered = Vec::new();
        for source in &journals.config().sources {
            let journal = journals.existing(source).unwrap().unwrap();
            let cursors = journal.cursors().unwrap().into_iter();
            entered.extend(cursors.map(|cursor| format!("{}/{}", source.name, cursor.sink)));
        }
        entered
    }

    fn rename() -> CursorChange {
        CursorChange::Rename {
            old: "old".into(),
            new: "new".into(),
        }
    }

    #[tokio::test]
    async fn a_rename_that_reached_only_some_journals_is_completed_when_it_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let journals = journals(folder.path(), "name = \"new\"");
        enter(&journals, "a", &["new"]);
        enter(&journals, "b", &["old"]);

        journals.change_cursor(&rename()).await.unwrap();

        assert_eq!(entered(&journals), ["a/new", "b/new"]);
    }

    #[tokio::test]
    async fn a_rename_onto_a_cursor_of_the_same_journal_is_refused_with_its_source_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journals = journals(folder.path(), "name = \"new\"");
        enter(&journals, "a", &["old"]);
        enter(&journals, "b", &["new", "old"]);

        let refused = journals.change_cursor(&rename()).await.unwrap_err();

        assert!(
            refused.message.contains("own already in the journal of b"),
            "{refused:?}"
        );
        assert_eq!(entered(&journals), ["a/old", "b/new", "b/old"]);
    }

    #[tokio::test]
    async fn a_sink_that_dropped_a_source_is_forgotten_there_and_keeps_its_cursor_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let journals = journals(folder.path(), "name = \"audit\"\nsources = [\"a\"]");
        enter(&journals, "a", &["audit"]);
        enter(&journals, "b", &["audit"]);
        let forget = CursorChange::Forget("audit".into());

        journals.change_cursor(&forget).await.unwrap();

        assert_eq!(entered(&journals), ["a/audit"]);
        let refused = journals.change_cursor(&forget).await.unwrap_err();
        assert!(refused.message.contains("is configured"), "{refused:?}");
        assert_eq!(entered(&journals), ["a/audit"]);
    }
}
