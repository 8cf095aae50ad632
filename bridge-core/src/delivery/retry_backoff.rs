//! How long a sink waits before its next attempt, and when it gives up.

use std::time::Duration;

use rand::Rng;

use super::options::Retry;
use crate::amount::Patience;
use crate::backoff::{Backoff, Jitter};

/// The longest wait that a destination can request, as with `Retry-After`: long enough for every quota by the hour, and
/// short enough that a date set wrong does not end a delivery for days.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The waits of the option `retry`, with its limit `give_up_after`.
#[derive(Clone, Debug)]
pub(super) struct RetryBackoff {
    backoff: Backoff,
    give_up_after: Patience,
    failing_since: Option<Duration>,
    /// How long attempts had failed before this start of the process.
    failed_before: Duration,
}

/// How fast a kind of failure is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// From `retry.first`, doubling.
    Growing,
    /// From `retry.max` at once, for failures that do not end within seconds and where frequent attempts do harm (locked
    /// accounts, full logs).
    Slow,
}

impl RetryBackoff {
    /// A backoff without failures.
    pub(super) fn new(retry: Retry) -> RetryBackoff {
        RetryBackoff {
            backoff: Backoff::new(retry.first.0, retry.max.0, Jitter::Full),
            give_up_after: retry.give_up_after,
            failing_since: None,
            failed_before: Duration::ZERO,
        }
    }

    /// The state that an earlier process left: `failures` in a row over `failing_for`.
    pub(super) fn resumed(retry: Retry, failures: u32, failing_for: Duration) -> RetryBackoff {
        let new = RetryBackoff::new(retry);
        RetryBackoff {
            backoff: new.backoff.after(failures),
            failing_since: (failures > 0).then_some(Duration::ZERO),
            failed_before: failing_for,
            ..new
        }
    }

    /// Counts a failure at `now` and returns the wait; `None` if attempts failed for `give_up_after`.
    pub(super) fn failed(&mut self, pace: Pace, now: Duration, random: &mut impl Rng) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert(now);
        if let Patience::After(span) = self.give_up_after
            && now.saturating_sub(since) + self.failed_before >= span.0
        {
            return None;
        }
        Some(match pace {
            Pace::Growing => self.backoff.failed(random),
            Pace::Slow => self.backoff.failed_slowly(random),
        })
    }

    /// Forgets the failures, after a success.
    pub(super) fn succeeded(&mut self) {
        self.backoff.succeeded();
        self.failing_since = None;
        self.failed_before = Duration::ZERO;
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::amount::Span;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_sink_gives_up_so_long_after_the_first_failure_in_a_row() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = RetryBackoff::new(Retry {
            first: Span(ms(100)),
            max: Span(ms(1000)),
            give_up_after: Patience::After(Span(ms(500))),
        });
        assert!(backoff.failed(Pace::Growing, ms(1000), &mut random).is_some());
        assert!(backoff.failed(Pace::Growing, ms(1499), &mut random).is_some());
        assert_eq!(backoff.failed(Pace::Growing, ms(1500), &mut random), None);
        backoff.succeeded();
        assert!(backoff.failed(Pace::Growing, ms(9000), &mut random).is_some());
    }
}
