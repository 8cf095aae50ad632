//! Until when the journal is complete while it has not taken all transactions of the ensemble.
//!
//! A source that reads transactions may have many of them waiting. Capture is live then, and what was written meanwhile
//! is not recorded yet.

use super::history_status::transactions_between;
use crate::number::Zxid;
use crate::record::Timestamp;

/// A moment at which transactions waited, until it has taken what was known then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lateness {
    /// The newest transaction at that moment.
    awaited: Option<(Zxid, Timestamp)>,
}

impl Lateness {
    /// The last moment whose transactions are all taken, where the ensemble has `newest` now and the journal is at
    /// `position`. `None` while no later moment is known than before.
    pub(super) fn complete_until(
        &mut self,
        position: Zxid,
        newest: Zxid,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if transactions_between(position, newest) == 0 {
            self.awaited = None;
            return Some(now);
        }
        let (awaited, then) = *self.awaited.get_or_insert((newest, now));
        if transactions_between(position, awaited) > 0 {
            return None;
        }
        self.awaited = Some((newest, now));
        Some(then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps at 1, 2, 3 …, each with the position and the newest transaction, and the moments that are known then.
    fn check(steps: &[(u64, u64, Option<i64>)]) {
        let mut lateness = Lateness::default();
        let moments = (1..).zip(steps).map(|(now, (position, newest, _))| {
            let until = lateness.complete_until(Zxid(*position), Zxid(*newest), Timestamp(now));
            until.map(|until| until.0)
        });
        let expected: Vec<Option<i64>> = steps.iter().map(|step| step.2).collect();
        assert_eq!(moments.collect::<Vec<_>>(), expected, "{steps:?}");
    }

    #[test]
    fn a_late_journal_is_complete_until_the_moment_whose_transactions_it_has_taken() {
        check(&[(5, 5, Some(1)), (9, 9, Some(2))]);
        check(&[
            (5, 8, None),
            (7, 20, None),
            (8, 30, Some(1)),
            (29, 40, None),
            (31, 50, Some(3)),
        ]);
        check(&[(5, 8, None), (9, 9, Some(2))]);
        // A new leader that has no transaction yet.
        check(&[
            (5, 1 << 32, Some(1)),
            (5, (1 << 32) + 1, None),
            ((1 << 32) + 1, (1 << 32) + 1, Some(3)),
        ]);
    }
}
