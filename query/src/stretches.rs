//! Bounds of each stretch of the journal in memory, so that a position is found without reading the records before it.
//!
//! The journal has a summary of each stretch that it has written since format 9; of older ones the records are read,
//! once. A complete stretch never gets another record, so bounds stay true: retention and compaction only take records
//! away, and then a stretch is read without finding one.

use bridge_core::journal::{Births, Maxima, OpCount, Position, StretchSummary};
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;

use crate::error::QueryError;
use crate::pool::PooledReader;
use crate::timeline::{self, Timeline};

/// Lends a reader for one step.
pub(crate) type BorrowReader<'a, 'r> = &'a dyn Fn() -> Result<PooledReader<'r>, QueryError>;

/// Summaries that one step takes from the journal: some milliseconds.
const STEP_SUMMARIES: usize = 4_096;

/// Records of older stretches that one step reads: some 2 ms.
const STEP_RECORDS: u64 = 8_192;

/// The records of a stretch in a file that has none.
const LENGTH_READ: u64 = 8_192;

/// Stretches whose bounds are merged into those of a block, so that most of them are passed together. Few in tests.
const BLOCK: usize = if cfg!(test) { 3 } else { 128 };

/// The bounds of a stretch, or of all stretches of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StretchBounds {
    /// The greatest zxid.
    zxid: Option<Zxid>,
    /// No record counts at a later time.
    pub(crate) time: Option<Timestamp>,
    /// Whether one counts at that time.
    pub(crate) is_time_met: bool,
    /// Whether any record may be a change.
    pub(crate) has_changes: bool,
    /// `None` where only the records say it.
    dated: Option<DatedBounds>,
}

/// The bounds that a summary has.
#[derive(Clone, Copy, Debug)]
struct DatedBounds {
    /// The latest time of a change.
    changed: Option<Timestamp>,
    /// The earliest creates.
    births: Option<Births>,
}

impl StretchBounds {
    /// Without a record.
    const EMPTY: StretchBounds = StretchBounds {
        zxid: None,
        time: None,
        is_time_met: true,
        has_changes: false,
        dated: Some(DatedBounds {
            changed: None,
            births: None,
        }),
    };

    /// `timeline`: what is known of the stretch beside its summary.
    fn of(summary: &StretchSummary, timeline: Timeline) -> StretchBounds {
        let latest = summary.captured.map(|(_, latest)| latest);
        StretchBounds {
            zxid: summary.zxid,
            time: match timeline {
                Timeline::Captured => latest,
                Timeline::Mixed => timeline::bound(latest, summary.changed),
                Timeline::Past => summary.changed,
            },
            is_time_met: timeline != Timeline::Mixed,
            has_changes: timeline::CHANGES
                .iter()
                .any(|op| summary.of(*op) != OpCount::default()),
            dated: Some(DatedBounds {
                changed: summary.changed,
                births: summary.births,
            }),
        }
    }

    fn of_maxima((zxid, captured): Maxima, has_transactions: bool) -> StretchBounds {
        StretchBounds {
            zxid,
            time: match has_transactions {
                false => captured,
                true => timeline::bound(captured, Some(Timestamp(i64::MAX))),
            },
            is_time_met: !has_transactions,
            has_changes: true,
            dated: None,
        }
    }

    /// The bounds of both.
    fn merged(self, other: StretchBounds) -> StretchBounds {
        StretchBounds {
            zxid: self.zxid.max(other.zxid),
            time: self.time.max(other.time),
            is_time_met: self.is_time_met && other.is_time_met,
            has_changes: self.has_changes || other.has_changes,
            dated: self.dated.zip(other.dated).map(|(one, two)| DatedBounds {
                changed: one.changed.max(two.changed),
                births: match (one.births, two.births) {
                    (Some(one), Some(two)) => Some(Births {
                        zxid: one.zxid.min(two.zxid),
                        changed: one.changed.min(two.changed),
                    }),
                    (one, two) => one.or(two),
                },
            }),
        }
    }

    /// Whether a create may be at the position or before it.
    fn may_be_born_by(self, position: Position) -> bool {
        self.dated
            .is_none_or(|dated| dated.births.is_some_and(|births| is_born_by(births, position)))
    }

