//! The queries of one journal.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bridge_core::journal::{Overview, Position, SinkCursor};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, Timestamp};

use crate::counted_stretches::{CountedStretch, CountedStretches};
use crate::error::QueryError;
use crate::past::Past;
use crate::pool::{PooledReader, READER_WAIT, READERS_MAX, ReaderPool};
use crate::stretches::Stretches;
use crate::timeline::late_time;
use crate::visibility::{self, Access, AllVisible, Visibility};

/// The queries of one source's journal. Share it between threads; each call takes a reader of the pool for each step.
/// A clone shares the pool.
#[derive(Clone)]
pub struct JournalQuery {
    source: Arc<str>,
    pool: Arc<ReaderPool>,
    pub(crate) stretches: Arc<Mutex<Stretches>>,
    counted: Arc<Mutex<CountedStretches>>,
    /// Nothing is known of a later time; `None` while a bridge writes the journal.
    pub(crate) watched_until: Option<Timestamp>,
    /// The time before the journal.
    pub(crate) past: Option<Arc<Past>>,
    visibility: Arc<dyn Visibility>,
}

impl fmt::Debug for JournalQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalQuery")
            .field("source", &self.source)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl JournalQuery {
    /// Opens a journal that exists; everything is visible.
    ///
    /// # Errors
    ///
    /// If the file is missing, damaged, newer than this program, or no journal.
    pub fn open(file: &Path) -> Result<JournalQuery, QueryError> {
        let pool = ReaderPool::new(file, READERS_MAX, READER_WAIT);
        let source = Arc::clone(pool.reader()?.cluster());
        Ok(JournalQuery {
            source,
            pool: Arc::new(pool),
            stretches: Arc::default(),
            counted: Arc::default(),
            watched_until: None,
            past: Past::beside(file).map(Arc::new),
            visibility: Arc::new(AllVisible),
        })
    }

    /// The same journal for a caller who may see less.
    pub fn with_visibility(self, visibility: Arc<dyn Visibility>) -> JournalQuery {
        JournalQuery { visibility, ..self }
    }

    /// The same journal alone.
    pub(crate) fn without_past(self) -> JournalQuery {
        JournalQuery { past: None, ..self }
    }

    /// The restrictions of this caller.
    pub(crate) fn visibility(&self) -> Arc<dyn Visibility> {
        Arc::clone(&self.visibility)
    }

    /// The same journal while no bridge captures: nothing is known of the time after its last record,
    /// and after the last moment at which it is known to have captured. A history that was captured later ends with its
    /// last transaction.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn with_end_of_watch(self) -> Result<JournalQuery, QueryError> {
        let last = self.last_date()?;
        let last = last.map(|last| late_time(&last).unwrap_or(last.time.captured));
        let live = self.reader()?.live_until()?;
        Ok(JournalQuery {
            watched_until: last.max(live),
            ..self
        })
    }

    /// The name of the source.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Lends a reader for an inspection of the file. It is not filtered by [`Visibility`]; return it soon.
    ///
    /// # Errors
    ///
    /// If all readers are busy or the file cannot be opened.
    pub fn reader(&self) -> Result<PooledReader<'_>, QueryError> {
        self.pool.reader()
    }

    /// The first record at or after a position, as of [`Reader::first_at`](bridge_core::journal::Reader::first_at).
    pub(crate) fn first_at(&self, position: Position) -> Result<Option<Seq>, QueryError> {
        // A query that panicked left complete stretches only.
        let mut stretches = self.stretches.lock().unwrap_or_else(PoisonError::into_inner);
        stretches.first_at(position, &|| self.reader())
    }

    /// The records around a position, as of [`Stretches::around`].
    pub(crate) fn around(&self, position: Position) -> Result<Option<(Seq, Seq)>, QueryError> {
        let mut stretches = self.stretches.lock().unwrap_or_else(PoisonError::into_inner);
        stretches.around(position, &|| self.reader())
    }

    /// The counts of all complete stretches, as of [`CountedStretches::all`].
    pub(crate) fn counted_stretches(&self) -> Result<Option<Arc<Vec<CountedStretch>>>, QueryError> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.all(|| self.reader())
    }

    /// The last durable record; [`Seq::ZERO`] before the first.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn tail(&self) -> Result<Seq, QueryError> {
        Ok(self.reader()?.tail()?)
    }

    /// The first record that is kept; `None` while there is none.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn oldest(&self) -> Result<Option<Seq>, QueryError> {
        Ok(self.reader()?.oldest()?)
    }

    /// Measures of the journal, and the progress of its visible roots.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn overview(&self) -> Result<Overview, QueryError> {
        let mut overview = self.reader()?.overview()?;
        overview
            .roots
            .retain(|root| self.access(&root.path) != Access::Hidden);
        Ok(overview)
    }

    /// The zxid up to which everything below the root of a path is journalled; `None` if no root covers it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn reported(&self, path: &ZnodePath) -> Result<Option<Zxid>, QueryError> {
        let roots = self.reader()?.overview()?.roots;
        let root = roots.iter().find(|root| root.path.covers(path));
        Ok(root.map(|root| root.reported))
    }

    /// The cursor of a sink; `None` if the journal does not know the sink.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn cursor(&self, sink: &str) -> Result<Option<Seq>, QueryError> {
        Ok(self.reader()?.cursor(sink)?)
    }

    /// The cursors of all sinks, by name.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn cursors(&self) -> Result<Vec<SinkCursor>, QueryError> {
        Ok(self.reader()?.cursors()?)
    }

    /// The access of this caller to a znode.
    pub(crate) fn access(&self, path: &ZnodePath) -> Access {
        self.visibility.access(path)
    }

    /// Whether this caller may see a znode, or any that may be below it.
    pub(crate) fn sees_below(&self, path: &ZnodePath) -> bool {
        self.visibility.sees_below(path)
    }

    /// Whether nothing is hidden from this caller.
    pub(crate) fn shows_all(&self) -> bool {
        self.visibility.shows_all()
    }

    /// Whether this caller may not see a record at all.
    pub fn is_hidden(&self, record: &Record) -> bool {
        visibility::access_to(&*self.visibility, record) == Access::Hidden
    }

    /// Fails for a hidden path.
    pub(crate) fn must_be_visible(&self, path: &ZnodePath) -> Result<Access, QueryError> {
        match self.access(path) {
            Access::Hidden => Err(QueryError::Hidden(path.clone())),
            access => Ok(access),
        }
    }

    /// The record as the caller may see it; `None` if it is hidden.
    pub(crate) fn shown(&self, record: &Arc<Record>) -> Option<Arc<Record>> {
        visibility::shown(&*self.visibility, record)
    }
}
