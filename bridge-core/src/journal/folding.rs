//! Compacts undelivered records when a journal is full and configured to (`when_full = "compact"`): of the writes of a
//! znode only the newest stays. [`crate::fold`] decides which records can be merged, here and for sinks that merge.
//!
//! ```text
//!    delivered to all │ held by the slow sink │ delivered to the fast one │ held │ nobody has it
//! ───────────────────┼───────────────────────┼───────────────────────────┼──────┼───────────────▶ seq
//!      retention    cursor      alone       read        folded        cursor alone read   folded
//! ```
//!
//! Invariants of every commit:
//!
//! * **A fold crosses no cursor**, nor the position up to which a worker of this process has read
//!   ([`super::read_marks`]), and changes nothing between the two. So each sink gets a version once: as a record, or
//!   counted in `missed` of the record that replaces it. A sink that has delivered both records, and replays them
//!   later, gets the one that replaces both. Records that a worker had delivered but not reported when its process was
//!   killed are delivered again, as always, and may then be counted in a later record.
//! * **Parked records, dead letters and records to replay are not changed.**
//! * **The newest record of each path keeps its row**, with its `seq`, `id`, value and time. So the image, which names
//!   it, and runs that are made from the image do not change, and the order is still that of `seq`.
//! * **Creates, deletes, changes of access control lists, snapshots and control records stay**, and no fold crosses a
//!   control record: a bracket still encloses the same changes. So the records show as exactly as before which znodes
//!   existed. The remaining records of a `multi` stay next to each other, without the writes that were overwritten
//!   later.
//! * **No hole in `seq` goes unexplained**: each is in `hole` ([`super::holes`]), and `folded` says how many records
//!   went into one, for the history of its path. A record's `previous` leads past the holes.
//! * **A value goes with the record that brought it**: only the next record of the path needed it too, as its `before`,
//!   and that one now has the `before` of the first.
//!
//! Folding is done in slices, each a batch of its own, during which no sink reads. A round scans the undelivered
//! records once, from the oldest on; it begins near the limit, pauses when there is room again, and continues where it
//! was. After a round that made little room the next one waits until half of the remaining room is used, so that the
//! journal is not scanned for each batch. If a round makes no room, capture is held, as without compaction.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::contract::JournalWriter;
use super::cursors;
use super::error::JournalError;
use super::options::WhenFull;
use super::read_marks::Closed;
use super::retention::CROWDED;
use super::row::{Stored, op_number};
use super::schema::PAGE_BYTES;
use super::size::pages;
use super::waypoints;
use super::writer::{Journal, TxnState};
use crate::fold::FoldedFields;
use crate::number::Seq;
use crate::record::Op;

/// A round rests below this share of the limit. Well below [`CROWDED`], so that it does not begin again at once.
const CALM: (u64, u64) = (8, 10);

/// The part of the limit after which a batch is to end, so that there is room between [`CROWDED`] and the limit for
/// it and for what one more report brings.
const BATCH: u64 = 20;

/// The result of a call of [`Journal::fold`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Records that went into later ones.
    pub records: u64,
    /// Whether a round began with it.
    pub began: bool,
    /// The result of the round that ended with this call.
    pub ended: Option<u64>,
    /// Whether another call would continue.
    pub more: bool,
}

/// The state of the rounds. It is not stored: after a start a round begins with the first record.
#[derive(Debug, Default)]
pub(super) struct Folding {
    round: Option<Round>,
    /// The size at which the next round may begin, where the last one made little room.
    again_at: u64,
    /// An append was refused since the last round began.
    is_pressed: bool,
    /// The state in which a round found nothing: in the same state another one would find nothing either.
    in_vain: Option<(Seq, BTreeSet<Seq>)>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    /// Everything up to it was looked at.
    position: Seq,
    /// The last control record up to there.
    bracket: Seq,
    /// The last record when it began.
    until: Seq,
    records: u64,
    /// It goes on whatever room there is.
    is_pressed: bool,
    is_resting: bool,
}

impl Folding {
    /// An append was refused: the next round does not wait, and does not rest.
    pub(super) fn press(&mut self) {
        self.is_pressed = true;
    }

    /// Whether there is something to do at this size, and whether a round begins with it.
    fn is_due(&mut self, used: u64, limit: u64, head: Seq) -> Option<bool> {
        let is_crowded = is_above(used, limit, CROWDED);
        if !is_crowded {
            self.again_at = 0;
        }
        let began = self.round.is_none();
        if began && !self.is_pressed && !(is_crowded && used >= self.again_at) {
            return None;
        }
        let is_pressed = std::mem::take(&mut self.is_pressed);
        let round = self.round.get_or_insert(Round {
            position: Seq::ZERO,
            bracket: Seq::ZERO,
            until: head,
            records: 0,
            is_pressed: false,
            is_resting: false,
        });
        round.is_pressed |= is_pressed;
        round.is_resting = match round.is_resting {
            true => !is_crowded,
            false => !is_above(used, limit, CALM),
        };
        (round.is_pressed || !round.is_resting).then_some(began)
    }

