//! Reads the durable records while the writer appends.
//!
//! A reader never writes, never waits for a batch of the writer and never makes it wait. Its transactions are short
//! ([`super::read_connection`]). A record reads the same every time, because all of its content was decided when it was
//! appended. The reader of a worker takes records that the writer has cached from memory ([`super::tail_cache`]), with
//! equal content.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hashlink::LruCache;
use rusqlite::{Connection, OptionalExtension, Row};

use super::cursors::{self, SinkCursor};
use super::error::{JournalError, JournalErrorKind};
use super::holes;
use super::hydrate::Named;
use super::read_connection::{ReadConnection, Slice};
use super::read_marks::Mark;
use super::row::{SELECT, Stored, Values, data_of_value, mode_of_number};
use super::schema::SLASH;
use super::tail_cache::{Newest, Taken};
use super::wal_gate::Admitted;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Data, Origin, Record, State, Timestamp};
use crate::scope::Scope;

/// Paths held in memory, so that records of the same path build it once. About 1 MB.
const PATHS: usize = 8192;

/// The approximate memory of a record besides its data, in bytes.
const RECORD_BYTES: usize = 700;

/// How much one read takes. The first record is taken whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// The most records.
    pub records: usize,
    /// The most bytes, counted in memory.
    pub bytes: usize,
}

/// Reads a journal on a connection of its own.
pub struct Reader {
    pub(super) connection: ReadConnection,
    file: PathBuf,
    pub(super) names: Names,
    pub(super) scope: Option<Arc<Scope>>,
    worker: Option<ForWorker>,
}

/// The state that a worker's reader shares with the writer.
struct ForWorker {
    mark: Mark,
    newest: Newest,
}

/// The meaning of the numbers in records. No number is ever reused.
pub(super) struct Names {
    cluster: Arc<str>,
    paths: LruCache<i64, ZnodePath>,
    roots: HashMap<i64, ZnodePath>,
    origins: HashMap<i64, Origin>,
}

impl Reader {
    /// Opens a journal that exists.
    ///
    /// # Errors
    ///
    /// If the file does not exist, is not a journal, or has a newer format.
    pub fn open(file: &Path) -> Result<Reader, JournalError> {
        let mut connection = ReadConnection::open(file)?;
        let cluster: String = connection
            .within(|connection| {
                connection.query_row("SELECT value FROM meta WHERE key = 'cluster'", [], |row| {
                    row.get(0)
                })
            })
            .map_err(|error| JournalError::of_sqlite(file, "reading the name of its source", error))?;
        Ok(Reader {
            connection,
            file: file.to_owned(),
            names: Names::new(&cluster),
            scope: None,
            worker: None,
        })
    }

    /// Bounds runs by what the source watches today. Without it a run covers every root that the journal has ever had.
    pub fn set_scope(&mut self, scope: Arc<Scope>) {
        self.scope = Some(scope);
    }

