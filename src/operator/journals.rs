//! The journals of a configuration as a command sees them: read beside a running bridge, and written where none runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bridge_config::{Config, SourceConfig};
use bridge_core::delivery::{Machine, MachineConfig, Order, RejectPolicy, SinkBacklog};
use bridge_core::journal::{
    Journal, JournalError, Letter, ParkedRecord, Reader, RejectedRecord, SinkProgress,
};
use bridge_core::number::Seq;
use bridge_core::record::Timestamp;

use super::message::Ask;
use super::socket;
use crate::bridge::{journal_file, journal_options, wall_clock};
use crate::exit::{Exit, Failure};

/// Letters read at once, without their records.
const LETTERS_AT_ONCE: usize = 1_000;

/// How long a running bridge may take until an order stands in its journal. A delivery that is under way goes first.
const DONE_BOUND: Duration = Duration::from_secs(10);

/// How often that is looked at.
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

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It stands in the journal.
    Out,
    /// The bridge has taken it and is busy with a delivery.
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

    /// The sources that have a journal, each with a reader.
    pub fn readers(&self) -> Result<Vec<(&SourceConfig, Reader)>, Failure> {
        let mut readers = Vec::new();
        for source in &self.config.sources {
            if self.file(source).exists() {
                readers.push((source, Reader::open(&self.file(source)).map_err(unusable)?));
            }
        }
        if readers.is_empty() {
            let message = format!(
                "there is no journal in {}: check data_dir and the names of the sources, or run the bridge first",
                self.config.data_dir.display()
            );
            return Err(Failure::new(Exit::Environment, message));
        }
        Ok(readers)
    }

    /// A reader of the journal of one source, if there is one that can be read.
    pub fn reader_of(&self, source: &SourceConfig) -> Option<Reader> {
        Reader::open(&self.file(source)).ok()
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
        for (source, mut reader) in self.readers()? {
            for cursor in reader.cursors().map_err(unusable)? {
                let all = letters_of(&mut reader, &cursor.sink).map_err(unusable)?;
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
        let mut reader = Reader::open(&self.file(self.source(&of.source))).map_err(unusable)?;
        let found = reader
            .rejected(&of.sink, Seq(seq.0.saturating_sub(1)), 1)
            .map_err(unusable)?;
        Ok(found.into_iter().find(|found| found.letter.seq == seq))
    }

    fn source(&self, name: &str) -> &SourceConfig {
        let found = self.config.sources.iter().find(|source| *source.name == *name);
        found.expect("it was found among the sources")
    }

    /// Carries an order out, or lets the bridge do it, and waits until `is_done` by what the journal says.
    pub async fn carry_out(
        &self,
        source: &str,
        sink: &str,
        order: &Order,
        is_done: impl FnMut(&mut Reader) -> Result<bool, JournalError>,
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
        order: &Order,
        mut is_done: impl FnMut(&mut Reader) -> Result<bool, JournalError>,
    ) -> Result<Option<Carried>, Failure> {
        let question = Ask {
            source: source.to_owned(),
            sink: sink.to_owned(),
            order: order.into(),
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
        let mut reader = Reader::open(&self.file(source)).map_err(unusable)?;
        let looks = async {
            loop {
                if is_done(&mut reader).map_err(unusable)? {
                    return Ok(Some(Carried::Out));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(DONE_BOUND, looks)
            .await
            .unwrap_or(Ok(Some(Carried::Later)))
    }

    /// No bridge runs: what its machine would note is noted here.
    fn write(&self, source: &SourceConfig, sink: &str, order: &Order) -> Result<(), Failure> {
        let file = self.file(source);
        let mut journal = Journal::open(&file, &journal_options(source)).map_err(unusable)?;
        let mut reader = Reader::open(&file).map_err(unusable)?;
        if let Some(note) = self.note(&mut reader, sink, order).map_err(unusable)? {
            journal.note(&note).map_err(unusable)?;
            journal.commit().map_err(unusable)?;
        }
        Ok(())
    }

    fn note(
        &self,
        reader: &mut Reader,
        sink: &str,
        order: &Order,
    ) -> Result<Option<SinkProgress>, JournalError> {
        let now: Timestamp = wall_clock()();
        let Some(cursor) = reader.cursor(sink)? else {
            return Ok(None);
        };
        let configured = self.config.sinks.iter().find(|known| *known.name == *sink);
        let mut machine = Machine::new(MachineConfig {
            cursor,
            rejects: configured.map_or_else(RejectPolicy::default, |sink| sink.reject),
            aside: SinkBacklog::load(reader, sink, now)?,
            ..MachineConfig::default()
        });
        Ok(machine
            .order(order)
            .map(|progress| progress.note(sink.into(), now)))
    }
}

/// All letters of a sink, without their records.
pub fn letters_of(reader: &mut Reader, sink: &str) -> Result<Vec<Letter>, JournalError> {
    let mut all: Vec<Letter> = Vec::new();
    loop {
        let after = all.last().map_or(Seq::ZERO, |last| last.seq);
        let letters = reader.letters(sink, after, LETTERS_AT_ONCE)?;
        if letters.is_empty() {
            return Ok(all);
        }
        all.extend(letters);
    }
}

/// All parked records of a sink.
pub fn parked_of(reader: &mut Reader, sink: &str) -> Result<Vec<ParkedRecord>, JournalError> {
    let mut all: Vec<ParkedRecord> = Vec::new();
    loop {
        let after = all.last().map_or(Seq::ZERO, |last| last.seq);
        let parked = reader.parked(sink, after, LETTERS_AT_ONCE)?;
        if parked.is_empty() {
            return Ok(all);
        }
        all.extend(parked);
    }
}

/// A journal that cannot be used, as a start of the bridge has it.
pub fn unusable(error: JournalError) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}