    /// A slice is durable.
    fn went(&mut self, slice: FoldedSlice, used: u64, limit: u64) -> Option<u64> {
        let round = self.round.as_mut()?;
        round.records += slice.records;
        round.position = slice.position;
        round.bracket = slice.bracket;
        if !slice.is_last {
            return None;
        }
        let records = round.records;
        self.round = None;
        // At the limit itself only a refused append begins another compaction.
        self.again_at = used + (limit.saturating_sub(used) / 2).max(1);
        Some(records)
    }
}

fn is_above(used: u64, limit: u64, (part, whole): (u64, u64)) -> bool {
    used / part >= limit / whole
}

/// The result of one slice.
#[derive(Clone, Copy, Debug)]
struct FoldedSlice {
    records: u64,
    position: Seq,
    bracket: Seq,
    is_last: bool,
}

impl Journal {
    /// Whether the open batch is so large that folding must come before more records.
    pub fn has_large_batch(&self) -> bool {
        self.options.when_full == WhenFull::Compact && self.room.grown() > self.options.max_size.0 / BATCH
    }

    /// As in [`super::JournalWriter::fold`]: removes delivered records first.
    pub(super) fn fold_slice(&mut self, budget: usize) -> Result<Folded, JournalError> {
        assert!(self.state == TxnState::Closed, "folding has a batch of its own");
        if self.options.when_full != WhenFull::Compact {
            return Ok(Folded::default());
        }
        let limit = self.options.max_size.0;
        let used = self.used()?;
        let Some(began) = self.folding.is_due(used, limit, self.log.head) else {
            return Ok(Folded::default());
        };
        let marks = self.read_marks.clone();
        let closed = marks.close();
        self.log.tail_cache.forget();
        let slice = self.write("compacting records", |journal| journal.slice(&closed, budget));
        let slice = match slice {
            Ok(slice) => slice,
            Err(error) => {
                self.rollback_transaction()?;
                return Err(error);
            }
        };
        self.commit()?;
        drop(closed);
        let used = self.used()?;
        let ended = self.folding.went(slice, used, limit);
        Ok(Folded {
            records: slice.records,
            began,
            ended,
            more: self.folding.is_due(used, limit, self.log.head).is_some(),
        })
    }

    fn used(&mut self) -> Result<u64, JournalError> {
        self.read("measuring it", |journal| {
            let (pages, free) = pages(&journal.connection)?;
            Ok((pages - free) * u64::from(PAGE_BYTES))
        })
    }

    fn slice(&mut self, closed: &Closed<'_>, budget: usize) -> rusqlite::Result<FoldedSlice> {
        let round = self.folding.round.expect("a slice is one of a round");
        let nothing = FoldedSlice {
            records: 0,
            position: round.position,
            bracket: round.bracket,
            is_last: false,
        };
        let delivered = self.removable_for_room()?;
        if self.remove_until(delivered, budget)? > 0 {
            return Ok(nothing);
        }
        let Some(fences) = Fences::of(&self.connection, closed)? else {
            return Ok(FoldedSlice {
                is_last: true,
                ..nothing
            });
        };
        let state = (round.until, fences.posts.clone());
        if round.position == Seq::ZERO && self.folding.in_vain.as_ref() == Some(&state) {
            return Ok(FoldedSlice {
                is_last: true,
                ..nothing
            });
        }
        let found = look(&self.connection, round, fences.delivered, budget)?;
        let mut records = 0;
        let mut changed = BTreeSet::new();
        for (first, then) in &found.pairs {
            if fences.stand_between(*first, *then) || is_aside(&self.connection, *first, *then)? {
                continue;
            }
            if self.fold_pair(*first, *then)? {
                records += 1;
                changed.extend([*first, *then]);
            }
        }
        if records > 0 {
            let head = self.log.head;
            self.log.stretch.recount(&self.connection, &changed, head)?;
            self.log.holes.store(&self.connection)?;
            self.room.forget();
        }
        let is_last = found.position >= round.until;
        let is_in_vain = is_last && round.records + records == 0;
        self.folding.in_vain = is_in_vain.then_some(state);
        Ok(FoldedSlice {
            records,
            position: found.position,
            bracket: found.bracket,
            is_last,
        })
    }

    /// Folds a record into the next one of its path; `false` where the two are not of a kind that goes together.
    fn fold_pair(&mut self, first: Seq, then: Seq) -> rusqlite::Result<bool> {
        let connection = &self.connection;
        let (Some(update), Some(record)) =
            (Stored::find(connection, first)?, Stored::find(connection, then)?)
        else {
            return Ok(false);
        };
        // Where they differ the file is damaged, and nothing of it is removed.
        if record.retired != update.value {
            return Ok(false);
        }
        let Some(FoldedFields { missed, superseded }) = update.fold_input().into_next(record.fold_input())
        else {
            return Ok(false);
        };
        let both = Stored {
            previous: update.previous,
            missed,
            superseded,
            before: update.before,
            before_stat: update.before_stat,
            retired: update.retired,
            ..record
        };
        both.store_folded(connection)?;
        remove(connection, first, update.value)?;
        count_into(connection, first, then)?;
        waypoints::pass_on(connection, first, then)?;
        self.log.holes.add(connection, first)?;
        Ok(true)
    }
}

