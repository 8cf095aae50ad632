//! How many znodes a walk reads at once.

use std::collections::VecDeque;

use super::rules::{Bench, found, stat};
use crate::capture::{CaptureState, Ticket};
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
