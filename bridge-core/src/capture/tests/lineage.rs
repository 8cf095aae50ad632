//! Telling another ensemble with higher zxids from the one that is known.

use super::rules::{Bench, found, stat, ticket};
use crate::capture::{CaptureState, Halt, Input, Outcome, SessionFate, Ticket};
use crate::machine::SourceMachine;
use crate::source::SourceRequest;

const CHILDREN: u64 = 12;

/// Live on `/a`, created at 1, with children that were created at 2 and later, then disconnected.
fn known() -> Bench {
    let mut bench = Bench::new();
    let root = bench.connect();
    walked(&mut bench, root, 0);
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
    let written = bench.image.entries.len();
    let (ticket, asked) = witnesses(&mut bench, SessionFate::New);
    let outcomes = asked.iter().map(|path| child(path, 1_000)).collect();
    assert_eq!(bench.answer(ticket, outcomes), []);
    let Some(Halt::WentBack { evidence, .. }) = &bench.halted else {
        panic!("{:?}", bench.halted);
    };
    assert!(evidence.contains("was created at"), "{evidence}");
    assert_eq!(bench.capture.state(), CaptureState::Halted);
    assert_eq!(bench.image.entries.len(), written);
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