    /// The same for a worker: its reads are marked, and it gets from memory what is held there.
    pub(super) fn for_worker(self, mark: Mark, newest: Newest) -> Reader {
        Reader {
            worker: Some(ForWorker { mark, newest }),
            ..self
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The name of the source.
    pub fn cluster(&self) -> &Arc<str> {
        &self.names.cluster
    }

    /// The records after `after`, in order. A position without a record is one that retention removed or a full journal
    /// compacted.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, or where the next record is missing for another reason ([`JournalErrorKind::Damaged`]).
    pub fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        let reading = self.read_until_lost(after, limit, Losses::Stop)?;
        match reading.lost {
            Some((first, last)) if reading.records.is_empty() => Err(self.lost(first, last)),
            _ => Ok(reading.records),
        }
    }

    /// The same for an inspection: what is there, whatever is missing before it.
    pub(super) fn read_what_is_there(
        &mut self,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Vec<Arc<Record>>, JournalError> {
        Ok(self.read_until_lost(after, limit, Losses::Pass)?.records)
    }

    fn read_until_lost(
        &mut self,
        after: Seq,
        limit: ReadLimit,
        losses: Losses,
    ) -> Result<ReadCall, JournalError> {
        let mut reading = ReadCall {
            after,
            filling: Filling::new(limit),
            records: Vec::new(),
            losses,
            lost: None,
        };
        while !self
            .read_on(&mut reading)
            .map_err(|error| self.fault("reading records", error))?
        {}
        Ok(reading)
    }

    fn lost(&self, first: Seq, last: Seq) -> JournalError {
        JournalError::new(
            JournalErrorKind::Damaged,
            &self.file,
            format!(
                "reading records: {first} to {last}: they are missing, and neither retention nor compaction removed \
                 them; restore a copy of the data directory, or let the sink begin after them with \
                 'zkbridge run --forget-sink NAME'; 'zkbridge journal check' names everything that is missing"
            ),
        )
    }

    /// Reads more of the requested records, in one transaction. Returns `true` if that was the rest.
    fn read_on(&mut self, reading: &mut ReadCall) -> rusqlite::Result<bool> {
        // Before the read is marked: a fold waits for reads that are under way, and must not wait for the log with them.
        let admitted = self.connection.admit();
        let Reader {
            connection,
            names,
            worker,
            ..
        } = self;
        let marked = worker.as_ref().map(|worker| worker.mark.begin());
        let cached = match worker.as_ref() {
            // If a value is missing in the file, the check of the file reports it.
            Some(ForWorker { newest, .. }) if reading.records.is_empty() => newest
                .after(reading.after, reading.filling.limit)
                .and_then(|taken| completed(connection, &admitted, taken, reading.filling.limit).ok()),
            _ => None,
        };
        let is_all = match cached {
            Some(records) => {
                reading.records = records;
                true
            }
            None => connection.within_one(&admitted, |connection, slice| {
                read_records(connection, names, reading, slice)
            })?,
        };
        if let Some(marked) = marked {
            marked.came_to(&reading.records);
        }
        Ok(is_all)
    }

    /// The result of [`Reader::read`] from memory, without waiting: only for the reader of a worker that has kept up
    /// with the writer. `None` if memory does not hold these records.
    pub fn cached(&mut self, after: Seq, limit: ReadLimit) -> Option<Vec<Arc<Record>>> {
        let ForWorker { mark, newest } = self.worker.as_ref()?;
        let marked = mark.begin_at_once()?;
        let Taken { records, lacking } = newest.after(after, limit)?;
        if !lacking.is_empty() {
            return None;
        }
        marked.came_to(&records);
        Some(records)
    }

    /// Says how long the worker lets a record wait for further ones: then the writer may let it wait instead.
    pub fn lingers(&self, span: Duration) {
        if let Some(worker) = &self.worker {
            worker.mark.lingers(span);
        }
    }

    /// When a durable record was captured, if memory holds it.
    pub fn captured(&self, seq: Seq) -> Option<Timestamp> {
        self.worker.as_ref()?.newest.captured(seq)
    }

    /// The last durable record; [`Seq::ZERO`] before the first.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn tail(&mut self) -> Result<Seq, JournalError> {
        let newest = self.within("reading the tail", cursors::newest)?;
        Ok(newest.unwrap_or_default())
    }

    /// The first record that is kept; `None` while there is none.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn oldest(&mut self) -> Result<Option<Seq>, JournalError> {
        self.within("reading the oldest record", cursors::oldest)
    }

    /// The cursor of a sink; `None` if it was never entered.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        self.within("reading a cursor", |connection| cursors::cursor(connection, sink))
    }

    /// The cursors of all sinks, by name.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn cursors(&mut self) -> Result<Vec<SinkCursor>, JournalError> {
        self.within("reading the cursors", cursors::cursors)
    }

    /// Runs a short step in one transaction.
    pub(super) fn within<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let read = self.connection.within(step);
        read.map_err(|error| self.fault(doing, error))
    }

    /// Makes each transaction as short as it can be.
    #[cfg(test)]
    pub(super) fn slice_finely(&mut self) {
        self.connection.slice_finely();
    }

    pub(super) fn fault(&self, doing: &str, error: rusqlite::Error) -> JournalError {
        JournalError::of_sqlite(&self.file, doing, error)
    }
}

/// A call of [`Reader::read`] under way.
struct ReadCall {
    after: Seq,
    filling: Filling,
    records: Vec<Arc<Record>>,
    losses: Losses,
    /// Positions whose records are missing, where the call ended.
    lost: Option<(Seq, Seq)>,
}

/// The behaviour of a read at a missing record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losses {
    Stop,
    Pass,
}

