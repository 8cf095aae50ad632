//! Distinguishes another ensemble with higher zxids from the one that is known.

use super::rules::{Bench, found, path, stat, ticket};
use crate::capture::machine::LAG_ATTEMPTS_MAX;
use crate::capture::{
    Capture, CaptureOptions, CaptureState, Halt, Input, Outcome, SessionFate, StepError, Ticket,
};
use crate::machine::SourceMachine;
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat, Timestamp};
use crate::source::SourceRequest;

const CHILDREN: u64 = 12;

/// Answers the sample that identifies the ensemble, if there is one, with what is known. Returns the next requests.
pub(super) fn prove(bench: &mut Bench, requests: Vec<SourceRequest>) -> Vec<SourceRequest> {
    match &requests[..] {
        [SourceRequest::Read { ticket, reads }] if reads.iter().all(|read| !read.children) => {
            let known = |path: &ZnodePath| bench.image.image()[path].stat.unwrap();
            let outcomes = reads.iter().map(|read| found(known(&read.path), None)).collect();
            bench.answer(*ticket, outcomes)
        }
        _ => requests,
    }
}

/// Live on `/a`, created at 1, with children that were created at 2 and later.
fn live() -> Bench {
    let mut bench = Bench::new();
    let root = bench.connect();
    walked(&mut bench, root, 0);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    bench
}

/// As [`live`], then disconnected.
fn known() -> Bench {
    let mut bench = live();
    bench.input(Input::Disconnected);
    bench
}

fn names() -> Vec<String> {
    (0..CHILDREN).map(|at| format!("n{at:02}")).collect()
}

/// Answers a walk with the tree as it is known, each zxid so much later.
fn walked(bench: &mut Bench, root: Ticket, later: u64) {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let newest = CHILDREN + 1 + later;
    let mut top = stat(1 + later, 1 + later, 0, newest, CHILDREN as i32);
    top.cversion = CHILDREN as i32;
    let mut requests = bench.answer(root, vec![found(top, Some(&names))]);
    while let Some((ticket, reads)) = reads(&requests) {
        let outcomes = reads.iter().map(|path| child(path, later)).collect();
        requests = bench.answer(ticket, outcomes);
    }
}

fn child(path: &str, later: u64) -> Outcome {
    if path == "/a" {
        return found(
            stat(1 + later, 1 + later, 0, CHILDREN + 1 + later, CHILDREN as i32),
            None,
        );
    }
    let at: u64 = path.trim_start_matches("/a/n").parse().unwrap();
    let zxid = 2 + at + later;
    found(stat(zxid, zxid, 0, zxid, 0), None)
}

fn reads(requests: &[SourceRequest]) -> Option<(Ticket, Vec<String>)> {
    requests.iter().find_map(|effect| match effect {
        SourceRequest::Read { ticket, reads } => {
            Some((*ticket, reads.iter().map(|read| read.path.to_string()).collect()))
        }
        _ => None,
    })
}

fn witnesses(bench: &mut Bench, session: SessionFate) -> (Ticket, Vec<String>) {
    bench.input(Input::Connected { session });
    let requests = bench.input(Input::Armed);
    reads(&requests).unwrap()
}

#[test]
fn another_ensemble_with_higher_zxids_halts_the_source_before_anything_is_written() {
    let mut bench = known();
    let written = bench.image.appended.len();
    let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
    let outcomes = asked.iter().map(|path| child(path, 1_000)).collect();
    assert_eq!(bench.answer(ticket, outcomes), []);
    let Some(Halt::OtherEnsemble { evidence, .. }) = &bench.halted else {
        panic!("{:?}", bench.halted);
    };
    assert!(evidence.contains("was created at"), "{evidence}");
    assert_eq!(bench.capture.state(), CaptureState::Halted);
    assert_eq!(bench.image.appended.len(), written);
}

