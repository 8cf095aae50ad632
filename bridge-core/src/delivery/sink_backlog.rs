//! Loads the parked records and dead letters of a sink when its worker starts.

use super::dead_letters::{DEAD_LETTERS_MAX, DeadLetters};
use super::retry_queue::{PARKED_MAX, QueuedRetry};
use crate::journal::{Disabled, JournalError, Reader, SinkRun};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Timestamp;

/// Dead letters or parked records read in one query.
const ROWS_AT_ONCE: usize = 1_000;

/// The parked records and dead letters of a sink, and whether it may deliver.
#[derive(Clone, Debug, Default)]
pub struct SinkBacklog {
    /// Its dead letters.
    pub letters: DeadLetters,
    /// Its parked records, ascending by `seq`.
    pub parked: Vec<QueuedRetry>,
    /// Why it may not deliver; `None` if it may.
    pub disabled: Option<Disabled>,
    /// Its run that is not delivered to the end.
    pub run: Option<SinkRun>,
}

impl SinkBacklog {
    /// Loads the state of a sink from the journal. Stops at the limits, which no sink exceeds.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn load(reader: &mut Reader, sink: &str, now: Timestamp) -> Result<SinkBacklog, JournalError> {
        Ok(SinkBacklog {
            letters: load_letters(reader, sink)?,
            parked: load_parked(reader, sink, now)?,
            disabled: reader.disabled(sink)?,
            run: reader.run(sink)?,
        })
    }
}

fn load_letters(reader: &mut Reader, sink: &str) -> Result<DeadLetters, JournalError> {
    let mut all = DeadLetters::default();
    let mut after = Seq::ZERO;
    // A batch at the limit may have brought some more.
    while all.len() <= 2 * DEAD_LETTERS_MAX {
        let letters = reader.letters(sink, after, ROWS_AT_ONCE)?;
        let Some(last) = letters.last() else { break };
        after = last.seq;
        for letter in letters {
            let path = match letter.at {
                Some(_) => letter.path,
                None => path_of(reader, sink, letter.seq)?,
            };
            all.add(letter.seq, path);
        }
    }
    Ok(all)
}

/// The path of a letter of the first format, which is only in its record.
fn path_of(reader: &mut Reader, sink: &str, seq: Seq) -> Result<Option<ZnodePath>, JournalError> {
    let found = reader.rejected(sink, Seq(seq.0 - 1), 1)?.pop();
    Ok(found.and_then(|letter| letter.record.path.clone()))
}

fn load_parked(reader: &mut Reader, sink: &str, now: Timestamp) -> Result<Vec<QueuedRetry>, JournalError> {
    let mut all: Vec<QueuedRetry> = Vec::new();
    while all.len() <= 2 * PARKED_MAX {
        let after = all.last().map_or(Seq::ZERO, |last| last.seq);
        let rows = reader.parked(sink, after, ROWS_AT_ONCE)?;
        if rows.is_empty() {
            break;
        }
        all.extend(rows.into_iter().map(|row| QueuedRetry::of(row, now)));
    }
    Ok(all)
}
