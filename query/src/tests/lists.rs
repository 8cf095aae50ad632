//! History, changes, the newest records and following: pages, limits, selections.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::{Op, Record};
use bridge_core::testing::a_record;

use super::scratch::{Scratch, created, deleted, gap, path, updated};
use crate::changes::{PAGE_BYTES_MAX, bytes_of};
use crate::{Follower, PathPattern, Range, SCAN_MAX, Selection};

fn all(tail: Seq) -> Range {
    Range {
        after: Seq::ZERO,
        until: tail,
    }
}

fn seqs<'a>(records: impl IntoIterator<Item = &'a Arc<Record>>) -> Vec<u64> {
    records.into_iter().map(|record| record.seq.0).collect()
}

fn of_paths(patterns: &[&str]) -> Selection {
    Selection {
        paths: patterns
            .iter()
            .map(|text| PathPattern::parse(text).unwrap())
            .collect(),
        ..Selection::default()
    }
}

/// Nine records: `/a` and its child in turns, and one gap.
fn story() -> Scratch {
    Scratch::with([
        created("/a", 1, "1"),
        created("/a/b", 2, "2"),
        created("/ab", 3, "3"),
        updated("/a", 1, 4, "4"),
        gap(4),
        updated("/a/b", 2, 5, "5"),
        updated("/a", 1, 6, "6"),
        deleted("/a/b", 7),
        updated("/a", 1, 8, "8"),
    ])
}

#[test]
fn pages_of_changes_hold_each_selected_record_once_and_in_order() {
    let scratch = story();
    let query = scratch.query();
    for (selection, expected) in [
        (Selection::default(), vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (of_paths(&["/a"]), vec![1, 2, 4, 6, 7, 8, 9]),
        (of_paths(&["/*"]), vec![1, 3, 4, 7, 9]),
        (of_paths(&["/a/b", "/ab/"]), vec![2, 3, 6, 8]),
        (
            Selection {
                ops: vec![Op::Delete, Op::GapBegin],
                ..Selection::default()
            },
            vec![5, 8],
        ),
    ] {
        for limit in 1..10 {
            let (mut found, mut next) = (Vec::new(), Some(all(Seq(9))));
            while let Some(range) = next {
                let page = query.changes(range, &selection, limit).unwrap();
                assert!(page.records.len() <= limit, "{page:?}");
                found.extend(seqs(&page.records));
                next = page.next;
            }
            assert_eq!(found, expected, "{limit}");

            let (mut found, mut next) = (Vec::new(), Some(all(Seq(9))));
            while let Some(range) = next {
                let page = query.newest(range, &selection, limit).unwrap();
                assert!(page.records.len() <= limit, "{page:?}");
                found.splice(0..0, seqs(&page.records));
                next = page.next;
            }
            assert_eq!(found, expected, "newest {limit}");
        }
    }
}

#[test]
fn a_page_names_the_gaps_that_it_has_read_whatever_is_selected() {
    let scratch = story();
    let query = scratch.query();
    let page = query.changes(all(Seq(9)), &of_paths(&["/ab"]), 100).unwrap();
    // The record and the gap.
    assert_eq!((seqs(&page.records), page.scanned), (vec![3], 2));
    let gaps: Vec<_> = page.gaps.iter().map(|mark| (mark.seq, mark.is_end)).collect();
    assert_eq!(gaps, [(Seq(5), false)]);
    assert_eq!(page.gaps[0].gap.from_zxid, Zxid(4));
}

#[test]
fn a_page_that_finds_nothing_ends_within_its_budget_and_goes_on() {
    let mut scratch = Scratch::with([created("/a", 1, "1")]);
    let updates = (2..=SCAN_MAX + 2_000).map(|zxid| updated("/a", 1, zxid, "x"));
    let tail = scratch.append(updates);
    let query = scratch.query();
    let of_client = Selection {
        client: Some("10.0.0.5".to_owned()),
        ..Selection::default()
    };
    let of_user = Selection {
        user: Some("alice".to_owned()),
        ..Selection::default()
    };
    for none in [of_paths(&["/none*"]), of_client, of_user] {
        let page = query.changes(all(tail), &none, 1).unwrap();
        assert!(
            page.records.is_empty() && page.scanned <= SCAN_MAX + 1_000,
            "{page:?}"
        );
        let rest = page.next.expect("the budget ended before the range");
        assert_eq!(query.changes(rest, &none, 1).unwrap().next, None);
        let page = query.newest(all(tail), &none, 1).unwrap();
        assert!(page.records.is_empty() && page.next.is_some(), "{page:?}");
    }
    // A subtree with few paths is found by the records of these paths, and no other is looked at.
    for page in [
        query.changes(all(tail), &of_paths(&["/none"]), 1).unwrap(),
        query.newest(all(tail), &of_paths(&["/none"]), 1).unwrap(),
    ] {
        assert_eq!((page.records.len(), page.next, page.scanned), (0, None, 0));
    }
    let newest = query.newest(all(tail), &of_paths(&["/a"]), 2).unwrap();
    assert_eq!(seqs(&newest.records), [tail.0 - 1, tail.0]);
}

#[test]
fn pages_of_a_history_hold_each_version_once_the_newest_first() {
    let scratch = story();
    let query = scratch.query();
    for limit in 1..6 {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = query.history(&path("/a"), from, limit).unwrap().unwrap();
            assert!(page.versions.len() <= limit);
            found.extend(seqs(page.versions.iter().map(|version| &version.record)));
            from = page.next;
            if from.is_none() {
                assert!(!page.is_cut);
                break;
            }
        }
        assert_eq!(found, [9, 7, 4, 1], "{limit}");
    }
    assert_eq!(query.history(&path("/none"), None, 10).unwrap(), None);
}

