//! The two records of a path around a moment: the last one before it, and the one after that. The walk from the newest
//! record reads only the columns that say when a change was. A value is read of the last record alone, or, where none is
//! kept, of the one after the moment.
//!
//! ```text
//! newest ─▶ … ─▶ waypoint ─▶ … ─▶ next ─┬─▶ last        records of one path, each naming the one before it
//!                                       │
//!                                    moment
//! ```
//!
//! Invariants:
//!
//! * The records of one path are read in one transaction, so that one that goes into a later one meanwhile changes nothing.
//! * The caller alone decides on which side of the moment a record is. The walk only skips records after it, from a
//!   waypoint that is certainly after it.
//! * A walk has a limit. One that does not come to an answer says so, and its caller reads the history.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};

use super::code::StatCode;
use super::cursors;
use super::error::JournalError;
use super::folding;
use super::known_children::PathNumber;
use super::read::{Names, Reader};
use super::row::{Stored, Values, changed_of, data_of_value, kind_of_number, op_of_number, size_of_value};
use super::waypoints::EVERY;
use crate::number::{Seq, Zxid};
use crate::record::{Data, Fidelity, Op, Record, Times, Timestamp, ZxidKind};

/// Records that one walk looks at: those up to the first waypoint, those from one to the next, and some whose side is
/// unclear.
const STEPS_MAX: u32 = 4 * EVERY as u32;

/// Waypoints after a moment that are tried: the first ones may be of an unclear side.
const WAYPOINTS_TRIED: i64 = 8;

/// Bytes of values after which one call ends.
const BYTES_MAX: usize = 4 << 20;

/// When the change of a record was, as far as the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTime {
    /// The record.
    pub seq: Seq,
    /// Its operation.
    pub op: Op,
    /// Its zxid.
    pub zxid: Option<Zxid>,
    /// The meaning of the zxid.
    pub zxid_kind: ZxidKind,
    /// Whether the change was seen.
    pub fidelity: Fidelity,
    /// When it was, and when it was captured.
    pub time: Times,
}

impl From<&Record> for RecordTime {
    fn from(record: &Record) -> RecordTime {
        RecordTime {
            seq: record.seq,
            op: record.op,
            zxid: record.zxid,
            zxid_kind: record.zxid_kind,
            fidelity: record.fidelity,
            time: record.time,
        }
    }
}

/// The side of a moment on which a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the moment or before it.
    Before,
    /// After it.
    After,
    /// Its own zxid or time is only a bound.
    Unclear,
}

/// The part of a value that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuePart {
    /// All of it.
    Whole,
    /// Its size, and whether it was cut. The bytes are empty.
    Size,
}

/// The records of a path around a moment. Access control lists, which have no time of their own, do not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// The newest record before the moment, with the value after it; `None` if none is kept.
    pub last: Option<Arc<Record>>,
    /// The record after `last`, without values. With both values where there is no `last`. `None`: `last` is the newest.
    pub next: Option<Arc<Record>>,
    /// How many records a full journal has compacted into `next`.
    pub compacted: Option<u64>,
    /// The oldest record with a zxid, without values, where there is no `last`.
    pub dated: Option<Arc<Record>>,
    /// Whether records may have been removed before the oldest one. Only set where there is no `last`.
    pub is_cut: bool,
}

/// The end of a walk.
#[derive(Clone, Debug, PartialEq)]
pub enum NeighbourSearch {
    /// At the moment, or at the oldest record.
    Found(Box<Neighbours>),
    /// At the place where a waypoint would help: the question must say near which record the moment is.
    Far,
    /// Without an answer: the chain is longer than a walk, or is broken, or none of its records is kept.
    Open,
}

/// The columns of [`RecordTime`], the record before, and the path.
const TIME: &str = "SELECT op, zxid, zxid_kind, fidelity, stat, changed, captured, previous, path FROM record WHERE seq = ?1";

/// A record of the walk.
struct WalkStep {
    time: RecordTime,
    previous: Option<Seq>,
    path: Option<i64>,
}

