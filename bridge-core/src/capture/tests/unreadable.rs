//! What the journal keeps over an end of the process: znodes that may not be read, and a gap that is due.

use super::rules::{Bench, event, found, path, reconnected_with_a_child, stat, ticket};
use crate::append::RecordKind;
use crate::capture::{CaptureState, EventKind, Input, Outcome};
use crate::image_txn::ImageTxn;
use crate::journal::JournalWriter;
use crate::machine::SourceMachine;
use crate::number::{Seq, Zxid};
use crate::record::{GapReason, Timestamp};
use crate::source::SourceRequest;
use crate::unreadable_span::UnreadableExtent;

#[test]
fn the_journal_keeps_since_when_a_znode_may_not_be_read_and_until_a_walk_has_read_it_again() {
    let (mut bench, first) = reconnected_with_a_child();
    let requests = bench.answer(first, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![Outcome::Denied]);
    let spans = bench.image.open_unreadable(&path("/a")).unwrap();
    let [span] = spans.as_slice() else {
        panic!("{spans:?}");
    };
    assert_eq!(
        (&span.path, span.extent),
        (&path("/a/x"), UnreadableExtent::Znode)
    );
    // Its create was seen at 5, with the last record before the gap.
    assert_eq!(span.since.zxid, Zxid(5));
    assert!(
        span.since.seq > Seq::ZERO && span.since.seq <= span.found.0,
        "{span:?}"
    );
    // The same znode is no news for the next walk, which cannot read it either.
    bench.input(Input::Disconnected);
    let again = bench.connect();
    let requests = bench.answer(again, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![Outcome::Denied]);
    assert_eq!(bench.image.open_unreadable(&path("/a")).unwrap(), spans);
    // It may be read again, and its parent may not: nothing of it was read.
    bench.input(Input::Disconnected);
    let again = bench.connect();
    bench.answer(again, vec![Outcome::Denied]);
    let open = bench.image.open_unreadable(&path("/a")).unwrap();
    assert_eq!(
        open.iter().map(|span| span.path.as_str()).collect::<Vec<_>>(),
        ["/a", "/a/x"]
    );
    bench.input(Input::Disconnected);
    let again = bench.connect();
    let requests = bench.answer(again, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![found(stat(5, 9, 2, 5, 0), None)]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert_eq!(bench.image.open_unreadable(&path("/a")).unwrap(), []);
}

#[test]
fn a_znode_that_a_later_check_finds_unreadable_is_known_up_to_the_begin_of_the_last_walk() {
    let (mut bench, first) = reconnected_with_a_child();
    let requests = bench.answer(first, vec![found(stat(1, 1, 0, 5, 1), Some(&["x"]))]);
    bench.answer(ticket(&requests), vec![found(stat(5, 5, 0, 5, 0), None)]);
    let walked = bench.image.walked(&path("/a")).unwrap();
    assert_eq!(walked.zxid, Zxid(5));
    // Records of other znodes say nothing of it.
    let requests = bench.input(Input::Events(vec![event("/a", EventKind::Changed, 40)]));
    bench.answer(ticket(&requests), vec![found(stat(1, 40, 1, 5, 1), None)]);
    let requests = bench.input(Input::Events(vec![event("/a/x", EventKind::Changed, 41)]));
    bench.answer(ticket(&requests), vec![Outcome::Denied]);
    // A transaction is whole when the next one begins.
    bench.input(Input::Events(vec![event("/a", EventKind::Changed, 42)]));
    let spans = bench.image.open_unreadable(&path("/a")).unwrap();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0].since.zxid, Zxid(5));
    assert_eq!(spans[0].since.seq, walked.seq);
}

#[test]
fn a_process_that_ends_after_it_found_a_dead_watch_leaves_the_gap_of_an_unknown_begin_to_the_next_one() {
    let mut bench = Bench::live();
    let requests: Vec<SourceRequest> = (0..10).flat_map(|_| bench.input(Input::Tick)).collect();
    bench.image.commit().unwrap();
    let outcomes = vec![found(stat(1, 12, 1, 1, 0), Some(&[]))];
    let input = Input::Answer {
        ticket: ticket(&requests),
        outcomes,
    };
    let step = bench.capture.step(Timestamp(1), input, &mut bench.image);
    bench.image.rollback().unwrap();
    assert_eq!(bench.capture.reset(&step.unwrap_err()), Ok(()));
    // There is no connection yet.
    bench.input(Input::Tick);
    bench.image.commit().unwrap();
    bench.capture = Bench::new().capture;
    let again = bench.connect();
    bench.answer(again, vec![found(stat(1, 12, 1, 1, 0), Some(&[]))]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    let reason = bench.image.appended.iter().find_map(|entry| match entry.kind {
        RecordKind::GapBegin { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, Some(GapReason::Liveness));
    // Then nothing is due any more.
    assert_eq!(bench.image.due_gap().unwrap(), None);
}