#[test]
fn a_page_of_a_history_of_large_values_ends_within_its_bytes_and_goes_on() {
    let value = "v".repeat(300 << 10);
    let updates = (2..=40).map(|zxid| updated("/a", 1, zxid, &value));
    let scratch = Scratch::with([created("/a", 1, &value)].into_iter().chain(updates));
    let query = scratch.query();
    let (mut found, mut from, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = query.history(&path("/a"), from, 40).unwrap().unwrap();
        let sizes = page.versions.iter().map(|version| bytes_of(&version.record));
        let largest = sizes.clone().max().unwrap();
        assert!(sizes.sum::<usize>() < PAGE_BYTES_MAX + largest);
        found.extend(seqs(page.versions.iter().map(|version| &version.record)));
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(found, (1..=40).rev().collect::<Vec<_>>());
    assert!(pages > 1);
}

#[test]
fn a_follower_sees_each_selected_record_once_as_it_becomes_durable() {
    let mut scratch = story();
    let query = scratch.query();
    let selection = of_paths(&["/ab"]);
    let mut follower = Follower::new(Seq(4));
    let mut found = Vec::new();
    for zxid in 10..20 {
        scratch.append([updated("/ab", 3, zxid, "x"), updated("/a", 1, zxid + 100, "y")]);
        while let Some(page) = follower.next(&query, &selection).unwrap() {
            found.extend(seqs(&page.records));
        }
    }
    assert_eq!(found, (10..30).step_by(2).collect::<Vec<_>>());
    assert_eq!(follower.after(), Seq(29));
    assert_eq!(follower.next(&query, &selection).unwrap(), None);
}

#[test]
fn a_cut_divides_the_records_at_a_zxid_a_time_and_a_number() {
    let scratch = story();
    let query = scratch.query();
    let check = |position, seq, first: Option<u64>| {
        let cut = query.cut(position).unwrap();
        assert_eq!((cut.seq, cut.first), (Seq(seq), first.map(Seq)), "{position:?}");
        assert_eq!((cut.oldest, cut.tail), (Some(Seq(1)), Seq(9)));
        assert!(!cut.is_removed());
    };
    check(Position::Zxid(Zxid(6)), 7, Some(7));
    check(Position::Zxid(Zxid(0)), 0, Some(1));
    check(Position::Zxid(Zxid(99)), 9, None);
    check(Position::Seq(Seq(3)), 3, Some(3));
    check(Position::Seq(Seq(12)), 9, None);
}

#[test]
fn a_path_selects_its_subtree_a_glob_what_it_matches_and_a_trailing_slash_is_ignored() {
    let check = |pattern: &str, at: &str, expected| {
        let pattern_read = PathPattern::parse(pattern).unwrap();
        assert_eq!(pattern_read.selects(&path(at)), expected, "{pattern} {at}");
    };
    for pattern in ["/a", "/a/", "/a//"] {
        check(pattern, "/a", true);
        check(pattern, "/a/b/c", true);
        check(pattern, "/ab", false);
        check(pattern, "/", false);
    }
    check("/", "/", true);
    check("/", "/a/b", true);
    check("/a/*", "/a/b", true);
    check("/a/*/", "/a/b", true);
    check("/a/*", "/a/b/c", false);
    check("/a/**", "/a/b/c", true);
    check("**/c", "/a/b/c", true);
    check("/a\\*", "/a*", true);
    for bad in ["", "a", "a*", "/a//b", "/["] {
        let error = PathPattern::parse(bad).unwrap_err().to_string();
        assert!(error.contains(&format!("path pattern '{bad}'")), "{error}");
    }
}

#[test]
fn control_records_belong_to_no_path() {
    let control = a_record().control(Op::GapBegin).build();
    assert!(Selection::default().selects(&control));
    assert!(!of_paths(&["/"]).selects(&control));
    assert!(of_paths(&["/"]).selects(&a_record().build()));
}

#[test]
fn the_newest_records_come_in_pages_of_a_few_values_if_these_are_large() {
    let large = "x".repeat(1 << 20);
    let mut scratch = Scratch::with([created("/a", 1, &large), created("/b", 2, &large)]);
    scratch.append((3..=12).map(|zxid| updated("/a", 1, zxid, &large)));
    let query = scratch.query();
    for (selection, expected) in [(Selection::default(), 12), (of_paths(&["/a"]), 11)] {
        let mut left = Range {
            after: Seq::ZERO,
            // A cursor that somebody has made up.
            until: Seq(u64::MAX >> 2),
        };
        let mut found = Vec::new();
        loop {
            let page = query.newest(left, &selection, 1_000).unwrap();
            // Each has at most two values of a MiB, and a page 4 MiB beside one record.
            assert!(page.records.len() <= 3, "{}", page.records.len());
            found.extend(page.records.iter().rev().map(|record| record.seq.0));
            let Some(next) = page.next else { break };
            left = next;
        }
        assert_eq!(found.len(), expected);
        assert!(found.is_sorted_by(|newer, older| newer > older), "{found:?}");
    }
}
