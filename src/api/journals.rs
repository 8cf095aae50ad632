//! The journals of the running sources: opened when they are first asked, one question at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bridge_core::record::Timestamp;
use bridge_query::JournalQuery;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::access::Caller;
use super::problem::Problem;
use super::tail_pages::TailPages;
use crate::bridge::{View, wall_clock};

/// Questions that wait for their turn at one source.
const WAITING_MAX: usize = 16;

/// How long a question waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(2);

/// The journals of the sources that the bridge has.
pub(super) struct ApiJournals {
    data_dir: PathBuf,
    view: View,
    opened: Mutex<HashMap<String, Arc<SourceJournal>>>,
}

/// The journal of one source.
pub(super) struct SourceJournal {
    journal: JournalQuery,
    /// One question reads at a time: the bridge needs the processors and the disk for its work.
    turn: Arc<Semaphore>,
    /// Places of the question that reads and of those that wait.
    places: Arc<Semaphore>,
    tail_pages: TailPages,
}

impl ApiJournals {
    pub(super) fn new(data_dir: &Path, view: View) -> ApiJournals {
        ApiJournals {
            data_dir: data_dir.to_owned(),
            view,
            opened: Mutex::default(),
        }
    }

    /// The journal of a source that the bridge has now.
    pub(super) fn source(&self, name: &str) -> Result<Arc<SourceJournal>, Problem> {
        let sources = self.view.sources();
        let is_known = |name: &str| sources.iter().any(|status| *status.borrow().source == *name);
        // Nothing panics under this lock.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|name, _| is_known(name));
        if !is_known(name) {
            return Err(Problem::no_source(name));
        }
        let file = self.data_dir.join(format!("{name}.journal"));
        // The time before may be backfilled, again, or be removed, while the bridge runs.
        if let Some(known) = opened.get(name).filter(|known| known.journal.has_past_of(&file)) {
            return Ok(Arc::clone(known));
        }
        let journal = JournalQuery::open(&file)?;
        let journal = Arc::new(SourceJournal {
            journal,
            turn: Arc::new(Semaphore::new(1)),
            places: Arc::new(Semaphore::new(1 + WAITING_MAX)),
            tail_pages: TailPages::default(),
        });
        opened.insert(name.to_owned(), Arc::clone(&journal));
        Ok(journal)
    }
}

impl SourceJournal {
    /// The newest pages, for streams.
    pub(super) fn tail_pages(&self) -> &TailPages {
        &self.tail_pages
    }

    /// The journal with the eyes of the caller.
    pub(super) fn seen_by(&self, caller: &Caller) -> JournalQuery {
        self.journal.clone().with_visibility(caller.visibility())
    }

    /// Asks the journal with the eyes of the caller, on a thread that may block.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        caller: &Caller,
        question: impl FnOnce(&JournalQuery, Timestamp) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.ask_as(self.seen_by(caller), question).await
    }

    /// Reads the journal for all callers: the result is to be filtered for each.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&JournalQuery) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.ask_as(self.journal.clone(), |journal, _| question(journal))
            .await
    }

    async fn ask_as<T: Send + 'static>(
        &self,
        journal: JournalQuery,
        question: impl FnOnce(&JournalQuery, Timestamp) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Problem::busy("too many questions about this source wait"))?;
        let turn = timeout(TURN_WAIT, Arc::clone(&self.turn).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::busy("other questions about this source take long"));
        };
        let asked = tokio::task::spawn_blocking(move || {
            // A caller that goes away does not end the question: turn and place are free once it has ended.
            let _held = (place, turn);
            question(&journal, wall_clock()())
        });
        // It fails only if the question panics.
        asked
            .await
            .unwrap_or_else(|_| Err(Problem::failed("the question ended early")))
    }
}
