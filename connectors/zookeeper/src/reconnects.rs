//! How long to wait before the next connection: doubling with jitter, and reset only by a connection that lasts. A server
//! that ends each connection at once is not asked thousands of times a second.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first wait; it doubles with each failure.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// No wait is longer: an ensemble that is back is found within this.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// A connection that lasts so long was no failure.
pub(crate) const STEADY: Duration = Duration::from_secs(10);

/// The failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Reconnects {
    pub(crate) failures: u32,
}

impl Reconnects {
    /// Counts a failure, and returns how long to wait: between half of the present ceiling and all of it.
    pub(crate) fn failed(&mut self) -> Duration {
        let ceiling = RECONNECT_FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(RECONNECT_MAX);
        self.failures = self.failures.saturating_add(1);
        // Its keys are random. Several bridges that lost one ensemble must not come back together.
        let random = RandomState::new().hash_one(self.failures) as u32;
        ceiling.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// A connection has ended after so long.
    pub(crate) fn lasted(&mut self, lasted: Duration) {
        if lasted >= STEADY {
            self.failures = 0;
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
        assert_eq!(reconnects.failures, 8);
        reconnects.lasted(STEADY);
        assert!(reconnects.failed() <= RECONNECT_FIRST);
    }
}
