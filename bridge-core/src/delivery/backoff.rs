//! How long to wait before the next attempt: exponential with full jitter, so that sinks that failed together do not
//! come back together. Time and random numbers come in from outside.

use std::time::Duration;

use rand::Rng;

use super::options::Retry;
use crate::amount::Patience;

/// The longest that a destination can make a sink wait by its own word, as in `Retry-After`: long enough for every quota
/// by the hour, and short enough that a date set wrong does not end a delivery for days.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The waits of failures in a row.
#[derive(Clone, Debug)]
pub struct Backoff {
    retry: Retry,
    failures: u32,
    failing_since: Option<Duration>,
    /// How long it had been failing before this life of the process.
    failed_before: Duration,
}

/// How fast a kind of failure is worth another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// From `first`, doubling.
    Growing,
    /// From `max` at once: it will not heal within seconds, and asking often does harm (locked accounts, full logs).
    Slow,
}

impl Backoff {
    /// No failure yet.
    pub fn new(retry: Retry) -> Backoff {
        Backoff {
            retry,
            failures: 0,
            failing_since: None,
            failed_before: Duration::ZERO,
        }
    }

    /// As an earlier life of the process left it, at the moment zero.
    pub(super) fn resumed(retry: Retry, failures: u32, failing_for: Duration) -> Backoff {
        Backoff {
            failures,
            failing_since: (failures > 0).then_some(Duration::ZERO),
            failed_before: failing_for,
            ..Backoff::new(retry)
        }
    }

    /// Counts a failure at `now` and says how long to wait; `None` when it is time to give up.
    pub fn failed(&mut self, pace: Pace, now: Duration, random: &mut impl Rng) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert(now);
        if let Patience::After(span) = self.retry.give_up_after
            && now.saturating_sub(since) + self.failed_before >= span.0
        {
            return None;
        }
        let ceiling = match pace {
            Pace::Growing => self.growing(),
            Pace::Slow => self.retry.max.0,
        };
        self.failures = self.failures.saturating_add(1);
        Some(ceiling.mul_f64(random.random_range(0.0..=1.0)))
    }

    /// Forgets the failures, after a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.failed_before = Duration::ZERO;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn growing(&self) -> Duration {
        let doubled = 2u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.retry.first.0.saturating_mul(doubled).min(self.retry.max.0)
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

    fn a_backoff(give_up_after: Patience) -> Backoff {
        Backoff::new(Retry {
            first: Span(ms(100)),
            max: Span(ms(1000)),
            give_up_after,
        })
    }

    #[test]
    fn waits_are_spread_below_a_ceiling_that_doubles_up_to_the_longest() {
        for (failures, ceiling) in [(0, 100), (1, 200), (3, 800), (4, 1000), (40, 1000)] {
            let waits: Vec<Duration> = (0..200)
                .map(|seed| {
                    let mut random = StdRng::seed_from_u64(seed);
                    let mut backoff = a_backoff(Patience::Never);
                    backoff.failures = failures;
                    backoff.failed(Pace::Growing, ms(0), &mut random).unwrap()
                })
                .collect();
            let longest = waits.iter().max().unwrap();
            let shortest = waits.iter().min().unwrap();
            assert!(*longest <= ms(ceiling), "{longest:?} {ceiling}");
            assert!(*longest > ms(ceiling * 9 / 10), "{longest:?} {ceiling}");
            assert!(*shortest < ms(ceiling / 10), "{shortest:?} {ceiling}");
        }
    }

    #[test]
    fn a_success_begins_again() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = a_backoff(Patience::Never);
        for _ in 0..10 {
            backoff.failed(Pace::Growing, ms(0), &mut random);
        }
        backoff.succeeded();
        assert!(backoff.failed(Pace::Growing, ms(0), &mut random).unwrap() <= ms(100));
    }

    #[test]
    fn patience_ends_so_long_after_the_first_failure_in_a_row() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = a_backoff(Patience::After(Span(ms(500))));
        assert!(backoff.failed(Pace::Growing, ms(1000), &mut random).is_some());
        assert!(backoff.failed(Pace::Growing, ms(1499), &mut random).is_some());
        assert_eq!(backoff.failed(Pace::Growing, ms(1500), &mut random), None);
        backoff.succeeded();
        assert!(backoff.failed(Pace::Growing, ms(9000), &mut random).is_some());
    }
}
