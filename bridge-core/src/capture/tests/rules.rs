//! Single rules, by hand.

use std::collections::BTreeMap;

use super::lineage::prove;
use crate::append::{ChangeKind, DeletedAt, RecordKind};
use crate::capture::denials::DENIALS_MAX;
use crate::capture::machine::LAG_ATTEMPTS_MAX;
use crate::capture::{
    Capture, CaptureOptions, CaptureState, Event, EventKind, Halt, Input, Limits, Outcome, SessionFate,
    StepError, Ticket,
};
use crate::journal::JournalWriter;
use crate::machine::{SourceMachine, StepOutcome};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat, Timestamp};
use crate::source::SourceRequest;
use crate::testing::ModelJournal;

pub(super) fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

pub(super) fn stat(czxid: u64, mzxid: u64, version: i32, pzxid: u64, children: i32) -> Stat {
    Stat {
        czxid: Zxid(czxid),
        mzxid: Zxid(mzxid),
        pzxid: Zxid(pzxid),
        version,
        num_children: children,
        ..Stat::default()
    }
}

pub(super) fn found(stat: Stat, children: Option<&[&str]>) -> Outcome {
    let children = children.map(|names| names.iter().map(|name| (*name).into()).collect());
    Outcome::Found {
        stat,
        data: b"v".as_slice().into(),
        children,
    }
}

pub(super) fn event(text: &str, kind: EventKind, zxid: u64) -> Event {
    Event {
        path: path(text),
        kind,
        zxid: Some(Zxid(zxid)),
    }
}

/// A machine on `/a` with its book.
pub(super) struct Bench {
    pub(super) capture: Capture,
    pub(super) image: ModelJournal,
    /// Why it stopped.
    pub(super) halted: Option<Halt>,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::small(|_| {})
    }

    /// With limits that a few events meet.
    pub(super) fn small(change: impl FnOnce(&mut Limits)) -> Bench {
        Bench::with(|options| change(&mut options.limits))
    }

    pub(super) fn with(change: impl FnOnce(&mut CaptureOptions)) -> Bench {
        let mut options = CaptureOptions::new("main", vec![path("/a")]);
        // Each event is asked for at once, so that answers can come in any order.
        options.limits.follow_apart = 0;
        change(&mut options);
        Bench {
            capture: Capture::new(options),
            image: ModelJournal::default(),
            halted: None,
        }
    }

    /// One input, in a batch of its own.
    pub(super) fn input(&mut self, input: Input) -> Vec<SourceRequest> {
        let requests = self.input_uncommitted(input);
        self.image.commit().unwrap();
        self.capture.committed();
        requests
    }

    pub(super) fn input_uncommitted(&mut self, input: Input) -> Vec<SourceRequest> {
        let outcome = self.capture.step(Timestamp(1), input, &mut self.image);
        let StepOutcome { requests, halt, .. } = outcome.unwrap();
        self.halted = halt.or(self.halted.take());
        requests
    }

    pub(super) fn connect(&mut self) -> Ticket {
        self.input(Input::Connected {
            session: SessionFate::New,
        });
        let requests = self.input(Input::Armed);
        ticket(&prove(self, requests))
    }

    pub(super) fn answer(&mut self, ticket: Ticket, outcomes: Vec<Outcome>) -> Vec<SourceRequest> {
        self.input(Input::Answer { ticket, outcomes })
    }

    /// Live on `/a`, created at 1, without children.
    pub(super) fn live() -> Bench {
        let mut bench = Bench::new();
        bench.go_live();
        bench
    }

    pub(super) fn go_live(&mut self) {
        let ticket = self.connect();
        self.answer(ticket, vec![found(stat(1, 1, 0, 1, 0), Some(&[]))]);
        assert_eq!(self.capture.state(), CaptureState::Live);
    }

    pub(super) fn last(&self) -> &ChangeKind {
        &self.image.changes().last().unwrap().kind
    }
}

pub(super) fn ticket(requests: &[SourceRequest]) -> Ticket {
    let ticket = requests.iter().find_map(|effect| match effect {
        SourceRequest::Read { ticket, .. } => Some(*ticket),
        _ => None,
    });
    ticket.unwrap_or_else(|| panic!("no read among {requests:?}"))
}

