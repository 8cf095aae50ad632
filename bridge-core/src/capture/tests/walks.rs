//! How many znodes a walk reads at once, and how long a burst of events takes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rules::{Bench, event, found, stat, ticket};
use crate::capture::{CaptureState, Event, EventKind, Input, Ticket};
use crate::machine::SourceMachine;
use crate::source::SourceRequest;

/// The reads among requests, each with how many znodes it has.
fn reads(requests: Vec<SourceRequest>) -> impl Iterator<Item = (Ticket, usize)> {
    requests.into_iter().filter_map(|request| match request {
        SourceRequest::Read { ticket, reads } => Some((ticket, reads.len())),
        _ => None,
    })
}

#[test]
fn znodes_of_unknown_size_are_read_in_larger_requests_among_small_ones_and_few_are_under_way() {
    let names: Vec<String> = (0..1_000).map(|number| format!("n{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new();
    let list = bench.connect();
    let listed = found(stat(1, 1, 0, 2_000, 1_000), Some(&names));
    let mut under_way: VecDeque<(Ticket, usize)> = reads(bench.answer(list, vec![listed])).collect();
    let (mut sizes, mut most_under_way, mut zxid) = (Vec::new(), 0, 1);
    while let Some((ticket, size)) = under_way.pop_front() {
        let others = under_way.iter().map(|(_, size)| size);
        most_under_way = most_under_way.max(size + others.sum::<usize>());
        sizes.push(size);
        let outcomes = (0..size).map(|_| {
            zxid += 1;
            found(stat(zxid, zxid, 0, zxid, 0), None)
        });
        let outcomes = outcomes.collect();
        under_way.extend(reads(bench.answer(ticket, outcomes)));
    }
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert_eq!(bench.image.image().len(), 1_001, "each znode was read once");
    assert_eq!(sizes[..4], [16; 4], "nothing is known of the first ones");
    assert_eq!(sizes.iter().max(), Some(&60));
    assert_eq!(most_under_way, 120);
    assert!(sizes.len() < 25, "{sizes:?}");
}

/// Events of one burst: fewer than may wait, and so many that looking at all of them for each would take minutes.
const BURST: usize = 190_000;

#[test]
fn a_burst_of_events_of_one_znode_takes_time_in_proportion_to_its_length() {
    let check = |case: &str, burst: Vec<Event>| {
        let began = Instant::now();
        let mut bench = Bench::new();
        let root = bench.connect();
        bench.input(Input::Events(burst));
        let mut open = vec![root];
        while let Some(ticket) = open.pop() {
            let outcome = found(stat(1, 9, 1, 9, 0), Some(&[]));
            open.extend(reads(bench.answer(ticket, vec![outcome])).map(|(ticket, _)| ticket));
        }
        assert_eq!(bench.capture.state(), CaptureState::Live, "{case}");
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{case}: {:?}",
            began.elapsed()
        );
    };
    let changed = event("/a", EventKind::Changed, 9);
    check("of one transaction", vec![changed.clone(); BURST]);
    check(
        "without zxids",
        vec![
            Event {
                zxid: None,
                ..changed
            };
            BURST
        ],
    );
    let mut live = Bench::live();
    let began = Instant::now();
    let requests = live.input(Input::Events(vec![event("/a", EventKind::Changed, 9); BURST]));
    live.answer(ticket(&requests), vec![found(stat(1, 9, 1, 9, 0), None)]);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "live: {:?}",
        began.elapsed()
    );
}