#[test]
fn another_ensemble_halts_the_source_whatever_ended_the_last_session() {
    let check = |case: &str, end: &dyn Fn(&mut Bench)| {
        let mut bench = live();
        end(&mut bench);
        let written = bench.image.appended.len();
        let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
        assert!(asked.len() > 1, "{case}: only {asked:?} is read");
        bench.answer(ticket, asked.iter().map(|path| child(path, 1_000)).collect());
        let halted = matches!(bench.halted, Some(Halt::OtherEnsemble { .. }));
        assert!(halted, "{case}: {:?}", bench.halted);
        assert_eq!(bench.image.appended.len(), written, "{case}");
    };
    let input = |input: Input| {
        move |bench: &mut Bench| {
            bench.input(input.clone());
        }
    };
    let failed = |error: fn() -> StepError| {
        move |bench: &mut Bench| {
            bench.capture.reset(&error()).unwrap();
            bench.input(Input::Disconnected);
        }
    };
    check("expired", &input(Input::Disconnected));
    check("overflow", &input(Input::Overflow));
    check("unanswered", &input(Input::Unanswered));
    check(
        "too many events",
        &failed(|| StepError::Doubt(GapReason::Overflow)),
    );
    check("a dead watch", &failed(|| StepError::Doubt(GapReason::Liveness)));
    check("permission", &failed(|| StepError::Doubt(GapReason::Permission)));
    check("lag", &failed(|| StepError::Lagging("older".to_owned())));
    check("a walk of a kept session that was cut", &|bench| {
        bench.input(Input::Disconnected);
        let (_, asked) = witnesses(bench, SessionFate::Kept);
        assert_eq!(asked, ["/a"]);
        bench.input(Input::Disconnected);
    });
    check("watches of a kept session that were not armed", &|bench| {
        bench.input(Input::Disconnected);
        bench.input(Input::Connected {
            session: SessionFate::Kept,
        });
        bench.input(Input::Disconnected);
    });
    check("a start", &|bench| {
        bench.capture = Capture::new(CaptureOptions::new("main", vec![path("/a")]));
    });
}

#[test]
fn a_session_is_checked_on_its_next_connection_if_the_first_was_lost_before_the_answer() {
    let mut bench = known();
    witnesses(&mut bench, SessionFate::New);
    bench.input(Input::Disconnected);
    let (ticket, asked) = witnesses(&mut bench, SessionFate::Kept);
    bench.answer(ticket, asked.iter().map(|path| child(path, 1_000)).collect());
    let halted = matches!(bench.halted, Some(Halt::OtherEnsemble { .. }));
    assert!(halted, "{asked:?}: {:?}", bench.halted);
}