#[test]
fn nothing_is_read_before_the_watch_is_armed() {
    let mut bench = Bench::new();
    let requests = bench.input(Input::Connected {
        session: SessionFate::New,
    });
    assert_eq!(requests, [SourceRequest::Arm(vec![path("/a")])]);
    assert_eq!(bench.capture.state(), CaptureState::Arming);
    assert!(bench.image.appended.is_empty());
}

#[test]
fn a_root_that_does_not_exist_yet_is_watched_and_its_create_is_seen() {
    let mut bench = Bench::new();
    let ticket_of_root = bench.connect();
    let requests = bench.answer(ticket_of_root, vec![Outcome::Missing]);
    bench.answer(
        ticket(&requests),
        vec![Outcome::Missing, found(stat(0, 0, 0, 5, 0), None)],
    );
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let requests = bench.input(Input::Events(vec![event("/a", EventKind::Created, 7)]));
    bench.answer(ticket(&requests), vec![found(stat(7, 7, 0, 7, 0), None)]);
    assert!(matches!(bench.last(), ChangeKind::Created { read } if read.stat.czxid == Zxid(7)));
}

#[test]
fn a_value_overwritten_before_it_was_read_is_listed_by_the_next_record() {
    let mut bench = Bench::live();
    let events = [5, 6, 7].map(|zxid| event("/a", EventKind::Changed, zxid));
    let requests = bench.input(Input::Events(events.to_vec()));
    bench.answer(ticket(&requests), vec![found(stat(1, 7, 3, 1, 0), None)]);
    let change = bench.image.changes().last().unwrap();
    assert_eq!(
        (change.missed, &change.superseded[..]),
        (Some(2), &[Zxid(5), Zxid(6)][..])
    );
}

#[test]
fn a_value_waits_for_the_events_before_its_own() {
    let mut bench = Bench::live();
    let first = bench.input(Input::Events(vec![event("/a/x", EventKind::Created, 5)]));
    let second = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 6)]));
    let before = bench.image.appended.len();
    assert_ne!(ticket(&first), ticket(&second));
    bench.answer(ticket(&second), vec![found(stat(1, 6, 1, 5, 1), None)]);
    assert_eq!(
        bench.image.appended.len(),
        before,
        "the write at 6 must wait for the create at 5"
    );
    bench.answer(ticket(&first), vec![found(stat(5, 5, 0, 5, 0), None)]);
    assert_eq!(bench.image.appended.len(), before + 2);
}

#[test]
fn a_server_that_names_the_watched_root_for_changes_below_it_is_refused() {
    let mut bench = Bench::live();
    for _ in 1..DENIALS_MAX {
        deny(&mut bench);
        bench.go_live();
    }
    assert_eq!(deny(&mut bench), []);
    let halted = bench.halted;
    assert!(matches!(halted, Some(Halt::WrongPaths { .. })), "{halted:?}");
    assert_eq!(bench.capture.state(), CaptureState::Halted);
}

#[test]
fn a_server_that_denies_its_own_word_once_is_connected_to_again() {
    let mut bench = Bench::live();
    let requests = deny(&mut bench);
    assert!(
        matches!(&requests[..], [SourceRequest::Reconnect { .. }]),
        "{requests:?}"
    );
    assert_eq!(bench.capture.state(), CaptureState::Detached);
}

/// The server reports a change of the root, and a read after it shows none.
fn deny(bench: &mut Bench) -> Vec<SourceRequest> {
    let requests = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 9)]));
    bench.answer(ticket(&requests), vec![found(stat(1, 1, 0, 1, 0), None)])
}

/// A second connection after `/a/x` (created at 5) was journalled.
pub(super) fn reconnected_with_a_child() -> (Bench, Ticket) {
    let mut bench = Bench::live();
    let requests = bench.input(Input::Events(vec![event("/a/x", EventKind::Created, 5)]));
    bench.answer(ticket(&requests), vec![found(stat(5, 5, 0, 5, 0), None)]);
    bench.input(Input::Disconnected);
    let ticket = bench.connect();
    (bench, ticket)
}

