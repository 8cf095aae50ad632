//! The canary: a dead watch is found by the bridge's own write, and nothing else is taken for one.

use std::time::Duration;

use super::rules::{Bench, event, found, path, stat, ticket};
use crate::capture::{
    CanaryMark, CanaryOptions, CaptureState, Event, EventKind, Input, SessionFate, StepError,
};
use crate::capture::{Outcome, Ticket};
use crate::machine::SourceMachine;
use crate::number::Zxid;
use crate::record::{GapReason, Timestamp};
use crate::source::SourceRequest;

const CANARY: &str = "/zkbridge/canary/main-1";

fn on(canary: &str) -> Bench {
    Bench::with(|options| {
        options.sample_every = None;
        options.canary = Some(CanaryOptions {
            path: path(canary),
            every: Duration::from_secs(10),
        });
        options.own = Some(path("/zkbridge"));
    })
}

/// Live, and the first write of all done.
fn live() -> Bench {
    let mut bench = on(CANARY);
    bench.go_live();
    bench.written(CanaryMark(1), Some(10));
    bench
}

impl Bench {
    fn ticks(&mut self, count: usize) -> Vec<SourceRequest> {
        (0..count).flat_map(|_| self.input(Input::Tick)).collect()
    }

    fn written(&mut self, mark: CanaryMark, zxid: Option<u64>) -> Vec<SourceRequest> {
        let zxid = zxid.map(Zxid);
        self.input(Input::CanaryWritten { mark, zxid })
    }

    /// Asks for a write and lets it be done.
    fn writes(&mut self, zxid: u64) -> Ticket {
        let requests = self.ticks(10);
        let [SourceRequest::WriteCanary { mark, .. }] = requests[..] else {
            panic!("{requests:?}");
        };
        ticket(&self.written(mark, Some(zxid)))
    }

    fn takes_event(&mut self, zxid: Option<u64>) {
        let event = Event {
            zxid: zxid.map(Zxid),
            ..event(CANARY, EventKind::Changed, 0)
        };
        assert_eq!(self.input(Input::Events(vec![event])), []);
    }

    fn try_answer(&mut self, ticket: Ticket, outcome: Outcome) -> Result<Vec<SourceRequest>, StepError> {
        let outcomes = vec![outcome];
        let input = Input::Answer { ticket, outcomes };
        let outcome = self.capture.step(Timestamp(1), input, &mut self.image)?;
        Ok(outcome.requests)
    }
}

fn shows(mzxid: u64) -> Outcome {
    found(stat(1, mzxid, 1, 1, 0), None)
}

fn is_dead<T>(step: &Result<T, StepError>) -> bool {
    matches!(step, Err(StepError::Doubt(GapReason::Liveness)))
}

#[test]
fn a_write_whose_event_has_come_before_its_answer_proves_the_watch_alive_and_leaves_no_record() {
    // Servers before 3.9 name no zxid.
    for (zxid, is_heard_first) in [(Some(20), true), (Some(20), false), (None, true), (None, false)] {
        let mut bench = live();
        let before = bench.image.appended.len();
        let checks = bench.capture.counters().liveness_checks;
        let requests = bench.ticks(10);
        assert_eq!(
            requests,
            [SourceRequest::WriteCanary {
                mark: CanaryMark(2),
                path: path(CANARY)
            }]
        );
        if is_heard_first {
            bench.takes_event(zxid);
        }
        let read = ticket(&bench.written(CanaryMark(2), Some(20)));
        if !is_heard_first {
            bench.takes_event(zxid);
        }
        assert_eq!(bench.try_answer(read, shows(20)).unwrap(), []);
        assert_eq!(bench.capture.counters().liveness_checks, checks + 1);
        assert_eq!(bench.image.appended.len(), before);
        assert_eq!(bench.capture.state(), CaptureState::Live);
        assert!(matches!(bench.ticks(10)[..], [SourceRequest::WriteCanary { .. }]));
        assert_eq!(bench.capture.counters().events, 0, "no event of the tree");
    }
}

#[test]
fn a_write_that_is_read_and_was_not_heard_of_proves_the_watch_dead() {
    let mut bench = live();
    let read = bench.writes(20);
    let step = bench.try_answer(read, shows(20));
    assert!(is_dead(&step), "{step:?}");
    assert_eq!(bench.capture.reset(&step.unwrap_err()), Ok(()));
}

