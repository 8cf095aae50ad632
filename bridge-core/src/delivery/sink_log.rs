//! Rate-limits a sink's failure logs: failures that come and go are logged once a minute, persistent ones always.

use std::time::Instant;

use super::sink_failure::{SinkFailure, SinkFailureKind};
use super::steps::Phase;
use crate::log_throttle::LogThrottle;

/// A line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The sink delivers again.
    Again,
    /// The sink has halted.
    Halted,
    /// The sink fails; the number of such failures since the last line.
    Failing { left_out: u64 },
    /// A line at debug level.
    Detail,
}

/// Remembers the lines that were logged.
#[derive(Debug, Default)]
pub(super) struct SinkLog {
    /// One for each kind of failure.
    kinds: Vec<(SinkFailureKind, LogThrottle)>,
    /// Whether the present failure was logged.
    is_logged: bool,
    parked: LogThrottle,
    parked_is_logged: bool,
    refused: LogThrottle,
    rejected: LogThrottle,
    /// Dead letters that were not logged since the last line on them.
    rejected_left_out: u64,
    /// Dead letters since the line on the first parked record.
    rejected_while_parked: u64,
}

impl SinkLog {
    /// The line for a change of the failure.
    pub(super) fn moved(
        &mut self,
        before: Option<&SinkFailure>,
        after: Option<&SinkFailure>,
        phase: Phase,
        now: Instant,
    ) -> Option<Line> {
        match (before, after) {
            (None, None) => None,
            (Some(_), None) => std::mem::take(&mut self.is_logged).then_some(Line::Again),
            (_, Some(failure)) if phase == Phase::Halted => {
                self.is_logged = true;
                let is_new = before.is_none_or(|before| before.message != failure.message);
                is_new.then_some(Line::Halted)
            }
            (Some(before), Some(after)) if self.is_logged && before.kind == after.kind => Some(Line::Detail),
            (_, Some(failure)) => Some(match self.of(failure.kind).say("", now) {
                Some(left_out) => {
                    self.is_logged = true;
                    Line::Failing { left_out }
                }
                None => Line::Detail,
            }),
        }
    }

    fn of(&mut self, kind: SinkFailureKind) -> &mut LogThrottle {
        let at = self.kinds.iter().position(|(known, _)| *known == kind);
        let at = at.unwrap_or_else(|| {
            self.kinds.push((kind, LogThrottle::default()));
            self.kinds.len() - 1
        });
        &mut self.kinds[at].1
    }

    /// Whether to log that records begin to wait, or that none waits any more.
    pub(super) fn parked(&mut self, before: usize, after: usize, now: Instant) -> bool {
        match (before, after) {
            (0, 1..) => {
                self.parked_is_logged = self.parked.say("", now).is_some();
                self.parked_is_logged
            }
            (1.., 0) => std::mem::take(&mut self.parked_is_logged),
            _ => false,
        }
    }

    /// Counts new dead letters; then how many there were since the last line, if a line is due.
    pub(super) fn rejected(&mut self, count: u64, now: Instant) -> Option<u64> {
        if count == 0 {
            return None;
        }
        self.rejected_left_out += count;
        self.rejected.say("", now)?;
        Some(std::mem::take(&mut self.rejected_left_out))
    }

    /// Counts dead letters for the line on the end of the retry queue.
    pub(super) fn add_rejected_while_parked(&mut self, count: u64) {
        self.rejected_while_parked += count;
    }

    /// The dead letters since records began to wait, and begins to count anew.
    pub(super) fn take_rejected_while_parked(&mut self) -> u64 {
        std::mem::take(&mut self.rejected_while_parked)
    }

