//! Bounds of each stretch of the journal in memory, so that a position is found without reading the records before it.
//!
//! The journal has a summary of each stretch that it has written since format 9; of older ones the records are read,
//! once. A complete stretch never gets another record, so bounds stay true: retention and compaction only take records
//! away, and then a stretch is read without finding one.

use bridge_core::journal::{Births, Maxima, Position, Reader, StretchSummary};
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;

use crate::error::QueryError;

/// Summaries that one step takes from the journal: some milliseconds.
const STEP_SUMMARIES: usize = 4_096;

/// Records of older stretches that one step reads: some 2 ms.
const STEP_RECORDS: u64 = 8_192;

/// The records of a stretch in a file that has none.
const LENGTH_READ: u64 = 8_192;

/// The bounds of a stretch.
#[derive(Clone, Copy, Debug)]
struct StretchBounds {
    /// The greatest zxid.
    zxid: Option<Zxid>,
    /// The latest capture.
    captured: Option<Timestamp>,
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
        captured: None,
        dated: Some(DatedBounds {
            changed: None,
            births: None,
        }),
    };

    fn of(summary: &StretchSummary) -> StretchBounds {
        StretchBounds {
            zxid: summary.zxid,
            captured: summary.captured.map(|(_, latest)| latest),
            dated: Some(DatedBounds {
                changed: summary.changed,
                births: summary.births,
            }),
        }
    }

    fn of_maxima((zxid, captured): Maxima) -> StretchBounds {
        StretchBounds {
            zxid,
            captured,
            dated: None,
        }
    }

    /// Whether all records are certainly at the position or before it.
    fn is_before(self, position: Position) -> bool {
        match position {
            Position::Zxid(at) => self.zxid.is_none_or(|zxid| zxid <= at),
            Position::Time(at) => {
                let changed = self
                    .dated
                    .map(|dated| dated.changed.is_none_or(|changed| changed <= at));
                changed.unwrap_or(false) && self.captured.is_none_or(|captured| captured <= at)
            }
            Position::Seq(_) => false,
        }
    }

    fn reaches(self, position: Position) -> bool {
        match position {
            Position::Zxid(at) => self.zxid.is_some_and(|zxid| zxid >= at),
            Position::Time(at) => self.captured.is_some_and(|captured| captured >= at),
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
    length: u64,
    known: Vec<StretchBounds>,
}

impl Stretches {
    /// The same as [`Reader::first_at`]. `lend` lends a reader for one step.
    pub(crate) fn first_at<'a, R>(
        &mut self,
        position: Position,
        lend: impl Fn() -> Result<R, QueryError>,
    ) -> Result<Option<Seq>, QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        if let Position::Seq(_) = position {
            return Ok(lend()?.first_at(position)?);
        }
        let tail = lend()?.tail()?;
        let first = self.begin(&lend)?;
        for at in first.. {
            let after = Seq(at as u64 * self.length);
            let until = Seq(after.0 + self.length);
            if after >= tail {
                return Ok(None);
            }
            if self.known.len() <= at && until <= tail {
                self.learn(tail, &lend)?;
            }
            // The stretch at the tail is not complete: it is read each time.
            if self.known.get(at).is_none_or(|bounds| bounds.reaches(position)) {
                let found = lend()?.first_between(position, after, until)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The records around a position: all up to the first number are certainly at the position or before it, and all
    /// creates after the second one that are the certain first record of a znode are after it. `None` if only the records
    /// say it.
    pub(crate) fn around<'a, R>(
        &mut self,
        position: Position,
        lend: impl Fn() -> Result<R, QueryError>,
    ) -> Result<Option<(Seq, Seq)>, QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        if let Position::Seq(seq) = position {
            return Ok(Some((seq, seq)));
        }
        let tail = lend()?.tail()?;
        let first = self.begin(&lend)?;
        let complete = usize::try_from(tail.0 / self.length).unwrap_or(usize::MAX);
        while self.known.len() < complete {
            self.learn(tail, &lend)?;
        }
        let end_of = |at: usize| Seq(at as u64 * self.length);
        let first = first.min(complete);
        let kept = &self.known[first..complete];
        let before = kept
            .iter()
            .take_while(|bounds| bounds.is_before(position))
            .count();
        let after = end_of(first + before);
        let newest = lend()?.births((end_of(complete), tail))?;
        if newest.is_some_and(|births| is_born_by(births, position)) {
            return Ok(Some((after, tail)));
        }
        for (at, bounds) in kept.iter().enumerate().rev() {
            let Some(dated) = bounds.dated else {
                return Ok(None);
            };
            if dated.births.is_some_and(|births| is_born_by(births, position)) {
                return Ok(Some((after, end_of(first + at + 1).max(self.removed(&lend)?))));
            }
        }
        // Creates whose records were removed may be at any position.
        Ok(Some((after, self.removed(&lend)?)))
    }

    /// The last record that was removed.
    fn removed<'a, R>(&self, lend: &impl Fn() -> Result<R, QueryError>) -> Result<Seq, QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        let oldest = lend()?.oldest()?;
        Ok(oldest.map_or(Seq::ZERO, |oldest| Seq(oldest.0 - 1)))
    }

    /// The first stretch of which records are kept. Those before it were removed, and need no bounds.
    fn begin<'a, R>(&mut self, lend: &impl Fn() -> Result<R, QueryError>) -> Result<usize, QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        let length = lend()?.stretch_length()?.unwrap_or(LENGTH_READ);
        // A writer that opens an older file gives it another length.
        if self.length != length {
            (self.length, self.known) = (length, Vec::new());
        }
        let oldest = lend()?.oldest()?.unwrap_or(Seq(1));
        let first = usize::try_from((oldest.0 - 1) / length).unwrap_or(usize::MAX);
        self.known
            .resize(self.known.len().max(first), StretchBounds::EMPTY);
        Ok(first)
    }

    /// Learns the bounds of the next complete stretches, of one at least.
    fn learn<'a, R>(&mut self, tail: Seq, lend: &impl Fn() -> Result<R, QueryError>) -> Result<(), QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        let length = self.length;
        let after = Seq(self.known.len() as u64 * length);
        let summaries = lend()?.summaries(after, STEP_SUMMARIES)?;
        let next = |known: &Vec<StretchBounds>| Seq((known.len() as u64 + 1) * length);
        for (last, summary) in &summaries {
            if *last != next(&self.known) {
                break;
            }
            self.known.push(StretchBounds::of(summary));
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
        self.known
            .extend(maxima.into_iter().map(StretchBounds::of_maxima));
        Ok(())
    }
}