impl WalkStep {
    fn read(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<WalkStep>> {
        connection
            .prepare_cached(TIME)?
            .query_row([seq.0.cast_signed()], |row| WalkStep::of_row(seq, row))
            .optional()
    }

    fn of_row(seq: Seq, row: &Row<'_>) -> rusqlite::Result<WalkStep> {
        let wrong = |column| rusqlite::Error::IntegralValueOutOfRange(column, 0);
        let op = op_of_number(row.get(0)?).ok_or_else(|| wrong(0))?;
        let zxid: Option<i64> = row.get(1)?;
        let stat: Option<StatCode> = row.get(4)?;
        let changed: Option<i64> = row.get(5)?;
        let previous: Option<i64> = row.get(7)?;
        Ok(WalkStep {
            time: RecordTime {
                seq,
                op,
                zxid: zxid.map(|zxid| Zxid(zxid.cast_unsigned())),
                zxid_kind: kind_of_number(row.get(2)?).ok_or_else(|| wrong(2))?,
                fidelity: match row.get(3)? {
                    true => Fidelity::Reconciled,
                    false => Fidelity::Exact,
                },
                time: Times {
                    changed: changed_of(op, stat.map(|StatCode(stat)| stat), changed.map(Timestamp)),
                    captured: Timestamp(row.get(6)?),
                },
            },
            previous: previous.map(|seq| Seq(seq.cast_unsigned())),
            path: row.get(8)?,
        })
    }

    /// Whether it has a side: a list has the time of a read.
    fn counts(&self) -> bool {
        self.time.op != Op::Acl && !self.time.op.is_control()
    }
}

/// The place where a walk ended.
#[derive(Clone, Copy)]
enum WalkEnd {
    Found {
        last: Seq,
        next: Option<Seq>,
    },
    /// At the oldest record.
    Oldest {
        next: Option<Seq>,
        dated: Option<Seq>,
    },
    Far,
    Open,
}

/// A question about some paths, in one transaction.
struct Walks<'a, S> {
    connection: &'a Connection,
    oldest: Seq,
    near: Option<Seq>,
    side: &'a S,
}

impl<S: Fn(PathNumber, &RecordTime) -> Side> Walks<'_, S> {
    fn walk(&self, path: PathNumber, newest: Seq) -> rusqlite::Result<WalkEnd> {
        let (mut at, mut next, mut dated) = (Some(newest), None, None);
        let mut may_jump = true;
        for walked in 0..STEPS_MAX {
            let Some(seq) = at.filter(|seq| *seq >= self.oldest) else {
                return Ok(match walked {
                    0 => WalkEnd::Open,
                    _ => WalkEnd::Oldest { next, dated },
                });
            };
            if walked >= u32::from(EVERY) && may_jump {
                may_jump = false;
                let Some(near) = self.near else {
                    return Ok(WalkEnd::Far);
                };
                at = Some(self.waypoint(path, (near, seq))?.unwrap_or(seq));
                continue;
            }
            let Some(step) =
                WalkStep::read(self.connection, seq)?.filter(|step| step.path == Some(path.number()))
            else {
                return Ok(WalkEnd::Open);
            };
            at = step.previous;
            if step.time.zxid.is_some() {
                dated = Some(seq);
            }
            if !step.counts() {
                continue;
            }
            if (self.side)(path, &step.time) == Side::Before {
                return Ok(WalkEnd::Found { last: seq, next });
            }
            next = Some(seq);
        }
        Ok(WalkEnd::Open)
    }

    /// The first waypoint of a path between two records that is certainly after the moment.
    fn waypoint(&self, path: PathNumber, (near, before): (Seq, Seq)) -> rusqlite::Result<Option<Seq>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq FROM waypoint WHERE path = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq LIMIT ?4",
        )?;
        let range = (
            path.number(),
            near.0.cast_signed(),
            before.0.cast_signed(),
            WAYPOINTS_TRIED,
        );
        let mut rows = statement.query(range)?;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
            let step = WalkStep::read(self.connection, seq)?;
            let step = step.filter(|step| step.path == Some(path.number()) && step.counts());
            if step.is_some_and(|step| (self.side)(path, &step.time) == Side::After) {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }
}

