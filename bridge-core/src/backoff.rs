//! Waits between attempts: exponential backoff with jitter.
//!
//! The caller supplies the random numbers, so that a simulator can repeat a run.

use std::time::Duration;

use rand::Rng;

/// The part of a wait that is random. Bridges and sinks that failed together must not retry together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Between zero and the ceiling.
    Full,
    /// Between half of the ceiling and the ceiling, for waits whose sum has to reach a known time.
    Half,
}

/// The ceiling of a wait doubles with each failure in a row, from `first` to `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    jitter: Jitter,
    failures: u32,
}

impl Backoff {
    /// A backoff without failures.
    pub const fn new(first: Duration, max: Duration, jitter: Jitter) -> Backoff {
        Backoff {
            first,
            max,
            jitter,
            failures: 0,
        }
    }

    /// The same backoff after this number of failures in a row.
    #[must_use]
    pub const fn after(self, failures: u32) -> Backoff {
        Backoff { failures, ..self }
    }

    /// Counts a failure and returns the wait before the next attempt.
    pub fn failed(&mut self, random: &mut impl Rng) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures);
        let ceiling = self.first.saturating_mul(doubled).min(self.max);
        self.wait(ceiling, random)
    }

    /// Counts a failure and returns a wait with the ceiling `max`, however few failures there were.
    pub fn failed_slowly(&mut self, random: &mut impl Rng) -> Duration {
        self.wait(self.max, random)
    }

    fn wait(&mut self, ceiling: Duration, random: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let least = match self.jitter {
            Jitter::Full => 0.0,
            Jitter::Half => 0.5,
        };
        ceiling.mul_f64(random.random_range(least..=1.0))
    }

    /// Forgets the failures, after a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn waits(
        jitter: Jitter,
        failures: u32,
        wait: fn(&mut Backoff, &mut StdRng) -> Duration,
    ) -> (Duration, Duration) {
        let waits = (0..200).map(|seed| {
            let mut backoff = Backoff::new(ms(100), ms(1000), jitter).after(failures);
            wait(&mut backoff, &mut StdRng::seed_from_u64(seed))
        });
        let waits: Vec<Duration> = waits.collect();
        (*waits.iter().min().unwrap(), *waits.iter().max().unwrap())
    }

    #[test]
    fn waits_are_spread_below_a_ceiling_that_doubles_up_to_the_longest() {
        for (failures, ceiling) in [
            (0, 100),
            (1, 200),
            (3, 800),
            (4, 1000),
            (40, 1000),
            (u32::MAX, 1000),
        ] {
            for (jitter, least) in [(Jitter::Full, 0), (Jitter::Half, ceiling / 2)] {
                let (shortest, longest) = waits(jitter, failures, Backoff::failed);
                assert!(longest <= ms(ceiling), "{longest:?} {ceiling} {jitter:?}");
                assert!(longest > ms(ceiling * 9 / 10), "{longest:?} {ceiling} {jitter:?}");
                assert!(shortest >= ms(least), "{shortest:?} {ceiling} {jitter:?}");
                assert!(
                    shortest < ms(least + ceiling / 10),
                    "{shortest:?} {ceiling} {jitter:?}"
                );
            }
        }
    }

    #[test]
    fn a_slow_wait_has_the_longest_ceiling_at_once() {
        let (_, longest) = waits(Jitter::Full, 0, Backoff::failed_slowly);
        assert!(longest > ms(900) && longest <= ms(1000), "{longest:?}");
    }

    #[test]
    fn a_success_resets_the_ceiling() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(ms(100), ms(1000), Jitter::Full);
        for _ in 0..10 {
            backoff.failed(&mut random);
        }
        assert_eq!(backoff.failures(), 10);
        backoff.succeeded();
        assert!(backoff.failed(&mut random) <= ms(100));
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(ms(100), ms(1000), Jitter::Half);
            [(); 8].map(|()| backoff.failed(&mut random))
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
