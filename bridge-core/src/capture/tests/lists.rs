//! Access control lists: each goes with the record of the change that it belongs to, or with none.

use super::rules::{Bench, event, found, path, stat, ticket};
use crate::append::ChangeKind;
use crate::capture::{
    AclMode, AclOutcome, Capture, CaptureOptions, EventKind, Input, Outcome, SessionFate, StepError, Ticket,
};
use crate::machine::SourceMachine;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Acl, GapReason, Stat, Timestamp};
use crate::source::SourceRequest;

fn list(id: &str) -> Vec<Acl> {
    vec![Acl {
        scheme: "sasl".into(),
        id: id.into(),
        perms: "cdrwa".into(),
    }]
}

/// `/a` after so many writes and changes of its list; written at 1, 11, 12 and so on.
fn after(version: i32, aversion: i32) -> Stat {
    let mzxid = if version == 0 {
        1
    } else {
        10 + u64::from(version.unsigned_abs())
    };
    Stat {
        aversion,
        ..stat(1, mzxid, version, 1, 0)
    }
}

fn live(mode: AclMode) -> Bench {
    let mut bench = Bench::with(|options| {
        options.acls = mode;
        options.limits.follow_apart = 0;
        options.limits.events = 5;
    });
    bench.go_live();
    bench
}

impl Bench {
    fn set(&mut self, zxid: u64) -> Vec<SourceRequest> {
        self.input(Input::Events(vec![event("/a", EventKind::Changed, zxid)]))
    }

    fn acls(&mut self, ticket: Ticket, outcome: AclOutcome) -> Vec<SourceRequest> {
        let outcomes = vec![outcome];
        self.input(Input::Acls { ticket, outcomes })
    }

    /// `/a` was written, and its answer shows a changed list.
    fn asks(&mut self, version: i32, aversion: i32) -> Ticket {
        let requests = self.set(10 + u64::from(version.unsigned_abs()));
        let requests = self.answer(ticket(&requests), vec![found(after(version, aversion), None)]);
        asked(&requests, &path("/a"))
    }

    /// The `acl` records: at which change, and with which list.
    fn recorded(&self) -> Vec<(i32, Option<Vec<Acl>>)> {
        let changes = self.image.changes();
        let acls = changes.filter_map(|change| match &change.kind {
            ChangeKind::AclChanged { stat, acl, .. } => Some((stat.aversion, acl.clone())),
            _ => None,
        });
        acls.collect()
    }
}

fn asked(requests: &[SourceRequest], of: &ZnodePath) -> Ticket {
    let [SourceRequest::ReadAcls { ticket, paths }] = requests else {
        panic!("{requests:?}");
    };
    assert_eq!(paths, std::slice::from_ref(of));
    *ticket
}

#[test]
fn the_answer_that_shows_a_changed_list_and_all_later_inputs_wait_for_it() {
    let mut bench = live(AclMode::List);
    let before = bench.image.appended.len();
    let lists = bench.asks(1, 1);
    assert_eq!(bench.set(12), []);
    assert_eq!(bench.input(Input::Tick), []);
    assert_eq!(bench.image.appended.len(), before);

    let stat = after(1, 1);
    let acl = list("one");
    let requests = bench.acls(lists, AclOutcome::Found { stat, acl });
    assert_eq!(bench.recorded(), [(1, Some(list("one")))]);
    let changes: Vec<_> = bench
        .image
        .changes()
        .map(|change| change.kind.op().as_str())
        .collect();
    assert_eq!(changes[changes.len() - 2..], ["update", "acl"]);
    bench.answer(ticket(&requests), vec![found(after(2, 1), None)]);
    assert!(matches!(bench.last(), ChangeKind::Updated { .. }));
    assert_eq!(bench.capture.counters().unread_acls, 0);
}

#[test]
fn a_list_that_was_changed_again_is_left_out_and_read_once_more() {
    let mut bench = live(AclMode::List);
    let lists = bench.asks(1, 1);
    let newer = AclOutcome::Found {
        stat: after(1, 2),
        acl: list("two"),
    };
    bench.acls(lists, newer);
    assert_eq!(bench.recorded(), [(1, None)]);
    assert_eq!(bench.capture.counters().unread_acls, 1);

    let requests = bench.input(Input::Tick);
    let requests = bench.answer(ticket(&requests), vec![found(after(1, 2), None)]);
    let lists = asked(&requests, &path("/a"));
    let (stat, acl) = (after(1, 2), list("two"));
    bench.acls(lists, AclOutcome::Found { stat, acl });
    assert_eq!(bench.recorded(), [(1, None), (2, Some(list("two")))]);
    assert_eq!(bench.input(Input::Tick), []);
}

#[test]
fn a_list_that_may_not_be_read_or_is_of_another_incarnation_is_left_out_and_counted() {
    let other_life = AclOutcome::Found {
        stat: Stat {
            aversion: 1,
            ..stat(20, 20, 0, 20, 0)
        },
        acl: list("other"),
    };
    for outcome in [AclOutcome::Denied, AclOutcome::Missing, other_life] {
        let mut bench = live(AclMode::List);
        let lists = bench.asks(1, 1);
        bench.acls(lists, outcome);
        assert_eq!(bench.recorded(), [(1, None)]);
        assert_eq!(bench.capture.counters().unread_acls, 1);
    }
}

