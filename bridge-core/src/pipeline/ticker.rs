//! The timer of an idle pipeline: short while a cursor waits to be stored, or changes for the rest of their transaction,
//! otherwise one second.
//!
//! The ticks are all that a bridge does while the tree does not change, so that each needless one adds to its idle
//! cost.

use std::time::Duration;

use tokio::time::Instant;

/// How long a cursor waits to be stored where no batch takes it along.
const BEAT: Duration = Duration::from_millis(200);
/// Beats between two ticks of the machine (a second), and two shows of the metrics.
const BEATS_PER_TICK: u32 = 5;
/// Beats between two rounds of retention (ten seconds).
const BEATS_PER_RETENTION: u32 = 50;

/// Counts beats of 200 ms.
#[derive(Debug)]
pub(super) struct Ticker {
    began: Instant,
    passed: u32,
}

/// The purpose of a tick, besides cursors that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// About a second has passed.
    pub(super) is_tick: bool,
    /// It is time for retention.
    pub(super) is_for_retention: bool,
}

impl Ticker {
    pub(super) fn new(now: Instant) -> Ticker {
        Ticker {
            began: now,
            passed: 0,
        }
    }

    /// When the next is.
    pub(super) fn due(&self, has_waiting: bool) -> Instant {
        let next = match has_waiting {
            true => self.passed + 1,
            false => (self.passed / BEATS_PER_TICK + 1) * BEATS_PER_TICK,
        };
        self.began + BEAT * next
    }

    /// It is now. Those that were missed are not made up for.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        let passed = now.saturating_duration_since(self.began).as_millis() / BEAT.as_millis();
        let before = self.passed;
        self.passed = u32::try_from(passed).unwrap_or(u32::MAX).max(before);
        let has_begun = |each: u32| self.passed / each > before / each;
        let beat = Beat {
            is_tick: has_begun(BEATS_PER_TICK),
            is_for_retention: has_begun(BEATS_PER_RETENTION),
        };
        // The product stays small however long the process runs.
        if beat.is_for_retention {
            self.began += BEAT * (self.passed / BEATS_PER_RETENTION * BEATS_PER_RETENTION);
            self.passed %= BEATS_PER_RETENTION;
        }
        beat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_at_rest_looks_up_once_a_second_and_soon_where_a_cursor_waits() {
        let began = Instant::now();
        let mut ticker = Ticker::new(began);
        assert_eq!(ticker.due(true), began + BEAT);
        assert_eq!(ticker.due(false), began + 5 * BEAT);

        let beat = ticker.beat(began + BEAT);
        assert!(!beat.is_tick && !beat.is_for_retention);
        assert_eq!(ticker.due(true), began + 2 * BEAT);
        assert_eq!(ticker.due(false), began + 5 * BEAT);

        assert!(ticker.beat(began + 5 * BEAT).is_tick);
        assert_eq!(ticker.due(false), began + 10 * BEAT);
    }

    #[test]
    fn a_minute_at_rest_has_sixty_ticks_and_six_rounds_of_retention() {
        let mut ticker = Ticker::new(Instant::now());
        let (mut ticks, mut rounds) = (0, 0);
        for _ in 0..60 {
            let now = ticker.due(false);
            let beat = ticker.beat(now);
            ticks += u32::from(beat.is_tick);
            rounds += u32::from(beat.is_for_retention);
        }
        assert_eq!((ticks, rounds), (60, 6));
    }

    #[test]
    fn missed_beats_are_made_up_for_once() {
        let began = Instant::now();
        let mut ticker = Ticker::new(began);
        let late = began + Duration::from_secs(25);
        let beat = ticker.beat(late);
        assert!(beat.is_tick && beat.is_for_retention);
        assert_eq!(ticker.due(false), began + Duration::from_secs(26));
    }
}
