//! Counts that are in memory, over everything that changes them.

use std::time::Duration;

use bridge_core::number::Seq;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::{Scratch, created, updated, updated_over};
use crate::{ActivityPage, Grouping, JournalQuery, Range, Selection};

const SEED: u64 = 5;

fn activity(query: &JournalQuery) -> ActivityPage {
    let range = Range {
        after: Seq::ZERO,
        until: query.tail().unwrap(),
    };
    let grouping = Grouping {
        every: Duration::from_secs(37),
        depth: 0,
    };
    query
        .activity(range, &Selection::default(), grouping, 900)
        .unwrap()
}

#[test]
fn a_query_that_is_kept_counts_as_a_new_one_while_records_come_and_go() {
    println!("seed {SEED}");
    let mut random = StdRng::seed_from_u64(SEED);
    let mut scratch = Scratch::new().with_stretches_of(8);
    scratch.append([created("/a", 1, "x")]);
    let kept = scratch.query();
    let mut zxid = 1;
    for round in 0..12 {
        for _ in 0..random.random_range(1..30) {
            zxid += random.random_range(1..9);
            let missed: Vec<u64> = (zxid - random.random_range(0..2)..zxid).collect();
            scratch.append([updated_over("/a", 1, zxid, "y", &missed)]);
        }
        if round % 4 == 3 {
            scratch.retain_at(zxid);
        }
        let (found, expected) = (activity(&kept), activity(&scratch.query()));
        assert!(found.next.is_none() && !found.counts.is_empty());
        assert_eq!(found, expected, "round {round}");
    }
}

#[test]
fn counts_that_a_compaction_has_changed_are_read_again() {
    let mut scratch = Scratch::new().with_stretches_of(8);
    scratch.append([created("/a", 1, "x")]);
    scratch.append((2..=24).map(|zxid| updated("/a", 1, zxid, "y")));
    let kept = scratch.query();
    let before = activity(&kept);
    // The second stretch has the counts of the first one.
    scratch
        .execute("UPDATE stretch SET counts = (SELECT counts FROM stretch WHERE last = 8) WHERE last = 16");
    let after = activity(&scratch.query());
    assert_ne!(before, after);
    // The control: only a compaction changes counts.
    assert_eq!(activity(&kept), before);
    scratch.execute("UPDATE meta SET value = value + 1 WHERE key = 'compacted'");
    assert_eq!(activity(&kept), after);
}
