//! Makes a run of `snapshot` records for one sink from the image: the present state.
//!
//! A run is of one position of the journal, `at`; the sink has all records up to it. A znode whose value was written
//! after that is left out: the sink gets its records anyway, and nothing newer may come before them. So the image may
//! change while a run is read page by page, and no transaction stays open for it. Parents come before their children;
//! an incarnation that was not read yet has no record.
//!
//! A run is limited to the paths that the source watches today ([`Scope`]): the image keeps the subtrees of dropped
//! roots and of paths that were excluded later, and none of those is delivered again.
//!
//! The run is not part of the history: its records are made when they are read, and only its position is stored.

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use std::collections::HashSet;
use std::sync::Arc;

use super::facts::facts_of;
use super::hydrate::Named;
use super::image::{self, Life, Place};
use super::read::{Names, ReadLimit, Reader, bytes_of};
use super::read_connection::Slice;
use super::row::{Detail, Stored, Values, data_of_value, mode_of_number};
use super::{Journal, JournalError};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Fidelity, Identity, Mode, Op, Origin, Record, Run, Stat, Timestamp, ZxidKind};
use crate::scope::Scope;

/// The most rows of the image that one page reads, even if it delivers few of them.
const ROWS_AT_ONCE: usize = 10_000;

/// A run for one sink with its progress. It continues from its stored position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkRun {
    /// Its id. The run of each root has an id of its own that is derived from it.
    pub id: Uuid,
    /// The delivered subtree: this path and all below it; `None`: everything.
    pub path: Option<ZnodePath>,
    /// The time of the request: the `captured` of its records.
    pub captured: Timestamp,
    /// The position whose state it shows: the sink's cursor when the first page was read; `None` before.
    pub at: Option<Seq>,
    /// The root that is delivered.
    place: Option<RunPlace>,
}

/// The place of a run inside a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RunPlace {
    root: ZnodePath,
    /// The last path looked at.
    after: Option<ZnodePath>,
    /// Znodes delivered.
    #[serde(rename = "told")]
    delivered: u64,
    /// The greatest zxid of their Stats.
    newest: Option<Zxid>,
    /// Whether the end is delivered, too.
    is_ended: bool,
}

/// Some records of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPage {
    /// In their order, each of another seq; may be empty.
    pub records: Vec<Arc<Record>>,
    /// The place of the run after them; `None` where that was all.
    pub next: Option<SinkRun>,
}

impl SinkRun {
    /// A run that has not begun.
    pub fn new(id: Uuid, path: Option<ZnodePath>, captured: Timestamp) -> SinkRun {
        SinkRun {
            id,
            path,
            captured,
            at: None,
            place: None,
        }
    }

    /// Znodes of the present root that are delivered.
    pub fn delivered(&self) -> u64 {
        self.place.as_ref().map_or(0, |place| place.delivered)
    }

    /// The last path looked at.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn last(&self) -> Option<&ZnodePath> {
        self.place.as_ref()?.after.as_ref()
    }

    /// The same after a path, where all is one root.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn continued_after(&self, path: ZnodePath) -> SinkRun {
        let place = RunPlace {
            root: ZnodePath::slash(),
            after: Some(path),
            delivered: self.delivered() + 1,
            newest: None,
            is_ended: false,
        };
        SinkRun {
            place: Some(place),
            ..self.clone()
        }
    }

    /// The start of the walk of a root; `None` if the run needs none of it.
    fn top(&self, root: &ZnodePath) -> Option<ZnodePath> {
        match &self.path {
            None => Some(root.clone()),
            Some(path) if path.covers(root) => Some(root.clone()),
            Some(path) if root.covers(path) => Some(path.clone()),
            Some(_) => None,
        }
    }

    fn page(self, records: Vec<Record>) -> RunPage {
        RunPage {
            records: records.into_iter().map(Arc::new).collect(),
            next: Some(self),
        }
    }
}

impl Reader {
    /// The next records of a run.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    ///
    /// # Panics
    ///
    /// Where the run has no position: its sink has to say up to where it has everything.
    pub fn snapshot_page(&mut self, run: &SinkRun, limit: ReadLimit) -> Result<RunPage, JournalError> {
        let at = run.at.expect("a run that is read has a position");
        let Reader {
            connection,
            names,
            scope,
            ..
        } = self;
        let mut walk: Option<Walk> = None;
        let page = connection.in_slices(|connection, slice| {
            PageBuilder {
                connection,
                names,
                scope: scope.as_deref(),
                run,
                at,
            }
            .page(&mut walk, limit, slice)
        });
        page.map_err(|error| self.fault("reading the present state", error))
    }