#[test]
fn the_event_of_an_earlier_write_proves_nothing() {
    let mut bench = live();
    let read = bench.writes(20);
    bench.takes_event(Some(19));
    let step = bench.try_answer(read, shows(20));
    assert!(is_dead(&step), "{step:?}");
}

#[test]
fn a_server_that_lags_is_asked_again_and_at_last_its_watch_is_taken_for_dead() {
    let mut bench = live();
    let mut read = bench.writes(20);
    for _ in 0..20 {
        assert_eq!(bench.try_answer(read, shows(10)).unwrap(), []);
        read = ticket(&bench.ticks(1));
    }
    bench.try_answer(read, shows(10)).unwrap();
    let step = bench.capture.step(Timestamp(1), Input::Tick, &mut bench.image);
    assert!(is_dead(&step), "{step:?}");
}

#[test]
fn a_canary_read_that_waits_after_a_storm_of_events_is_no_doubt() {
    let mut bench = live();
    let read = bench.writes(20);
    assert_eq!(bench.ticks(100), []);
    bench.takes_event(Some(20));
    assert_eq!(bench.try_answer(read, shows(20)).unwrap(), []);
    assert_eq!(bench.capture.state(), CaptureState::Live);
}

#[test]
fn a_server_that_lagged_and_then_sends_the_event_proves_its_watch_alive() {
    let mut bench = live();
    let read = bench.writes(20);
    bench.try_answer(read, Outcome::Missing).unwrap();
    let again = ticket(&bench.ticks(1));
    bench.takes_event(Some(20));
    let checks = bench.capture.counters().liveness_checks;
    bench.try_answer(again, shows(20)).unwrap();
    assert_eq!(bench.capture.counters().liveness_checks, checks + 1);
}

#[test]
fn a_canary_that_could_not_be_written_or_was_removed_by_somebody_says_nothing_of_the_watch() {
    let mut bench = live();
    assert_eq!(bench.ticks(10).len(), 1);
    assert_eq!(bench.written(CanaryMark(2), None), []);
    assert!(matches!(
        bench.ticks(10)[..],
        [SourceRequest::WriteCanary {
            mark: CanaryMark(3),
            ..
        }]
    ));

    // Not answered at all, it is given up, and an answer that comes too late is none.
    bench.ticks(21);
    assert_eq!(bench.written(CanaryMark(3), Some(30)), []);
    let requests = bench.ticks(10);
    let [SourceRequest::WriteCanary { mark, .. }] = requests[..] else {
        panic!("{requests:?}");
    };

    let mut read = ticket(&bench.written(mark, Some(40)));
    for _ in 0..20 {
        bench.try_answer(read, Outcome::Missing).unwrap();
        read = ticket(&bench.ticks(1));
    }
    bench.try_answer(read, Outcome::Missing).unwrap();
    bench.ticks(1);
    assert_eq!(bench.capture.state(), CaptureState::Live);
}

#[test]
fn a_canary_outside_of_the_roots_has_a_watch_of_its_own_and_is_written_once_before_the_first_walk() {
    let write = |canary| SourceRequest::WriteCanary {
        mark: CanaryMark(1),
        path: path(canary),
    };
    for (canary, watched) in [
        (CANARY, vec![path("/a"), path(CANARY)]),
        ("/a/b", vec![path("/a")]),
    ] {
        let mut bench = on(canary);
        let session = SessionFate::New;
        let requests = bench.input(Input::Connected { session });
        assert_eq!(requests, [SourceRequest::Arm(watched.clone()), write(canary)]);
        bench.written(CanaryMark(1), Some(5));
        let requests = bench.input(Input::Connected { session });
        assert_eq!(requests, [SourceRequest::Arm(watched)]);
    }
}

#[test]
fn the_znodes_of_bridges_are_neither_listed_nor_followed() {
    let mut bench = Bench::with(|options| {
        options.roots = vec![path("/")];
        options.own = Some(path("/zkbridge"));
    });
    let read = bench.connect();
    let requests = bench.answer(
        read,
        vec![found(stat(0, 0, 0, 9, 2), Some(&["zkbridge", "zookeeper"]))],
    );
    assert_eq!(requests, []);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let events = vec![event("/zkbridge/canary/other-7", EventKind::Created, 12)];
    assert_eq!(bench.input(Input::Events(events)), []);
    assert_eq!(bench.image.changes().count(), 1);
}