    /// Whether all records are certainly at the position or before it.
    fn is_before(self, position: Position) -> bool {
        match position {
            Position::Zxid(at) => self.zxid.is_none_or(|zxid| zxid <= at),
            Position::Time(at) => {
                let changed = self
                    .dated
                    .map(|dated| dated.changed.is_none_or(|changed| changed <= at));
                changed.unwrap_or(false) && self.time.is_none_or(|time| time <= at)
            }
            Position::Seq(_) => false,
        }
    }

    fn reaches(self, position: Position) -> bool {
        match position {
            Position::Zxid(at) => self.zxid.is_some_and(|zxid| zxid >= at),
            Position::Time(at) => self.time.is_some_and(|time| time >= at),
            Position::Seq(_) => true,
        }
    }
}

/// Whether one of the creates is at the position or before it.
fn is_born_by(births: Births, position: Position) -> bool {
    match position {
        Position::Zxid(at) => births.zxid <= at,
        Position::Time(at) => births.changed <= at,
        Position::Seq(_) => true,
    }
}

/// The bounds of complete stretches, from the first of the journal on: some MB for ten million records.
#[derive(Debug, Default)]
pub(crate) struct Stretches {
    /// The records of a stretch; 0 until the journal is asked.
    pub(crate) length: u64,
    /// Whether any record may be a transaction.
    pub(crate) has_transactions: bool,
    pub(crate) known: Vec<StretchBounds>,
    /// Those of each complete block of [`BLOCK`] stretches.
    blocks: Vec<StretchBounds>,
    /// The last answer of [`Stretches::next_dated`].
    pub(crate) next_dated: Option<timeline::NextDated>,
}

