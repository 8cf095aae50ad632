//! Measures the time from the arrival of a watch event until its record is durable.
//!
//! Events are settled in the order in which they arrived, so counting them is enough: an event is durable when the
//! machine has settled as many events as had arrived by then, and the transaction is committed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most arrivals that are remembered, one for each report of the connection. Later ones join the last, and the
/// reported wait is that of the first of them: too long, never too short.
const ARRIVALS_MAX: usize = 4096;

/// Arrivals whose events are not all durable.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// The number of events that had arrived, and the time.
    waiting: VecDeque<(u64, Instant)>,
}

impl Arrivals {
    /// Counts events that arrived; the argument is their number in all.
    pub(super) fn came(&mut self, events: u64, now: Instant) {
        if self.waiting.len() < ARRIVALS_MAX {
            self.waiting.push_back((events, now));
        } else if let Some((last, _)) = self.waiting.back_mut() {
            *last = events;
        }
    }

    /// Drops the events up to this number, which are durable. Returns how long each arrival among them waited.
    pub(super) fn durable(&mut self, events: u64, now: Instant) -> Vec<Duration> {
        let settled = self.waiting.partition_point(|(last, _)| *last <= events);
        let arrivals = self.waiting.drain(..settled);
        arrivals
            .map(|(_, came)| now.saturating_duration_since(came))
            .collect()
    }

    /// Drops the waiting events after the connection ended: a comparison finds their changes.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_arrival_waits_until_its_last_event_is_durable() {
        let start = Instant::now();
        let mut arrivals = Arrivals::default();
        arrivals.came(3, start);
        arrivals.came(5, start + MS);

        assert_eq!(arrivals.durable(2, start + 2 * MS), []);
        assert_eq!(arrivals.durable(4, start + 4 * MS), [4 * MS]);
        assert_eq!(arrivals.durable(5, start + 9 * MS), [8 * MS]);
        assert_eq!(arrivals.durable(5, start + 10 * MS), []);
    }

    #[test]
    fn arrivals_of_a_lost_connection_are_never_reported_as_durable() {
        let start = Instant::now();
        let mut arrivals = Arrivals::default();
        arrivals.came(3, start);
        arrivals.forget();
        assert_eq!(arrivals.durable(9, start + MS), []);
    }

    #[test]
    fn more_arrivals_than_are_remembered_are_reported_too_late_and_never_too_early() {
        let start = Instant::now();
        let mut arrivals = Arrivals::default();
        let last = ARRIVALS_MAX as u64 + 10;
        for event in 1..=last {
            arrivals.came(event, start + MS);
        }
        assert_eq!(arrivals.waiting.len(), ARRIVALS_MAX);
        assert_eq!(arrivals.durable(last - 1, start + 2 * MS).len(), ARRIVALS_MAX - 1);
        assert_eq!(arrivals.durable(last, start + 3 * MS), [2 * MS]);
    }
}
