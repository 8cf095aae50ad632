//! Rate-limits a repeated log line: it is logged once, and then at intervals.

use std::time::{Duration, Instant};

/// How long the same text is left out of the log.
const SILENCE: Duration = Duration::from_secs(60);

/// The last text, and how often it came since it was logged.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    last: Option<(String, Instant)>,
    left_out: u64,
}

impl LogThrottle {
    /// Whether to log this text now, and then how often it was left out.
    pub(crate) fn say(&mut self, words: &str, now: Instant) -> Option<u64> {
        if let Some((last, since)) = &self.last
            && last == words
            && now.saturating_duration_since(*since) < SILENCE
        {
            self.left_out += 1;
            return None;
        }
        self.last = Some((words.to_owned(), now));
        Some(std::mem::take(&mut self.left_out))
    }

    /// Notes the end of the failure: the same text is logged again if it returns.
    pub(crate) fn forget(&mut self) {
        *self = LogThrottle::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_logged_once_a_minute_with_how_often_they_came() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut repeats = LogThrottle::default();
        assert_eq!(repeats.say("refused", at(0)), Some(0));
        assert_eq!(repeats.say("refused", at(1)), None);
        assert_eq!(repeats.say("refused", at(59)), None);
        assert_eq!(repeats.say("refused", at(60)), Some(2));
        assert_eq!(repeats.say("refused", at(61)), None);
    }

    #[test]
    fn other_words_and_words_after_a_recovery_are_logged_at_once() {
        let now = Instant::now();
        let mut repeats = LogThrottle::default();
        assert_eq!(repeats.say("refused", now), Some(0));
        assert_eq!(repeats.say("no route", now), Some(0));
        repeats.forget();
        assert_eq!(repeats.say("no route", now), Some(0));
    }
}
