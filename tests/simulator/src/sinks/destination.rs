//! The other end of a sink: it fails, answers late, never takes some records, and refuses paths for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use bridge_core::sink::{Deferred, DeliverError, Extent, Rejected, SinkErrorKind};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Around, failure};
use crate::coverage::Seen;

/// Of one sink.
#[derive(Debug)]
pub struct Destination {
    /// Whether it never accepts some records.
    is_picky: bool,
    /// Whether it refuses single paths for a while.
    defers: bool,
    /// Everything that arrived, in the order of arrival.
    pub arrived: Vec<Arc<Record>>,
    /// The records that it has not accepted.
    pub refused: BTreeSet<Seq>,
    /// Records that it accepts since it was corrected.
    forgiven: BTreeSet<Seq>,
    /// The paths that it refuses, and until when.
    down: BTreeMap<Option<ZnodePath>, u64>,
}

/// The records of a delivery that were not accepted.
#[derive(Debug, Default)]
struct Untaken {
    rejected: Vec<Rejected>,
    deferred: Vec<Deferred>,
}

impl Destination {
    /// Without anything.
    pub fn new(is_picky: bool, defers: bool) -> Destination {
        Destination {
            is_picky,
            defers,
            arrived: Vec::new(),
            refused: BTreeSet::new(),
            forgiven: BTreeSet::new(),
            down: BTreeMap::new(),
        }
    }

    /// Whether it never accepts a record, as it is.
    pub fn refuses(&self, record: &Record) -> bool {
        self.is_picky && record.id.as_u128() % 17 == 3 && !self.forgiven.contains(&record.seq)
    }

    /// Whether nothing but the order of each path is kept.
    pub fn defers(&self) -> bool {
        self.defers
    }

    /// Whether it cannot tell the failure of a path from its own.
    fn is_unsure(&self) -> bool {
        self.defers && !self.is_picky
    }

    /// Somebody corrects it: what it refused so far it accepts from now on.
    pub fn correct(&mut self) {
        self.forgiven.extend(&self.refused);
    }

    /// The newest records were lost with the power.
    pub fn forget_behind(&mut self, tail: Seq) {
        self.arrived.retain(|record| record.seq <= tail);
        self.refused.retain(|seq| *seq <= tail);
        self.forgiven.retain(|seq| *seq <= tail);
    }

    /// Writes, now. Returns its answer, and after how long it comes.
    pub fn write(
        &mut self,
        records: &[Arc<Record>],
        random: &mut StdRng,
        around: &mut Around<'_>,
    ) -> (u64, Result<(), DeliverError>) {
        let count = records.len();
        let fault = match around.may_fail {
            true => random.random_range(0..10),
            false => 9,
        };
        let wait_ms = match fault {
            0 => {
                around.seen.see(Seen::SinkSlow);
                random.random_range(50..2_000)
            }
            _ => random.random_range(0..10),
        };
        let written = match fault {
            1 => 0,
            2 | 3 => count / 2,
            _ => count,
        };
        let Untaken { rejected, deferred } = self.accept(&records[..written], random, around);
        let lost = |kind| Err(DeliverError::after(0, failure(kind)));
        let answer = match fault {
            1 => {
                around.seen.see(Seen::SinkFailed);
                lost(SinkErrorKind::Unavailable)
            }
            2 => {
                around.seen.see(Seen::SinkHalf);
                lost(SinkErrorKind::Broken)
            }
            4 => {
                around.seen.see(Seen::SinkFailedAfter);
                lost(SinkErrorKind::Unavailable)
            }
            _ if written == count && rejected.is_empty() && deferred.is_empty() => Ok(()),
            // Nothing was taken: only records of other paths could show whose failure it is.
            _ if self.is_unsure() && deferred.len() == count => {
                around.seen.see(Seen::SinkUnsure);
                Err(DeliverError {
                    extent: Extent::Unknown,
                    ..DeliverError::after(0, failure(SinkErrorKind::Throttled))
                })
            }
            _ => Err(DeliverError {
                done: written,
                rejected,
                deferred,
                error: (fault == 3).then(|| failure(SinkErrorKind::Broken)),
                ..DeliverError::default()
            }),
        };
        (wait_ms, answer)
    }

    /// Takes in what is neither rejected nor deferred.
    fn accept(&mut self, records: &[Arc<Record>], random: &mut StdRng, around: &mut Around<'_>) -> Untaken {
        let newest = self.arrived.iter().rev().take(200);
        let newest: BTreeSet<Seq> = newest.map(|record| record.seq).collect();
        let mut untaken = Untaken::default();
        let mut stuck = BTreeSet::new();
        for record in records {
            let seq = record.seq;
            if stuck.contains(&record.path) || self.is_down(record, random, around) {
                stuck.insert(record.path.clone());
                let error = failure(SinkErrorKind::Throttled);
                untaken.deferred.push(Deferred { seq, error });
                continue;
            }
            if self.refuses(record) {
                self.refused.insert(seq);
                let reason = "the simulated destination never takes it";
                untaken.rejected.push(Rejected::at_once(seq, reason));
                continue;
            }
            if newest.contains(&seq) {
                around.seen.see(Seen::Duplicate);
            }
            self.arrived.push(Arc::clone(record));
        }
        untaken
    }

    /// Whether the path of a record is refused for now.
    fn is_down(&mut self, record: &Record, random: &mut StdRng, around: &Around<'_>) -> bool {
        if !self.defers || !around.may_fail {
            return false;
        }
        if random.random_bool(0.05) {
            let until = around.now_ms + random.random_range(10..3_000);
            self.down.insert(record.path.clone(), until);
        }
        self.down
            .get(&record.path)
            .is_some_and(|until| *until > around.now_ms)
    }
}
