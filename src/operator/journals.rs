//! The journals of a configuration as a command sees them: read beside a running bridge, and written where none runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bridge_config::{Config, SourceConfig};
use bridge_core::delivery::{Machine, MachineConfig, OperatorRequest, RejectPolicy, SinkBacklog};
use bridge_core::journal::{
    Journal, JournalError, JournalWriter, Letter, Reader, RejectedRecord, SinkProgress, SinkState,
};
use bridge_core::number::Seq;
use bridge_core::record::Timestamp;
use bridge_query::{JournalQuery, QueryError};

use super::message::Ask;
use super::socket;
use crate::bridge::{journal_file, journal_options, wall_clock};
use crate::exit::{Exit, Failure};

/// How long a running bridge may take to write an order into its journal. A delivery that is under way goes first.
const DONE_BOUND: Duration = Duration::from_secs(10);

/// Poll interval while waiting for that.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The journals of all sources, of one configuration.
pub struct Journals {
    config: Config,
}

/// The dead letters of one sink from one source.
pub struct SinkLetters {
    /// The source.
    pub source: Arc<str>,
    /// The sink.
    pub sink: Arc<str>,
    /// Without their records.
    pub letters: Vec<Letter>,
}

/// The progress of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It is in the journal.
    Out,
    /// The bridge has accepted it and is busy with a delivery.
    Later,
}

