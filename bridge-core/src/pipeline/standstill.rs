//! Notices that the process was stopped for long, as with a machine that was suspended.
//!
//! Its connection may be long gone then, and the first ticks come before the connection says so. If they counted as
//! moments at which capture was live, the time in which the process stood still would seem to be watched.

use crate::record::Timestamp;

/// Steps follow each other within a second. One that comes so much later was made after a stop, or after the clock was
/// put forward, or by a pipeline that is very late. In milliseconds, as the other.
const STOP_MIN: i64 = 20_000;

/// A clock that is put back by more may hide a stop of any length. In milliseconds.
const BACK_MIN: i64 = 1_000;

/// Within this time a connection notices that it is lost.
const NOTICED_WITHIN: i64 = 60_000;

/// The times of the steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standstill {
    last: Option<Timestamp>,
    doubted_until: Option<Timestamp>,
}

impl Standstill {
    /// Takes the time of a step. Returns whether capture that seems live then is.
    pub(super) fn trusts(&mut self, now: Timestamp) -> bool {
        let noticed = Timestamp(now.0.saturating_add(NOTICED_WITHIN));
        let last = self.last.replace(now);
        let passed = last.map_or(0, |last| now.0.saturating_sub(last.0));
        if !(-BACK_MIN..=STOP_MIN).contains(&passed) {
            self.doubted_until = Some(noticed);
        }
        // The end of the doubt moves with a clock that is put back.
        self.doubted_until = self
            .doubted_until
            .map(|until| until.min(noticed))
            .filter(|until| now < *until);
        self.doubted_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps, in seconds, with what is expected of each.
    fn check(steps: &[(i64, bool)]) {
        let mut standstill = Standstill::default();
        for (second, expected) in steps {
            let now = Timestamp(second * 1_000);
            assert_eq!(standstill.trusts(now), *expected, "at {second} of {steps:?}");
        }
    }

    #[test]
    fn for_a_minute_after_a_stop_nothing_counts_as_live() {
        check(&[(0, true), (1, true), (21, true), (22, true)]);
        check(&[
            (0, true),
            (21, false),
            (40, false),
            (60, false),
            (80, false),
            (81, true),
        ]);
        // Stopped again at 30.
        check(&[
            (0, true),
            (30, false),
            (60, false),
            (80, false),
            (100, false),
            (119, false),
            (120, true),
        ]);
    }

    #[test]
    fn a_clock_that_is_put_back_begins_a_doubt_as_it_may_hide_a_stop_and_ends_an_earlier_one_in_time() {
        check(&[(9_000, true), (8_999, true), (1_000, false), (1_059, false)]);
        check(&[
            (9_000, true),
            (9_100, false),
            (1_000, false),
            (1_020, false),
            (1_040, false),
            (1_060, true),
        ]);
    }
}