    /// The run of a sink that is not delivered to its end.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn run(&mut self, sink: &str) -> Result<Option<SinkRun>, JournalError> {
        self.within("reading the run of a sink", |connection| stored(connection, sink))
    }
}

impl Reader {
    /// Whether this run was taken up by its sink: it is under way, or was the last that was delivered.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn knows_run(&mut self, sink: &str, id: Uuid) -> Result<bool, JournalError> {
        let is_under_way = self.run(sink)?.is_some_and(|run| run.id == id);
        let [_, delivered] = keys(sink);
        let delivered = self.within("reading the run of a sink", |connection| {
            get(connection, &delivered)
        })?;
        Ok(is_under_way || delivered == Some(id.to_string()))
    }
}

impl Journal {
    /// Stores a run for a sink, to be delivered when its worker starts.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn begin_run(&mut self, sink: &str, run: &SinkRun) -> Result<(), JournalError> {
        self.write("storing a run", |journal| store(&journal.connection, sink, run))
    }
}

/// The stored position of a sink's run, and the id of the last one that was delivered.
fn keys(sink: &str) -> [String; 2] {
    [format!("run/{sink}"), format!("told/{sink}")]
}

/// Stores the progress of a sink's run.
pub(super) fn store(connection: &Connection, sink: &str, run: &SinkRun) -> rusqlite::Result<()> {
    let [at, _] = keys(sink);
    put(
        connection,
        &at,
        &serde_json::to_string(run).expect("a run has only text keys"),
    )
}

/// Stores that the run of a sink is delivered.
pub(super) fn store_delivered(connection: &Connection, sink: &str, id: Uuid) -> rusqlite::Result<()> {
    let [at, delivered] = keys(sink);
    remove(connection, &at)?;
    put(connection, &delivered, &id.to_string())
}

/// Forgets all of it.
pub(super) fn forget(connection: &Connection, sink: &str) -> rusqlite::Result<()> {
    keys(sink).iter().try_for_each(|key| remove(connection, key))
}

/// Keeps all of it under another name.
pub(super) fn rename(connection: &Connection, old: &str, new: &str) -> rusqlite::Result<()> {
    for (old, new) in keys(old).iter().zip(keys(new)) {
        connection.execute("UPDATE OR REPLACE meta SET key = ?2 WHERE key = ?1", [old, &new])?;
    }
    Ok(())
}

fn put(connection: &Connection, key: &str, text: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?
        .execute((key, text))
        .map(drop)
}

fn remove(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?;
    delete.execute([key]).map(drop)
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn stored(connection: &Connection, sink: &str) -> rusqlite::Result<Option<SinkRun>> {
    let [at, _] = keys(sink);
    let text = get(connection, &at)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// One page in the making.
struct PageBuilder<'a> {
    connection: &'a Connection,
    names: &'a Names,
    /// The paths that the source watches; `None`: every root that the journal has ever had.
    scope: Option<&'a Scope>,
    run: &'a SinkRun,
    at: Seq,
}

/// A page of znodes under way.
struct Walk {
    place: RunPlace,
    records: Vec<Record>,
    seqs: HashSet<Seq>,
    bytes: usize,
    rows: usize,
}

impl Walk {
    fn new(place: &RunPlace) -> Walk {
        Walk {
            place: place.clone(),
            records: Vec::new(),
            seqs: HashSet::new(),
            bytes: 0,
            rows: 0,
        }
    }

    /// Takes the next record if the page has room for it.
    fn takes(&mut self, record: Record, limit: ReadLimit) -> bool {
        self.bytes += bytes_of(&record);
        let is_full = self.records.len() >= limit.records || self.bytes > limit.bytes;
        if !self.records.is_empty() && (is_full || self.seqs.contains(&record.seq)) {
            return false;
        }
        self.seqs.insert(record.seq);
        self.place.delivered += 1;
        self.place.newest = self.place.newest.max(stat_of(&record).map(Stat::newest_zxid));
        self.records.push(record);
        true
    }

    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }
}

/// A znode on the way down, with the last of its children that was looked at.
struct SnapshotLevel {
    id: i64,
    path: ZnodePath,
    visited: Box<str>,
}

