//! Reading what is durable, beside the writer.
//!
//! A reader never writes, never waits for the writer and never makes it wait: each call is one short read transaction.
//! A record reads the same at every repetition, as everything in it was decided when it was appended. The reader of a
//! worker takes from memory what the writer holds there ([`super::tail_cache`]), which is the same again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashlink::LruCache;
use rusqlite::{Connection, Row};

use super::cursors::{self, SinkCursor};
use super::error::JournalError;
use super::hydrate::Named;
use super::open::open_reader;
use super::read_marks::Mark;
use super::row::{SELECT, Stored, data_of_value, mode_of_number};
use super::schema::SLASH;
use super::tail_cache::{Newest, Taken};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Data, Origin, Record, State};
use crate::scope::Scope;

/// Paths held in memory, so that records of the same path build it once. About 1 MB.
const PATHS: usize = 8192;

/// What a record costs in memory besides its data, roughly.
const RECORD_BYTES: usize = 700;

/// How much one read takes. The first record is taken whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most so many records.
    pub records: usize,
    /// And so many bytes, as they stand in memory.
    pub bytes: usize,
}

/// Reads a journal on a connection of its own.
pub struct Reader {
    pub(super) connection: Connection,
    file: PathBuf,
    pub(super) names: Names,
    pub(super) scope: Option<Arc<Scope>>,
    worker: Option<ForWorker>,
}

/// What a reader for a worker shares with the writer.
struct ForWorker {
    mark: Mark,
    newest: Newest,
}

/// What the numbers in records stand for. None of them is ever used for something else.
pub(super) struct Names {
    cluster: Arc<str>,
    paths: LruCache<i64, ZnodePath>,
    roots: HashMap<i64, ZnodePath>,
    origins: HashMap<i64, Origin>,
}

impl Reader {
    /// Opens a journal that exists.
    pub fn open(file: &Path) -> Result<Reader, JournalError> {
        let connection = open_reader(file)?;
        let cluster: String = connection
            .query_row("SELECT value FROM meta WHERE key = 'cluster'", [], |row| {
                row.get(0)
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

    /// The same for a worker, whose reads are kept in mind, and who gets from memory what is held there.
    pub(super) fn for_worker(self, mark: Mark, newest: Newest) -> Reader {
        Reader {
            worker: Some(ForWorker { mark, newest }),
            ..self
        }
    }

    /// The name of the source.
    pub fn cluster(&self) -> &Arc<str> {
        &self.names.cluster
    }

    /// The records from behind `after`, in order, without holes unless retention has removed what was there, or they
    /// were compacted.
    pub fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        let Reader {
            connection,
            names,
            worker,
            ..
        } = self;
        let read = match worker {
            Some(ForWorker { mark, newest }) => mark.over(|| match newest.behind(after, limit) {
                // What the file has is told by the file where a value is missing there.
                Some(taken) => completed(connection, taken, limit)
                    .or_else(|_| read_within(connection, names, after, limit)),
                None => read_within(connection, names, after, limit),
            }),
            None => read_within(connection, names, after, limit),
        };
        read.map_err(|error| self.fault("reading records", error))
    }

    /// What [`Reader::read`] would give, where that is held in memory: only for the reader of a worker that has kept up
    /// with the writer. Does not wait for anything.
    pub fn at_hand(&mut self, after: Seq, limit: ReadLimit) -> Option<Vec<Arc<Record>>> {
        let ForWorker { mark, newest } = self.worker.as_ref()?;
        mark.over_at_once(|| {
            let Taken { records, lacking } = newest.behind(after, limit)?;
            lacking.is_empty().then_some(records)
        })
    }

    /// The last durable record; [`Seq::ZERO`] before the first.
    pub fn tail(&mut self) -> Result<Seq, JournalError> {
        let newest =
            cursors::newest(&self.connection).map_err(|error| self.fault("reading the tail", error))?;
        Ok(newest.unwrap_or_default())
    }

    /// The first record that is kept; `None` while there is none.
    pub fn oldest(&mut self) -> Result<Option<Seq>, JournalError> {
        cursors::oldest(&self.connection).map_err(|error| self.fault("reading the oldest record", error))
    }

    /// Where a sink stands; `None` if it was never entered.
    pub fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        cursors::cursor(&self.connection, sink).map_err(|error| self.fault("reading a cursor", error))
    }

    /// Where all sinks stand, by name.
    pub fn cursors(&mut self) -> Result<Vec<SinkCursor>, JournalError> {
        cursors::cursors(&self.connection).map_err(|error| self.fault("reading the cursors", error))
    }

    pub(super) fn fault(&self, doing: &str, error: rusqlite::Error) -> JournalError {
        JournalError::of_sqlite(&self.file, doing, error)
    }
}

/// All of it sees one state of the journal.
pub(super) fn within<T>(
    connection: &mut Connection,
    step: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction()?;
    let read = step(&transaction)?;
    transaction.commit()?;
    Ok(read)
}

fn read_within(
    connection: &mut Connection,
    names: &mut Names,
    after: Seq,
    limit: ReadLimit,
) -> rusqlite::Result<Vec<Arc<Record>>> {
    within(connection, |connection| {
        read_records(connection, names, after, limit)
    })
}

fn read_records(
    connection: &Connection,
    names: &mut Names,
    after: Seq,
    limit: ReadLimit,
) -> rusqlite::Result<Vec<Arc<Record>>> {
    let count = i64::try_from(limit.records).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(SELECT)?;
    let mut rows = statement.query((after.0.cast_signed(), count))?;
    let mut records = Vec::new();
    let mut filling = Filling::new(limit);
    while let Some(row) = rows.next()? {
        let record = names.record(connection, row)?;
        if !filling.takes(&record) {
            break;
        }
        records.push(Arc::new(record));
    }
    Ok(records)
}

/// Records from memory with the values that they lack.
fn completed(
    connection: &mut Connection,
    mut taken: Taken,
    limit: ReadLimit,
) -> rusqlite::Result<Vec<Arc<Record>>> {
    if taken.lacking.is_empty() {
        return Ok(taken.records);
    }
    within(connection, |connection| {
        taken.complete(limit, |number| data_of_value(connection, number))
    })?;
    Ok(taken.records)
}

/// How far a limit is filled.
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

    /// Knows nothing yet but the name of the source.
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
        let limit = ReadLimit { records: 1, bytes: 0 };
        let found = read_records(connection, self, Seq(seq.0 - 1), limit)?.pop();
        found
            .filter(|record| record.seq == seq)
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// The record of a row of [`SELECT`].
    fn record(&mut self, connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Record> {
        let stored = Stored::of_row(row)?;
        let data = stored.data(row)?;
        let named = Named {
            cluster: Arc::clone(&self.cluster),
            root: stored.root.map(|id| self.root(connection, id)).transpose()?,
            path: stored.path.map(|id| self.path(connection, id)).transpose()?,
            origin: self.origin(connection, stored.origin)?,
        };
        Ok(stored.into_record(named, data))
    }

    fn path(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<ZnodePath> {
        if id == SLASH {
            return Ok(ZnodePath::slash());
        }
        if let Some(path) = self.paths.get(&id) {
            return Ok(path.clone());
        }
        let (parent, name): (i64, String) = connection
            .prepare_cached("SELECT parent, name FROM path WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let path = self.path(connection, parent)?.child(&name);
        self.paths.insert(id, path.clone());
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