#[test]
fn a_delete_found_by_comparing_needs_a_parent_that_shows_it() {
    let (mut bench, ticket) = reconnected_with_a_child();
    let outcomes = vec![found(stat(1, 1, 0, 4, 0), Some(&[]))];
    let step = bench
        .capture
        .step(Timestamp(1), Input::Answer { ticket, outcomes }, &mut bench.image);
    assert!(matches!(step, Err(StepError::Lagging(_))), "{step:?}");
    assert!(
        !bench
            .image
            .changes()
            .any(|change| matches!(change.kind, ChangeKind::Deleted { .. }))
    );
}

#[test]
fn a_delete_found_by_comparing_is_bound_by_its_parent() {
    let (mut bench, ticket) = reconnected_with_a_child();
    bench.answer(ticket, vec![found(stat(1, 1, 0, 9, 0), Some(&[]))]);
    assert_eq!(
        *bench.last(),
        ChangeKind::Deleted {
            at: DeletedAt::Bound(Zxid(9))
        }
    );
    let Some(RecordKind::GapEnd {
        differences, reason, ..
    }) = bench.image.appended.last().map(|entry| &entry.kind)
    else {
        panic!("{:?}", bench.image.appended.last());
    };
    assert_eq!((*differences, *reason), (1, GapReason::Expired));
}

#[test]
fn an_ensemble_that_stays_older_than_the_journal_stops_the_source() {
    let (mut bench, ticket) = reconnected_with_a_child();
    let outcomes = vec![found(stat(1, 1, 0, 4, 0), Some(&[]))];
    let error = bench
        .capture
        .step(Timestamp(1), Input::Answer { ticket, outcomes }, &mut bench.image);
    let error = error.unwrap_err();
    for _ in 1..LAG_ATTEMPTS_MAX {
        assert_eq!(bench.capture.reset(&error), Ok(()));
    }
    let halted = bench.capture.reset(&error);
    assert!(matches!(halted, Err(Halt::WentBack { .. })), "{halted:?}");
    assert_eq!(bench.capture.state(), CaptureState::Halted);
}