/// Reads on until all is read, which is true, or the slice is over.
fn read_records(
    connection: &Connection,
    names: &mut Names,
    reading: &mut ReadCall,
    slice: &Slice,
) -> rusqlite::Result<bool> {
    let ReadCall {
        after,
        filling,
        records,
        losses,
        lost,
    } = reading;
    let left = filling.limit.records.saturating_sub(records.len());
    let count = i64::try_from(left).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(SELECT)?;
    let mut rows = statement.query((after.0.cast_signed(), count))?;
    while let Some(row) = rows.next()? {
        let record = names.record(connection, row)?;
        if record.seq != after.next() && *losses == Losses::Stop {
            *lost = holes::lost_between(connection, *after, record.seq)?;
            if lost.is_some() {
                return Ok(true);
            }
        }
        if !filling.takes(&record) {
            return Ok(true);
        }
        *after = record.seq;
        records.push(Arc::new(record));
        if slice.is_over() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Records from memory with the values that they lack.
fn completed(
    connection: &mut ReadConnection,
    admitted: &Admitted,
    mut taken: Taken,
    limit: ReadLimit,
) -> rusqlite::Result<Vec<Arc<Record>>> {
    if taken.lacking.is_empty() {
        return Ok(taken.records);
    }
    connection.within_one(admitted, |connection, _| {
        taken.complete(limit, |number| data_of_value(connection, number))
    })?;
    Ok(taken.records)
}

/// How much of a limit is used.
pub(super) struct Filling {
    limit: ReadLimit,
    records: usize,
    bytes: usize,
}

impl Filling {
    /// Nothing is taken yet.
    pub(super) fn new(limit: ReadLimit) -> Filling {
        Filling {
            limit,
            records: 0,
            bytes: 0,
        }
    }

    /// Takes the next record, if there is room for it.
    pub(super) fn takes(&mut self, record: &Record) -> bool {
        self.bytes += bytes_of(record);
        self.records += 1;
        self.records <= self.limit.records && (self.bytes <= self.limit.bytes || self.records == 1)
    }
}

pub(super) fn bytes_of(record: &Record) -> usize {
    let data = |state: &Option<State>| {
        let data: Option<&Data> = state.as_ref().and_then(|state| state.data.as_ref());
        data.map_or(0, |data| data.bytes.len())
    };
    RECORD_BYTES + data(&record.before) + data(&record.after)
}

impl Names {
    /// The name of the source.
    pub(super) fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }

    /// A reader that has read only the name of the source.
    pub(super) fn new(cluster: &str) -> Names {
        Names {
            cluster: cluster.into(),
            paths: LruCache::new(PATHS),
            roots: HashMap::new(),
            origins: HashMap::new(),
        }
    }

    /// A record that must be there.
    pub(super) fn one(&mut self, connection: &Connection, seq: Seq) -> rusqlite::Result<Arc<Record>> {
        let mut statement = connection.prepare_cached(SELECT)?;
        let found = statement
            .query_row((seq.0.cast_signed() - 1, 1), |row| self.record(connection, row))
            .optional()?;
        found
            .filter(|record| record.seq == seq)
            .map(Arc::new)
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// The record of a row of [`SELECT`].
    fn record(&mut self, connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Record> {
        let stored = Stored::of_row(row)?;
        let data = stored.data(row)?;
        self.of_stored(connection, stored, data)
    }

    /// The record of a row that is read, with the data of [`Stored::values`].
    pub(super) fn of_stored(
        &mut self,
        connection: &Connection,
        stored: Stored,
        data: Values<Option<Data>>,
    ) -> rusqlite::Result<Record> {
        let named = Named {
            cluster: Arc::clone(&self.cluster),
            root: stored.root.map(|id| self.root(connection, id)).transpose()?,
            path: stored.path.map(|id| self.path(connection, id)).transpose()?,
            origin: self.origin(connection, stored.origin)?,
        };
        Ok(stored.into_record(named, data))
    }

    /// The path of a number.
    pub(super) fn path(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<ZnodePath> {
        let mut below: Vec<(i64, String)> = Vec::new();
        let mut seen = HashSet::new();
        let mut at = id;
        let mut path = loop {
            if at == SLASH {
                break ZnodePath::slash();
            }
            if let Some(path) = self.paths.get(&at) {
                break path.clone();
            }
            if !seen.insert(at) {
                let error = format!("the paths above path {at} lead in a circle").into();
                let kind = rusqlite::types::Type::Integer;
                return Err(rusqlite::Error::FromSqlConversionFailure(0, kind, error));
            }
            let (parent, name): (i64, String) = connection
                .prepare_cached("SELECT parent, name FROM path WHERE id = ?1")?
                .query_row([at], |row| Ok((row.get(0)?, row.get(1)?)))?;
            below.push((at, name));
            at = parent;
        };
        for (id, name) in below.into_iter().rev() {
            path = path.child(&name);
            self.paths.insert(id, path.clone());
        }
        Ok(path)
    }

    fn root(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<ZnodePath> {
        if let Some(root) = self.roots.get(&id) {
            return Ok(root.clone());
        }
        let path: String =
            connection.query_row("SELECT path FROM root WHERE id = ?1", [id], |row| row.get(0))?;
        let root = ZnodePath::parse(&path).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
        })?;
        self.roots.insert(id, root.clone());
        Ok(root)
    }

    fn origin(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<Origin> {
        if let Some(origin) = self.origins.get(&id) {
            return Ok(origin.clone());
        }
        let (mode, server): (i64, Option<String>) =
            connection.query_row("SELECT mode, server FROM origin WHERE id = ?1", [id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let origin = Origin {
            mode: mode_of_number(mode)?,
            server: server.map(Into::into),
        };
        self.origins.insert(id, origin.clone());
        Ok(origin)
    }
}