impl Stretches {
    /// The first record that is at a position or after it; `None`: all are before it. Of a zxid: no record before the one that
    /// is found has it or a later one. A time: as of [`crate::timeline`].
    pub(crate) fn first_at(
        &mut self,
        position: Position,
        lend: BorrowReader<'_, '_>,
    ) -> Result<Option<Seq>, QueryError> {
        if let Position::Seq(_) = position {
            return Ok(lend()?.first_at(position)?);
        }
        let tail = lend()?.tail()?;
        let first = self.begin(lend)?;
        let mut next = first;
        loop {
            let at = self.pass_blocks(next, |bounds| !bounds.reaches(position));
            next = at + 1;
            let after = Seq(at as u64 * self.length);
            let until = Seq(after.0 + self.length);
            if after >= tail {
                return Ok(None);
            }
            if self.known.len() <= at && until <= tail {
                self.learn(tail, lend)?;
            }
            // The stretch at the tail is not complete: it is read each time.
            if self.known.get(at).is_none_or(|bounds| bounds.reaches(position)) {
                let found = match position {
                    Position::Time(time) if self.has_transactions => self.first_in(at, time, tail, lend)?,
                    _ => lend()?.first_between(position, after, until)?,
                };
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
    }

    /// The first stretch from `at` on that is not in a block of which all stretches are passed.
    fn pass_blocks(&self, mut at: usize, is_passed: impl Fn(StretchBounds) -> bool) -> usize {
        while at.is_multiple_of(BLOCK) && self.blocks.get(at / BLOCK).copied().is_some_and(&is_passed) {
            at += BLOCK;
        }
        at
    }

    fn push(&mut self, bounds: StretchBounds) {
        self.known.push(bounds);
        if self.known.len().is_multiple_of(BLOCK) {
            self.blocks.push(self.merged(self.blocks.len()));
        }
    }

    /// The bounds of all stretches of a complete block.
    fn merged(&self, block: usize) -> StretchBounds {
        let all = self.known[block * BLOCK..].iter().take(BLOCK);
        all.fold(StretchBounds::EMPTY, |all, one| all.merged(*one))
    }

    /// Takes the time at which the last of the records of a complete stretch counts.
    pub(crate) fn meet(&mut self, at: usize, time: Option<Timestamp>) {
        let Some(bounds) = self.known.get_mut(at) else {
            return;
        };
        (bounds.time, bounds.is_time_met) = (time, true);
        let block = at / BLOCK;
        if block < self.blocks.len() {
            self.blocks[block] = self.merged(block);
        }
    }

    /// The records around a position: all up to the first number are certainly at the position or before it, and all
    /// creates after the second one that are the certain first record of a znode are after it. `None` if only the records
    /// say it.
    pub(crate) fn around(
        &mut self,
        position: Position,
        lend: BorrowReader<'_, '_>,
    ) -> Result<Option<(Seq, Seq)>, QueryError> {
        if let Position::Seq(seq) = position {
            return Ok(Some((seq, seq)));
        }
        let tail = lend()?.tail()?;
        let first = self.begin(lend)?;
        let complete = usize::try_from(tail.0 / self.length).unwrap_or(usize::MAX);
        while self.known.len() < complete {
            self.learn(tail, lend)?;
        }
        let length = self.length;
        let end_of = |at: usize| Seq(at as u64 * length);
        let first = first.min(complete);
        let mut before = first;
        loop {
            before = self.pass_blocks(before, |bounds| bounds.is_before(position));
            let Some(bounds) = self.known.get(before).filter(|_| before < complete) else {
                break;
            };
            let is_open = !bounds.is_time_met && matches!(position, Position::Time(_));
            if is_open && !bounds.is_before(position) {
                self.measure(before, tail, lend)?;
            }
            if !self.known[before].is_before(position) {
                break;
            }
            before += 1;
        }
        let after = end_of(before.min(complete));
        let newest = lend()?.births((end_of(complete), tail))?;
        if newest.is_some_and(|births| is_born_by(births, position)) {
            return Ok(Some((after, tail)));
        }
        // The end of the stretches that are not looked at yet.
        let mut end = complete;
        while end > first {
            let block = self.blocks.get((end - 1) / BLOCK);
            let is_passed =
                |block: &StretchBounds| end.is_multiple_of(BLOCK) && !block.may_be_born_by(position);
            if block.is_some_and(is_passed) {
                end -= BLOCK;
                continue;
            }
            let Some(dated) = self.known[end - 1].dated else {
                return Ok(None);
            };
            if dated.births.is_some_and(|births| is_born_by(births, position)) {
                return Ok(Some((after, end_of(end).max(self.removed(lend)?))));
            }
            end -= 1;
        }
        // Creates whose records were removed may be at any position.
        Ok(Some((after, self.removed(lend)?)))
    }

    /// The last record that was removed.
    fn removed(&self, lend: BorrowReader<'_, '_>) -> Result<Seq, QueryError> {
        let oldest = lend()?.oldest()?;
        Ok(oldest.map_or(Seq::ZERO, |oldest| Seq(oldest.0 - 1)))
    }

    /// The first stretch of which records are kept. Those before it were removed, and need no bounds.
    pub(crate) fn begin(&mut self, lend: BorrowReader<'_, '_>) -> Result<usize, QueryError> {
        let length = lend()?.stretch_length()?.unwrap_or(LENGTH_READ);
        let has_transactions = lend()?.has_transactions()?;
        // A writer that opens an older file gives it another length, and one of another mode appends other records.
        if (self.length, self.has_transactions) != (length, has_transactions) {
            *self = Stretches {
                length,
                has_transactions,
                ..Stretches::default()
            };
        }
        let oldest = lend()?.oldest()?.unwrap_or(Seq(1));
        let first = usize::try_from((oldest.0 - 1) / length).unwrap_or(usize::MAX);
        while self.known.len() < first {
            self.push(StretchBounds::EMPTY);
        }
        Ok(first)
    }

    /// Learns the bounds of the next complete stretches, of one at least.
    pub(crate) fn learn(&mut self, tail: Seq, lend: BorrowReader<'_, '_>) -> Result<(), QueryError> {
        let length = self.length;
        let after = Seq(self.known.len() as u64 * length);
        let summaries = lend()?.summaries(after, STEP_SUMMARIES)?;
        let timelines = self.timelines(&summaries, lend)?;
        let next = |known: &Vec<StretchBounds>| Seq((known.len() as u64 + 1) * length);
        for ((last, summary), timeline) in summaries.iter().zip(timelines) {
            if *last != next(&self.known) {
                break;
            }
            self.push(StretchBounds::of(summary, timeline));
        }
        if self.known.len() as u64 * length > after.0 {
            return Ok(());
        }
        let complete = Seq(tail.0 - tail.0 % length);
        let summarised = summaries
            .first()
            .map_or(complete, |(last, _)| Seq(last.0.saturating_sub(length)));
        let step = Seq(after.0 + STEP_RECORDS.max(length));
        let until = complete.min(summarised.max(Seq(after.0 + length))).min(step);
        let maxima = lend()?.maxima((after, until), length)?;
        for maxima in maxima {
            self.push(StretchBounds::of_maxima(maxima, self.has_transactions));
        }
        Ok(())
    }
}
