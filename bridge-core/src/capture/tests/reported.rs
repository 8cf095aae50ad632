//! Up to which transaction the changes of a root are reported.

use super::rules::{Bench, event, found, stat, ticket};
use crate::append::RecordKind;
use crate::capture::{EventKind, Input};
use crate::machine::SourceMachine;
use crate::number::Zxid;

#[test]
fn a_gap_never_claims_as_reported_a_version_that_no_record_has_accounted_for() {
    let mut bench = Bench::live();
    let first = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 5)]));
    bench.input(Input::Events(vec![event("/a/x", EventKind::Created, 6)]));
    bench.input(Input::Events(vec![event("/a", EventKind::Changed, 7)]));
    bench.answer(ticket(&first), vec![found(stat(1, 7, 2, 6, 1), None)]);
    bench.input(Input::Disconnected);
    let root = bench.connect();
    bench.answer(root, vec![found(stat(1, 7, 2, 6, 1), Some(&["x"]))]);
    let from_zxid = bench.image.appended.iter().find_map(|entry| match &entry.kind {
        RecordKind::GapBegin { from_zxid, .. } => Some(from_zxid),
        _ => None,
    });
    let from_zxid = from_zxid.expect("a gap");
    assert!(
        *from_zxid < Zxid(5),
        "the write at 5 was overwritten and not recorded yet: {from_zxid}"
    );
}

#[test]
fn once_the_next_record_has_accounted_for_it_everything_up_to_that_is_reported() {
    let mut bench = Bench::live();
    let events = [5, 6, 7].map(|zxid| event("/a", EventKind::Changed, zxid));
    let requests = bench.input(Input::Events(events.to_vec()));
    bench.answer(ticket(&requests), vec![found(stat(1, 7, 3, 1, 0), None)]);
    assert_eq!(bench.capture.reported(), Some(Zxid(7)));
}
