//! Decides how the log says that a source captures nothing: an error is for what a person must do, and a change of the
//! leader mends itself.

use std::time::{Duration, Instant};

use crate::log_throttle::LogThrottle;

/// How long the end of live capture is no error: servers elect a leader within seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// An end that comes so soon after another one, and is not a part of it, is an error: a person must see why.
const AGAIN: Duration = Duration::from_secs(60);

/// How to log a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TroubleLine {
    /// As an error, and how often the same was left out before.
    Error { left_out: u64 },
    /// As news of something that usually ends by itself.
    Info,
    /// Not at all: the same was logged a moment ago.
    Nothing,
}

/// The failures of a source since it was live.
#[derive(Debug, Default)]
pub(super) struct TroubleLog {
    errors: LogThrottle,
    news: LogThrottle,
    is_live: bool,
    /// When live capture ended, the ends soon after it not counted.
    ended: Option<Instant>,
}

impl TroubleLog {
    /// Takes note of whether capture is live.
    pub(super) fn follow(&mut self, is_live: bool, now: Instant) {
        if is_live {
            self.errors.forget();
            self.news.forget();
        } else if self.is_live && self.since_end(now).is_none_or(|since| since >= AGAIN) {
            self.ended = Some(now);
        }
        self.is_live = is_live;
    }

    fn since_end(&self, now: Instant) -> Option<Duration> {
        self.ended.map(|ended| now.saturating_duration_since(ended))
    }

    /// How to log a failure now. A final one is an error at once.
    pub(super) fn line(&mut self, message: &str, is_final: bool, now: Instant) -> TroubleLine {
        let is_calm = !is_final && self.since_end(now).is_some_and(|since| since < PATIENCE);
        let throttle = if is_calm { &mut self.news } else { &mut self.errors };
        match throttle.say(message, now) {
            Some(_) if is_calm => TroubleLine::Info,
            Some(left_out) => TroubleLine::Error { left_out },
            None => TroubleLine::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = "the connection was lost";
    const FIRST: TroubleLine = TroubleLine::Error { left_out: 0 };

    #[test]
    fn the_end_of_live_capture_is_an_error_only_if_no_other_connection_follows_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut log = TroubleLog::default();
        log.follow(true, at(0));
        log.follow(false, at(100));
        assert_eq!(log.line(LOST, false, at(100)), TroubleLine::Info);
        assert_eq!(log.line(LOST, false, at(101)), TroubleLine::Nothing);
        assert_eq!(log.line("no leader", false, at(105)), TroubleLine::Info);
        assert_eq!(log.line("no leader", false, at(110)), FIRST);
        assert_eq!(log.line("no leader", false, at(111)), TroubleLine::Nothing);
    }

    #[test]
    fn a_source_that_was_never_live_and_one_that_stops_have_an_error_at_once() {
        let now = Instant::now();
        assert_eq!(TroubleLog::default().line(LOST, false, now), FIRST);
        let mut log = TroubleLog::default();
        log.follow(true, now);
        log.follow(false, now);
        assert_eq!(log.line("the password", true, now), FIRST);
    }

    #[test]
    fn connections_that_end_soon_one_after_another_are_an_error() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut log = TroubleLog::default();
        log.follow(true, at(0));
        log.follow(false, at(100));
        assert_eq!(log.line(LOST, false, at(100)), TroubleLine::Info);
        log.follow(true, at(105));
        log.follow(false, at(108));
        assert_eq!(log.line(LOST, false, at(108)), TroubleLine::Info);
        log.follow(true, at(110));
        log.follow(false, at(113));
        assert_eq!(log.line(LOST, false, at(113)), FIRST);
        log.follow(true, at(120));
        log.follow(false, at(160));
        assert_eq!(log.line(LOST, false, at(160)), TroubleLine::Info);
    }
}
