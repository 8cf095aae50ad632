//! Waits between connections. Only a connection that lasts resets them, so that a server that ends each connection at
//! once is not asked thousands of times a second.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bridge_core::backoff::{Backoff, Jitter};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The first wait; it doubles with each failure.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// The longest wait: an ensemble that is back is found within this time.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// A connection that lasted this long is no failure.
pub(crate) const STEADY: Duration = Duration::from_secs(10);

/// The backoff between connections.
#[derive(Debug)]
pub(crate) struct Reconnects {
    backoff: Backoff,
    random: StdRng,
}

impl Default for Reconnects {
    fn default() -> Reconnects {
        Reconnects {
            backoff: Backoff::new(RECONNECT_FIRST, RECONNECT_MAX, Jitter::Half),
            // The keys of a `RandomState` are random.
            random: StdRng::seed_from_u64(RandomState::new().hash_one(())),
        }
    }
}

impl Reconnects {
    /// Counts a failure and returns the wait before the next connection.
    pub(crate) fn failed(&mut self) -> Duration {
        self.backoff.failed(&mut self.random)
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Takes note of a connection that ended after this time.
    pub(crate) fn lasted(&mut self, lasted: Duration) {
        if lasted >= STEADY {
            self.backoff.succeeded();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_only_a_connection_that_lasts_resets_them() {
        let mut reconnects = Reconnects::default();
        for ceiling in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = reconnects.failed().as_millis();
            assert!((ceiling / 2..=ceiling).contains(&wait), "{wait} of {ceiling}");
        }
        reconnects.lasted(Duration::from_secs(1));
        assert_eq!(reconnects.failures(), 8);
        reconnects.lasted(STEADY);
        assert!(reconnects.failed() <= RECONNECT_FIRST);
    }
}