/// Reads the records at which a walk ended.
fn found(
    connection: &Connection,
    names: &mut Names,
    (end, oldest): (WalkEnd, Seq),
    part: ValuePart,
) -> rusqlite::Result<NeighbourSearch> {
    let neighbours = match end {
        WalkEnd::Far => return Ok(NeighbourSearch::Far),
        WalkEnd::Open => return Ok(NeighbourSearch::Open),
        WalkEnd::Found { last, next } => Neighbours {
            last: Some(names.without_before(connection, last, part)?),
            next: next.map(|seq| names.bare(connection, seq)).transpose()?,
            compacted: compacted_into(connection, next)?,
            dated: None,
            is_cut: false,
        },
        WalkEnd::Oldest { next, dated } => Neighbours {
            last: None,
            next: next.map(|seq| names.one(connection, seq)).transpose()?,
            compacted: compacted_into(connection, next)?,
            dated: dated.map(|seq| names.bare(connection, seq)).transpose()?,
            is_cut: oldest > Seq(1),
        },
    };
    Ok(NeighbourSearch::Found(Box::new(neighbours)))
}

fn compacted_into(connection: &Connection, seq: Option<Seq>) -> rusqlite::Result<Option<u64>> {
    seq.map_or(Ok(None), |seq| folding::folded_into(connection, seq))
}

impl Names {
    /// A record that must be there, without values.
    fn bare(&mut self, connection: &Connection, seq: Seq) -> rusqlite::Result<Arc<Record>> {
        let stored = Stored::find(connection, seq)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.of_stored(connection, stored, Values::default())
            .map(Arc::new)
    }

    /// A record that must be there, with the value after the change.
    fn without_before(
        &mut self,
        connection: &Connection,
        seq: Seq,
        part: ValuePart,
    ) -> rusqlite::Result<Arc<Record>> {
        let stored = Stored::find(connection, seq)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let after = stored.values().after.map(|id| match part {
            ValuePart::Whole => data_of_value(connection, id),
            ValuePart::Size => size_of_value(connection, id),
        });
        let values = Values {
            before: None,
            after: after.transpose()?,
        };
        self.of_stored(connection, stored, values).map(Arc::new)
    }
}

impl Reader {
    /// The records around a moment of each path, in their order, with the last record of each as of
    /// [`Reader::known_children`]. Comes to the first path at least, and ends after a path with whose value the values have
    /// some MiB. `side` decides on which side of the moment a record of a path is. `near` is the last record that is numbered before
    /// the moment; only walks through many records need it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn neighbours(
        &mut self,
        newest: &[(PathNumber, Seq)],
        near: Option<Seq>,
        part: ValuePart,
        side: impl Fn(PathNumber, &RecordTime) -> Side,
    ) -> Result<Vec<NeighbourSearch>, JournalError> {
        let Reader {
            connection, names, ..
        } = self;
        let (mut read, mut bytes) = (Vec::with_capacity(newest.len()), 0);
        let walked = connection.in_slices(|connection, slice| {
            let walks = Walks {
                connection,
                oldest: cursors::oldest(connection)?.unwrap_or(Seq(1)),
                near,
                side: &side,
            };
            for (path, last) in &newest[read.len()..] {
                let end = walks.walk(*path, *last)?;
                let search = found(connection, names, (end, walks.oldest), part)?;
                bytes += bytes_of(&search);
                read.push(search);
                if bytes >= BYTES_MAX {
                    break;
                }
                if slice.is_over() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        walked.map_err(|error| self.fault("reading the records around a moment", error))?;
        Ok(read)
    }
}

fn bytes_of(search: &NeighbourSearch) -> usize {
    let NeighbourSearch::Found(found) = search else {
        return 0;
    };
    let data = |data: &Option<Data>| data.as_ref().map_or(0, |data| data.bytes.len());
    let records = [&found.last, &found.next].into_iter().flatten();
    let states = records.flat_map(|record| [&record.before, &record.after]);
    states.flatten().map(|state| data(&state.data)).sum()
}
