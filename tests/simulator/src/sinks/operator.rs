//! Orders of an operator while a sink delivers: retry and drop dead letters, deliver records once more, enable a halted
//! sink.

use std::collections::BTreeSet;

use bridge_core::delivery::{CompiledFilter, Machine, OperatorRequest, ReplayOrder};
use bridge_core::number::Seq;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use super::{Around, Destination};
use crate::coverage::Seen;

/// Records of one order at most.
const AT_ONCE: usize = 4;

/// The ordered records: they arrive outside of the stream's order.
#[derive(Debug, Default)]
pub struct Orders {
    /// Dead letters that were tried again, and records that were delivered once more.
    pub extra: BTreeSet<Seq>,
    /// Dead letters that were let go.
    pub dropped: BTreeSet<Seq>,
}

impl Orders {
    /// The newest records were lost with the power.
    pub fn forget_behind(&mut self, tail: Seq) {
        self.extra.retain(|seq| *seq <= tail);
        self.dropped.retain(|seq| *seq <= tail);
    }

    /// A sink that halted at a rejected record is enabled, mostly after the destination was corrected.
    pub(super) fn for_halted(
        &mut self,
        destination: &mut Destination,
        random: &mut StdRng,
        around: &mut Around<'_>,
    ) -> Option<OperatorRequest> {
        if around.may_fail && !random.random_bool(0.1) {
            return None;
        }
        if !around.may_fail || random.random_bool(0.7) {
            destination.correct();
        }
        around.seen.see(Seen::Enabled);
        Some(OperatorRequest::Enable)
    }

    /// Now and then something else.
    pub(super) fn draw(
        &mut self,
        machine: &Machine,
        destination: &mut Destination,
        filter: &CompiledFilter,
        random: &mut StdRng,
        around: &Around<'_>,
    ) -> Option<OperatorRequest> {
        // Dead letters are rarer than records.
        let chance = if machine.letters() > 0 { 0.15 } else { 0.01 };
        if !around.may_fail || !random.random_bool(chance) {
            return None;
        }
        let letters: Vec<Seq> = destination
            .refused
            .iter()
            .copied()
            .choose_multiple(random, AT_ONCE);
        match random.random_range(0..3) {
            0 if machine.letters() > 0 => {
                if random.random_bool(0.5) {
                    destination.correct();
                }
                // Earlier refused records of its path are retried with a dead letter.
                self.extra.extend(&destination.refused);
                Some(OperatorRequest::Retry(letters))
            }
            1 if machine.letters() > 0 => {
                self.dropped.extend(&letters);
                Some(OperatorRequest::Drop(letters))
            }
            _ => {
                let seqs = (1..=machine.cursor().0).map(Seq).choose_multiple(random, AT_ONCE);
                self.extra.extend(&seqs);
                Some(OperatorRequest::Replay(ReplayOrder {
                    records: around.with_paths(&seqs, filter),
                    current_to: None,
                }))
            }
        }
    }
}
