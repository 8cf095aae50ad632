//! Plans: whatever way the records of a subtree are found, the pages are the same.

use std::collections::HashSet;
use std::ops::ControlFlow;

use bridge_core::number::Seq;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::{Scratch, created, deleted, gap, path, updated};
use crate::known_paths::KnownPaths;
use crate::plan::ScanPlan;
use crate::{ChangesPage, JournalQuery, PathPattern, Range, Selection};

/// Histories that are played.
const SEEDS: u64 = 8;

/// Records of one history.
const RECORDS: u64 = 300;

/// Steps along the chains: enough for all of them.
const STEPS: usize = 10_000;

/// A subtree, and others that are written more often; restarts, and retention in every second history.
fn play(seed: u64) -> Scratch {
    let mut random = StdRng::seed_from_u64(seed);
    let mut scratch = Scratch::new();
    let mut alive = [None; 6];
    for zxid in 1..=RECORDS {
        let place = random.random_range(0..alive.len());
        let at = ["/a", "/a/x", "/a/y", "/ab", "/b/x", "/b/x/y"][place];
        let record = match alive[place] {
            _ if random.random_ratio(1, 20) => gap(zxid),
            None => {
                alive[place] = Some(zxid);
                created(at, zxid, "x")
            }
            Some(_) if random.random_ratio(1, 9) => {
                alive[place] = None;
                deleted(at, zxid)
            }
            Some(czxid) => updated(at, czxid, zxid, "y"),
        };
        scratch.append([record]);
        if zxid % 110 == 0 {
            scratch = scratch.reopened();
        }
    }
    if seed.is_multiple_of(2) {
        scratch.retain_at(160);
    }
    scratch
}

/// Each way to find the records of a subtree; the first looks at all of them.
fn plans(query: &JournalQuery, under: &str, range: Range) -> [ScanPlan; 3] {
    let (mut numbers, mut newest) = (HashSet::new(), Vec::new());
    let top = path(under);
    let mut paths = KnownPaths::below(query, &top, None);
    while let Some(known) = paths.next().unwrap() {
        numbers.extend(known.number);
        newest.extend(known.number.zip(known.last));
    }
    let range = (range.after, range.until);
    let seqs = query
        .reader()
        .unwrap()
        .seqs_of_paths(&newest, range, STEPS)
        .unwrap();
    [
        ScanPlan::All,
        ScanPlan::Paths(numbers),
        ScanPlan::Seqs(seqs.expect("there are steps enough")),
    ]
}

/// The seqs of all pages from the oldest on, and those of the gaps.
fn oldest_first(
    query: &JournalQuery,
    plan: &ScanPlan,
    range: Range,
    selection: &Selection,
    limit: usize,
) -> (Vec<Seq>, Vec<Seq>) {
    let (mut found, mut gaps, mut left) = (Vec::new(), Vec::new(), range);
    while !left.is_empty() {
        let mut room = limit;
        let scan = query.scan_by(plan, left, |record| {
            gaps.extend(record.gap.as_ref().map(|_| record.seq));
            if query.selected(record, selection).is_some() {
                found.push(record.seq);
                room -= 1;
            }
            if room == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        left = scan.unwrap().0;
    }
    (found, gaps)
}

/// The same from the newest on.
fn newest_first(
    query: &JournalQuery,
    plan: &ScanPlan,
    range: Range,
    selection: &Selection,
    limit: usize,
) -> (Vec<Seq>, Vec<Seq>) {
    let (mut found, mut gaps, mut next) = (Vec::new(), Vec::new(), Some(range));
    while let Some(left) = next {
        let page: ChangesPage = match plan {
            ScanPlan::All => panic!("it is what the others are compared with"),
            ScanPlan::Paths(paths) => query.newest_of_paths(left, paths, selection, limit),
            ScanPlan::Seqs(seqs) => query.newest_of_seqs(left, seqs, selection, limit),
        }
        .unwrap();
        assert!(page.records.len() <= limit, "{page:?}");
        found.splice(0..0, page.records.iter().map(|record| record.seq));
        gaps.splice(0..0, page.gaps.iter().map(|mark| mark.seq));
        next = page.next;
    }
    (found, gaps)
}

#[test]
fn the_records_of_a_subtree_are_the_same_whatever_way_they_are_found() {
    let mut selected = 0;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let scratch = play(seed);
        let query = scratch.query();
        let mut random = StdRng::seed_from_u64(seed);
        for under in ["/a", "/b", "/b/x/y", "/none"] {
            let selection = Selection {
                paths: vec![PathPattern::parse(under).unwrap()],
                ..Selection::default()
            };
            let after = random.random_range(0..RECORDS);
            let range = Range {
                after: Seq(after),
                until: Seq(random.random_range(after..=RECORDS)),
            };
            let [all, paths, seqs] = plans(&query, under, range);
            let expected = oldest_first(&query, &all, range, &selection, 1_000);
            selected += expected.0.len();
            for limit in [1, 2, 100] {
                for plan in [&paths, &seqs] {
                    let pages = oldest_first(&query, plan, range, &selection, limit);
                    assert_eq!(pages, expected, "seed {seed}, {under}, {range:?}, {plan:?}");
                    let pages = newest_first(&query, plan, range, &selection, limit);
                    assert_eq!(
                        pages, expected,
                        "seed {seed}, {under}, {range:?}, {plan:?}, newest"
                    );
                }
            }
        }
    }
    assert!(selected > 500, "{selected}");
}

#[test]
fn the_newest_of_all_records_are_the_same_whatever_the_size_of_a_page() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let query = play(seed).query();
        let range = Range {
            after: Seq(3),
            until: Seq(RECORDS - 5),
        };
        let selection = Selection::default();
        let (expected, _) = oldest_first(&query, &ScanPlan::All, range, &selection, 1_000);
        for limit in [1, 7, 40, 1_000] {
            let (mut found, mut next) = (Vec::new(), Some(range));
            while let Some(left) = next {
                let page = query.newest(left, &selection, limit).unwrap();
                assert!(page.records.len() <= limit, "seed {seed}, {limit}");
                found.splice(0..0, page.records.iter().map(|record| record.seq));
                next = page.next;
            }
            assert_eq!(found, expected, "seed {seed}, {limit}");
        }
    }
}

#[test]
fn chains_that_are_too_long_or_broken_are_no_plan() {
    let scratch = play(1);
    let query = scratch.query();
    let known = query.reader().unwrap().known(&path("/a/x")).unwrap().unwrap();
    let newest = [(known.number, known.last.unwrap())];
    let range = (Seq::ZERO, Seq(RECORDS));
    let seqs = |steps| {
        query
            .reader()
            .unwrap()
            .seqs_of_paths(&newest, range, steps)
            .unwrap()
    };
    let all = seqs(STEPS).unwrap();
    assert!(all.len() > 10, "{all:?}");
    assert_eq!(seqs(all.len() - 1), None);
    assert_eq!(seqs(all.len()), Some(all.clone()));
    // A record is gone, or is one of another path.
    scratch.execute(&format!("DELETE FROM record WHERE seq = {}", all[3]));
    assert_eq!(seqs(STEPS), None);
    scratch.execute(&format!("UPDATE record SET path = 1 WHERE seq = {}", all[5]));
    assert_eq!(seqs(STEPS), None);
}