impl PageBuilder<'_> {
    /// Reads more of a page, in one transaction. `None`: the slice is over before the page is full.
    fn page(
        &self,
        walk: &mut Option<Walk>,
        limit: ReadLimit,
        slice: &Slice,
    ) -> rusqlite::Result<Option<RunPage>> {
        match &self.run.place {
            Some(place) if !place.is_ended && self.is_root(&place.root) => {
                self.walk(walk.get_or_insert_with(|| Walk::new(place)), limit, slice)
            }
            place => self
                .begin(place.as_ref().map(|place| place.root.as_str()))
                .map(Some),
        }
    }

    /// The begin of the next root's run.
    fn begin(&self, after: Option<&str>) -> rusqlite::Result<RunPage> {
        for root in self.roots(after.unwrap_or_default())? {
            if self.run.top(&root).is_none() {
                continue;
            }
            let begin = self.mark(Op::SnapshotBegin, &root, 0)?;
            let place = RunPlace {
                root,
                after: None,
                delivered: 0,
                newest: None,
                is_ended: false,
            };
            return Ok(self.run_at(place).page(vec![begin]));
        }
        Ok(RunPage {
            records: Vec::new(),
            next: None,
        })
    }

    /// The roots to tell whose paths come after this one. Of what is watched today, those that the journal knows: the
    /// first walk of a root that is new delivers it anyway.
    fn roots(&self, after: &str) -> rusqlite::Result<Vec<ZnodePath>> {
        let known = self.known_roots(after)?;
        let Some(scope) = self.scope else {
            return Ok(known);
        };
        let mut roots = Vec::new();
        for root in scope.roots().iter().filter(|root| root.as_str() > after) {
            if known.contains(root) || self.find(root)?.is_some() {
                roots.push(root.clone());
            }
        }
        Ok(roots)
    }

    fn known_roots(&self, after: &str) -> rusqlite::Result<Vec<ZnodePath>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT path FROM root WHERE path > ?1 ORDER BY path")?;
        let mut rows = query.query([after])?;
        let mut roots = Vec::new();
        while let Some(row) = rows.next()? {
            let root: String = row.get(0)?;
            roots.push(ZnodePath::parse(&root).map_err(|error| wrong_text(Box::new(error)))?);
        }
        Ok(roots)
    }

    /// Whether a root that a run has begun is watched still.
    fn is_root(&self, root: &ZnodePath) -> bool {
        self.scope.is_none_or(|scope| scope.roots().contains(root))
    }

    fn is_excluded(&self, path: &ZnodePath) -> bool {
        self.scope.is_some_and(|scope| scope.is_excluded(path))
    }

    fn run_at(&self, place: RunPlace) -> SinkRun {
        SinkRun {
            place: Some(place),
            ..self.run.clone()
        }
    }

    fn walk(&self, walk: &mut Walk, limit: ReadLimit, slice: &Slice) -> rusqlite::Result<Option<RunPage>> {
        let top = self.run.top(&walk.place.root).expect("the root was begun");
        let mut way = Vec::new();
        let mut next = match &walk.place.after {
            None => self.find(&top)?.map(|found| (top.clone(), found)),
            Some(after) => {
                way = self.way_to(&top, after)?;
                let excluded = way.iter().position(|level| self.is_excluded(&level.path));
                way.truncate(excluded.unwrap_or(way.len()));
                self.next(&mut way)?
            }
        };
        while walk.rows < ROWS_AT_ONCE {
            let Some((path, found)) = next else {
                return self.end(walk.place.clone(), walk.take_records()).map(Some);
            };
            if self.is_excluded(&path) {
                walk.rows += 1;
                walk.place.after = Some(path);
                if slice.is_over() {
                    return Ok(None);
                }
                next = self.next(&mut way)?;
                continue;
            }
            if let Some(record) = self.snapshot(&walk.place, &path, &found)?
                && !walk.takes(record, limit)
            {
                break;
            }
            walk.rows += 1;
            walk.place.after = Some(path.clone());
            if slice.is_over() {
                return Ok(None);
            }
            way.push(SnapshotLevel {
                id: found.id,
                path,
                visited: "".into(),
            });
            next = self.next(&mut way)?;
        }
        Ok(Some(self.run_at(walk.place.clone()).page(walk.take_records())))
    }

    /// After the last znode. Only as the single record of a page the end has a seq that no znode has.
    fn end(&self, mut place: RunPlace, records: Vec<Record>) -> rusqlite::Result<RunPage> {
        if !records.is_empty() {
            return Ok(self.run_at(place).page(records));
        }
        let mut end = self.mark(Op::SnapshotEnd, &place.root, place.delivered + 1)?;
        if let Some(newest) = place.newest {
            (end.zxid, end.zxid_kind) = (Some(newest), ZxidKind::UpperBound);
        }
        if let Some(run) = &mut end.run {
            (run.nodes, run.unreadable) = (Some(place.delivered), Some(0));
        }
        place.is_ended = true;
        Ok(self.run_at(place).page(vec![end]))
    }

    /// The row of a path, from the top down.
    fn find(&self, path: &ZnodePath) -> rusqlite::Result<Option<Place>> {
        let mut found = image::find(self.connection, 0, "")?;
        for name in path.names() {
            let Some(above) = found else { return Ok(None) };
            found = image::find(self.connection, above.id, name)?;
        }
        Ok(found)
    }

    /// The levels from the top to the last path of the previous page. A level that was deleted meanwhile has nothing
    /// below it.
    fn way_to(&self, top: &ZnodePath, after: &ZnodePath) -> rusqlite::Result<Vec<SnapshotLevel>> {
        let mut way = Vec::new();
        let mut visited: Box<str> = "".into();
        let mut path = Some(after.clone());
        while let Some(at) = path.filter(|path| top.covers(path)) {
            let name: Box<str> = at.name().into();
            path = at.parent();
            if let Some(found) = self.find(&at)? {
                let id = found.id;
                way.push(SnapshotLevel {
                    id,
                    path: at,
                    visited,
                });
            }
            visited = name;
        }
        way.reverse();
        Ok(way)
    }

    /// The next path below the levels, children before siblings.
    fn next(&self, way: &mut Vec<SnapshotLevel>) -> rusqlite::Result<Option<(ZnodePath, Place)>> {
        while let Some(level) = way.last_mut() {
            if let Some((name, found)) = image::child_after(self.connection, level.id, &level.visited)? {
                let path = level.path.child(&name);
                level.visited = name;
                return Ok(Some((path, found)));
            }
            way.pop();
        }
        Ok(None)
    }

    /// The record of a row, where its value is no newer than the position.
    fn snapshot(
        &self,
        place: &RunPlace,
        path: &ZnodePath,
        found: &Place,
    ) -> rusqlite::Result<Option<Record>> {
        let Life::Read { stat } = found.life else {
            return Ok(None);
        };
        let value = found.value.map(|id| Seq(id.cast_unsigned()));
        // A record after the position that did not bring the value is a change of the access control list.
        let seq = match (found.last, value) {
            (Some(last), _) if last <= self.at => last,
            (_, Some(value)) if value <= self.at => value,
            (None, None) => self.at,
            _ => return Ok(None),
        };
        let run = self.run_of(&place.root);
        let identity = Identity::Snapshot {
            czxid: stat.czxid,
            version: stat.version,
            aversion: stat.aversion,
            run: &run,
        };
        let after = found.value.map(|id| data_of_value(self.connection, id));
        let facts = found.facts.map(|id| facts_of(self.connection, id));
        let stored = Stored {
            id: identity.id(self.names.cluster(), path),
            zxid: Some(stat.mzxid),
            zxid_kind: ZxidKind::Exact,
            fidelity: Fidelity::Reconciled,
            ephemeral: Some(stat.is_ephemeral()),
            stat: Some(stat),
            value: found.value,
            facts: facts.transpose()?.map(Box::new),
            detail: Detail::Run(self.place_in_run(&place.root, place.delivered + 1)),
            ..Stored::blank(seq, Op::Snapshot, self.run.captured)
        };
        let data = Values {
            before: None,
            after: after.transpose()?,
        };
        let named = self.named(&place.root, Some(path.clone()))?;
        Ok(Some(stored.into_record(named, data)))
    }

    fn run_of(&self, root: &ZnodePath) -> Uuid {
        Uuid::new_v5(&self.run.id, root.as_bytes())
    }

    fn place_in_run(&self, root: &ZnodePath, index: u64) -> Run {
        Run {
            id: self.run_of(root),
            index,
            nodes: None,
            unreadable: None,
        }
    }

    /// A control record of the run.
    fn mark(&self, op: Op, root: &ZnodePath, index: u64) -> rusqlite::Result<Record> {
        let run = self.place_in_run(root, index);
        let stored = Stored {
            id: Identity::RunMark { op, run: &run.id }.id(self.names.cluster(), root),
            detail: Detail::Run(run),
            ..Stored::blank(self.at, op, self.run.captured)
        };
        Ok(stored.into_record(self.named(root, None)?, Values::default()))
    }

    /// A run restates what the newest records say, in the mode in which they were captured.
    fn named(&self, root: &ZnodePath, path: Option<ZnodePath>) -> rusqlite::Result<Named> {
        let mode: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT mode FROM origin WHERE id = (SELECT origin FROM record ORDER BY seq DESC LIMIT 1)",
            )?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(Named {
            cluster: Arc::clone(self.names.cluster()),
            root: Some(root.clone()),
            path,
            origin: Origin {
                mode: mode.map_or(Ok(Mode::Watch), mode_of_number)?,
                server: None,
            },
        })
    }
}

fn stat_of(record: &Record) -> Option<&Stat> {
    record.after.as_ref()?.stat.as_ref()
}

fn wrong_text(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error)
}