/// Live on two roots, `/a` and `/b`, each without children and written at 50 s, then disconnected.
fn two_small_roots() -> Bench {
    let mut bench = Bench::with(|options| options.roots = vec![path("/a"), path("/b")]);
    let mut root = bench.connect();
    for _ in 0..2 {
        let requests = bench.answer(root, vec![found(small(1, 50_000_000), Some(&[]))]);
        root = reads(&requests).map_or(root, |(ticket, _)| ticket);
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    bench.input(Input::Disconnected);
    bench
}

/// A root without children that was created and written at a zxid and a time.
fn small(zxid: u64, time_ms: i64) -> Stat {
    Stat {
        ctime: time_ms,
        mtime: time_ms,
        ..stat(zxid, zxid, 0, zxid, 0)
    }
}

#[test]
fn small_roots_of_another_ensemble_halt_the_source_and_one_that_is_known_does_not() {
    let check = |a: Outcome, b: Outcome, expected: Option<&str>| {
        let mut bench = two_small_roots();
        let written = bench.image.appended.len();
        let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
        assert_eq!(
            asked,
            ["/a", "/b"],
            "the roots are the first witnesses, before either is walked"
        );
        bench.answer(ticket, vec![a, b]);
        let halted = bench.halted.as_ref().map(ToString::to_string);
        match (expected, halted) {
            (Some(words), Some(text)) => {
                assert!(text.contains(words) && !text.contains("back in time"), "{text}");
                assert_eq!(bench.image.appended.len(), written, "nothing was reported");
            }
            (expected, halted) => assert_eq!(expected.map(str::to_owned), halted),
        }
    };
    let other = || found(small(900, 60_000_000), None);
    let known = || found(small(1, 50_000_000), None);
    let evidence = "none of 2 sampled znodes is the one in the journal; /a was created at 0x0000000000000384";
    check(other(), other(), Some(evidence));
    check(other(), Outcome::Missing, Some("/a was created at"));
    check(
        other(),
        Outcome::Denied,
        Some("a sampled znode is not the one in the journal"),
    );
    check(other(), known(), None);
    check(Outcome::Missing, known(), None);
    check(Outcome::Missing, Outcome::Missing, None);
}

#[test]
fn a_majority_of_few_witnesses_that_are_other_incarnations_halts_the_source() {
    let check = |others: u64, missing: u64, denied: u64, is_other: bool| {
        let mut bench = Bench::with(|options| options.roots = vec![path("/")]);
        let root = bench.connect();
        let names: Vec<String> = (0..others + missing + denied)
            .map(|at| format!("n{at}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut top = stat(0, 0, 0, 20, names.len() as i32);
        top.cversion = names.len() as i32;
        let mut requests = bench.answer(root, vec![found(top, Some(&names))]);
        while let Some((ticket, asked)) = reads(&requests) {
            let outcomes = asked.iter().map(|_| found(small(5, 50_000_000), None)).collect();
            requests = bench.answer(ticket, outcomes);
        }
        assert_eq!(bench.capture.state(), CaptureState::Live);
        bench.input(Input::Disconnected);
        let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
        assert_eq!(asked.len() as u64, others + missing + denied, "{asked:?}");
        let outcome = |at: u64| match at {
            at if at < others => found(small(900, 60_000_000), None),
            at if at < others + missing => Outcome::Missing,
            _ => Outcome::Denied,
        };
        bench.answer(ticket, (0..others + missing + denied).map(outcome).collect());
        let case = format!("{others} others, {missing} missing, {denied} denied");
        assert_eq!(bench.halted.is_some(), is_other, "{case}");
    };
    check(2, 0, 0, true);
    check(2, 1, 0, true);
    check(2, 1, 3, true);
    check(4, 3, 0, true);
    check(2, 2, 0, false);
    check(1, 0, 0, false);
    check(1, 2, 0, false);
    check(0, 3, 0, false);
}

#[test]
fn a_znode_that_was_created_before_its_predecessor_was_written_is_of_another_ensemble() {
    let check = |ctime: i64, is_other: bool| {
        let mut bench = Bench::with(|options| options.roots = vec![path("/")]);
        let root = bench.connect();
        let mut top = stat(0, 0, 0, 5, 1);
        top.cversion = 1;
        let requests = bench.answer(root, vec![found(top, Some(&["only"]))]);
        let (below, _) = reads(&requests).unwrap();
        bench.answer(below, vec![found(small(5, 50_000_000), None)]);
        assert_eq!(bench.capture.state(), CaptureState::Live);
        bench.input(Input::Disconnected);
        let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
        assert_eq!(asked, ["/only"], "the root of every tree is created at 0");
        bench.answer(ticket, vec![found(small(900, ctime), None)]);
        assert_eq!(bench.halted.is_some(), is_other, "{ctime}");
    };
    check(10_000_000, true);
    // The clocks of two servers may differ by minutes.
    check(49_900_000, false);
    check(60_000_000, false);
    // Older servers and other programs may not know it.
    check(0, false);
}

#[test]
fn one_znode_that_is_the_known_one_proves_the_ensemble() {
    let mut bench = known();
    let (asked_at, asked) = witnesses(&mut bench, SessionFate::New);
    let last = asked.len() - 1;
    let outcomes = asked
        .iter()
        .enumerate()
        .map(|(at, path)| child(path, if at == last { 0 } else { 1_000 }))
        .collect();
    let requests = bench.answer(asked_at, outcomes);
    walked(&mut bench, ticket(&requests), 0);
    assert_eq!(bench.capture.state(), CaptureState::Live);
}

#[test]
fn a_tree_that_is_all_gone_is_no_proof_of_another_ensemble() {
    let mut bench = known();
    let (asked_at, asked) = witnesses(&mut bench, SessionFate::New);
    let requests = bench.answer(asked_at, vec![Outcome::Missing; asked.len()]);
    assert!(
        matches!(requests[..], [SourceRequest::Read { .. }]),
        "{requests:?}"
    );
}

#[test]
fn within_a_session_the_ensemble_is_the_same_and_nothing_is_read_to_prove_it() {
    let mut bench = known();
    let (_, asked) = witnesses(&mut bench, SessionFate::Kept);
    assert_eq!(asked, ["/a"]);
}

#[test]
fn a_chroot_that_does_not_exist_halts_the_source_while_the_journal_has_znodes_below_it() {
    let mut bench = known();
    bench.capture.options.chroot = Some(path("/app2"));
    let written = bench.image.appended.len();
    // A server that lags has no new chroot either.
    for _ in 1..LAG_ATTEMPTS_MAX {
        let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
        assert_eq!(asked.last().map(String::as_str), Some("/"), "{asked:?}");
        let outcomes = vec![Outcome::Missing; asked.len()];
        let input = Input::Answer { ticket, outcomes };
        let step = bench.capture.step(Timestamp(1), input, &mut bench.image);
        let error = step.unwrap_err();
        assert!(matches!(error, StepError::Lagging(_)), "{error}");
        bench.capture.reset(&error).unwrap();
        bench.input(Input::Disconnected);
    }
    let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
    assert_eq!(bench.answer(ticket, vec![Outcome::Missing; asked.len()]), []);
    let halted = bench.halted.as_ref().map(ToString::to_string).unwrap();
    assert!(halted.contains("the chroot /app2 does not exist"), "{halted}");
    assert!(halted.contains("--accept-baseline main"), "{halted}");
    assert_eq!(bench.image.appended.len(), written);
}

#[test]
fn below_a_chroot_that_exists_znodes_that_are_all_gone_are_deletes() {
    let mut bench = known();
    bench.capture.options.chroot = Some(path("/app"));
    let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
    let mut outcomes = vec![Outcome::Missing; asked.len() - 1];
    outcomes.push(found(small(1, 50_000_000), None));
    let requests = bench.answer(ticket, outcomes);
    assert!(
        matches!(requests[..], [SourceRequest::Read { .. }]),
        "{requests:?}"
    );
}
