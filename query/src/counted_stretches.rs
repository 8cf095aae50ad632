//! The counts of each complete stretch in memory, so that a chart of a long history reads no summary twice.
//!
//! Invariant: only a compaction changes the counts of a complete stretch. So counts are good as long as the number of
//! compacted records is the one with which they were read; retention only takes stretches away.

use std::sync::Arc;

use bridge_core::journal::{OpCount, Reader, StretchSummary};
use bridge_core::number::Seq;
use bridge_core::record::{Op, Timestamp};

use crate::activity::ActivityCounts;
use crate::error::QueryError;

/// Summaries that one step reads: some milliseconds.
const STEP_SUMMARIES: usize = 2_000;

/// The operations of most stretches.
const FEW: [Op; 3] = [Op::Create, Op::Update, Op::Delete];

/// The counts of a stretch.
#[derive(Clone, Debug)]
pub(crate) struct CountedStretch {
    /// Its last record.
    pub(crate) last: Seq,
    /// The earliest and the latest capture; `None` without a record.
    pub(crate) captured: Option<(Timestamp, Timestamp)>,
    counts: StretchCounts,
}

#[derive(Clone, Debug)]
enum StretchCounts {
    /// Records of [`FEW`], with no change missed.
    Few([u32; FEW.len()]),
    All(Box<StretchSummary>),
}

impl CountedStretch {
    fn of((last, summary): (Seq, StretchSummary)) -> CountedStretch {
        let few = FEW.map(|op| u32::try_from(summary.of(op).records).unwrap_or(u32::MAX));
        let counts = StretchCounts::Few(few);
        let is_few = Op::ALL.iter().all(|op| of_few(few, *op) == summary.of(*op));
        CountedStretch {
            last,
            captured: summary.captured,
            counts: match is_few {
                true => counts,
                false => StretchCounts::All(Box::new(summary)),
            },
        }
    }

    /// The counts of an operation.
    pub(crate) fn of_op(&self, op: Op) -> OpCount {
        match &self.counts {
            StretchCounts::Few(few) => of_few(*few, op),
            StretchCounts::All(summary) => summary.of(op),
        }
    }

    /// Adds the counts of the operations that are selected.
    pub(crate) fn add_to(&self, counts: &mut ActivityCounts, is_selected: impl Fn(Op) -> bool) {
        let ops: &[Op] = match &self.counts {
            StretchCounts::Few(_) => &FEW,
            StretchCounts::All(_) => Op::ALL,
        };
        for op in ops.iter().copied().filter(|op| is_selected(*op)) {
            counts.add_of(op, self.of_op(op));
        }
    }
}

fn of_few(few: [u32; FEW.len()], op: Op) -> OpCount {
    let at = FEW.iter().position(|known| *known == op);
    OpCount {
        records: at.map_or(0, |at| few[at].into()),
        ..OpCount::default()
    }
}

/// The counts of all complete stretches: some MB for ten million records.
#[derive(Debug, Default)]
pub(crate) struct CountedStretches {
    /// The records that were compacted when the counts were read.
    compacted: u64,
    /// Ascending.
    known: Arc<Vec<CountedStretch>>,
}

impl CountedStretches {
    /// All complete stretches, those that were removed meanwhile included. `lend` lends a reader for one step. `None`: a
    /// full journal is being compacted, and the counts may be of different moments.
    pub(crate) fn all<'a, R>(
        &mut self,
        lend: impl Fn() -> Result<R, QueryError>,
    ) -> Result<Option<Arc<Vec<CountedStretch>>>, QueryError>
    where
        R: std::ops::DerefMut<Target = Reader> + 'a,
    {
        let compacted = lend()?.compacted()?;
        if self.compacted != compacted {
            (self.compacted, self.known) = (compacted, Arc::default());
        }
        loop {
            let after = self.known.last().map_or(Seq::ZERO, |known| known.last);
            let summaries = lend()?.summaries(after, STEP_SUMMARIES)?;
            if summaries.is_empty() {
                break;
            }
            let is_last = summaries.len() < STEP_SUMMARIES;
            Arc::make_mut(&mut self.known).extend(summaries.into_iter().map(CountedStretch::of));
            if is_last {
                break;
            }
        }
        if lend()?.compacted()? != compacted {
            self.known = Arc::default();
            return Ok(None);
        }
        Ok(Some(Arc::clone(&self.known)))
    }
}