#[test]
fn a_sample_and_a_walk_that_find_a_changed_list_ask_for_it_too() {
    let mut bench = live(AclMode::List);
    let sample: Vec<SourceRequest> = (0..10).flat_map(|_| bench.input(Input::Tick)).collect();
    let requests = bench.answer(ticket(&sample), vec![found(after(0, 1), Some(&[]))]);
    let lists = asked(&requests, &path("/a"));
    let (stat, acl) = (after(0, 1), list("one"));
    bench.acls(lists, AclOutcome::Found { stat, acl });

    let walk = bench.connect();
    let requests = bench.answer(walk, vec![found(after(0, 2), Some(&[]))]);
    let lists = asked(&requests, &path("/a"));
    let (stat, acl) = (after(0, 2), list("two"));
    bench.acls(lists, AclOutcome::Found { stat, acl });
    assert_eq!(bench.recorded(), [(1, Some(list("one"))), (2, Some(list("two")))]);
}

#[test]
fn a_list_that_arrives_after_the_end_of_the_connection_is_ignored() {
    let mut bench = live(AclMode::List);
    let lists = bench.asks(1, 1);
    bench.set(12);
    let before = bench.image.appended.len();
    assert_eq!(bench.input(Input::Disconnected), []);
    let (stat, acl) = (after(1, 1), list("one"));
    assert_eq!(bench.acls(lists, AclOutcome::Found { stat, acl }), []);
    assert_eq!(bench.image.appended.len(), before);
    let session = SessionFate::Kept;
    assert!(matches!(
        bench.input(Input::Connected { session })[..],
        [SourceRequest::Arm(_)]
    ));
}

#[test]
fn more_events_than_may_wait_for_a_list_end_the_epoch() {
    let mut bench = live(AclMode::List);
    bench.asks(1, 1);
    for zxid in 12..17 {
        assert_eq!(bench.set(zxid), []);
    }
    let events = vec![event("/a", EventKind::Changed, 17)];
    let step = bench
        .capture
        .step(Timestamp(1), Input::Events(events), &mut bench.image);
    assert!(
        matches!(step, Err(StepError::Doubt(GapReason::Overflow))),
        "{step:?}"
    );
}

/// The lists of the `create` and `snapshot` records, by path.
fn of_new(bench: &Bench) -> Vec<(String, Option<Option<Vec<Acl>>>)> {
    let changes = bench.image.changes();
    let new = changes.filter(|change| {
        matches!(
            change.kind,
            ChangeKind::Created { .. } | ChangeKind::Listed { .. }
        )
    });
    new.map(|change| {
        let facts = change.facts.as_ref();
        assert!(
            facts.is_none_or(|facts| facts.lifetime.is_none()),
            "a watch cannot know it"
        );
        (change.path.to_string(), facts.map(|facts| facts.acl.clone()))
    })
    .collect()
}

#[test]
fn with_all_the_list_of_a_znode_that_is_listed_is_read_before_its_record() {
    let mut bench = Bench::new();
    let mut options = CaptureOptions::new("main", vec![path("/a")]);
    options.acls = AclMode::All;
    bench.capture = Capture::new(options);
    let root = bench.connect();
    let requests = bench.answer(root, vec![found(after(0, 1), Some(&[]))]);
    assert_eq!(of_new(&bench), []);
    let lists = asked(&requests, &path("/a"));
    let (stat, acl) = (after(0, 1), list("one"));
    bench.acls(lists, AclOutcome::Found { stat, acl });
    assert_eq!(of_new(&bench), [("/a".to_owned(), Some(Some(list("one"))))]);
    assert_eq!(bench.capture.counters().unread_acls, 0);
}

#[test]
fn with_all_a_list_that_may_not_be_read_is_left_out_and_counted() {
    let mut bench = Bench::new();
    let mut options = CaptureOptions::new("main", vec![path("/a")]);
    options.acls = AclMode::All;
    bench.capture = Capture::new(options);
    let root = bench.connect();
    let requests = bench.answer(root, vec![found(after(0, 1), Some(&[]))]);
    bench.acls(asked(&requests, &path("/a")), AclOutcome::Denied);
    assert_eq!(of_new(&bench), [("/a".to_owned(), Some(None))]);
    assert_eq!(bench.capture.counters().unread_acls, 1);
}

#[test]
fn without_lists_none_is_requested() {
    for (mode, expected) in [(AclMode::Notice, 1), (AclMode::Off, 0)] {
        let mut bench = live(mode);
        let requests = bench.set(11);
        let outcomes: Vec<Outcome> = vec![found(after(1, 1), None)];
        assert_eq!(bench.answer(ticket(&requests), outcomes), []);
        assert_eq!(bench.recorded(), vec![(1, None); expected]);
        assert_eq!(bench.capture.counters().unread_acls, 0);
    }
}

#[test]
fn a_list_that_an_accepted_baseline_sets_back_is_recorded() {
    let mut bench = Bench::new();
    let root = bench.connect();
    let known = Stat {
        pzxid: Zxid(5),
        ..after(0, 2)
    };
    bench.answer(root, vec![found(known, Some(&[]))]);
    let mut options = CaptureOptions::new("main", vec![path("/a")]);
    options.accept_baseline = true;
    bench.capture = Capture::new(options);
    let root = bench.connect();
    bench.answer(root, vec![found(after(0, 1), Some(&[]))]);
    assert_eq!(bench.recorded(), [(1, None)]);
}