impl Journals {
    /// Of this configuration.
    pub fn new(config: Config) -> Journals {
        Journals { config }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The journals that exist, each with its source.
    pub fn open(&self) -> Result<Vec<(&SourceConfig, JournalQuery)>, Failure> {
        let mut journals = Vec::new();
        for source in &self.config.sources {
            if let Some(journal) = self.existing(source)? {
                journals.push((source, journal));
            }
        }
        if journals.is_empty() {
            let message = format!(
                "there is no journal in {}\nhelp: check data_dir and the names of the sources, or run the bridge first",
                self.config.data_dir.display()
            );
            return Err(Failure::new(Exit::Environment, message));
        }
        Ok(journals)
    }

    /// The configured sources, or the named one.
    pub fn configured(&self, name: Option<&str>) -> Result<Vec<&SourceConfig>, Failure> {
        let sources = self.config.sources.iter();
        let chosen: Vec<_> = sources
            .filter(|source| name.is_none_or(|name| *source.name == *name))
            .collect();
        match name {
            Some(name) if chosen.is_empty() => {
                let known: Vec<&str> = self.config.sources.iter().map(|source| &*source.name).collect();
                let message = format!(
                    "no source has the name '{name}'\nhelp: give one of: {}",
                    known.join(", ")
                );
                Err(Failure::new(Exit::Configuration, message))
            }
            _ => Ok(chosen),
        }
    }

    /// The journals that exist, of all sources or of the named one, which must be configured and have a journal.
    pub fn of_source(&self, name: Option<&str>) -> Result<Vec<(&SourceConfig, JournalQuery)>, Failure> {
        self.configured(name)?;
        let mut journals = self.open()?;
        journals.retain(|(source, _)| name.is_none_or(|name| *source.name == *name));
        match (journals.is_empty(), name) {
            (true, Some(name)) => Err(Failure::new(
                Exit::Environment,
                format!("source '{name}' has no journal\nhelp: run the bridge first"),
            )),
            _ => Ok(journals),
        }
    }

    /// The journal of one source; `None` if it does not exist.
    pub(super) fn existing(&self, source: &SourceConfig) -> Result<Option<JournalQuery>, Failure> {
        let file = self.file(source);
        let opened = file.exists().then(|| JournalQuery::open(&file));
        Ok(opened.transpose()?)
    }

    /// The journal of one source, if it exists and can be read.
    pub fn journal_of(&self, source: &SourceConfig) -> Option<JournalQuery> {
        JournalQuery::open(&self.file(source)).ok()
    }

    fn file(&self, source: &SourceConfig) -> PathBuf {
        journal_file(&self.config, source)
    }

    /// The dead letters that are wanted, by source and sink.
    pub fn letters(
        &self,
        is_wanted: impl Fn(&str, &str, &Letter) -> bool,
    ) -> Result<Vec<SinkLetters>, Failure> {
        let mut found = Vec::new();
        for (source, journal) in self.open()? {
            for cursor in journal.cursors()? {
                let all = journal.dead_letters(&cursor.sink)?;
                let letters: Vec<Letter> = all
                    .into_iter()
                    .filter(|letter| is_wanted(&source.name, &cursor.sink, letter))
                    .collect();
                if !letters.is_empty() {
                    found.push(SinkLetters {
                        source: source.name.shared(),
                        sink: cursor.sink,
                        letters,
                    });
                }
            }
        }
        Ok(found)
    }

    /// One of them with its record; `None` if it went meanwhile.
    pub fn letter(&self, of: &SinkLetters, seq: Seq) -> Result<Option<RejectedRecord>, Failure> {
        let journal = JournalQuery::open(&self.file(self.source(&of.source)))?;
        Ok(journal.dead_letter(&of.sink, seq)?)
    }

    fn source(&self, name: &str) -> &SourceConfig {
        let found = self.config.sources.iter().find(|source| *source.name == *name);
        found.expect("it was found among the sources")
    }

    /// Executes an order, or sends it to the running bridge, and waits until the journal satisfies `is_done`.
    pub async fn carry_out(
        &self,
        source: &str,
        sink: &str,
        order: &OperatorRequest,
        is_done: impl FnMut(&JournalQuery) -> Result<bool, QueryError>,
    ) -> Result<Carried, Failure> {
        match self.hand_over(source, sink, order, is_done).await? {
            Some(carried) => Ok(carried),
            None => {
                self.write(self.source(source), sink, order)?;
                Ok(Carried::Out)
            }
        }
    }

    /// The same where only a running bridge can carry it out; `None` where none runs.
    pub async fn hand_over(
        &self,
        source: &str,
        sink: &str,
        order: &OperatorRequest,
        mut is_done: impl FnMut(&JournalQuery) -> Result<bool, QueryError>,
    ) -> Result<Option<Carried>, Failure> {
        let question = Ask {
            source: source.to_owned(),
            sink: sink.to_owned(),
            order: order.clone(),
        };
        let source = self.source(source);
        match socket::ask(&self.config.data_dir, &question).await? {
            None => return Ok(None),
            Some(answer) => {
                if let Some(refused) = answer.refused {
                    return Err(Failure::new(Exit::Runtime, refused));
                }
            }
        }
        let journal = JournalQuery::open(&self.file(source))?;
        let looks = async {
            loop {
                if is_done(&journal)? {
                    return Ok(Some(Carried::Out));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(DONE_BOUND, looks)
            .await
            .unwrap_or(Ok(Some(Carried::Later)))
    }

    /// Writes the progress that the machine of a running bridge would write.
    fn write(&self, source: &SourceConfig, sink: &str, order: &OperatorRequest) -> Result<(), Failure> {
        let file = self.file(source);
        let mut journal = Journal::open(&file, &journal_options(source))?;
        let mut reader = Reader::open(&file)?;
        if let Some(progress) = self.progress_of(&mut reader, sink, order)? {
            journal.store_progress(&progress)?;
            journal.commit()?;
        }
        Ok(())
    }

    /// The effect of an order on a sink without a worker, as the progress that its machine reports.
    fn progress_of(
        &self,
        reader: &mut Reader,
        sink: &str,
        order: &OperatorRequest,
    ) -> Result<Option<SinkProgress>, JournalError> {
        let now: Timestamp = wall_clock()();
        let Some(cursor) = reader.cursor(sink)? else {
            return Ok(None);
        };
        let configured = self.config.sinks.iter().find(|known| *known.name == *sink);
        let mut machine = Machine::new(MachineConfig {
            cursor,
            rejects: configured.map_or_else(RejectPolicy::default, |sink| sink.reject),
            backlog: SinkBacklog::load(reader, sink, now)?,
            ..MachineConfig::default()
        });
        Ok(machine
            .order(order)
            .map(|progress| progress.of_sink(sink.into(), now)))
    }
}
