//! How long to wait before the next connection after a step that failed.

use std::time::Duration;

/// The first wait after a server that lags or a watch in doubt; it doubles.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
const MAX: Duration = Duration::from_secs(5);
/// The wait while the journal takes no records: sinks and retention need time to make room.
pub(super) const FULL: Duration = Duration::from_secs(5);

/// Waits that grow until the source is live again.
#[derive(Debug, Default)]
pub(super) struct ReconnectBackoff {
    failures: u32,
}

impl ReconnectBackoff {
    pub(super) fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(MAX);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    pub(super) fn is_live(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut patience = ReconnectBackoff::default();
        let waits: Vec<u128> = (0..8).map(|_| patience.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        patience.is_live();
        assert_eq!(patience.next(), FIRST);
    }
}