#[test]
fn a_znode_deleted_and_created_again_at_the_same_version_is_a_delete_and_a_create() {
    let (mut bench, first) = reconnected_with_a_child();
    let requests = bench.answer(first, vec![found(stat(1, 1, 0, 8, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![found(stat(8, 8, 0, 8, 0), None)]);
    let tail: Vec<_> = bench.image.changes().map(|change| &change.kind).collect();
    assert!(matches!(
        tail[tail.len() - 2..],
        [
            ChangeKind::Deleted {
                at: DeletedAt::Bound(Zxid(8))
            },
            ChangeKind::Created { .. }
        ]
    ));
}

#[test]
fn a_watch_that_died_in_silence_is_found_by_a_sample() {
    let mut bench = Bench::live();
    let requests: Vec<SourceRequest> = (0..10).flat_map(|_| bench.input(Input::Tick)).collect();
    let outcomes = vec![found(stat(1, 12, 1, 1, 0), Some(&[]))];
    let input = Input::Answer {
        ticket: ticket(&requests),
        outcomes,
    };
    let step = bench.capture.step(Timestamp(1), input, &mut bench.image);
    assert!(
        matches!(step, Err(StepError::Doubt(GapReason::Liveness))),
        "{step:?}"
    );
    assert_eq!(bench.capture.reset(&step.unwrap_err()), Ok(()));
}

#[test]
fn an_unreadable_znode_is_counted_and_named_and_never_taken_for_deleted() {
    let (mut bench, first) = reconnected_with_a_child();
    let requests = bench.answer(first, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![Outcome::Denied]);
    assert_eq!(bench.capture.unreadable(usize::MAX), [path("/a/x")]);
    assert!(
        !bench
            .image
            .changes()
            .any(|change| matches!(change.kind, ChangeKind::Deleted { .. }))
    );
}

#[test]
fn a_delete_below_an_unreadable_znode_has_a_bound_because_its_incarnation_is_unknown() {
    let mut bench = Bench::live();
    for (text, zxid) in [("/a/x", 5), ("/a/x/y", 6)] {
        let requests = bench.input(Input::Events(vec![event(text, EventKind::Created, zxid)]));
        bench.answer(ticket(&requests), vec![found(stat(zxid, zxid, 0, zxid, 0), None)]);
    }
    bench.input(Input::Disconnected);
    let ticket_of_root = bench.connect();
    // Meanwhile /a/x became unreadable, so it is unknown whether /a/x/y is still the recorded incarnation.
    let requests = bench.answer(ticket_of_root, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![Outcome::Denied]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    bench.input(Input::Events(vec![event("/a/x/y", EventKind::Deleted, 30)]));
    // A transaction is whole when the next one begins.
    bench.input(Input::Events(vec![event("/a", EventKind::Changed, 31)]));
    let expected = ChangeKind::Deleted {
        at: DeletedAt::Bound(Zxid(30)),
    };
    let change = bench.image.changes().last().unwrap();
    assert_eq!((&change.kind, change.missed), (&expected, None));
}

#[test]
fn more_events_than_may_wait_end_the_epoch_instead_of_filling_memory() {
    let mut bench = Bench::live();
    let many = (0..super::super::batch::EVENTS_MAX as u64 + 1)
        .map(|at| event(&format!("/a/{at}"), EventKind::Created, at + 10));
    let step = bench
        .capture
        .step(Timestamp(1), Input::Events(many.collect()), &mut bench.image);
    assert!(matches!(step, Err(StepError::Doubt(GapReason::Overflow))));
}

#[test]
fn more_bytes_of_paths_than_may_wait_end_the_epoch_instead_of_filling_memory() {
    let mut bench = Bench::live();
    let long = "x".repeat(50_000);
    let many = (0..2_000).map(|at| event(&format!("/a/{long}{at}"), EventKind::Created, at + 10));
    let step = bench
        .capture
        .step(Timestamp(1), Input::Events(many.collect()), &mut bench.image);
    assert!(matches!(step, Err(StepError::Doubt(GapReason::Overflow))));
}

#[test]
fn an_unanswered_request_ends_the_epoch_and_the_next_gap_names_the_dead_watch() {
    let mut bench = Bench::live();
    assert_eq!(bench.input(Input::Unanswered), []);
    assert_eq!(bench.capture.state(), CaptureState::Detached);
    bench.go_live();
    assert_eq!(bench.capture.counters().gaps, BTreeMap::from([("liveness", 1)]));
}

#[test]
fn a_sample_counts_as_a_proof_when_it_is_answered_and_not_when_it_is_sent() {
    let mut bench = Bench::live();
    let requests: Vec<SourceRequest> = (0..10).flat_map(|_| bench.input(Input::Tick)).collect();
    assert_eq!(bench.capture.counters().liveness_checks, 0);
    bench.answer(ticket(&requests), vec![found(stat(1, 1, 0, 1, 0), Some(&[]))]);
    assert_eq!(bench.capture.counters().liveness_checks, 1);
}

#[test]
fn an_accepted_baseline_deletes_the_known_incarnations_children_first_and_creates_the_present_one() {
    let (mut bench, _) = reconnected_with_a_child();
    let mut options = CaptureOptions::new("main", vec![path("/a")]);
    options.accept_baseline = true;
    bench.capture = Capture::new(options);
    let before = bench.image.changes().count();
    let root = bench.connect();
    bench.answer(root, vec![found(stat(0, 0, 0, 0, 0), Some(&[]))]);
    let changes = bench.image.changes().skip(before);
    let recorded: Vec<_> = changes
        .map(|change| (change.path.as_str(), &change.kind))
        .collect();
    let gone = ChangeKind::Deleted {
        at: DeletedAt::Unknown,
    };
    assert_eq!(recorded[..2], [("/a/x", &gone), ("/a", &gone)]);
    assert!(
        matches!(recorded[2..], [("/a", ChangeKind::Created { .. })]),
        "{recorded:?}"
    );
}

#[test]
fn servers_that_lag_leave_one_gap_however_many_were_tried() {
    let (mut bench, mut root) = reconnected_with_a_child();
    for _ in 0..3 {
        let outcomes = vec![found(stat(1, 1, 0, 4, 0), Some(&[]))];
        let input = Input::Answer {
            ticket: root,
            outcomes,
        };
        let error = bench
            .capture
            .step(Timestamp(1), input, &mut bench.image)
            .unwrap_err();
        bench.capture.reset(&error).unwrap();
        root = bench.connect();
    }
    bench.answer(root, vec![found(stat(1, 1, 0, 9, 0), Some(&[]))]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let gaps: Vec<&RecordKind> = bench.image.appended.iter().map(|entry| &entry.kind).collect();
    let begins = gaps
        .iter()
        .filter(|kind| matches!(kind, RecordKind::GapBegin { .. }));
    assert_eq!(begins.count(), 1, "{gaps:?}");
}

#[test]
fn an_accepted_baseline_keeps_incarnations_that_still_exist_and_records_only_values_that_differ() {
    let (mut bench, _) = reconnected_with_a_child();
    let mut options = CaptureOptions::new("main", vec![path("/a")]);
    options.accept_baseline = true;
    bench.capture = Capture::new(options);
    let before = bench.image.changes().count();
    // The journal knows a later pzxid of the root, and a later version of a child would be one more update.
    let root = bench.connect();
    let requests = bench.answer(root, vec![found(stat(1, 1, 0, 0, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![found(stat(5, 5, 0, 4, 0), None)]);
    assert_eq!(bench.image.changes().count(), before, "{:?}", bench.last());
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let Some(RecordKind::GapEnd { to_zxid, .. }) = bench.image.appended.last().map(|entry| &entry.kind)
    else {
        panic!("{:?}", bench.image.appended.last());
    };
    assert_eq!(*to_zxid, Zxid(5), "what is seen now, not what was before");
}

#[test]
fn a_znode_of_the_same_zxids_and_other_times_is_of_another_cluster() {
    let check = |other: Stat| {
        let mut bench = Bench::live();
        bench.input(Input::Disconnected);
        let ticket = bench.connect();
        let outcomes = vec![found(other, Some(&[]))];
        let step = bench
            .capture
            .step(Timestamp(1), Input::Answer { ticket, outcomes }, &mut bench.image);
        assert!(matches!(step, Err(StepError::Lagging(_))), "{step:?}");
    };
    let known = stat(1, 1, 0, 1, 0);
    check(Stat { ctime: 7, ..known });
    check(Stat { mtime: 7, ..known });
    check(Stat { version: 1, ..known });
}

#[test]
fn large_values_are_asked_for_a_few_at_a_time() {
    let mut bench = Bench::live();
    let large = vec![0u8; 1 << 20];
    let requests = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 5)]));
    let value = Outcome::Found {
        stat: stat(1, 5, 1, 1, 0),
        data: large.into(),
        children: None,
    };
    bench.answer(ticket(&requests), vec![value]);
    let many = (0..20).map(|at| event(&format!("/a/{at:02}"), EventKind::Created, 6 + at));
    let requests = bench.input(Input::Events(many.collect()));
    let sizes: Vec<usize> = requests
        .iter()
        .map(|effect| match effect {
            SourceRequest::Read { reads, .. } => reads.len(),
            other => panic!("{other:?} is no read"),
        })
        .collect();
    assert!(sizes.iter().all(|reads| *reads <= 5), "{sizes:?}");
}

#[test]
fn a_deep_delete_after_a_large_value_is_read_although_it_exceeds_the_answer_that_is_expected() {
    let mut bench = Bench::live();
    let old = |text: &str, kind| Event {
        path: path(text),
        kind,
        zxid: None,
    };
    let requests = bench.input(Input::Events(vec![old("/a", EventKind::Changed)]));
    let large = vec![0u8; 1 << 20];
    let value = Outcome::Found {
        stat: stat(1, 5, 1, 1, 0),
        data: large.into(),
        children: None,
    };
    bench.answer(ticket(&requests), vec![value]);
    let requests = bench.input(Input::Events(vec![old("/a/b/c/d/e/f/g", EventKind::Deleted)]));
    let SourceRequest::Read { reads, .. } = &requests[0] else {
        panic!("{requests:?}")
    };
    assert_eq!(reads.len(), 8, "the path and all above it in one read");
}

#[test]
fn a_duplicate_report_that_the_watches_are_armed_is_ignored() {
    let mut bench = Bench::live();
    assert_eq!(bench.input(Input::Armed), []);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let mut bench = Bench::new();
    assert_eq!(bench.input(Input::Armed), []);
    assert_eq!(bench.capture.state(), CaptureState::Detached);
}