/// The limits that no fold crosses.
#[derive(Debug)]
struct Fences {
    /// Up to there nothing is undelivered.
    delivered: Seq,
    posts: BTreeSet<Seq>,
    /// Ranges of records that workers hold: after the first, up to the second.
    held: Vec<(Seq, Seq)>,
}

impl Fences {
    /// `None` without a sink: then nothing is undelivered.
    fn of(connection: &Connection, closed: &Closed<'_>) -> rusqlite::Result<Option<Fences>> {
        let sinks = cursors::cursors(connection)?;
        let Some(delivered) = sinks.iter().map(|sink| sink.cursor).min() else {
            return Ok(None);
        };
        let held = sinks
            .iter()
            .map(|sink| (sink.cursor, closed.read_by(&sink.sink).max(sink.cursor)));
        let held: Vec<(Seq, Seq)> = held.collect();
        Ok(Some(Fences {
            delivered,
            posts: held.iter().flat_map(|(cursor, read)| [*cursor, *read]).collect(),
            held,
        }))
    }

    fn stand_between(&self, first: Seq, then: Seq) -> bool {
        self.posts.range(first..then).next().is_some()
            || self
                .held
                .iter()
                .any(|(cursor, read)| first > *cursor && then <= *read)
    }
}

/// A finding among the next records.
struct FoldPairs {
    /// Records that may go into the next of their path, and that one, ascending by it.
    pairs: Vec<(Seq, Seq)>,
    position: Seq,
    bracket: Seq,
}

const PAIRS: &str = "SELECT r.seq, r.path IS NULL, r.previous, r.op IN (?4, ?5) AND p.op = ?4
    FROM record r LEFT JOIN record p ON p.seq = r.previous
    WHERE r.seq > ?1 AND r.seq <= ?2 ORDER BY r.seq LIMIT ?3";

fn look(connection: &Connection, round: Round, delivered: Seq, budget: usize) -> rusqlite::Result<FoldPairs> {
    let mut found = FoldPairs {
        pairs: Vec::new(),
        position: round.position.max(delivered),
        bracket: round.bracket.max(delivered),
    };
    let mut statement = connection.prepare_cached(PAIRS)?;
    let mut rows = statement.query((
        found.position.0.cast_signed(),
        round.until.0.cast_signed(),
        i64::try_from(budget).unwrap_or(i64::MAX),
        op_number(Op::Update),
        op_number(Op::Delete),
    ))?;
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
        looked += 1;
        found.position = seq;
        if row.get(1)? {
            found.bracket = seq;
        } else if row.get::<_, Option<bool>>(3)? == Some(true) {
            let previous = Seq(row.get::<_, i64>(2)?.cast_unsigned());
            if previous > found.bracket {
                found.pairs.push((previous, seq));
            }
        }
    }
    if looked < budget {
        found.position = found.position.max(round.until);
    }
    Ok(found)
}

/// Whether a sink has set one of them aside.
fn is_aside(connection: &Connection, first: Seq, then: Seq) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM rejected WHERE record IS NULL AND seq IN (?1, ?2))
                OR EXISTS (SELECT 1 FROM parked WHERE record IS NULL AND seq IN (?1, ?2))",
        )?
        .query_row((first.0.cast_signed(), then.0.cast_signed()), |row| row.get(0))
}

fn remove(connection: &Connection, seq: Seq, value: Option<i64>) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM value WHERE id = ?1")?
        .execute([value])?;
    connection
        .prepare_cached("DELETE FROM record WHERE seq = ?1")?
        .execute([seq.0.cast_signed()])?;
    Ok(())
}

/// The record and all that went into it have gone into the next one.
fn count_into(connection: &Connection, first: Seq, then: Seq) -> rusqlite::Result<()> {
    let before: Option<i64> = connection
        .prepare_cached("DELETE FROM folded WHERE seq = ?1 RETURNING records")?
        .query_row([first.0.cast_signed()], |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached(
            "INSERT INTO folded(seq, records) VALUES (?1, ?2) ON CONFLICT(seq) DO UPDATE SET records = records + ?2",
        )?
        .execute((then.0.cast_signed(), before.unwrap_or(0) + 1))?;
    Ok(())
}

/// How many records went into one.
pub(super) fn folded_into(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT records FROM folded WHERE seq = ?1")?
        .query_row([seq.0.cast_signed()], |row| row.get::<_, i64>(0))
        .optional()
        .map(|found| found.map(i64::cast_unsigned))
}