    /// Whether to log that a record of a run is refused; then the number of those not logged.
    pub(super) fn refused(&mut self, now: Instant) -> Option<u64> {
        self.refused.say("", now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sink::SinkErrorKind;

    fn failure(kind: SinkErrorKind) -> SinkFailure {
        SinkFailure {
            kind: SinkFailureKind::Sink(kind),
            message: format!("{kind:?}"),
            remedy: "",
            calls_operator: false,
            failures: 1,
            retry_after_seconds: None,
        }
    }

    /// A log, its clock, and the present failure.
    struct Stage {
        sink_log: SinkLog,
        start: Instant,
        failure: Option<SinkFailure>,
    }

    impl Stage {
        fn set() -> Stage {
            Stage {
                sink_log: SinkLog::default(),
                start: Instant::now(),
                failure: None,
            }
        }

        fn fails(&mut self, second: u64, kind: SinkErrorKind) -> Option<Line> {
            self.step(second, Some(failure(kind)), Phase::BackingOff)
        }

        fn recovers(&mut self, second: u64) -> Option<Line> {
            self.step(second, None, Phase::Idle)
        }

        fn step(&mut self, second: u64, after: Option<SinkFailure>, phase: Phase) -> Option<Line> {
            let now = self.start + Duration::from_secs(second);
            let line = self
                .sink_log
                .moved(self.failure.as_ref(), after.as_ref(), phase, now);
            self.failure = after;
            line
        }
    }

    use SinkErrorKind::{Throttled, Unavailable};

    const FIRST: Option<Line> = Some(Line::Failing { left_out: 0 });
    const DETAIL: Option<Line> = Some(Line::Detail);

    #[test]
    fn a_trouble_is_logged_when_it_begins_and_when_it_ends() {
        let mut stage = Stage::set();
        assert_eq!(stage.recovers(0), None);
        assert_eq!(stage.fails(1, Unavailable), FIRST);
        assert_eq!(stage.fails(2, Unavailable), DETAIL);
        assert_eq!(stage.fails(90, Unavailable), DETAIL);
        assert_eq!(stage.recovers(91), Some(Line::Again));
        assert_eq!(stage.fails(92, Throttled), FIRST);
    }

    #[test]
    fn a_sink_that_fails_and_delivers_in_turns_is_logged_once_a_minute() {
        let mut stage = Stage::set();
        let mut logged = Vec::new();
        for second in 0..130 {
            logged.extend(
                stage
                    .fails(second, Unavailable)
                    .filter(|line| *line != Line::Detail),
            );
            logged.extend(stage.recovers(second));
        }
        let failing = |left_out| Line::Failing { left_out };
        assert_eq!(
            logged,
            [
                failing(0),
                Line::Again,
                failing(59),
                Line::Again,
                failing(59),
                Line::Again
            ]
        );
    }

    #[test]
    fn a_trouble_that_stays_is_logged_although_it_came_right_after_another() {
        let mut stage = Stage::set();
        assert_eq!(stage.fails(0, Unavailable), FIRST);
        assert_eq!(stage.recovers(1), Some(Line::Again));
        assert_eq!(stage.fails(2, Unavailable), DETAIL);
        assert_eq!(stage.fails(30, Unavailable), DETAIL);
        assert_eq!(stage.fails(61, Unavailable), Some(Line::Failing { left_out: 2 }));
        assert_eq!(stage.fails(62, Unavailable), DETAIL);
        assert_eq!(stage.recovers(63), Some(Line::Again));
    }

    #[test]
    fn a_halt_is_always_logged() {
        let mut stage = Stage::set();
        for second in 0..3 {
            let halted = stage.step(second, Some(failure(Unavailable)), Phase::Halted);
            assert_eq!(halted, Some(Line::Halted));
            assert_eq!(stage.recovers(second), Some(Line::Again));
        }
    }

    #[test]
    fn dead_letters_are_logged_at_once_and_then_once_a_minute_with_their_number() {
        let mut sink_log = SinkLog::default();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(sink_log.rejected(0, at(0)), None);
        assert_eq!(sink_log.rejected(1, at(0)), Some(1));
        assert_eq!(sink_log.rejected(2, at(1)), None);
        assert_eq!(sink_log.rejected(40, at(59)), None);
        assert_eq!(sink_log.rejected(1, at(60)), Some(43));
        assert_eq!(sink_log.rejected(0, at(130)), None);
    }

    #[test]
    fn records_that_begin_to_wait_again_and_again_are_logged_once_a_minute() {
        let mut sink_log = SinkLog::default();
        let now = Instant::now();
        assert!(sink_log.parked(0, 3, now));
        assert!(!sink_log.parked(3, 2, now));
        assert!(sink_log.parked(2, 0, now));
        assert!(!sink_log.parked(0, 1, now));
        assert!(!sink_log.parked(1, 0, now));
        assert!(sink_log.parked(0, 1, now + Duration::from_secs(60)));
    }
}
